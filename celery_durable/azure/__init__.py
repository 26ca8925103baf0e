"""The names of Azure's Durable Functions for Python and of ``durabletask``, over this package's
orchestrators.

A generator written for either runs with its import and its decorator changed: ``from celery_durable
import azure as df``, or ``from celery_durable.azure import client, entities, task, worker``. Only
translation happens here, task by task; what is recorded are the commands of ``ctx``.
"""

from __future__ import annotations

from typing import Final

from . import client, entities, task, worker
from .durabletask_context import OrchestrationContext
from .entities import (
    DurableEntity,
    DurableEntityContext,
    EntityContext,
    EntityId,
    EntityInstanceId,
    EntityStateResponse,
)
from .errors import FailureDetails, NotSupported, TaskCancelledError, TaskFailedError
from .functions import (
    DurableFunctionsClient,
    DurableOrchestrationClient,
    DurableOrchestrationStatus,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
    SyncDurableFunctionsClient,
)
from .functions_app import Blueprint, DFApp, Entity, Orchestrator
from .functions_context import DurableOrchestrationContext
from .futures import CancellableTask, Task, TimerTask, when_all, when_any
from .missing import refused
from .retry import RetryOptions, RetryPolicy
from .running import ActivityContext, durabletask_activity, durabletask_orchestrator, orchestrator
from .worker import TaskHubGrpcWorker, TaskHubWorker

__all__ = [
    # the modules of durabletask
    "client",
    "entities",
    "task",
    "worker",
    # decorators
    "Blueprint",
    "DFApp",
    "Entity",
    "Orchestrator",
    "TaskHubGrpcWorker",
    "TaskHubWorker",
    "durabletask_activity",
    "durabletask_orchestrator",
    "orchestrator",
    # what an orchestrator is given and makes
    "ActivityContext",
    "CancellableTask",
    "EntityId",
    "EntityInstanceId",
    "DurableOrchestrationContext",
    "OrchestrationContext",
    "RetryOptions",
    "RetryPolicy",
    "Task",
    "TaskBase",
    "TimerTask",
    "when_all",
    "when_any",
    # entities
    "DurableEntity",
    "DurableEntityContext",
    "EntityContext",
    # the client
    "DurableFunctionsClient",
    "DurableOrchestrationClient",
    "DurableOrchestrationStatus",
    "EntityStateResponse",
    "OrchestrationRuntimeStatus",
    "PurgeHistoryResult",
    "SyncDurableFunctionsClient",
    # errors
    "FailureDetails",
    "NotSupported",
    "TaskCancelledError",
    "TaskFailedError",
]

TaskBase = Task

__getattr__: Final = refused(__name__)
