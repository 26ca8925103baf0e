"""What the archive needs of the store; see ``archive``."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .listing import InstanceRecord

__all__ = ["ArchiveRows", "ArchiveState", "DueInstance"]


class DueInstance(NamedTuple):
    """An ended instance whose time to be deleted has come."""

    id: str
    execution: str
    #: Where its history ends.
    sequence: int
    #: That time, microseconds; a claim compares it.
    purge_at: int


class ArchiveState(NamedTuple):
    """What waits for the archive."""

    #: Instances that are due to be deleted or were refused by the hook; counted up to a limit.
    waiting: int
    #: Those of them at which the hook failed.
    failing: int
    #: At which instance, and with what, it failed last; None if it has not.
    last_failed: str | None
    last_error: str | None
    #: When that was, microseconds.
    failed_at: int | None


class ArchiveRows(Protocol):
    """What waits for the archive, in the store."""

    def due(self, limit: int) -> list[DueInstance]:
        """Return instances that are due, those whose time came first before others."""

    def claim(self, due: DueInstance, lease: int) -> bool:
        """Set the time of an instance so many microseconds ahead; False if it has moved, or another
        worker was faster.
        """

    def tries(self, instance_id: str, execution: str) -> int:
        """Return how often the hook has failed at an instance."""

    def note_failure(self, record: InstanceRecord, error: str, delay: int) -> bool:
        """Keep why an instance could not be archived, and have it tried again after ``delay``
        microseconds; False if it has moved.
        """

    def mark_children(self, limit: int) -> bool:
        """Let the finished children of instances that are due be due as well; True if any were
        marked.
        """

    def forget_gone(self) -> None:
        """Drop what is kept of instances that were deleted or live again."""

    def state(self, most: int) -> ArchiveState:
        """Return what waits, counted up to ``most``."""
