"""Azure's two contexts, of Functions and of ``durabletask``, over this package's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

from ..core import context as core
from .entities import EntityId, EntityInstanceId, arguments_of, entered, operation_of
from .errors import as_task_failure, unsupported
from .retry import RetryOptions, RetryPolicy
from .tasks import FunctionsTask, Mailbox, Task, all_of, first_of, relayed

__all__ = ["AzureContext", "DurableOrchestrationContext", "OrchestrationContext"]


class AzureContext:
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
        return self._cancellable(relayed(timer := self._ctx.sleep_until(due)), timer.cancel)

    def lock_entities(self, entities: Iterable[EntityId | EntityInstanceId]) -> Task:
        """Return a task of a block that holds these entities: ``with (yield context.lock_entities([a, b])):``."""
        lock = self._ctx.lock(*(self._ctx.entity(each.name, each.key) for each in entities))
        return self.task_class(asyncio.get_running_loop().create_task(entered(lock)))

    def _call_entity(self, entity: EntityId | EntityInstanceId, operation: str, given: Any) -> Task:
        reference = self._ctx.entity(entity.name, entity.key)
        return self.task_class(operation_of(reference, operation)(*arguments_of(given)))

    def _signal_entity(self, entity: EntityId | EntityInstanceId, operation: str, given: Any) -> Task:
        reference = self._ctx.entity(entity.name, entity.key)
        return self.task_class(operation_of(reference.signal, operation)(*arguments_of(given)))

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


class DurableOrchestrationContext(AzureContext):
    """The context of ``azure.durable_functions``. Times are aware UTC."""

    task_class = FunctionsTask

    def __init__(self, ctx: core.OrchestrationContext, given: Any) -> None:
        super().__init__(ctx, given)
        self._mailboxes: dict[str, Mailbox] = {}

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
        raise unsupported("call_http")

    def wait_for_external_event(self, name: str) -> Task:
        """Return a task of the next event of that name; of several waits, the newest gets it."""
        mailbox = self._mailboxes.setdefault(name, Mailbox(partial(self._ctx.wait_event, name)))
        return self.task_class(mailbox.open())

    def task_all(self, activities: Iterable[Task]) -> Task:
        """Return a task of every result, in order; it fails at once by the first failure."""
        return self.task_class(all_of(list(activities), fail_fast=True))

    def task_any(self, activities: Iterable[Task]) -> Task:
        """Return a task whose result is the first of these tasks to be done or to fail; the others go on.

        Raises:
            ValueError: there are none.
        """
        return self.task_class(first_of(list(activities), lambda task: not task.is_cancelled))


class OrchestrationContext(AzureContext):
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
        return self._cancellable(relayed(arrival), arrival.cancel)

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
        return as_task_failure(error)


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
