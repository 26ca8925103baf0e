"""The names of Azure's Durable Functions for Python and of ``durabletask``, over this package's orchestrators.

A generator written for either runs with its import and its decorator changed: ``from celery_durable import azure as df``
(or ``as task``). Only translation happens here, task by task; what is recorded are the commands of ``ctx``.
"""

from __future__ import annotations

from typing import Any

from .client import (
    DurableOrchestrationClient,
    DurableOrchestrationStatus,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
)
from .contexts import DurableOrchestrationContext, OrchestrationContext
from .entities import EntityId, EntityInstanceId, EntityStateResponse
from .errors import UNSUPPORTED, FailureDetails, NotSupported, TaskCancelledError, TaskFailedError, unsupported
from .retry import RetryOptions, RetryPolicy
from .running import (
    ActivityContext,
    DFApp,
    Orchestrator,
    TaskHubWorker,
    durabletask_activity,
    durabletask_orchestrator,
    orchestrator,
)
from .tasks import Task, when_all, when_any

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


def __getattr__(name: str) -> Any:
    if name in UNSUPPORTED:
        raise unsupported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
