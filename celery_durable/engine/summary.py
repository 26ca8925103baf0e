"""What its history says of an execution that a single turn does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.history import Event, EventKind, load_events
from ..core.kinds import ASKED, INPUTS, RESOLUTIONS, WITHDRAWN

__all__ = ["ExecutionSummary", "PendingCall", "summary_of"]


class PendingCall(NamedTuple):
    """Something that an execution waits for: an activity, a timer, a child."""

    kind: str
    at: int
    name: str
    attempt: int


@dataclass(slots=True)
class ExecutionSummary:
    """What its history says of an execution that a single turn does not: since when, for whom, and
    what is open.

    ``first_at`` is when the instance began, ``begun_at`` when this stretch of it did, after a
    continue-as-new, a rewind or a fork; microseconds. ``start`` is what came with the start message
    beside the input, ``forked`` what came with the fork.
    """

    sequence: int = 0
    first_at: int | None = None
    begun_at: int | None = None
    start: Mapping[str, Any] = field(default_factory=dict)
    forked: Mapping[str, Any] = field(default_factory=dict)
    seed: str | None = None
    rewinds: int = 0
    open: dict[int, PendingCall] = field(default_factory=dict)
    came: list[tuple[Event, PendingCall | None]] = field(default_factory=list)

    def note(self, events: Sequence[Event]) -> None:
        """Take notice of one history row.

        ``came`` is then what came in by it for the first time, with what it answers.
        """
        self.sequence += 1
        is_old = bool(events) and events[0].kind is EventKind.HISTORY_REWRITTEN
        if is_old:
            self.rewinds += 1
            self.open.clear()
        last_renewal = max(
            (n for n, e in enumerate(events) if e.kind is EventKind.WORK_RENEWED), default=-1
        )
        self.came = []
        for number, event in enumerate(events):
            asked = self._note(event)
            if event.kind in INPUTS and not (is_old and number <= last_renewal):
                self.came.append((event, asked))
        if is_old:
            self.begun_at = events[0].at

    def _note(self, event: Event) -> PendingCall | None:
        kind = event.kind
        if kind in ASKED:
            self.open[event.command] = PendingCall(kind, event.at, event.name, event.attempt)
        elif kind in RESOLUTIONS:
            return self.open.pop(event.command, None)
        elif kind in WITHDRAWN:
            self.open.pop(event.command, None)
        elif kind is EventKind.EXECUTION_STARTED:
            self.start = event.facts or {}
            self.begun_at = event.at
            began = self.start.get("began")
            self.first_at = began if isinstance(began, int) else event.at
            seed = self.start.get("seed")
            self.seed = seed if isinstance(seed, str) else None
        elif kind is EventKind.WORK_RENEWED and "fork_of" in (event.facts or {}):
            self.begun_at = self.first_at = event.at
            self.forked = event.facts or {}
        return None


def summary_of(rows: Iterable[str]) -> ExecutionSummary:
    """Sum up an execution from its whole history; raises what ``load_events`` does."""
    summary = ExecutionSummary()
    for row in rows:
        summary.note(load_events(row))
    return summary
