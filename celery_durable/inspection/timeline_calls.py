"""What the events of calls, timers, messages and external events do to a timeline."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.entity import MESSAGE, REPLY
from ..core.history import Event, EventKind
from ..core.names import parts_of_id
from .timeline_builder import Handlers, TimelineBuilder, fact
from .timeline_rows import Row, Span, moment_text

__all__ = ["CALL_HANDLERS"]

K = EventKind


# -- what is asked for -----------------------------------------------------------------------------


def _open(builder: TimelineBuilder, kind: str, event: Event, label: str) -> Row:
    """Begin an attempt; a timer that it waited for becomes a part of its row."""
    delay = _delay_of(builder, event)
    row = builder.row(kind, event.command, label)
    if delay is not None:
        builder.drop(delay)
        note = "until the next attempt" if event.attempt > 1 else "delayed"
        row.spans += [
            Span("waiting", each.begin, each.end, event.attempt, note) for each in delay.spans
        ]
    builder.open(row, event)
    return row


def _delay_of(builder: TimelineBuilder, event: Event) -> Row | None:
    """Return the timer that this attempt waited for: a call numbers it after itself, and is asked
    for as it fires.
    """
    before = builder.before
    is_delay = before is not None and before.kind is K.TIMER_FIRED and before.at == event.at
    if before is None or not is_delay or before.command <= event.command:
        return None
    timer = builder.call(before.command)
    return timer if timer is not None and timer.kind == "timer" else None


def _activity_scheduled(builder: TimelineBuilder, event: Event) -> None:
    label = fact(event, "label")
    row = _open(builder, "activity", event, str(label or event.name))
    row.note = event.name if label else ""


def _child_started(builder: TimelineBuilder, event: Event) -> None:
    row = _open(builder, "child", event, str(fact(event, "label") or event.name))
    row.note = row.instance_id = str(fact(event, "id") or "")


def _child_reattached(builder: TimelineBuilder, event: Event) -> None:
    if (row := builder.call(event.command)) is not None:
        builder.open(row, event)


def _timer_created(builder: TimelineBuilder, event: Event) -> None:
    due = fact(event, "due")
    row = _open(builder, "timer", event, "timer")
    row.note = f"due {moment_text(due)}" if isinstance(due, int) else ""


def _event_sent(builder: TimelineBuilder, event: Event) -> None:
    receiver = str(fact(event, "to") or "")
    if event.name != MESSAGE:
        row = builder.row("signal", event.command, f"{event.name} to {receiver}")
        row.settle(event.at, "completed")
        return
    message = builder.message_of(event)
    parts = parts_of_id(receiver)
    entity = " ".join(parts) if parts is not None else receiver
    what = next((f"{word} of {entity}" for word in ("lock", "unlock") if word in message), "")
    label = what or f"{entity}: {message.get('op', '?')}()"
    if message.get("reply"):
        _open(builder, "entity", event, label)
    else:
        builder.row("entity", event.command, label).settle(event.at, "completed", "one-way")


def _run_recorded(builder: TimelineBuilder, event: Event) -> None:
    has_failed = bool(fact(event, "failed"))
    note = builder.failure_text(event.payload) if has_failed else ""
    outcome = "failed" if has_failed else "completed"
    builder.row("run", event.command, event.name).settle(event.at, outcome, note)


# -- outcomes --------------------------------------------------------------------------------------


def _deferred(builder: TimelineBuilder, event: Event) -> None:
    ran = fact(event, "ran")
    if (row := builder.call(event.command)) is not None and row.attempt == event.attempt:
        row.defer(event.at, ran if isinstance(ran, int) and ran >= 0 else None)


def _completed(builder: TimelineBuilder, event: Event) -> None:
    builder.resolve(event, "completed", _by_hand(event))


def _failed(builder: TimelineBuilder, event: Event) -> None:
    notes = (builder.failure_text(event.payload), _by_hand(event))
    builder.resolve(event, "failed", " ".join(filter(None, notes)))


def _canceled(builder: TimelineBuilder, event: Event) -> None:
    builder.resolve(event, "canceled", "")


def _by_hand(event: Event) -> str:
    if not fact(event, "injected"):
        return ""
    reason = fact(event, "reason")
    return f"given by hand: {reason}" if reason else "given by hand"


def _event_raised(builder: TimelineBuilder, event: Event) -> None:
    if event.name.startswith(REPLY):
        failure = builder.message_of(event).get("failure")
        note = builder.failure_text(failure) if failure else ""
        builder.resolve(event, "failed" if failure else "completed", note)
        return
    _arrived(builder, "event", event, "message" if event.name == MESSAGE else event.name)


def _arrived(builder: TimelineBuilder, kind: str, event: Event, label: str) -> None:
    row = builder.row(kind, 0, label)
    if not builder.has_live and builder.before is not None:
        row.open(builder.before.at)  # nothing else was under way: the code has waited for it
    row.settle(event.at, "completed")


def _request_received(builder: TimelineBuilder, event: Event) -> None:
    _arrived(builder, "request", event, event.name)


def _request_answered(builder: TimelineBuilder, event: Event) -> None:
    """Let the row of a request reach to its answer."""
    has_failed = bool(fact(event, "failed"))
    row = builder.row("request", 0, event.name)
    if row.spans and row.since is None:
        row.spans.append(Span("running", row.spans[-1].end, event.at, note="until its answer"))
    row.outcome = "failed" if has_failed else "completed"
    row.note = builder.failure_text(event.payload) if has_failed else ""


def _timer_canceled(builder: TimelineBuilder, event: Event) -> None:
    """Cancel a timer; the event that canceled it was waited for as long as the timer ran."""
    timer, before = builder.call(event.command), builder.before
    kind = None if before is None or before.at != event.at else _FROM_OUTSIDE.get(before.kind)
    if before is not None and kind and timer is not None and timer.since is not None:
        row = builder.find(kind, 0, before.name)
        if row is not None and row.spans[-1].end == event.at:
            row.spans[-1].begin = min(row.spans[-1].begin, timer.since)
    _canceled(builder, event)


#: What code waits for from outside -> the kind of its row.
_FROM_OUTSIDE: Mapping[str, str] = {K.EVENT_RAISED: "event", K.REQUEST_RECEIVED: "request"}
CALL_HANDLERS: Handlers = {
    K.ACTIVITY_SCHEDULED: _activity_scheduled,
    K.ACTIVITY_DEFERRED: _deferred,
    K.ACTIVITY_COMPLETED: _completed,
    K.ACTIVITY_FAILED: _failed,
    K.ACTIVITY_CANCELED: _canceled,
    K.CHILD_STARTED: _child_started,
    K.CHILD_REVIVED: _child_reattached,
    K.CHILD_COMPLETED: _completed,
    K.CHILD_FAILED: _failed,
    K.CHILD_CANCELED: _canceled,
    K.TIMER_CREATED: _timer_created,
    K.TIMER_FIRED: _completed,
    K.TIMER_CANCELED: _timer_canceled,
    K.EVENT_SENT: _event_sent,
    K.EVENT_RAISED: _event_raised,
    K.REQUEST_RECEIVED: _request_received,
    K.REQUEST_ANSWERED: _request_answered,
    K.RUN_RECORDED: _run_recorded,
}
