"""What an orchestration did when: lanes and segments, for pictures and for programs.

``timeline_of`` gathers what the store knows of an orchestration, and a ``TimelineBuilder`` reads
it. History does not say since when code has waited for an external event: where the event ended a
timer, the wait is as old as that timer; where nothing else was under way, it began with the event
before; else only its arrival is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..core import kinds
from ..core.status import RuntimeStatus
from ..core.times import EPOCH, as_microseconds
from ..engine.explain import awaited_from_outside
from ..engine.listing import InstanceRecord
from ..handles.fields import record_of, runtime_of_handle
from ..handles.orchestration import Orchestration
from .timeline_builder import TimelineBuilder
from .timeline_children import Children
from .timeline_kinds import handlers_of
from .timeline_rows import Row

__all__ = ["MOST_LANES", "Lane", "Mark", "Segment", "Timeline", "since_rewind", "timeline_of"]

#: More lanes than that are not shown: failed and live ones come first.
MOST_LANES = 200
#: More segments of a lane than that are not shown: the first ones are left out.
MOST_SEGMENTS = 100


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a lane.

    ``kind`` is "queued", "running", "waiting" or "failed"; ``attempt`` is 0 where there are none.
    """

    kind: str
    begin: datetime
    end: datetime
    attempt: int = 0
    note: str = ""
    #: The number of the event in ``run.history()`` that ended it, or asked for it while it is under
    #: way; 0 if there is none.
    event: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """One thing that was asked for, with all its attempts.

    ``kind`` is "orchestration" (the whole, always first), "activity", "child", "timer", "event",
    "request", "entity", "signal" or "run"; ``number`` is the command number, 0 for the
    orchestration, for events and for requests; ``outcome`` is "completed", "failed", "canceled",
    or "live" while there is none.
    """

    kind: str
    number: int
    label: str
    outcome: str
    segments: tuple[Segment, ...]
    note: str = ""
    #: Of the sub-orchestration; "" of anything else.
    instance_id: str = ""
    #: The number of the event in ``run.history()`` that asked for it; 0 if there is none.
    event: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the whole: ``kind`` is "suspended", "resumed", "rewound", "cancel", "terminated"
    or "forked".
    """

    kind: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The current execution of an orchestration; times are aware UTC.

    ``now`` is None once it has ended.

    ``hidden`` is how many lanes were left out.
    """

    instance_id: str
    name: str
    status: RuntimeStatus
    begin: datetime
    end: datetime
    lanes: tuple[Lane, ...]
    hidden: int = 0
    marks: tuple[Mark, ...] = ()
    now: datetime | None = None
    #: Of the part since the last rewind: how many lanes had ended before; None of a whole timeline.
    kept: int | None = None


def timeline_of(run: Orchestration, *, now: datetime | None = None) -> Timeline:
    """Read the timeline of an orchestration: its history, and what is under way.

    Args:
        run: the handle; its status is the one that it has read.
        now: where what is under way ends; the store's clock if left out.

    Raises:
        InstanceNotFound: there is no such orchestration (any more).
        PayloadError: its history is damaged.
        StoreError: the store cannot be reached.
    """
    runtime, record = runtime_of_handle(run), record_of(run)
    rows = TimelineBuilder(runtime.codec, record.name, record.created_at, record.started_at)
    rows.read(run.history(), handlers_of(kinds.KINDS))
    if record.status.is_terminal or rows.has_ended:
        rows.end(record.completed_at or rows.last_at, record.status)
        _show_waits(run, rows, rows.last_at)
        return _timeline(record, rows, None)
    moment = int(runtime.store.now()) if now is None else as_microseconds(now)
    moment = max(moment, rows.last_at)
    awaited: list[tuple[str, str]] = []
    if rows.whole.is_started:
        awaited = awaited_from_outside(runtime.store, runtime.runner, record)
    rows.end_live(moment, runtime.store.reads.pending(record.id), awaited, record.reason or "")
    _show_waits(run, rows, moment)
    return _timeline(record, rows, moment)


def since_rewind(timeline: Timeline) -> Timeline | None:
    """Return the part of a timeline since its last rewind; None if it was not rewound.

    Example:
        >>> timeline = timeline_of(run)
        >>> latest = since_rewind(timeline) or timeline
    """
    began = max((mark.at for mark in timeline.marks if mark.kind == "rewound"), default=None)
    if began is None or timeline.kept is not None:
        return None
    whole, *others = (_since(lane, began) for lane in timeline.lanes)
    lanes = [lane for lane in others if lane.segments]
    return replace(
        timeline,
        begin=began,
        lanes=(whole, *lanes),
        marks=tuple(mark for mark in timeline.marks if mark.at >= began),
        kept=len(others) - len(lanes),
    )


def _since(lane: Lane, began: datetime) -> Lane:
    segments = tuple(
        replace(each, begin=max(each.begin, began))
        for each in lane.segments
        if each.end > began or each.begin == each.end == began
    )
    return replace(lane, segments=segments)


def _show_waits(run: Orchestration, rows: TimelineBuilder, now: int) -> None:
    runtime, record = runtime_of_handle(run), record_of(run)
    children = Children(runtime.store, runtime.codec, lambda: handlers_of(kinds.KINDS), now)
    children.show_waits(record.id, rows)


def _timeline(record: InstanceRecord, builder: TimelineBuilder, now: int | None) -> Timeline:
    rows = list(builder)
    shown = _chosen(rows)
    return Timeline(
        record.id,
        record.name,
        record.status,
        _moment(builder.begin),
        _moment(builder.last_at),
        tuple(map(_lane, shown)),
        hidden=len(rows) - len(shown),
        marks=tuple(Mark(kind, _moment(at), note) for kind, at, note in builder.whole.marks),
        now=None if now is None else _moment(now),
    )


def _chosen(rows: list[Row]) -> list[Row]:
    """Return what is shown of too many rows: the whole, what failed, what is live, and then what
    came first.
    """
    order = {"failed": 0, "live": 1}
    kept = sorted(range(1, len(rows)), key=lambda place: (order.get(rows[place].outcome, 2), place))
    return [rows[place] for place in (0, *sorted(kept[: MOST_LANES - 1]))]


def _lane(row: Row) -> Lane:
    left_out = max(0, len(row.spans) - MOST_SEGMENTS)
    left_out_note = (
        f"the first {left_out} of {len(row.spans)} segments are not shown" if left_out else ""
    )
    segments = tuple(
        Segment(
            each.kind, _moment(each.begin), _moment(each.end), each.attempt, each.note, each.event
        )
        for each in row.spans[left_out:]
    )
    note = "; ".join(filter(None, (row.note, left_out_note)))
    return Lane(
        row.kind,
        row.number,
        row.label,
        row.outcome,
        segments,
        note,
        instance_id=row.instance_id,
        event=row.event,
    )


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
