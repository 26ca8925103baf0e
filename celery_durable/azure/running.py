"""How Azure's generators and activities become this package's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, update_wrapper, wraps
from typing import Any, Self

import celery

from ..app.durable import Durable
from ..core import context as core
from ..core.tasks import Abandoned
from ..errors import ConfigurationError
from ..worker.activity_context import durable_context
from .contexts import AzureContext
from .durabletask_context import OrchestrationContext
from .functions_context import DurableOrchestrationContext
from .futures import Task
from .missing import unsupported
from .values import incoming, outgoing, parameter_type, positional_names, return_type

__all__ = [
    "ActivityContext",
    "Unconnected",
    "activity_of",
    "current_durable",
    "durabletask_activity",
    "durabletask_orchestrator",
    "orchestrator",
]

Function = Callable[..., Any]


def current_durable(durable: Durable | None) -> Durable:
    """Return a ``Durable``, or that of the current Celery app if none is given.

    Raises:
        ConfigurationError: there is none.
        TypeError: it is something else, such as the connection string of Azure's client.
    """
    found = getattr(celery.current_app, "durable", None) if durable is None else durable
    if found is None:
        raise ConfigurationError(
            f"the current Celery app, {celery.current_app!r}, has no Durable: pass the one of"
            " yours, as by DFApp(durable), TaskHubGrpcWorker(durable), TaskHubGrpcClient(durable)"
        )
    if isinstance(found, str):
        raise TypeError(
            "a Durable is needed, not a connection string: there is nothing to connect to"
        )
    return found  # type: ignore[no-any-return]


class Unconnected:
    """What durabletask connects to its sidecar: here there is nothing to connect to or to close."""

    def __init__(self, durable: Durable | None = None, **options: Any) -> None:
        if options:
            raise unsupported("host_address=")
        self.durable: Durable = current_durable(durable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


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
            raise TypeError(
                "an orchestrator yields tasks, such as context.call_activity(...) gives, not"
                f" {task!r}"
            )
        try:
            yield task.future
            value = task.value()
        except Abandoned as dropped:
            resume = partial(generator.throw, dropped)
        except (Exception, asyncio.CancelledError) as error:
            resume = partial(generator.throw, context.shown(error))
        else:
            resume = partial(generator.send, value)


def _translated(
    function: Function, start: Callable[[core.OrchestrationContext, Any], tuple[AzureContext, Any]]
) -> Function:
    """Return what ``@durable.orchestrator`` takes.

    ``start`` makes the context and calls the function.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__name__} is async: an orchestrator of Azure's is a generator or a plain"
            " function. Put an async one under @durable.orchestrator by itself: its ctx has other"
            " names"
        )

    def run(ctx: core.OrchestrationContext, input: Any = None) -> Generator[Any, Any, Any]:
        context, result = start(ctx, input)
        if inspect.isgenerator(result):
            result = yield from _drive(context, result)
        return context.finish(result)

    return _renamed(run, function)


def _renamed(wrapper: Function, function: Function) -> Function:
    update_wrapper(
        wrapper, function, assigned=("__module__", "__name__", "__qualname__", "__doc__")
    )
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # the arguments are the wrapper's own
    returned = return_type(function)
    wrapper.__annotations__ = {} if returned is None else {"return": returned}
    wrapper.durable_code = function  # type: ignore[attr-defined]  # for who reads it
    return wrapper


def orchestrator(function: Function, input_type: Any = None) -> Function:
    """Translate ``def f(context)`` of Azure Functions, or ``def f(ctx, input)`` of its 2.x, below
    ``@durable.orchestrator``.

    Args:
        function: which; with two parameters it is one of durabletask.
        input_type: what ``context.get_input()`` makes its input to, if it is not told otherwise.
    """
    if len(positional_names(function)) >= 2:
        return durabletask_orchestrator(function, input_type)

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[AzureContext, Any]:
        context = DurableOrchestrationContext(ctx, given, input_type)
        return context, function(context)

    return _translated(function, start)


def durabletask_orchestrator(function: Function, input_type: Any = None) -> Function:
    """Translate ``def f(ctx, input)`` of durabletask, below ``@durable.orchestrator``.

    The input is made to ``input_type``, or to what the function's annotation says.
    """
    wanted = parameter_type(function, 1) if input_type is None else input_type

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[AzureContext, Any]:
        context = OrchestrationContext(ctx, given)
        return context, function(context, incoming(given, wanted))

    return _translated(function, start)


@dataclass(frozen=True)
class ActivityContext:
    """The first argument of a durabletask activity; ``task_id`` is the idempotency key, a text.

    Both are empty where the task was not called by an orchestration.
    """

    orchestration_id: str = ""
    task_id: str = ""


def durabletask_activity(function: Function) -> Function:
    """Translate ``def f(ctx, input)`` of durabletask into the function of a Celery task with one
    argument.
    """
    wanted = parameter_type(function, 1)

    def run(input: Any = None) -> Any:
        here = durable_context()
        context = (
            ActivityContext()
            if here is None
            else ActivityContext(here.instance_id, here.idempotency_key)
        )
        return outgoing(_finished(function(context, incoming(input, wanted))))

    return _renamed(run, function)


def activity_of(function: Function, input_name: str, *, bind: bool = False, **_: Any) -> Function:
    """Translate an activity of Azure Functions, whose input is the parameter of that name, into a
    Celery task's function.

    Args:
        function: which.
        input_name: its parameter; that of ``def f(ctx, input)`` as in durabletask may have another
            name.
        bind: whether it takes the Celery task first.

    Raises:
        ConfigurationError: it has no such parameter, or must be given more than that.
    """
    names = positional_names(function)
    if input_name not in names:
        if len(names) == 2:
            return durabletask_activity(function)
        raise ConfigurationError(
            f"activity {function.__name__}: it has no parameter {input_name!r}, which input_name="
            f" names; its parameters are: {', '.join(names) or 'none'}"
        )
    _check_alone(function, input_name, names[:1] if bind else [])
    signature, wanted = (
        inspect.signature(function),
        parameter_type(function, names.index(input_name)),
    )

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        if input_name in given.arguments:
            given.arguments[input_name] = incoming(given.arguments[input_name], wanted)
        return outgoing(_finished(function(*given.args, **given.kwargs)))

    return run


def _check_alone(function: Function, input_name: str, filled: list[str]) -> None:
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        each.name for each in parameters if each.default is each.empty and each.kind not in variable
    ]
    if more := [name for name in needed if name not in (input_name, *filled)]:
        raise ConfigurationError(
            f"activity {function.__name__}: nothing here fills its parameter {', '.join(more)}. An"
            " activity is given its input alone; durable_context() tells where it runs, and"
            " @app.durable_client_input gives it a client"
        )


def _finished(result: Any) -> Any:
    """Return the result of an activity, which may be a coroutine."""
    if not inspect.iscoroutine(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(result)
    with ThreadPoolExecutor(1) as pool:  # an eager app that is used in async code
        return pool.submit(asyncio.run, result).result()
