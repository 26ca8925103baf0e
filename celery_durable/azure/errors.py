"""What Azure's orchestrators catch, and the names of Azure's that have no counterpart here."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ActivityError, DurableError

__all__ = [
    "UNSUPPORTED", "FailureDetails", "NotSupported", "TaskCancelledError", "TaskFailedError", "as_task_failure", "unsupported",
]  # fmt: skip


class NotSupported(DurableError, NotImplementedError):
    """A name of Azure's that has no counterpart here."""


class TaskCancelledError(DurableError):
    """A task that was cancelled is awaited, or its result is asked for."""


@dataclass(frozen=True)
class FailureDetails:
    """What ``TaskFailedError.details`` holds; ``error_type`` is the name of the exception's class."""

    message: str
    error_type: str
    stack_trace: str | None


class TaskFailedError(DurableError):
    """An activity or sub-orchestration failed, as ``durabletask`` says it; the cause is the original exception.

    Facts: ``error_type``, ``stack_trace`` (text or None).
    """

    @property
    def details(self) -> FailureDetails:
        """What failed."""
        return FailureDetails(str(self), self.facts["error_type"], self.facts["stack_trace"])


def as_task_failure(error: BaseException) -> BaseException:
    """Return the ``TaskFailedError`` that a durabletask orchestrator catches for a failure."""
    if isinstance(error, TaskFailedError | TaskCancelledError) or not isinstance(error, Exception):
        return error
    if isinstance(error, ActivityError):
        dotted, message, trace = str(error.facts["type"]), error.facts["message"], error.facts["traceback"]
        failure = TaskFailedError(message, error_type=dotted.rpartition(".")[2], stack_trace=trace)
    else:
        failure = TaskFailedError(str(error), error_type=type(error).__name__, stack_trace=None)
    failure.__cause__ = error
    return failure


UNSUPPORTED = {
    **dict.fromkeys(
        ("Entity", "DurableEntity", "DurableEntityContext", "EntityContext"),
        "celery_durable takes an entity as a class under @durable.entity",
    ),
    "call_http": "celery_durable makes no HTTP requests; put the request in an activity",
}


def unsupported(name: str) -> NotSupported:
    """Return the error for a name of Azure's that has no counterpart here."""
    return NotSupported(f"{name} is not available: {UNSUPPORTED[name]}. See the guide to porting from Azure")
