"""durabletask's client, to be awaited, and the names of ``durabletask.client``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import update_wrapper
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from ..app.durable import Durable
from ..core.flags import check_flags
from ..core.status import RuntimeStatus
from .blocking import TaskHubGrpcClient
from .entity_names import EntityInstanceId
from .errors import OrchestrationFailedError
from .missing import refused
from .states import (
    CleanEntityStorageResult,
    EntityQuery,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)

__all__ = [
    "AsyncTaskHubGrpcClient",
    "CleanEntityStorageResult",
    "EntityQuery",
    "OrchestrationFailedError",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PurgeInstancesResult",
    "TaskHubGrpcClient",
]

P = ParamSpec("P")
R = TypeVar("R")

__getattr__: Final = refused(__name__)


def _awaited(
    method: Callable[Concatenate[TaskHubGrpcClient, P], R],
) -> Callable[Concatenate[AsyncTaskHubGrpcClient, P], Coroutine[Any, Any, R]]:
    async def call(self: AsyncTaskHubGrpcClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self.blocking, *args, **kwargs)

    update_wrapper(call, method)
    return call


class AsyncTaskHubGrpcClient:
    """The same, to be awaited. Its methods block for the time of a database call; waiting does not.

    Args:
        durable: where the orchestrators are registered; that of the current Celery app if left out.
        options: of durabletask's connection to its sidecar; refused.
    """

    def __init__(self, durable: Durable | None = None, **options: Any) -> None:
        self.blocking: TaskHubGrpcClient = TaskHubGrpcClient(durable, **options)

    @property
    def durable(self) -> Durable:
        """Where the orchestrators are registered."""
        return self.blocking.durable

    async def __aenter__(self) -> AsyncTaskHubGrpcClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    close: Final = _awaited(TaskHubGrpcClient.close)
    schedule_new_orchestration: Final = _awaited(TaskHubGrpcClient.schedule_new_orchestration)
    get_orchestration_state: Final = _awaited(TaskHubGrpcClient.get_orchestration_state)
    get_orchestration_history: Final = _awaited(TaskHubGrpcClient.get_orchestration_history)
    list_instance_ids: Final = _awaited(TaskHubGrpcClient.list_instance_ids)
    get_all_orchestration_states: Final = _awaited(TaskHubGrpcClient.get_all_orchestration_states)
    raise_orchestration_event: Final = _awaited(TaskHubGrpcClient.raise_orchestration_event)
    terminate_orchestration: Final = _awaited(TaskHubGrpcClient.terminate_orchestration)
    suspend_orchestration: Final = _awaited(TaskHubGrpcClient.suspend_orchestration)
    resume_orchestration: Final = _awaited(TaskHubGrpcClient.resume_orchestration)
    rewind_orchestration: Final = _awaited(TaskHubGrpcClient.rewind_orchestration)
    restart_orchestration: Final = _awaited(TaskHubGrpcClient.restart_orchestration)
    purge_orchestration: Final = _awaited(TaskHubGrpcClient.purge_orchestration)
    purge_orchestrations_by: Final = _awaited(TaskHubGrpcClient.purge_orchestrations_by)
    get_entity: Final = _awaited(TaskHubGrpcClient.get_entity)
    get_all_entities: Final = _awaited(TaskHubGrpcClient.get_all_entities)
    clean_entity_storage: Final = _awaited(TaskHubGrpcClient.clean_entity_storage)

    async def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation_name: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Ask for an operation of an entity, one-way; see ``TaskHubGrpcClient.signal_entity``."""
        self.blocking.signal_entity(entity_instance_id, operation_name, input, signal_time)

    async def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an orchestration has begun.

        See ``TaskHubGrpcClient.wait_for_orchestration_start``.
        """
        check_flags(fetch_payloads=fetch_payloads)
        for pause in self.blocking.pauses(
            instance_id, timeout, lambda status: status is not RuntimeStatus.PENDING
        ):
            await asyncio.sleep(pause)
        return self.blocking.get_orchestration_state(instance_id, fetch_payloads=fetch_payloads)

    async def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an orchestration is over.

        See ``TaskHubGrpcClient.wait_for_orchestration_completion``.
        """
        check_flags(fetch_payloads=fetch_payloads)
        for pause in self.blocking.pauses(instance_id, timeout, lambda status: status.is_terminal):
            await asyncio.sleep(pause)
        return self.blocking.get_orchestration_state(instance_id, fetch_payloads=fetch_payloads)
