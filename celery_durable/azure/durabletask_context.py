"""The context of ``durabletask``'s orchestrators."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .contexts import AzureContext, Retry
from .entity_names import EntityInstanceId
from .errors import as_task_failure
from .futures import CancellableTask, CompletableTask, relayed
from .missing import refuse_options
from .values import outgoing, reader

__all__ = ["OrchestrationContext"]


class OrchestrationContext(AzureContext):
    """The context of ``durabletask``. Times are naive UTC; a failure is a ``TaskFailedError``."""

    is_lenient = False

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the event being applied, naive UTC."""
        return self._ctx.now().replace(tzinfo=None)

    def set_custom_status(self, custom_status: Any) -> None:
        """Set the custom status."""
        self._set_status(custom_status)

    def continue_as_new(
        self, new_input: Any, *, save_events: bool = False, new_version: str | None = None
    ) -> None:
        """Start afresh under the same id, at the next ``yield`` or at the end, on the newest
        version.

        Args:
            new_input: the input of the new execution.
            save_events: keep the events that were not taken yet; they are dropped otherwise, as
                there.
            new_version: refused.
        """
        refuse_options(new_version=new_version)
        self._continue(new_input, save_events)

    def call_activity(
        self,
        activity: Any,
        *,
        input: Any = None,
        retry_policy: Retry = None,
        tags: dict[str, str] | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an activity: a Celery task, its name, or a function of that name, with one argument.

        Args:
            activity: which.
            input: its argument.
            retry_policy: how often it is tried.
            tags: without effect.
            return_type: what its result is made to; the function's annotation if left out.
        """
        return self._call(activity, input, retry_policy, return_type)

    def call_sub_orchestrator(
        self,
        orchestrator: Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: Retry = None,
        version: str | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an orchestrator as a child; ``instance_id`` is its id. ``version`` is refused."""
        refuse_options(version=version)
        return self._call(orchestrator, input, retry_policy, return_type, instance_id)

    def wait_for_external_event(self, name: str, *, data_type: Any = None) -> CancellableTask[Any]:
        """Return a task of the next event of that name; of several waits, the oldest gets it."""
        arrival = self._ctx.wait_event(name)
        return CancellableTask(relayed(arrival), reader(data_type), withdraw=arrival.cancel)

    def call_entity(
        self,
        entity: EntityInstanceId,
        operation: str,
        input: Any = None,
        *,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Run an operation of an entity with one argument, or with none if that is None."""
        return self._call_entity(entity, operation, input, return_type)

    def signal_entity(
        self,
        entity_id: EntityInstanceId,
        operation_name: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> CompletableTask[None]:
        """Ask for an operation of an entity, one-way.

        ``signal_time`` is when it is to come, UTC if naive.
        """
        return self._signal_entity(entity_id, operation_name, input, signal_time)

    def send_event(self, instance_id: str, event_name: str, *, data: Any = None) -> None:
        """Raise an event on another orchestration, one-way."""
        self._ctx.signal_event(instance_id, event_name, outgoing(data))

    def shown(self, error: BaseException) -> BaseException:
        """Return what the orchestrator's ``except`` sees of a failure."""
        return as_task_failure(error)
