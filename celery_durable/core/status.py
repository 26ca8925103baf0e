"""The states of an orchestration, and which of them are final."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["MOVING", "RuntimeStatus"]


class RuntimeStatus(StrEnum):
    """Where an orchestration stands; the value is what the store keeps."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TERMINATED = "TERMINATED"

    @classmethod
    def _missing_(cls, value: object) -> RuntimeStatus:
        raise ValueError(f"{value!r} is not a valid RuntimeStatus: those are {', '.join(cls)}")

    @property
    def is_terminal(self) -> bool:
        """True when nothing can happen to the orchestration by itself any more."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        RuntimeStatus.COMPLETED,
        RuntimeStatus.FAILED,
        RuntimeStatus.CANCELED,
        RuntimeStatus.TERMINATED,
    }
)
#: The statuses in which turns are taken.
MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
