"""What the events of calls, timers, messages and external events do to a timeline."""

from __future__ import annotations

from ..core.entity import MESSAGE, REPLY
from ..core.history import Event, EventKind
from ..core.kinds import KINDS
from ..core.names import parts_of_id
from .timeline_builder import Handlers, TimelineBuilder, fact
from .timeline_rows import Row, Span

__all__ = ["CALL_HANDLERS", "arrive", "by_hand", "cancel", "open_attempt"]

K = EventKind


# -- what is asked for -----------------------------------------------------------------------------


def open_attempt(builder: TimelineBuilder, kind: str, event: Event, label: str) -> Row:
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
        open_attempt(builder, "entity", event, label)
    else:
        builder.row("entity", event.command, label).settle(event.at, "completed", "one-way")


def _child_reattached(builder: TimelineBuilder, event: Event) -> None:
    if (row := builder.call(event.command)) is not None:
        builder.open(row, event)


# -- outcomes --------------------------------------------------------------------------------------


def _deferred(builder: TimelineBuilder, event: Event) -> None:
    ran = fact(event, "ran")
    if (row := builder.call(event.command)) is not None and row.attempt == event.attempt:
        row.defer(event.at, ran if isinstance(ran, int) and ran >= 0 else None)


def cancel(builder: TimelineBuilder, event: Event) -> None:
    """Let what has the number of an event be canceled."""
    builder.resolve(event, "canceled", "")


def by_hand(event: Event) -> str:
    """Return a note on an outcome that was given by hand; an empty one on any other."""
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
    arrive(builder, "event", event, "message" if event.name == MESSAGE else event.name)


def arrive(builder: TimelineBuilder, kind: str, event: Event, label: str) -> None:
    """Let a message come: it was waited for if nothing else was under way."""
    row = builder.row(kind, 0, label)
    if not builder.has_live and builder.before is not None:
        row.open(builder.before.at)
    row.settle(event.at, "completed")


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
    kind = None if before is None or before.at != event.at else KINDS.inputs.get(before.kind)
    if before and kind and kind.message and timer is not None and timer.since is not None:
        row = builder.find(kind.message, 0, before.name)
        if row is not None and row.spans[-1].end == event.at:
            row.spans[-1].begin = min(row.spans[-1].begin, timer.since)
    cancel(builder, event)


CALL_HANDLERS: Handlers = {
    K.ACTIVITY_DEFERRED: _deferred,
    K.CHILD_REVIVED: _child_reattached,
    K.TIMER_CANCELED: _timer_canceled,
    K.EVENT_SENT: _event_sent,
    K.EVENT_RAISED: _event_raised,
    K.REQUEST_ANSWERED: _request_answered,
}
