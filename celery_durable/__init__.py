"""Durable orchestrations for Celery: functions that survive worker kills, broker loss, deploys and months of waiting."""

from .app import Durable, Page, entity, orchestrator
from .core.context import OrchestrationContext
from .core.retry import RetryPolicy
from .core.status import RuntimeStatus
from .entities import Entity, EntityPage
from .errors import (
    ActivityError,
    ActivityTimeout,
    CompensationFailed,
    ConfigurationError,
    DurableError,
    ForbiddenOperation,
    InstanceExists,
    InstanceNotFound,
    InvalidState,
    LockLost,
    NonDeterminismError,
    OrchestrationFailed,
    OrchestrationRevoked,
    PayloadError,
    ScheduleNotFound,
    StoreError,
    TurnLimitExceeded,
)
from .result import Orchestration
from .schedule import Schedule
from .worker.activity import ActivityContext, durable_context

__all__ = [
    # the front door
    "Durable",
    "entity",
    "orchestrator",
    "durable_context",
    # what is passed around
    "ActivityContext",
    "Entity",
    "EntityPage",
    "Orchestration",
    "OrchestrationContext",
    "Page",
    "RetryPolicy",
    "RuntimeStatus",
    "Schedule",
    # errors
    "ActivityError",
    "ActivityTimeout",
    "CompensationFailed",
    "ConfigurationError",
    "DurableError",
    "ForbiddenOperation",
    "InstanceExists",
    "InstanceNotFound",
    "InvalidState",
    "LockLost",
    "NonDeterminismError",
    "OrchestrationFailed",
    "OrchestrationRevoked",
    "PayloadError",
    "ScheduleNotFound",
    "StoreError",
    "TurnLimitExceeded",
]

__version__ = "0.1.0"
