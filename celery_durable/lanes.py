"""History as lanes: what each thing that was asked for went through, in microseconds since the epoch.

Nothing here reads a clock or a store. Events are taken one by one; the table at the end says what each kind does. A rewound
history repeats what it has kept: such events are met again, and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .core.context import EPOCH
from .core.entity import MESSAGE, REPLY, parts_of_id
from .core.events import Event, EventKind
from .core.replay import Codec
from .core.status import RuntimeStatus
from .engine.records import Outstanding, Pending
from .errors import DurableError

__all__ = ["Draft", "Lanes", "Stretch"]

K = EventKind
_OUTCOMES = {
    RuntimeStatus.COMPLETED: "completed",
    RuntimeStatus.FAILED: "failed",
    RuntimeStatus.CANCELED: "canceled",
    RuntimeStatus.TERMINATED: "canceled",
}
_LONGEST = 300


@dataclass(slots=True)
class Stretch:
    """A part of a lane that is over."""

    kind: str
    begin: int
    end: int
    attempt: int = 0
    note: str = ""


@dataclass(slots=True)
class Draft:
    """A lane while history is read. ``since`` is when what is under way was asked for, None if nothing is."""

    kind: str
    number: int
    label: str
    outcome: str = "live"
    note: str = ""
    stretches: list[Stretch] = field(default_factory=list)
    since: int | None = None
    attempt: int = 0

    def open(self, at: int, attempt: int = 0) -> None:
        """Begin the next attempt."""
        self.close(at, "canceled")
        self.since, self.attempt, self.outcome = at, attempt, "live"

    def close(self, at: int, outcome: str, note: str = "", ran: int | None = None) -> None:
        """End the attempt under way, if there is one; ``ran`` is how long it took without its wait in the queue."""
        if self.since is None:
            return
        at = max(at, self.since)
        began = self.since if ran is None else min(at, max(self.since, at - ran))
        if began > self.since:
            self.stretches.append(Stretch("queued", self.since, began, self.attempt))
        kind = "failed" if outcome == "failed" else "waiting" if self.kind in ("timer", "event") else "running"
        self.stretches.append(Stretch(kind, began, at, self.attempt, note))
        self.since, self.outcome = None, outcome

    def meet(self, at: int, outcome: str, note: str = "") -> None:
        """Note something that takes no time, or an outcome that came from elsewhere."""
        self.since = at if self.since is None else self.since
        self.close(at, outcome, note)


class Lanes:
    """The lanes of one execution, in the order in which they began; the first is the orchestration itself.

    Args:
        codec: for failures and for what entities were asked.
        name: of the orchestrator.
        created_at: when it was asked for.
        started_at: when its first turn was committed, or that of the first execution before this one.
    """

    def __init__(self, codec: Codec, name: str, created_at: int, started_at: int | None) -> None:
        self.whole = Draft("orchestration", 0, name)
        self.marks: list[tuple[str, int, str]] = []
        self.begin = self.last_at = created_at
        self.is_over = False
        self._codec = codec
        self._started_at = started_at
        self._lanes: dict[tuple[str, int, str], Draft] = {}
        self._calls: dict[int, Draft] = {}
        self._live: dict[int, Draft] = {}
        self._before: Event | None = None
        self._seen: set[tuple[Any, ...]] = set()
        self._is_repeating = False
        self._is_suspended = False
        self.is_started = False

    def __iter__(self) -> Iterator[Draft]:
        yield self.whole
        yield from self._lanes.values()

    # -- history ------------------------------------------------------------------------------------------

    def read(self, events: Iterable[Event]) -> None:
        """Take the events of a history, in order."""
        for event in events:
            key = event[:5]
            if self._is_repeating and key in self._seen:
                continue
            self._seen.add(key)
            if (apply := _APPLIERS.get(event.kind)) is not None:
                apply(self, event)
            if event.kind not in _SILENT:
                self._before = event
            self.last_at = max(self.last_at, event.at)

    def _lane(self, kind: str, number: int, label: str) -> Draft:
        key = (kind, number, label)
        if key not in self._lanes:
            self._lanes[key] = Draft(kind, number, label)
        if number:
            self._calls[number] = self._lanes[key]
        return self._lanes[key]

    def _open(self, kind: str, event: Event, label: str) -> Draft:
        delay = self._delay_of(event)
        lane = self._lane(kind, event.command, label)
        waited = None if delay is None else self._lanes.pop(("timer", delay.number, delay.label), None)
        if waited is not None:
            note = "until the next attempt" if event.attempt > 1 else "delayed"
            lane.stretches += [Stretch("waiting", s.begin, s.end, event.attempt, note) for s in waited.stretches]
        lane.open(event.at, event.attempt)
        self._live[event.command] = lane
        return lane

    def _delay_of(self, event: Event) -> Draft | None:
        """Return the timer that this attempt waited for: a call numbers it after itself, and is asked for as it fires."""
        before = self._before
        is_delay = before is not None and before.kind is K.TIMER_FIRED and before.at == event.at
        if before is None or not is_delay or before.command <= event.command:
            return None
        timer = self._calls.get(before.command)
        return timer if timer is not None and timer.kind == "timer" else None

    def _started(self, event: Event) -> None:
        if self._started_at is not None and event.at > self._started_at and self._before is None:
            self.begin = self.last_at = event.at  # it was continued as new
        self.begin, self.is_started = min(self.begin, event.at), True
        if event.at > self.begin:
            self.whole.stretches.append(Stretch("queued", self.begin, event.at))
        self.whole.since = event.at

    def _activity_scheduled(self, event: Event) -> None:
        lane = self._open("activity", event, str(_fact(event, "label") or event.name))
        lane.note = event.name if _fact(event, "label") else ""

    def _child_started(self, event: Event) -> None:
        self._open("child", event, str(_fact(event, "label") or event.name)).note = str(_fact(event, "id") or "")

    def _child_revived(self, event: Event) -> None:
        lane = self._calls.get(event.command)
        if lane is not None:
            lane.open(event.at, event.attempt)
            self._live[event.command] = lane

    def _timer_created(self, event: Event) -> None:
        due = _fact(event, "due")
        lane = self._open("timer", event, "timer")
        lane.note = f"due {moment_text(due)}" if isinstance(due, int) else ""

    def _event_sent(self, event: Event) -> None:
        receiver = str(_fact(event, "to") or "")
        if event.name != MESSAGE:
            self._lane("signal", event.command, f"{event.name} to {receiver}").meet(event.at, "completed")
            return
        message = self._decoded(event)
        parts = parts_of_id(receiver)
        entity = " ".join(parts) if parts is not None else receiver
        what = next((f"{word} of {entity}" for word in ("lock", "unlock") if word in message), "")
        label = what or f"{entity}: {message.get('op', '?')}()"
        if message.get("reply"):
            self._open("entity", event, label)
        else:
            self._lane("entity", event.command, label).meet(event.at, "completed", "one-way")

    def _run_recorded(self, event: Event) -> None:
        has_failed = bool(_fact(event, "failed"))
        note = self._failure(event) if has_failed else ""
        self._lane("run", event.command, event.name).meet(event.at, "failed" if has_failed else "completed", note)

    def _completed(self, event: Event) -> None:
        self._resolve(event, "completed", _by_hand(event))

    def _failed(self, event: Event) -> None:
        self._resolve(event, "failed", " ".join(filter(None, (self._failure(event), _by_hand(event)))))

    def _canceled(self, event: Event) -> None:
        self._resolve(event, "canceled", "")

    def _resolve(self, event: Event, outcome: str, note: str) -> None:
        lane = self._calls.get(event.command)
        if lane is None:
            return
        self._live.pop(event.command, None)
        ran = _fact(event, "ran")
        if lane.since is not None:
            lane.close(event.at, outcome, note, ran if isinstance(ran, int) and ran >= 0 else None)
        elif outcome != "canceled":  # given by hand for one that was over
            lane.attempt = event.attempt
            lane.meet(event.at, outcome, note)

    def _event_raised(self, event: Event) -> None:
        if event.name.startswith(REPLY):
            failure = self._decoded(event).get("failure")
            self._resolve(event, "failed" if failure else "completed", self._told(failure) if failure else "")
            return
        lane = self._lane("event", 0, "message" if event.name == MESSAGE else event.name)
        if not self._live and self._before is not None:
            lane.open(self._before.at)
        lane.meet(event.at, "completed")

    def _timer_canceled(self, event: Event) -> None:
        timer, before = self._calls.get(event.command), self._before
        ends_it = before is not None and before.kind is K.EVENT_RAISED and before.at == event.at
        if before is not None and ends_it and timer is not None and timer.since is not None:
            lane = self._lanes.get(("event", 0, before.name))
            if lane is not None and lane.stretches[-1].end == event.at:
                lane.stretches[-1].begin = min(lane.stretches[-1].begin, timer.since)
        self._canceled(event)

    # -- the whole -----------------------------------------------------------------------------------------

    def _mark(self, kind: str, event: Event, note: str = "") -> None:
        self.marks.append((kind, event.at, (note or str(_fact(event, "reason") or ""))[:_LONGEST]))

    def _suspended(self, event: Event) -> None:
        self._mark("suspended", event)
        self._split(event.at)
        self._is_suspended = True

    def _resumed(self, event: Event) -> None:
        self._mark("resumed", event)
        self._split(event.at)
        self._is_suspended = False

    def _split(self, at: int) -> None:
        """End the stretch of the whole that is under way, and begin the next one."""
        whole = self.whole
        begin = self.begin if whole.since is None else whole.since
        kind = "waiting" if self._is_suspended else "running" if self.is_started else "queued"
        if begin < at or not whole.stretches:
            whole.stretches.append(Stretch(kind, begin, at, note="suspended" if self._is_suspended else ""))
        whole.since = at

    def _rewound(self, event: Event) -> None:
        self._mark("rewound", event)
        self.is_over = False
        self.whole.since = event.at

    def _rewritten(self, event: Event) -> None:
        self._is_repeating = True
        if self.whole.since is None:
            self._rewound(event)
        self.whole.since = min(self.whole.since or event.at, event.at)

    def _renewed(self, event: Event) -> None:
        self._is_repeating = False
        if (origin := _fact(event, "fork_of")) is not None:
            self._mark("forked", event, f"from {origin}, event {_fact(event, 'at')}")
            self._settle(event.at)

    def _cancel_requested(self, event: Event) -> None:
        self._mark("cancel", event)

    def _terminated(self, event: Event) -> None:
        self._mark("terminated", event)
        self._ended(event, "canceled", str(_fact(event, "reason") or ""))

    def _execution_failed(self, event: Event) -> None:
        self._ended(event, "failed", self._failure(event))

    def _execution_completed(self, event: Event) -> None:
        self._ended(event, "completed", "continued as new" if event.kind is K.CONTINUED_AS_NEW else "")

    def _execution_canceled(self, event: Event) -> None:
        self._ended(event, "canceled", "")

    def _ended(self, event: Event, outcome: str, note: str) -> None:
        self.is_over = True
        self._settle(event.at)
        self._split(event.at)
        self._is_suspended = False
        self.whole.since, self.whole.outcome = None, outcome
        self.whole.note = note[:_LONGEST]

    def _settle(self, at: int) -> None:
        """End what nobody waits for any more."""
        for lane in self._live.values():
            lane.close(at, "canceled", "left behind")
        self._live.clear()

    # -- what is under way -----------------------------------------------------------------------------------

    def end(self, at: int, status: RuntimeStatus) -> None:
        """End what history left open: the orchestration was over at ``at``."""
        self._settle(at)
        if self.whole.since is not None:
            self._split(at)
        self.whole.outcome = _OUTCOMES.get(status, self.whole.outcome)
        self.last_at = max(self.last_at, at)

    def end_live(self, now: int, pending: Pending, awaited: Iterable[str], reason: str) -> None:
        """Let what is under way reach to now.

        Args:
            now: microseconds since the epoch.
            pending: what the store holds for it.
            awaited: the names of the events that its code waits for.
            reason: why it is in its status, or nothing.
        """
        out = {(row.command, row.attempt): row for row in pending.activities}
        for lane in self._live.values():
            kind, note = _under_way(lane, out.get((lane.number, lane.attempt)))
            lane.stretches.append(Stretch(kind, lane.since or now, now, lane.attempt, note))
        since = self.last_at if self.is_started else now
        for name in awaited:
            lane = self._lane("event", 0, name)
            lane.stretches.append(Stretch("waiting", since, now, note="at least since then"))
            lane.outcome = "live"
        self._split(now)
        self.whole.outcome, self.whole.note = "live", reason[:_LONGEST]
        self.last_at = max(self.last_at, now)

    # -- payloads --------------------------------------------------------------------------------------------

    def _decoded(self, event: Event) -> dict[str, Any]:
        try:
            message = self._codec.decode(event.payload or "null")
        except DurableError:
            return {}
        return message if isinstance(message, dict) else {}

    def _failure(self, event: Event) -> str:
        return self._told(event.payload)

    def _told(self, payload: Any) -> str:
        try:
            error, _ = self._codec.decode_failure(str(payload or ""), may_rebuild=False)
        except DurableError:
            return "an error that cannot be decoded"
        return str(error)[:_LONGEST]


def moment_text(micros: int) -> str:
    """Return a moment as people read it, in UTC."""
    try:
        return f"{EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return "beyond the calendar"


def _under_way(lane: Draft, row: Outstanding | None) -> tuple[str, str]:
    """Return what an open lane does now, and a note."""
    if lane.kind != "activity":
        return ("waiting", lane.note) if lane.kind == "timer" else ("running", "")
    if row is None:
        return "running", ""
    if row.is_held:
        return "queued", "until others of its window are done"
    if row.holder is not None:
        return "running", f"on {row.worker}" if row.worker else "on a worker that is not seen any more"
    where = f"in queue {row.queue!r}" if row.queue else "sent"
    return "queued", where if row.sent_at is not None else "could not be sent yet"


def _fact(event: Event, name: str) -> Any:
    return (event.facts or {}).get(name)


def _by_hand(event: Event) -> str:
    if not _fact(event, "injected"):
        return ""
    reason = _fact(event, "reason")
    return f"given by hand: {reason}" if reason else "given by hand"


_SILENT = frozenset({K.JOIN_FORMED, K.JOIN_DISSOLVED, K.HISTORY_REWRITTEN})
_APPLIERS: dict[EventKind, Callable[[Lanes, Event], None]] = {
    K.EXECUTION_STARTED: Lanes._started,
    K.ACTIVITY_SCHEDULED: Lanes._activity_scheduled,
    K.ACTIVITY_COMPLETED: Lanes._completed,
    K.ACTIVITY_FAILED: Lanes._failed,
    K.ACTIVITY_CANCELED: Lanes._canceled,
    K.CHILD_STARTED: Lanes._child_started,
    K.CHILD_REVIVED: Lanes._child_revived,
    K.CHILD_COMPLETED: Lanes._completed,
    K.CHILD_FAILED: Lanes._failed,
    K.CHILD_CANCELED: Lanes._canceled,
    K.TIMER_CREATED: Lanes._timer_created,
    K.TIMER_FIRED: Lanes._completed,
    K.TIMER_CANCELED: Lanes._timer_canceled,
    K.EVENT_SENT: Lanes._event_sent,
    K.EVENT_RAISED: Lanes._event_raised,
    K.RUN_RECORDED: Lanes._run_recorded,
    K.CANCEL_REQUESTED: Lanes._cancel_requested,
    K.EXECUTION_SUSPENDED: Lanes._suspended,
    K.EXECUTION_RESUMED: Lanes._resumed,
    K.EXECUTION_REWOUND: Lanes._rewound,
    K.HISTORY_REWRITTEN: Lanes._rewritten,
    K.WORK_RENEWED: Lanes._renewed,
    K.EXECUTION_TERMINATED: Lanes._terminated,
    K.EXECUTION_COMPLETED: Lanes._execution_completed,
    K.EXECUTION_FAILED: Lanes._execution_failed,
    K.EXECUTION_CANCELED: Lanes._execution_canceled,
    K.CONTINUED_AS_NEW: Lanes._execution_completed,
}
