"""The one tree of errors. Each says what happened, to which instance, and what to do next.

Facts are attributes (``error.instance_id``), and every error survives pickle with its facts. The
classes that need no Celery are written in ``_errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import (
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
    OrchestrationTimeout,
    PayloadError,
    RequestRejected,
    ScheduleNotFound,
    StoreError,
    TurnLimitExceeded,
    _rebuild,  # noqa: F401  pickles name it here
    declare_facts,
)

if TYPE_CHECKING:  # Celery has no types

    class TaskRevokedError(Exception):
        """Celery's error of what was revoked."""

    class CeleryTimeoutError(Exception):
        """Celery's error of what was not ready in time."""

else:
    from celery.exceptions import TaskRevokedError
    from celery.exceptions import TimeoutError as CeleryTimeoutError

__all__ = [
    # the root
    "DurableError",
    # what a client meets
    "InstanceNotFound",
    "InstanceExists",
    "InvalidState",
    "ScheduleNotFound",
    "RequestRejected",
    "OrchestrationFailed",
    "OrchestrationRevoked",
    "OrchestrationTimeout",
    "WaitTimeout",
    # what an orchestrator meets
    "ActivityError",
    "ActivityTimeout",
    "ActivityInterrupted",
    "CompensationFailed",
    "ForbiddenOperation",
    "LockLost",
    # what an operator meets
    "NonDeterminismError",
    "TurnLimitExceeded",
    "PayloadError",
    "StoreError",
    "ConfigurationError",
    # what a developer meets
    "DeterminismWarning",
]


class OrchestrationRevoked(OrchestrationFailed, TaskRevokedError):
    """The orchestration was canceled or terminated; also Celery's ``TaskRevokedError``."""


class WaitTimeout(DurableError, TimeoutError, CeleryTimeoutError):
    """A wait for the orchestration ran out before it ended (``instance_id``, ``status``,
    ``timeout``).
    """

    instance_id: str
    #: A ``RuntimeStatus``, which is a string; None where nothing is there yet.
    status: str | None
    #: In seconds.
    timeout: float | None


declare_facts(OrchestrationRevoked)
declare_facts(WaitTimeout)
