"""Azure's client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ..app import Durable
from ..core.events import Event
from ..core.status import RuntimeStatus
from ..errors import InstanceNotFound, InvalidState
from .entities import EntityId, EntityStateResponse, arguments_of, operation_of

__all__ = [
    "DurableOrchestrationClient",
    "DurableOrchestrationStatus",
    "OrchestrationRuntimeStatus",
    "PurgeHistoryResult",
]


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
        operation_of(reference.signal, operation_name)(*arguments_of(operation_input))

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
