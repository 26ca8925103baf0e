"""Azure's decorators and apps: how its generators and activities become this package's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

from ..app import Durable
from ..core import context as core
from ..worker.activity import durable_context
from .contexts import AzureContext, DurableOrchestrationContext, OrchestrationContext
from .tasks import Task

__all__ = [
    "ActivityContext",
    "DFApp",
    "Orchestrator",
    "TaskHubWorker",
    "durabletask_activity",
    "durabletask_orchestrator",
    "orchestrator",
]

Function = Callable[..., Any]


def _drive(context: AzureContext, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    resume: Callable[[], Any] = partial(next, generator)
    while True:
        try:
            task = resume()
        except StopIteration as stop:
            return stop.value
        if context.will_continue_as_new:
            generator.close()
            return None
        if not isinstance(task, Task):
            raise TypeError(f"an orchestrator yields tasks, such as context.call_activity(...) gives, not {task!r}")
        try:
            value = yield task.future
        except (Exception, asyncio.CancelledError) as error:
            resume = partial(generator.throw, context.shown(error))
        else:
            resume = partial(generator.send, value)


def _translated(
    function: Function, start: Callable[[core.OrchestrationContext, Any], tuple[AzureContext, Any]]
) -> Function:
    """Return what ``@durable.orchestrator`` takes; ``start`` makes the context and calls the function."""

    def run(ctx: core.OrchestrationContext, input: Any = None) -> Generator[Any, Any, Any]:
        context, result = start(ctx, input)
        if inspect.isgenerator(result):
            result = yield from _drive(context, result)
        return context.finish(result)

    return _renamed(run, function)


def _renamed(wrapper: Function, function: Function) -> Function:
    update_wrapper(wrapper, function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # the arguments are the wrapper's own
    return wrapper


def orchestrator(function: Function) -> Function:
    """Translate ``def f(context)`` of Azure Functions, below ``@durable.orchestrator``."""

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[AzureContext, Any]:
        context = DurableOrchestrationContext(ctx, given)
        return context, function(context)

    return _translated(function, start)


def durabletask_orchestrator(function: Function) -> Function:
    """Translate ``def f(ctx, input)`` of durabletask, below ``@durable.orchestrator``."""

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[AzureContext, Any]:
        context = OrchestrationContext(ctx, given)
        return context, function(context, given)

    return _translated(function, start)


@dataclass(frozen=True)
class ActivityContext:
    """The first argument of a durabletask activity; ``task_id`` is the idempotency key, a text.

    Both are empty where the task was not called by an orchestration.
    """

    orchestration_id: str = ""
    task_id: str = ""


def durabletask_activity(function: Function) -> Function:
    """Translate ``def f(ctx, input)`` of durabletask into the function of a Celery task with one argument."""

    def run(input: Any = None) -> Any:
        here = durable_context()
        context = ActivityContext() if here is None else ActivityContext(here.instance_id, here.idempotency_key)
        return function(context, input)

    return _renamed(run, function)


class Orchestrator:
    """Azure Functions' ``main = df.Orchestrator.create(orchestrator_function)``."""

    create = staticmethod(orchestrator)


class DFApp:
    """The decorators of Azure Functions. Names are those of the functions, without their module, as there.

    Args:
        durable: what the functions are registered with.
    """

    def __init__(self, durable: Durable) -> None:
        self.durable = durable

    def orchestration_trigger(
        self, context_name: str, orchestration: str | None = None, **options: Any
    ) -> Callable[[Function], Any]:
        """Register an orchestrator.

        Args:
            context_name: not needed: the context is the first argument.
            orchestration: another name than the function's.
            options: of ``@durable.orchestrator``.
        """
        return lambda function: self.durable.orchestrator(
            orchestrator(function), name=orchestration or function.__name__, **options
        )

    def activity_trigger(
        self, input_name: str, activity: str | None = None, **options: Any
    ) -> Callable[[Function], Any]:
        """Register an activity: a Celery task with one argument.

        Args:
            input_name: not needed: the input is the first argument.
            activity: another name than the function's.
            options: of ``@app.task``.
        """
        return lambda function: self.durable.app.task(name=activity or function.__name__, **options)(function)


class TaskHubWorker:
    """durabletask's ``add_orchestrator`` and ``add_activity``, called or as decorators.

    Args:
        durable: what the functions are registered with.
    """

    def __init__(self, durable: Durable) -> None:
        self.durable = durable

    def add_orchestrator(self, function: Function) -> Any:
        """Register ``def f(ctx, input)`` under its name, without the module."""
        return self.durable.orchestrator(durabletask_orchestrator(function), name=function.__name__)

    def add_activity(self, function: Function) -> Any:
        """Register ``def f(ctx, input)`` as a Celery task under its name, without the module."""
        return self.durable.app.task(name=function.__name__)(durabletask_activity(function))
