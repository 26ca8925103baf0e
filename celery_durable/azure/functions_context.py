"""The context of Azure Functions' orchestrators."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

from ..core import context as core
from .contexts import AzureContext, Retry
from .entity_names import EntityInstanceId
from .futures import CancellableTask, CompletableTask, Mailbox, Task, WhenAllTask, WhenAnyTask
from .missing import refuse_options, unsupported
from .values import incoming, reader

__all__ = ["DurableOrchestrationContext"]


class DurableOrchestrationContext(AzureContext):
    """The context of ``azure.durable_functions``. Times are aware UTC.

    ``expected_type=`` names the type of a result or payload: a dataclass, a class with
    ``from_json``, a list of these.
    """

    is_lenient = True

    def __init__(self, ctx: core.OrchestrationContext, given: Any, input_type: Any = None) -> None:
        super().__init__(ctx, given)
        self._input_type = input_type
        self._mailboxes: dict[str, Mailbox] = {}

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the event being applied, aware UTC."""
        return self._ctx.now()

    @property
    def custom_status(self) -> Any:
        """What ``set_custom_status`` was last given."""
        return self._status

    @property
    def function_context(self) -> SimpleNamespace:
        """An object without attributes: there is no Functions host to tell more."""
        return SimpleNamespace()

    @property
    def histories(self) -> NoReturn:
        """Raises ``NotSupported``: ``durable.get(id).history()`` has it."""
        raise unsupported("histories")

    def get_input(self, expected_type: Any = None) -> Any:
        """Return the argument that the orchestration was started with; None without one."""
        return incoming(self._given, self._input_type if expected_type is None else expected_type)

    def set_custom_status(self, status: Any) -> None:
        """Set the custom status."""
        self._set_status(status)

    def continue_as_new(self, input_: Any, *, save_events: bool = False) -> None:
        """Start afresh under the same id, at the next ``yield`` or at the end.

        Args:
            input_: the input of the new execution.
            save_events: keep the events that were not taken yet; they are dropped otherwise, as
                there.
        """
        self._continue(input_, save_events)

    def call_activity(
        self, name: Any, input_: Any = None, expected_type: Any = None
    ) -> CompletableTask[Any]:
        """Run an activity (a Celery task, or its name) with one argument, which may be None."""
        return self._call(name, input_, None, expected_type)

    def call_activity_with_retry(
        self, name: Any, retry_options: Retry, input_: Any = None, expected_type: Any = None
    ) -> CompletableTask[Any]:
        """Run an activity, and again if it fails."""
        return self._call(name, input_, retry_options, expected_type)

    def call_sub_orchestrator(
        self,
        name: Any,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an orchestrator as a child; ``instance_id`` is its id. ``version`` is refused."""
        refuse_options(version=version)
        return self._call(name, input_, None, expected_type, instance_id)

    def call_sub_orchestrator_with_retry(
        self,
        name: Any,
        retry_options: Retry,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an orchestrator as a child, and again, as another instance, if it fails.

        ``version`` is refused.
        """
        refuse_options(version=version)
        return self._call(name, input_, retry_options, expected_type, instance_id)

    def call_entity(
        self,
        entityId: EntityInstanceId,  # noqa: N803
        operationName: str,  # noqa: N803
        operationInput: Any = None,  # noqa: N803
        expected_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an operation of an entity with one argument, or with none if that is None."""
        return self._call_entity(entityId, operationName, operationInput, expected_type)

    def signal_entity(
        self,
        entityId: EntityInstanceId,  # noqa: N803
        operationName: str,  # noqa: N803
        operationInput: Any = None,  # noqa: N803
    ) -> CompletableTask[None]:
        """Ask for an operation of an entity, one-way."""
        return self._signal_entity(entityId, operationName, operationInput)

    def call_http(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ``NotSupported``: HTTP requests belong in activities."""
        raise unsupported("call_http")

    def wait_for_external_event(self, name: str, expected_type: Any = None) -> CancellableTask[Any]:
        """Return a task of the next event of that name; of several waits, the newest gets it."""
        future = self._mailboxes.setdefault(
            name, Mailbox(partial(self._ctx.wait_event, name))
        ).open()
        return CancellableTask(future, reader(expected_type), is_lenient=True)

    def task_all(self, activities: Iterable[Task[Any]]) -> WhenAllTask[Any]:
        """Return a task of every result, in order; it fails at once by the first failure."""
        return WhenAllTask(list(activities), fail_fast=True, is_lenient=True)

    def task_any(self, activities: Iterable[Task[Any]]) -> WhenAnyTask[Any]:
        """Return a task whose result is the first of these tasks to be done or to fail.

        The others go on.

        Raises:
            ValueError: there are none.
        """
        return WhenAnyTask(list(activities), lambda task: not task.is_cancelled, is_lenient=True)
