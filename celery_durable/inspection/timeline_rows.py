"""Rows of a timeline, and their spans, while history is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from ..core.times import EPOCH

__all__ = ["Row", "Span", "moment_text"]


@dataclass(slots=True)
class Span:
    """A part of a row that has ended; times are microseconds since the epoch."""

    #: "queued", "running", "waiting" or "failed".
    kind: str
    begin: int
    end: int
    #: 0 where there are no attempts.
    attempt: int = 0
    note: str = ""
    #: The number of the event in history that ended it, or asked for it while it is under way.
    event: int = 0


@dataclass(slots=True)
class Row:
    """What one thing that was asked for went through, while history is read."""

    #: See ``timeline.Lane``.
    kind: str
    #: The command's, 0 for the orchestration itself and for events.
    number: int
    label: str
    #: "completed", "failed", "canceled", or "live" while there is none.
    outcome: str = "live"
    note: str = ""
    spans: list[Span] = field(default_factory=list)
    #: When what is under way was asked for; None if nothing is.
    since: int | None = None
    #: Of what is under way, or was last.
    attempt: int = 0
    #: Whether what is under way is waited for, as its body has ended.
    is_deferred: bool = False
    #: Of the sub-orchestration; "" of anything else.
    instance_id: str = ""
    #: The number of the event in history that asked for it last; 0 if none did.
    event: int = 0

    def open(self, at: int, attempt: int = 0) -> None:
        """Begin the next attempt."""
        self.close(at, "canceled")
        self.since, self.attempt, self.outcome = at, attempt, "live"

    def defer(self, at: int, ran: int | None = None) -> None:
        """Let the attempt under way wait for its completion, as its body has ended."""
        if self.since is not None and not self.is_deferred:
            self.close(at, "live", ran=ran)
            self.since, self.is_deferred = max(at, self.spans[-1].end), True

    def close(self, at: int, outcome: str, note: str = "", ran: int | None = None) -> None:
        """End the attempt under way, if there is one.

        ``ran`` is how long it took without its wait in the queue.
        """
        if self.since is None:
            return
        at = max(at, self.since)
        began = self.since if ran is None else min(at, max(self.since, at - ran))
        if began > self.since:
            self.spans.append(Span("queued", self.since, began, self.attempt))
        kind = (
            "failed"
            if outcome == "failed"
            else "waiting"
            if self.is_deferred or self.kind in ("timer", "event", "request")
            else "running"
        )
        self.spans.append(Span(kind, began, at, self.attempt, note))
        self.since, self.outcome, self.is_deferred = None, outcome, False

    def settle(self, at: int, outcome: str, note: str = "") -> None:
        """Record something that takes no time, or an outcome that came from elsewhere."""
        self.since = at if self.since is None else self.since
        self.close(at, outcome, note)


def moment_text(micros: int) -> str:
    """Return a moment as people read it, in UTC."""
    try:
        return f"{EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return "beyond the calendar"
