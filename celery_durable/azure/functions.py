"""The client of Azure Functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn

from ..core.flags import check_flags
from ..core.history import Event
from ..core.status import RuntimeStatus
from ..errors import InstanceNotFound
from ..handles.fields import json_output_of
from ..handles.orchestration import Orchestration
from .client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from .entities import EntityStateResponse, shown_state
from .entity_names import EntityInstanceId, spelled
from .missing import refuse_options, unsupported
from .states import statuses_of
from .values import incoming

__all__ = [
    "DurableFunctionsClient",
    "DurableOrchestrationClient",
    "DurableOrchestrationStatus",
    "OrchestrationRuntimeStatus",
    "PurgeHistoryResult",
    "SyncDurableFunctionsClient",
]


class OrchestrationRuntimeStatus(StrEnum):
    """Azure's names of the states; equal to their texts.

    Nothing here is ever ``ContinuedAsNew``.
    """

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
    history: Sequence[Event] | None = None

    def __bool__(self) -> bool:
        return self.instance_id is not None

    def to_json(self) -> dict[str, Any]:
        """Return what is known as a dict, by the names that Azure's HTTP interface has.

        Times are ISO texts.
        """
        known = {
            "name": self.name,
            "instanceId": self.instance_id,
            "createdTime": _text(self.created_time),
            "lastUpdatedTime": _text(self.last_updated_time),
            "input": self.input_,
            "output": self.output,
            "runtimeStatus": None if self.runtime_status is None else self.runtime_status.name,
            "customStatus": self.custom_status,
            "history": None if self.history is None else [str(event) for event in self.history],
        }
        return {name: value for name, value in known.items() if value is not None}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True)
class PurgeHistoryResult:
    """How many orchestrations were deleted."""

    instances_deleted: int


class _WithoutFront:
    def create_check_status_response(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ``NotSupported``: ``celery_durable.http`` gives such answers."""
        raise unsupported("create_check_status_response")

    def create_http_management_payload(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ``NotSupported``: ``celery_durable.http`` gives such answers."""
        raise unsupported("create_http_management_payload")


class DurableFunctionsClient(_WithoutFront, AsyncTaskHubGrpcClient):
    """The client of Azure Functions: durabletask's, to be awaited, and the older names of its
    methods.

    Args:
        durable: where the orchestrators are registered; that of the current Celery app if left out.
    """

    async def start_new(
        self,
        orchestration_function_name: str,
        instance_id: str | None = None,
        client_input: Any = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestrator and return the instance id.

        A finished orchestration of that id is replaced.

        Raises:
            InvalidState: one of that id is not over.
            TypeError: there is no orchestrator of that name.
        """
        return await self.schedule_new_orchestration(
            orchestration_function_name,
            input=client_input,
            instance_id=instance_id,
            version=version,
        )

    async def get_status(
        self,
        instance_id: str,
        show_history: bool = False,
        show_history_output: bool = False,
        show_input: bool = False,
    ) -> DurableOrchestrationStatus:
        """Return where an orchestration stands.

        Its history is this package's own, payloads included.
        """
        check_flags(
            show_history=show_history,
            show_history_output=show_history_output,
            show_input=show_input,
        )
        try:
            run = self.durable.get(instance_id)
        except InstanceNotFound:
            return DurableOrchestrationStatus()
        return _status_of(run, show_history, show_input)

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """Return where all orchestrations stand, newest first, with inputs and outputs."""
        return await self.get_status_by()

    async def get_status_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationRuntimeStatus] | None = None,
        instance_id_prefix: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """Return where those orchestrations stand that fit, newest first, with inputs and outputs.

        Times are UTC, if naive.
        """
        runs = self.blocking.runs(
            created_time_from,
            created_time_to,
            statuses_of(runtime_status),
            instance_id_prefix,
            with_payloads=True,
        )
        return [_status_of(run, False, True) for run in runs]

    async def raise_event(
        self,
        instance_id: str,
        event_name: str,
        event_data: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Raise an event; without effect on an orchestration that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        refuse_options(task_hub_name=task_hub_name, connection_name=connection_name)
        self.blocking.raise_orchestration_event(instance_id, event_name, data=event_data)

    # both releases of Azure's, by position and by name
    async def signal_entity(  # type: ignore[override]
        self,
        entity_instance_id: EntityInstanceId | None = None,
        operation_name: str = "",
        input: Any = None,
        signal_time: datetime | None = None,
        *,
        entityId: EntityInstanceId | None = None,  # noqa: N803
        operation_input: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Ask for an operation of an entity with one argument, or with none if that is None.

        One-way.
        """
        refuse_options(task_hub_name=task_hub_name, connection_name=connection_name)
        entity, given = (
            _given(entity_instance_id, entityId),
            (operation_input if input is None else input),
        )
        self.blocking.signal_entity(entity, operation_name, given, signal_time)

    async def read_entity_state(
        self,
        entity_instance_id: EntityInstanceId | None = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
        *,
        entityId: EntityInstanceId | None = None,  # noqa: N803
    ) -> EntityStateResponse:
        """Return the state of an entity."""
        refuse_options(task_hub_name=task_hub_name, connection_name=connection_name)
        entity = _given(entity_instance_id, entityId)
        state = shown_state(self.durable.entity(spelled(entity), entity.key).state())
        return EntityStateResponse(state is not None, incoming(state))

    async def terminate(self, instance_id: str, reason: Any = None) -> None:
        """End an orchestration, and its children, at once; without effect on one that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        self.durable.get(instance_id).terminate(reason=None if reason is None else str(reason))

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Let an orchestration take no turns.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.blocking.suspend_orchestration(instance_id, reason=reason)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Let a suspended orchestration go on.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.blocking.resume_orchestration(instance_id, reason=reason)

    async def rewind(
        self,
        instance_id: str,
        reason: str | None = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Run again what failed of a failed orchestration, and keep what succeeded.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it has ended otherwise.
        """
        refuse_options(task_hub_name=task_hub_name, connection_name=connection_name)
        self.blocking.rewind_orchestration(instance_id, reason=reason)

    async def restart(self, instance_id: str, restart_with_new_instance_id: bool = True) -> str:
        """Start an orchestration once more with the same input, under a new id, and return that.

        Raises:
            InstanceNotFound: there is none.
            InvalidState: it is not over, and no new id is wanted.
        """
        check_flags(restart_with_new_instance_id=restart_with_new_instance_id)
        return self.blocking.restart_orchestration(
            instance_id, restart_with_new_instance_id=restart_with_new_instance_id
        )

    async def purge_instance_history(self, instance_id: str) -> PurgeHistoryResult:
        """Delete a finished orchestration and its children.

        Raises:
            InvalidState: it is not over.
        """
        return PurgeHistoryResult(
            self.blocking.purge_orchestration(instance_id).deleted_instance_count
        )

    async def purge_instance_history_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationRuntimeStatus] | None = None,
    ) -> PurgeHistoryResult:
        """Delete the finished orchestrations that fit, with their children.

        Times are UTC, if naive.
        """
        chosen: Any = runtime_status
        done = self.blocking.purge_orchestrations_by(
            created_time_from, created_time_to, chosen, recursive=True
        )
        return PurgeHistoryResult(done.deleted_instance_count)

    def get_client_response_links(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ``NotSupported``: ``celery_durable.http`` gives such answers."""
        raise unsupported("get_client_response_links")

    async def wait_for_completion_or_create_check_status_response(
        self, *_: Any, **__: Any
    ) -> NoReturn:
        """Raise ``NotSupported``: ``celery_durable.http`` gives such answers."""
        raise unsupported("wait_for_completion_or_create_check_status_response")


class DurableOrchestrationClient(DurableFunctionsClient):
    """The older name of ``DurableFunctionsClient``."""


class SyncDurableFunctionsClient(_WithoutFront, TaskHubGrpcClient):
    """The client of Azure Functions for plain functions: durabletask's."""


def _given(one: EntityInstanceId | None, other: EntityInstanceId | None) -> EntityInstanceId:
    if (found := other if one is None else one) is None:
        raise TypeError("the id of an entity is missing")
    return found


def _status_of(
    run: Orchestration, shows_history: bool, shows_input: bool
) -> DurableOrchestrationStatus:
    has_failed = run.runtime_status is RuntimeStatus.FAILED
    return DurableOrchestrationStatus(
        name=run.name,
        instance_id=run.id,
        created_time=run.created_at,
        last_updated_time=run.updated_at,
        input_=incoming(next(iter(run.input["args"]), None)) if shows_input else None,
        output=str(run.failure) if has_failed else incoming(json_output_of(run)),
        runtime_status=OrchestrationRuntimeStatus(run.runtime_status.capitalize()),
        custom_status=incoming(run.custom_status),
        history=run.history() if shows_history else None,
    )
