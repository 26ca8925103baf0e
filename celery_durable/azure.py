"""The names of Azure's Durable Functions for Python and of ``durabletask``, over this package's orchestrators.

A generator written for either runs with its import and its decorator changed: ``from celery_durable import azure as df``
(or ``as task``). Only translation happens here, task by task; what is recorded are the commands of ``ctx``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial, update_wrapper
from typing import Any, NoReturn
from uuid import UUID

from .app import Durable
from .core import context as core
from .core import retry as core_retry
from .core.events import Event
from .core.references import EntityLock
from .core.status import RuntimeStatus
from .core.waits import AllFuture
from .errors import ActivityError, DurableError, InstanceNotFound, InvalidState
from .worker.activity import durable_context

__all__ = [
    # decorators
    "DFApp",
    "Orchestrator",
    "TaskHubWorker",
    "durabletask_activity",
    "durabletask_orchestrator",
    "orchestrator",
    # what an orchestrator is given and makes
    "ActivityContext",
    "EntityId",
    "EntityInstanceId",
    "DurableOrchestrationContext",
    "OrchestrationContext",
    "RetryOptions",
    "RetryPolicy",
    "Task",
    "when_all",
    "when_any",
    # the client
    "DurableOrchestrationClient",
    "DurableOrchestrationStatus",
    "EntityStateResponse",
    "OrchestrationRuntimeStatus",
    "PurgeHistoryResult",
    # errors
    "FailureDetails",
    "NotSupported",
    "TaskCancelledError",
    "TaskFailedError",
]

Function = Callable[..., Any]


# -- errors -----------------------------------------------------------------------------------------------


class NotSupported(DurableError, NotImplementedError):
    """A name of Azure's that has no counterpart here."""


class TaskCancelledError(DurableError):
    """A task that was cancelled is awaited, or its result is asked for."""


@dataclass(frozen=True)
class FailureDetails:
    """What ``TaskFailedError.details`` holds; ``error_type`` is the name of the exception's class."""

    message: str
    error_type: str
    stack_trace: str | None


class TaskFailedError(DurableError):
    """An activity or sub-orchestration failed, as ``durabletask`` says it; the cause is the original exception.

    Facts: ``error_type``, ``stack_trace`` (text or None).
    """

    @property
    def details(self) -> FailureDetails:
        """What failed."""
        return FailureDetails(str(self), self.facts["error_type"], self.facts["stack_trace"])


def _as_task_failure(error: BaseException) -> BaseException:
    if isinstance(error, TaskFailedError | TaskCancelledError) or not isinstance(error, Exception):
        return error
    if isinstance(error, ActivityError):
        dotted, message, trace = str(error.facts["type"]), error.facts["message"], error.facts["traceback"]
        failure = TaskFailedError(message, error_type=dotted.rpartition(".")[2], stack_trace=trace)
    else:
        failure = TaskFailedError(str(error), error_type=type(error).__name__, stack_trace=None)
    failure.__cause__ = error
    return failure


_UNSUPPORTED = {
    **dict.fromkeys(
        ("Entity", "DurableEntity", "DurableEntityContext", "EntityContext"),
        "celery_durable takes an entity as a class under @durable.entity",
    ),
    "call_http": "celery_durable makes no HTTP requests; put the request in an activity",
}


def _unsupported(name: str) -> NotSupported:
    return NotSupported(f"{name} is not available: {_UNSUPPORTED[name]}. See the guide to porting from Azure")


def __getattr__(name: str) -> Any:
    if name in _UNSUPPORTED:
        raise _unsupported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# -- retry ------------------------------------------------------------------------------------------------


class RetryOptions:
    """How often an activity is tried, in Azure Functions' words; every interval is as long as the first.

    Raises:
        ValueError: the interval (milliseconds) is not above 0, or there is no attempt.
    """

    def __init__(self, first_retry_interval_in_milliseconds: int, max_number_of_attempts: int) -> None:
        if first_retry_interval_in_milliseconds <= 0:
            raise ValueError(
                f"first_retry_interval_in_milliseconds must be above 0, not {first_retry_interval_in_milliseconds!r}"
            )
        self.first_retry_interval_in_milliseconds = first_retry_interval_in_milliseconds
        self.max_number_of_attempts = max_number_of_attempts
        self.policy = core_retry.RetryPolicy(
            first_interval=timedelta(milliseconds=first_retry_interval_in_milliseconds),
            max_attempts=max_number_of_attempts, backoff=1.0,
        )  # fmt: skip


class RetryPolicy:
    """How often an activity is tried, in durabletask's words.

    Raises:
        ValueError, TypeError: a field is out of its range or of the wrong type.
    """

    def __init__(
        self,
        *,
        first_retry_interval: timedelta,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = 1.0,
        max_retry_interval: timedelta | None = None,
        retry_timeout: timedelta | None = None,
    ) -> None:
        self.first_retry_interval = first_retry_interval
        self.max_number_of_attempts = max_number_of_attempts
        self.backoff_coefficient = backoff_coefficient
        self.max_retry_interval = max_retry_interval
        self.retry_timeout = retry_timeout
        self.policy = core_retry.RetryPolicy(
            first_interval=first_retry_interval, max_attempts=max_number_of_attempts,
            backoff=1.0 if backoff_coefficient is None else backoff_coefficient,
            max_interval=max_retry_interval, total_timeout=retry_timeout,
        )  # fmt: skip


# -- tasks ------------------------------------------------------------------------------------------------


class Task:
    """A call, a timer, a wait for an event, or several of these: to be yielded, any number of times.

    Two tasks are equal only if they are the same. This is durabletask's; ``.result`` raises the failure.
    """

    def __init__(self, future: asyncio.Future[Any], withdraw: Callable[[], object] | None = None) -> None:
        self.future = future
        self._withdraw = withdraw
        self._is_withdrawn = False

    @property
    def is_cancelled(self) -> bool:
        """True once it was cancelled, or the orchestration was while it waited for this."""
        return self._is_withdrawn or self.future.cancelled()

    @property
    def is_complete(self) -> bool:
        """True once it is done, has failed or was cancelled."""
        return self.future.done()

    @property
    def is_completed(self) -> bool:
        """True once it is done or has failed."""
        return self.future.done() and not self.is_cancelled

    @property
    def is_failed(self) -> bool:
        """True once it has failed."""
        return self.is_completed and self.future.exception() is not None

    @property
    def result(self) -> Any:
        """The same as ``get_result()``."""
        return self.get_result()

    def get_result(self) -> Any:
        """Return the result.

        Raises:
            ValueError: it is not done yet.
            TaskFailedError: it failed.
            TaskCancelledError: it was cancelled.
        """
        if not self.future.done():
            raise ValueError("the task is not done yet: yield it first")
        if self.is_cancelled:
            raise TaskCancelledError("the task was cancelled")
        if (error := self.future.exception()) is not None:
            raise _as_task_failure(error)
        return self.future.result()

    def get_exception(self) -> BaseException:
        """Return the failure.

        Raises:
            ValueError: it has not failed.
        """
        if not self.is_failed or (error := self.future.exception()) is None:
            raise ValueError("the task has not failed")
        return _as_task_failure(error)

    def cancel(self) -> bool:
        """Cancel a timer or a wait for an event; False if it is done already.

        Raises:
            NotSupported: it is neither of these.
        """
        if self._withdraw is None:
            raise NotSupported("only timers and waits for events can be cancelled; an activity goes on, ignore it")
        if self.future.done():
            return False
        self._withdraw()
        self._is_withdrawn = True
        self.future.set_exception(TaskCancelledError("the task was cancelled"))
        self.future.exception()  # seen: a cancelled timer that nobody awaits is no problem
        return True


class _FunctionsTask(Task):
    """A task of Azure Functions: ``.result`` is None before the end, and the exception of one that failed."""

    @property
    def result(self) -> Any:
        if not self.is_completed:
            return None
        return self.future.exception() or self.future.result()

    def cancel(self) -> bool:
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        return super().cancel()


def _relayed(source: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Return a future that gets the result of a timer or an event, and may be ended without it."""
    target: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def relay(_: object) -> None:
        if not target.done() and not source.cancelled():
            target.set_result(source.result())

    source.add_done_callback(relay)
    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    return target


def _first_of(tasks: list[Task], is_wanted: Callable[[Task], bool]) -> asyncio.Future[Task]:
    """Return a future of the first task to be done, failed ones too; the others go on."""
    if not tasks:
        raise ValueError("the first of no tasks would never be done")
    winner: asyncio.Future[Task] = asyncio.get_running_loop().create_future()

    def ended(task: Task, _: object = None) -> None:
        if not winner.done() and is_wanted(task):
            if not task.future.cancelled():
                task.future.exception()  # seen: whoever gets the task asks for its result
            winner.set_result(task)

    for task in tasks:
        if task.future.done():
            ended(task)
    if not winner.done():
        for task in tasks:
            task.future.add_done_callback(partial(ended, task))
    return winner


def _all_of(tasks: list[Task], *, fail_fast: bool) -> asyncio.Future[list[Any]]:
    loop: Any = asyncio.get_running_loop()
    return AllFuture([task.future for task in tasks], loop=loop, fail_fast=fail_fast)


def when_all(tasks: Iterable[Task]) -> Task:
    """Return a task of every result, in order; it fails, once all are done, by the first failure in that order."""
    return Task(_all_of(list(tasks), fail_fast=False))


def when_any(tasks: Iterable[Task]) -> Task:
    """Return a task whose result is the first of these tasks that is done, failed or cancelled.

    Raises:
        ValueError: there are none.
    """
    return Task(_first_of(list(tasks), lambda task: True))


class _Mailbox:
    """The waits for one event name. The newest gets the next event, as in Azure Functions.

    A wait that lost against a timer and was forgotten must not swallow an event that a later one waits for.
    """

    def __init__(self, wait: Callable[[], asyncio.Future[Any]]) -> None:
        self._wait = wait
        self._arrivals: list[asyncio.Future[Any]] = []
        self._waits: list[asyncio.Future[Any]] = []

    def open(self) -> asyncio.Future[Any]:
        """Return a future of an event; cancelling it gives the event back to whoever waits next."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arrival = self._wait()
        self._waits.append(future)
        self._arrivals.append(arrival)
        arrival.add_done_callback(self._deliver)
        future.add_done_callback(self._close)
        return future

    def _deliver(self, arrival: asyncio.Future[Any]) -> None:
        self._arrivals.remove(arrival)
        if not arrival.cancelled() and self._waits:
            self._waits.pop().set_result(arrival.result())

    def _close(self, future: asyncio.Future[Any]) -> None:
        if future in self._waits:
            self._waits.remove(future)
            self._arrivals[-1].cancel()


# -- entities ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntityId:
    """Azure's name of an entity: that of its class, as ``@durable.entity`` registered it, and its key."""

    name: str
    key: str


@dataclass(frozen=True)
class EntityInstanceId:
    """The same in ``durabletask``."""

    entity: str
    key: str

    @property
    def name(self) -> str:
        """The name of the entity's class."""
        return self.entity


@dataclass(frozen=True)
class EntityStateResponse:
    """What ``read_entity_state`` gives; ``entity_state`` is a dict of the entity's public attributes."""

    entity_exists: bool
    entity_state: Any = None


def _given(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


async def _entered(lock: EntityLock) -> AbstractContextManager[EntityLock]:
    await lock.acquire()
    return _released_after(lock)


@contextmanager
def _released_after(lock: EntityLock) -> Iterator[EntityLock]:
    try:
        yield lock
    finally:
        lock.release()


# -- the contexts -----------------------------------------------------------------------------------------


class _Context:
    """What both contexts have in common."""

    task_class: type[Task]

    def __init__(self, ctx: core.OrchestrationContext, given: Any) -> None:
        self._ctx = ctx
        self._given = given
        self._status: Any = None
        self._successor: tuple[Any, bool] | None = None

    @property
    def instance_id(self) -> str:
        """The id of this orchestration."""
        return self._ctx.instance_id

    @property
    def parent_instance_id(self) -> str | None:
        """The id of the orchestration that this one is a child of."""
        return self._ctx.parent_id

    @property
    def is_replaying(self) -> bool:
        """True while what happens here has happened before."""
        return self._ctx.is_replaying

    @property
    def will_continue_as_new(self) -> bool:
        """True after ``continue_as_new``."""
        return self._successor is not None

    def new_uuid(self) -> str:
        """Return a random UUID as text, the same on every replay."""
        return str(self._ctx.uuid4())

    def new_guid(self) -> UUID:
        """Return a random UUID, the same on every replay."""
        return self._ctx.uuid4()

    def set_custom_status(self, custom_status: Any) -> None:
        """Set the custom status."""
        self._status = custom_status
        self._ctx.set_status(custom_status)

    def continue_as_new(self, new_input: Any, *, save_events: bool = False) -> None:
        """Start afresh under the same id, at the next ``yield`` or at the end.

        Args:
            new_input: the input of the new execution.
            save_events: keep the events that were not taken yet; they are dropped otherwise, as there.
        """
        self._successor = (new_input, save_events)

    def create_timer(self, fire_at: datetime | timedelta) -> Task:
        """Return a task that is done at a time (UTC, if naive), or after a ``timedelta``."""
        due = self._ctx.now() + fire_at if isinstance(fire_at, timedelta) else _aware(fire_at)
        return self._cancellable(_relayed(timer := self._ctx.sleep_until(due)), timer.cancel)

    def lock_entities(self, entities: Iterable[EntityId | EntityInstanceId]) -> Task:
        """Return a task of a block that holds these entities: ``with (yield context.lock_entities([a, b])):``."""
        lock = self._ctx.lock(*(self._ctx.entity(each.name, each.key) for each in entities))
        return self.task_class(asyncio.get_running_loop().create_task(_entered(lock)))

    def _call_entity(self, entity: EntityId | EntityInstanceId, operation: str, given: Any) -> Task:
        reference = self._ctx.entity(entity.name, entity.key)
        return self.task_class(getattr(reference, operation)(*_given(given)))

    def _signal_entity(self, entity: EntityId | EntityInstanceId, operation: str, given: Any) -> Task:
        reference = self._ctx.entity(entity.name, entity.key)
        return self.task_class(getattr(reference.signal, operation)(*_given(given)))

    def finish(self, result: Any) -> Any:
        """Return the result of the orchestrator, or continue as new if it has asked for that."""
        if self._successor is not None:
            new_input, save_events = self._successor
            self._ctx.continue_as_new(new_input, keep_events=save_events)
        return result

    def shown(self, error: BaseException) -> BaseException:
        """Return what the orchestrator's ``except`` sees of a failure."""
        return error

    def _cancellable(self, future: asyncio.Future[Any], withdraw: Callable[[], object]) -> Task:
        return self.task_class(future, withdraw)

    def _call(
        self, name: Any, given: Any, retry: RetryOptions | RetryPolicy | None, instance_id: str | None = None
    ) -> Task:
        options = {} if instance_id is None else {"task_id": instance_id}
        signature = {"task": _name_of(name), "args": (given,), "kwargs": {}, "options": options}
        return self.task_class(self._ctx.call(signature, retry=None if retry is None else retry.policy))


class DurableOrchestrationContext(_Context):
    """The context of ``azure.durable_functions``. Times are aware UTC."""

    task_class = _FunctionsTask

    def __init__(self, ctx: core.OrchestrationContext, given: Any) -> None:
        super().__init__(ctx, given)
        self._mailboxes: dict[str, _Mailbox] = {}

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the event being applied, aware UTC."""
        return self._ctx.now()

    @property
    def custom_status(self) -> Any:
        """What ``set_custom_status`` was last given."""
        return self._status

    def get_input(self) -> Any:
        """Return the argument that the orchestration was started with; None without one."""
        return self._given

    def call_activity(self, name: Any, input_: Any = None) -> Task:
        """Run an activity (a Celery task, or its name) with one argument, which may be None."""
        return self._call(name, input_, None)

    def call_activity_with_retry(self, name: Any, retry_options: RetryOptions, input_: Any = None) -> Task:
        """Run an activity, and again if it fails."""
        return self._call(name, input_, retry_options)

    def call_sub_orchestrator(self, name: Any, input_: Any = None, instance_id: str | None = None) -> Task:
        """Run an orchestrator as a child; ``instance_id`` is its id."""
        return self._call(name, input_, None, instance_id)

    def call_sub_orchestrator_with_retry(
        self, name: Any, retry_options: RetryOptions, input_: Any = None, instance_id: str | None = None
    ) -> Task:
        """Run an orchestrator as a child, and again, as another instance, if it fails."""
        return self._call(name, input_, retry_options, instance_id)

    def call_entity(self, entityId: EntityId, operationName: str, operationInput: Any = None) -> Task:  # noqa: N803
        """Run an operation of an entity with one argument, or with none if that is None."""
        return self._call_entity(entityId, operationName, operationInput)

    def signal_entity(self, entityId: EntityId, operationName: str, operationInput: Any = None) -> Task:  # noqa: N803
        """Ask for an operation of an entity, one-way."""
        return self._signal_entity(entityId, operationName, operationInput)

    def call_http(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ``NotSupported``: HTTP requests belong in activities."""
        raise _unsupported("call_http")

    def wait_for_external_event(self, name: str) -> Task:
        """Return a task of the next event of that name; of several waits, the newest gets it."""
        mailbox = self._mailboxes.setdefault(name, _Mailbox(partial(self._ctx.wait_event, name)))
        return self.task_class(mailbox.open())

    def task_all(self, activities: Iterable[Task]) -> Task:
        """Return a task of every result, in order; it fails at once by the first failure."""
        return self.task_class(_all_of(list(activities), fail_fast=True))

    def task_any(self, activities: Iterable[Task]) -> Task:
        """Return a task whose result is the first of these tasks to be done or to fail; the others go on.

        Raises:
            ValueError: there are none.
        """
        return self.task_class(_first_of(list(activities), lambda task: not task.is_cancelled))


class OrchestrationContext(_Context):
    """The context of ``durabletask``. Times are naive UTC; a failure is a ``TaskFailedError``."""

    task_class = Task

    @property
    def version(self) -> str | None:
        """The version of the orchestrator."""
        return self._ctx.version

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the event being applied, naive UTC."""
        return self._ctx.now().replace(tzinfo=None)

    def call_activity(
        self, activity: Any, *, input: Any = None, retry_policy: RetryPolicy | None = None, **_: Any
    ) -> Task:
        """Run an activity: a Celery task, its name, or a function of that name, with one argument."""
        return self._call(activity, input, retry_policy)

    def call_sub_orchestrator(
        self,
        orchestrator: Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        **_: Any,
    ) -> Task:
        """Run an orchestrator as a child; ``instance_id`` is its id."""
        return self._call(orchestrator, input, retry_policy, instance_id)

    def wait_for_external_event(self, name: str, **_: Any) -> Task:
        """Return a task of the next event of that name; of several waits, the oldest gets it."""
        arrival = self._ctx.wait_event(name)
        return self._cancellable(_relayed(arrival), arrival.cancel)

    def call_entity(self, entity: EntityInstanceId, operation: str, input: Any = None) -> Task:
        """Run an operation of an entity with one argument, or with none if that is None."""
        return self._call_entity(entity, operation, input)

    def signal_entity(self, entity_id: EntityInstanceId, operation_name: str, input: Any = None) -> Task:
        """Ask for an operation of an entity, one-way."""
        return self._signal_entity(entity_id, operation_name, input)

    def send_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Raise an event on another orchestration, one-way."""
        self._ctx.signal_event(instance_id, event_name, data)

    def shown(self, error: BaseException) -> BaseException:
        """Return what the orchestrator's ``except`` sees of a failure."""
        return _as_task_failure(error)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _name_of(target: Any) -> str:
    """Return the name of a Celery task, or the one under which a plain function is registered."""
    if isinstance(target, str):
        return target
    name = getattr(target, "name", None) or getattr(target, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"a name, a Celery task or a function is needed, not {type(target).__name__}")
    return name


# -- running a generator ----------------------------------------------------------------------------------


def _drive(context: _Context, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
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
    function: Function, start: Callable[[core.OrchestrationContext, Any], tuple[_Context, Any]]
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

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[_Context, Any]:
        context = DurableOrchestrationContext(ctx, given)
        return context, function(context)

    return _translated(function, start)


def durabletask_orchestrator(function: Function) -> Function:
    """Translate ``def f(ctx, input)`` of durabletask, below ``@durable.orchestrator``."""

    def start(ctx: core.OrchestrationContext, given: Any) -> tuple[_Context, Any]:
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


# -- the client -------------------------------------------------------------------------------------------


class OrchestrationRuntimeStatus(StrEnum):
    """Azure's names of the states; equal to their texts. Nothing here is ever ``ContinuedAsNew``."""

    Running = "Running"
    Completed = "Completed"
    ContinuedAsNew = "ContinuedAsNew"
    Failed = "Failed"
    Canceled = "Canceled"
    Terminated = "Terminated"
    Pending = "Pending"
    Suspended = "Suspended"


@dataclass(frozen=True)
class DurableOrchestrationStatus:
    """What ``get_status`` gives; false, with nothing in it, if there is no such orchestration.

    ``output`` of a failed orchestration is the text of its exception. Times are aware UTC.
    """

    name: str | None = None
    instance_id: str | None = None
    created_time: datetime | None = None
    last_updated_time: datetime | None = None
    input_: Any = None
    output: Any = None
    runtime_status: OrchestrationRuntimeStatus | None = None
    custom_status: Any = None
    history: list[Event] | None = None

    def __bool__(self) -> bool:
        return self.instance_id is not None


@dataclass(frozen=True)
class PurgeHistoryResult:
    """How many orchestrations were deleted."""

    instances_deleted: int


class DurableOrchestrationClient:
    """Azure's client. Its methods are awaited, but block for the time of a database call.

    Args:
        durable: where the orchestrators are registered.
    """

    def __init__(self, durable: Durable) -> None:
        self.durable = durable

    async def start_new(
        self, orchestration_function_name: str, instance_id: str | None = None, client_input: Any = None
    ) -> str:
        """Start an orchestrator and return the instance id; a finished orchestration of that id is replaced.

        Raises:
            InvalidState: one of that id is not over.
            TypeError: there is no orchestrator of that name.
        """
        signature = self.durable.app.signature(orchestration_function_name, args=(client_input,))
        return str(self.durable.start(signature, instance_id=instance_id, if_exists="restart").id)

    async def get_status(
        self, instance_id: str, show_history: bool = False, show_history_output: bool = False, show_input: bool = False
    ) -> DurableOrchestrationStatus:
        """Return where an orchestration stands; its history is this package's own, payloads included."""
        try:
            run = self.durable.get(instance_id)
        except InstanceNotFound:
            return DurableOrchestrationStatus()
        has_failed = run.runtime_status is RuntimeStatus.FAILED
        return DurableOrchestrationStatus(
            name=run.name, instance_id=run.id, created_time=run.created_at, last_updated_time=run.updated_at,
            input_=next(iter(run.input["args"]), None) if show_input else None,
            output=str(run.failure) if has_failed else run.output,
            runtime_status=OrchestrationRuntimeStatus(run.runtime_status.capitalize()),
            custom_status=run.custom_status, history=run.history() if show_history else None,
        )  # fmt: skip

    async def raise_event(self, instance_id: str, event_name: str, event_data: Any = None) -> None:
        """Raise an event; without effect on an orchestration that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        try:
            self.durable.get(instance_id).raise_event(event_name, event_data)
        except InvalidState:
            return

    async def signal_entity(
        self,
        entityId: EntityId,  # noqa: N803
        operation_name: str,
        operation_input: Any = None,
    ) -> None:
        """Ask for an operation of an entity with one argument, or with none if that is None; one-way."""
        reference = self.durable.entity(entityId.name, entityId.key)
        getattr(reference.signal, operation_name)(*_given(operation_input))

    async def read_entity_state(self, entityId: EntityId) -> EntityStateResponse:  # noqa: N803
        """Return the state of an entity."""
        state = self.durable.entity(entityId.name, entityId.key).state()
        return EntityStateResponse(state is not None, state)

    async def terminate(self, instance_id: str, reason: str) -> None:
        """End an orchestration, and its children, at once; without effect on one that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        self.durable.get(instance_id).terminate(reason=reason)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Let an orchestration take no turns.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.durable.get(instance_id).suspend(reason)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended orchestration go on.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.durable.get(instance_id).resume(reason)

    async def purge_instance_history(self, instance_id: str) -> PurgeHistoryResult:
        """Delete a finished orchestration and its children.

        Raises:
            InvalidState: it is not over.
        """
        try:
            run = self.durable.get(instance_id)
        except InstanceNotFound:
            return PurgeHistoryResult(0)
        run.purge()
        return PurgeHistoryResult(1)
