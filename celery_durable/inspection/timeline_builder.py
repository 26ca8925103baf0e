"""Reads a history into the rows of a timeline; all times are microseconds since the epoch.

Nothing here reads a clock or a store. Events are taken one by one: ``timeline_calls`` says what
each event of a call does to its row, and ``timeline_life`` what those of the orchestration itself
do. A rewound history repeats what it has kept: such events are met again, and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..core.history import Event, EventKind
from ..core.kinds import Calls
from ..core.ports import Codec
from ..core.status import RuntimeStatus
from ..engine.listing import Outstanding, Pending
from ..errors import DurableError
from .timeline_rows import Row, Span

__all__ = ["LONGEST", "Handler", "Handlers", "TimelineBuilder", "WholeRow", "fact"]

#: Characters of a note.
LONGEST = 300
#: What an event does to the rows.
Handler = Callable[["TimelineBuilder", Event], None]
#: The same by the kind of event; events that are not here do nothing.
Handlers = Mapping[str, Handler]
_OUTCOMES = {
    RuntimeStatus.COMPLETED: "completed",
    RuntimeStatus.FAILED: "failed",
    RuntimeStatus.CANCELED: "canceled",
    RuntimeStatus.TERMINATED: "canceled",
}
#: Events that stand between others and say nothing about what came just before.
_SILENT = Calls.notes | {EventKind.HISTORY_REWRITTEN}


class WholeRow:
    """The row of the orchestration itself, and the moments that are marked on it."""

    def __init__(self, name: str, created_at: int, started_at: int | None) -> None:
        self.row: Row = Row("orchestration", 0, name)
        #: Kind, time and note of each moment.
        self.marks: list[tuple[str, int, str]] = []
        self.begin: int = created_at
        self.is_started: bool = False
        self.is_suspended: bool = False
        self.has_ended: bool = False
        #: When the first turn was committed, or that of the first execution before this one.
        self._started_at = started_at

    def start(self, at: int, *, is_first: bool) -> bool:
        """Begin at the start of the execution; it was queued until then.

        True if it was continued as new: the timeline begins with this execution.
        """
        is_continued = self._started_at is not None and at > self._started_at and is_first
        if is_continued:
            self.begin = at
        self.begin, self.is_started = min(self.begin, at), True
        if at > self.begin:
            self.row.spans.append(Span("queued", self.begin, at))
        self.row.since = at
        return is_continued

    def mark(self, kind: str, event: Event, note: str = "") -> None:
        """Mark the moment of an event."""
        self.marks.append((kind, event.at, (note or str(fact(event, "reason") or ""))[:LONGEST]))

    def split(self, at: int) -> None:
        """End the span that is under way, and begin the next one."""
        row = self.row
        begin = self.begin if row.since is None else row.since
        kind = "waiting" if self.is_suspended else "running" if self.is_started else "queued"
        if begin < at or not row.spans:
            note = "suspended" if self.is_suspended else ""
            row.spans.append(Span(kind, begin, at, note=note))
        row.since = at

    def end(self, at: int, outcome: str, note: str) -> None:
        """End with an outcome."""
        self.has_ended = True
        self.split(at)
        self.is_suspended = False
        self.row.since, self.row.outcome = None, outcome
        self.row.note = note[:LONGEST]


class TimelineBuilder:
    """The rows of one execution, in the order in which they began.

    The first is the orchestration itself.

    Args:
        codec: for failures and for what entities were asked.
        name: of the orchestrator.
        created_at: when it was asked for.
        started_at: when its first turn was committed, or that of the first execution before this
            one.
    """

    def __init__(self, codec: Codec, name: str, created_at: int, started_at: int | None) -> None:
        self.whole: WholeRow = WholeRow(name, created_at, started_at)
        self.last_at: int = created_at
        #: The event before the one that is read.
        self.before: Event | None = None
        self._codec = codec
        self._rows: dict[tuple[str, int, str], Row] = {}
        #: The last row of each command number, and those whose outcome has not come.
        self._by_number: dict[int, Row] = {}
        self._live: dict[int, Row] = {}
        #: What was read, to pass over what a rewritten history repeats.
        self._seen: dict[tuple[Any, ...], int] = {}
        self.is_repeating = False
        #: Where what a rewritten history repeats is found now: number before -> number.
        self._moved: dict[int, int] = {}
        #: The number of the event that is read, and the rows that it has to do with.
        self._number = 0
        self._met: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        yield self.whole.row
        yield from self._rows.values()

    @property
    def begin(self) -> int:
        """When the timeline begins."""
        return self.whole.begin

    @property
    def has_ended(self) -> bool:
        """Whether history ends the orchestration."""
        return self.whole.has_ended

    @property
    def has_live(self) -> bool:
        """Whether anything was asked for whose outcome has not come."""
        return bool(self._live)

    def read(self, events: Iterable[Event], handlers: Handlers) -> None:
        """Take the events of a history, in order."""
        for event in events:
            self._number += 1
            key = event[:5]
            if self.is_repeating and key in self._seen:
                self._moved[self._seen[key]] = self._number
                continue
            self._seen.setdefault(key, self._number)
            if (handle := handlers.get(event.kind)) is not None:
                handle(self, event)
                self._number_spans()
            if event.kind not in _SILENT:
                self.before = event
            self.last_at = max(self.last_at, event.at)

        self._renumber()

    def _number_spans(self) -> None:
        """Let the spans that an event has ended know its number."""
        for row in (self.whole.row, *self._met):
            row.event = row.event or self._number
            for span in reversed(row.spans):
                if span.event:
                    break
                span.event = self._number
        self._met.clear()

    def _renumber(self) -> None:
        """Let all numbers be those of the last life, where it has repeated the event."""
        for row in self:
            row.event = self._moved.get(row.event, row.event)
            for span in row.spans:
                span.event = self._moved.get(span.event, span.event)

    # -- rows --------------------------------------------------------------------------------------

    def row(self, kind: str, number: int, label: str) -> Row:
        """Return the row of a thing, made at the first use."""
        key = (kind, number, label)
        if key not in self._rows:
            self._rows[key] = Row(kind, number, label)
        if number:
            self._by_number[number] = self._rows[key]
        self._met.append(self._rows[key])
        return self._rows[key]

    def find(self, kind: str, number: int, label: str) -> Row | None:
        """Return the row of a thing if it has one."""
        return self._rows.get((kind, number, label))

    def call(self, number: int) -> Row | None:
        """Return the row of a command number."""
        if (row := self._by_number.get(number)) is not None:
            self._met.append(row)
        return row

    def drop(self, row: Row) -> None:
        """Leave a row out: another one shows what it did."""
        self._rows.pop((row.kind, row.number, row.label), None)

    def open(self, row: Row, event: Event) -> None:
        """Begin an attempt of a call."""
        row.open(event.at, event.attempt)
        row.event = self._number
        self._met.append(row)
        self._live[event.command] = row

    def resolve(self, event: Event, outcome: str, note: str) -> None:
        """Give a call its outcome."""
        row = self._by_number.get(event.command)
        if row is None:
            return
        self._live.pop(event.command, None)
        self._met.append(row)
        ran = fact(event, "ran")
        if row.since is not None:
            row.close(event.at, outcome, note, ran if isinstance(ran, int) and ran >= 0 else None)
        elif outcome != "canceled":  # given by hand for one that had ended
            row.attempt = event.attempt
            row.settle(event.at, outcome, note)

    def leave(self, at: int) -> None:
        """End all that is not waited for any more."""
        for row in self._live.values():
            row.close(at, "canceled", "left behind")
        self._met += self._live.values()
        self._live.clear()

    # -- the end of the timeline -------------------------------------------------------------------

    def end(self, at: int, status: RuntimeStatus) -> None:
        """End what history left open: the orchestration ended at ``at``."""
        self.leave(at)
        row = self.whole.row
        if row.since is not None:
            self.whole.split(at)
        row.outcome = _OUTCOMES.get(status, row.outcome)
        self.last_at = max(self.last_at, at)

    def end_live(
        self, now: int, pending: Pending, awaited: Iterable[tuple[str, str]], reason: str
    ) -> None:
        """Let what is under way reach to now.

        Args:
            now: microseconds since the epoch.
            pending: what the store holds for it.
            awaited: the events and requests that its code waits for: "event" or "request", and
                the name.
            reason: why it is in its status, or nothing.
        """
        out = {(row.command, row.attempt): row for row in pending.activities}
        for row in self._live.values():
            kind, note = _under_way(row, out.get((row.number, row.attempt)))
            row.spans.append(Span(kind, row.since or now, now, row.attempt, note, row.event))
        since = self.last_at if self.whole.is_started else now
        for kind, name in awaited:
            row = self.row(kind, 0, name)
            row.spans.append(Span("waiting", since, now, note="at least since then"))
            row.outcome = "live"
        self.whole.split(now)
        self.whole.row.outcome, self.whole.row.note = "live", reason[:LONGEST]
        self.last_at = max(self.last_at, now)

    # -- payloads ----------------------------------------------------------------------------------

    def message_of(self, event: Event) -> dict[str, Any]:
        """Return the decoded payload of a message; an empty one if it is none."""
        try:
            message = self._codec.decode(event.payload or "null")
        except DurableError:
            return {}
        return message if isinstance(message, dict) else {}

    def failure_text(self, payload: Any) -> str:
        """Return the text of an encoded failure."""
        try:
            error, _ = self._codec.decode_failure(str(payload or ""), may_rebuild=False)
        except DurableError:
            return "an error that cannot be decoded"
        return str(error)[:LONGEST]


def fact(event: Event, name: str) -> Any:
    """Return a fact of an event, or None."""
    return (event.facts or {}).get(name)


def _under_way(row: Row, outstanding: Outstanding | None) -> tuple[str, str]:
    """Return what an open row does now, and a note."""
    if row.kind != "activity":
        return ("waiting", row.note) if row.kind == "timer" else ("running", "")
    if row.is_deferred:
        return "waiting", "for its completion"
    if outstanding is None:
        return "running", ""
    if outstanding.is_held:
        return "queued", "until others of its window are done"
    if outstanding.deferred_at is not None:
        return "waiting", "for its completion"
    if outstanding.holder is not None:
        worker = outstanding.worker
        return "running", f"on {worker}" if worker else "on a worker that is not seen any more"
    if outstanding.is_delegated:
        return "running", "its outcome is reported from elsewhere"
    where = f"in queue {outstanding.queue!r}" if outstanding.queue else "sent"
    return "queued", where if outstanding.sent_at is not None else "could not be sent yet"
