"""What Azure's orchestrators catch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ActivityError, DurableError

__all__ = [
    "FailureDetails",
    "NotSupported",
    "OrchestrationFailedError",
    "TaskCancelledError",
    "TaskFailedError",
    "as_task_failure",
    "details_of",
]


class NotSupported(DurableError, NotImplementedError):
    """A name of Azure's that has no counterpart here."""


class TaskCancelledError(DurableError):
    """A task that was cancelled is awaited, or its result is asked for."""


@dataclass(frozen=True)
class FailureDetails:
    """What failed.

    Attributes:
        message: the text of the exception.
        error_type: the full name of its class, as ``builtins.ValueError``.
        stack_trace: its traceback as text, where that is known.
        inner_failure, properties: None; what an exception was raised from is in its traceback.
    """

    message: str
    error_type: str
    stack_trace: str | None
    inner_failure: FailureDetails | None = None
    properties: dict[str, Any] | None = None

    def is_caused_by(self, error_type: str | type[BaseException]) -> bool:
        """Tell whether it is of a class: that class or one below it, as far as they are loaded
        here, or of a name.

        Args:
            error_type: an exception class, its full name, or its bare name.

        Raises:
            TypeError: it is none of these.
        """
        if isinstance(error_type, str):
            return self._is_called(error_type)
        if not (isinstance(error_type, type) and issubclass(error_type, BaseException)):
            raise TypeError(
                f"is_caused_by() takes an exception class or its name, not {error_type!r}"
            )
        return any(_full_name(each) == self.error_type for each in _and_below(error_type))

    def _is_called(self, name: str) -> bool:
        if "." in name and "." in self.error_type:
            return name == self.error_type
        return name.rpartition(".")[2] == self.error_type.rpartition(".")[2]


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _and_below(cls: type) -> Iterator[type]:
    yield cls
    below: list[type] = type.__subclasses__(cls)
    for each in below:
        yield from _and_below(each)


class TaskFailedError(DurableError):
    """An activity or sub-orchestration failed, as ``durabletask`` says it.

    The cause is the original exception.

    Facts: ``error_type``, ``stack_trace`` (text or None).
    """

    @property
    def details(self) -> FailureDetails:
        """What failed."""
        return FailureDetails(str(self), self.facts["error_type"], self.facts["stack_trace"])


class OrchestrationFailedError(DurableError):
    """An orchestration failed, as durabletask's client says it."""

    @property
    def failure_details(self) -> FailureDetails:
        """What failed."""
        details: FailureDetails = self.facts["failure_details"]
        return details


def details_of(error: BaseException) -> FailureDetails:
    """Return what ``durabletask`` tells of an exception."""
    if isinstance(error, TaskFailedError):
        return error.details
    if isinstance(error, ActivityError):
        facts = error.facts
        return FailureDetails(facts["message"], str(facts["type"]), facts["traceback"])
    return FailureDetails(str(error), _full_name(type(error)), None)


def as_task_failure(error: BaseException) -> BaseException:
    """Return the ``TaskFailedError`` that a durabletask orchestrator catches for a failure."""
    if isinstance(error, TaskFailedError | TaskCancelledError) or not isinstance(error, Exception):
        return error
    details = details_of(error)
    failure = TaskFailedError(
        details.message, error_type=details.error_type, stack_trace=details.stack_trace
    )
    failure.__cause__ = error
    return failure
