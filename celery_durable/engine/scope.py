"""Where a thread is: in a turn, or in the body of an activity; for logs and traces."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from .records import Snapshot

__all__ = ["Scope", "at_turn", "here"]

_thread = threading.local()


@dataclass(slots=True)
class Scope:
    """What this thread works on: a turn, or an activity. ``snapshot`` is what a turn looked at."""

    instance_id: str
    #: The name of the orchestrator.
    orchestration: str
    #: The number of the turn, from 1.
    turn: int
    #: The name of the task; None in a turn.
    activity: str | None = None
    attempt: int | None = None
    snapshot: Snapshot | None = None
    #: When the work began, seconds of this process's own clock.
    began: float = field(default_factory=time.monotonic)
    _outer: Scope | None = None

    def __enter__(self) -> Scope:
        self._outer = getattr(_thread, "scope", None)
        _thread.scope = self
        return self

    def __exit__(self, *_: object) -> None:
        _thread.scope = self._outer

    @property
    def lag(self) -> int | None:
        """How many microseconds the turn was late when it was looked at."""
        if self.snapshot is None:
            return None
        now = self.snapshot.now
        return max(
            0, now - min((row.wake_at for row in self.snapshot.inbox if row.wake_at), default=now)
        )


def at_turn(snapshot: Snapshot) -> Scope:
    """Return the scope of a turn about to be taken."""
    instance = snapshot.instance
    return Scope(instance.id, instance.name, instance.sequence + 1, snapshot=snapshot)


def here() -> Scope | None:
    """Return what this thread works on, or None."""
    return getattr(_thread, "scope", None)
