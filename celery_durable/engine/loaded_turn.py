"""One look at an instance, and how the step that follows it ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ..core.machine import Machine
from .crash_count import CrashCount
from .records import InboxKind, InboxRow, Snapshot
from .registry import Definition

__all__ = ["LoadedTurn", "TurnState"]


class TurnState(Enum):
    """How a step of a turn ends; the last two make it be read once more."""

    #: Nothing in the inbox wants a turn now.
    DONE = auto()
    #: There is no such instance (yet).
    MISSING = auto()
    #: This process does not have its code.
    UNKNOWN = auto()
    #: It moves faster than it can be read; a message asks for another turn.
    CONTENDED = auto()
    #: The instance has moved since it was read.
    HAS_MOVED = auto()
    #: There is more to take, also of what does not wake the instance by itself.
    HAS_MORE = auto()


@dataclass(slots=True)
class LoadedTurn:
    """One look at an instance, and what came of it."""

    snapshot: Snapshot
    #: The execution in memory, standing where ``snapshot.history`` begins; None once it is used up.
    cached: Machine | None
    definition: Definition | None
    crashes: CrashCount

    def abandon(self) -> None:
        """Drop the execution in memory: the instance goes another way."""
        if self.cached is not None:
            self.cached.abandon()
            self.cached = None

    def is_due(self, *, takes_all: bool) -> bool:
        """Tell whether anything in the inbox wants a turn; with ``takes_all`` also what does not
        wake the instance by itself.
        """
        return self.snapshot.is_due_later or any(
            row.wake_at is not None or (takes_all and row.kind != InboxKind.JOIN)
            for row in self.snapshot.inbox
        )

    def newest_request(self, kind: str) -> InboxRow | None:
        """Return the message of a kind; of several, one that overrides an outcome."""
        rows = [row for row in self.snapshot.inbox if row.kind == kind]
        return max(rows, key=lambda row: bool(row.command), default=None)
