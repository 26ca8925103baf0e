"""Durable orchestrations for Celery: functions that survive worker kills, broker loss, deploys and
months of waiting.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .versions import demand

if TYPE_CHECKING:
    from .app.durable import Durable, Page
    from .app.shared import entity, orchestrator
    from .core.context import OrchestrationContext
    from .core.futures import SKIPPED
    from .core.kinds.request import Request
    from .core.limits import Debounce, Limit, Rate
    from .core.pause_after import PauseAfter
    from .core.retry import RetryPolicy
    from .core.status import RuntimeStatus
    from .errors import (
        ActivityError,
        ActivityInterrupted,
        ActivityTimeout,
        CompensationFailed,
        ConfigurationError,
        DeterminismWarning,
        DurableError,
        ForbiddenOperation,
        InstanceExists,
        InstanceNotFound,
        InvalidState,
        LockLost,
        NonDeterminismError,
        OrchestrationFailed,
        OrchestrationRevoked,
        OrchestrationTimeout,
        PayloadError,
        RequestRejected,
        ScheduleNotFound,
        StoreError,
        TurnLimitExceeded,
        WaitTimeout,
    )
    from .handles.audit import AuditEntry, AuditPage
    from .handles.entity import Entity, EntityPage
    from .handles.history import HistoryEvent
    from .handles.limit_use import LimitUse
    from .handles.orchestration import Orchestration
    from .handles.pause import Pause
    from .handles.schedule import Schedule
    from .worker.activity_context import ActivityContext, durable_context

__all__ = [
    # the front door
    "Durable",
    "entity",
    "orchestrator",
    "durable_context",
    # what is passed around
    "ActivityContext",
    "AuditEntry",
    "AuditPage",
    "Debounce",
    "Entity",
    "EntityPage",
    "HistoryEvent",
    "Limit",
    "LimitUse",
    "Orchestration",
    "OrchestrationContext",
    "Page",
    "Pause",
    "PauseAfter",
    "Rate",
    "Request",
    "RetryPolicy",
    "RuntimeStatus",
    "SKIPPED",
    "Schedule",
    # errors
    "ActivityError",
    "ActivityInterrupted",
    "ActivityTimeout",
    "CompensationFailed",
    "ConfigurationError",
    "DeterminismWarning",
    "DurableError",
    "ForbiddenOperation",
    "InstanceExists",
    "InstanceNotFound",
    "InvalidState",
    "LockLost",
    "NonDeterminismError",
    "OrchestrationFailed",
    "OrchestrationRevoked",
    "OrchestrationTimeout",
    "PayloadError",
    "RequestRejected",
    "ScheduleNotFound",
    "StoreError",
    "TurnLimitExceeded",
    "WaitTimeout",
]

__version__ = "0.1.0"

demand("celery", "kombu", "sqlalchemy", "alembic")

# Imported when they are first asked for: the command line loads this package with every command of
# Celery's. What is not named here is an error.
_HOMES = dict.fromkeys(__all__, "errors") | {
    **dict.fromkeys(("Durable", "Page"), "app.durable"),
    **dict.fromkeys(("entity", "orchestrator"), "app.shared"),
    **dict.fromkeys(("Debounce", "Limit", "Rate"), "core.limits"),
    **dict.fromkeys(("AuditEntry", "AuditPage"), "handles.audit"),
    **dict.fromkeys(("Entity", "EntityPage"), "handles.entity"),
    **dict.fromkeys(("ActivityContext", "durable_context"), "worker.activity_context"),
    "HistoryEvent": "handles.history",
    "OrchestrationContext": "core.context",
    "Request": "core.kinds.request",
    "SKIPPED": "core.futures",
    "PauseAfter": "core.pause_after",
    "RetryPolicy": "core.retry",
    "RuntimeStatus": "core.status",
    "LimitUse": "handles.limit_use",
    "Orchestration": "handles.orchestration",
    "Pause": "handles.pause",
    "Schedule": "handles.schedule",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
