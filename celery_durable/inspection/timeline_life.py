"""What the events of the orchestration itself do to a timeline: its start, its moments, its end."""

from __future__ import annotations

from ..core.history import Event, EventKind
from .timeline_builder import Handlers, TimelineBuilder, fact

__all__ = ["LIFE_HANDLERS"]

K = EventKind


def _started(builder: TimelineBuilder, event: Event) -> None:
    if builder.whole.start(event.at, is_first=builder.before is None):
        builder.last_at = event.at


def _suspended(builder: TimelineBuilder, event: Event) -> None:
    builder.whole.mark("suspended", event)
    builder.whole.split(event.at)
    builder.whole.is_suspended = True


def _resumed(builder: TimelineBuilder, event: Event) -> None:
    builder.whole.mark("resumed", event)
    builder.whole.split(event.at)
    builder.whole.is_suspended = False


def _rewound(builder: TimelineBuilder, event: Event) -> None:
    whole = builder.whole
    whole.mark("rewound", event)
    whole.has_ended = False
    whole.row.since = event.at


def _rewritten(builder: TimelineBuilder, event: Event) -> None:
    builder.is_repeating = True
    row = builder.whole.row
    if row.since is None:
        _rewound(builder, event)
    row.since = min(row.since or event.at, event.at)


def _work_reissued(builder: TimelineBuilder, event: Event) -> None:
    builder.is_repeating = False
    if (origin := fact(event, "fork_of")) is not None:
        builder.whole.mark("forked", event, f"from {origin}, event {fact(event, 'at')}")
        builder.leave(event.at)


def _cancel_requested(builder: TimelineBuilder, event: Event) -> None:
    builder.whole.mark("cancel", event)


def _terminated(builder: TimelineBuilder, event: Event) -> None:
    builder.whole.mark("terminated", event)
    _end(builder, event, "canceled", str(fact(event, "reason") or ""))


def _failed(builder: TimelineBuilder, event: Event) -> None:
    _end(builder, event, "failed", builder.failure_text(event.payload))


def _completed(builder: TimelineBuilder, event: Event) -> None:
    note = "continued as new" if event.kind is K.CONTINUED_AS_NEW else ""
    _end(builder, event, "completed", note)


def _canceled(builder: TimelineBuilder, event: Event) -> None:
    _end(builder, event, "canceled", "")


def _end(builder: TimelineBuilder, event: Event, outcome: str, note: str) -> None:
    builder.leave(event.at)
    builder.whole.end(event.at, outcome, note)


LIFE_HANDLERS: Handlers = {
    K.EXECUTION_STARTED: _started,
    K.CANCEL_REQUESTED: _cancel_requested,
    K.EXECUTION_SUSPENDED: _suspended,
    K.EXECUTION_RESUMED: _resumed,
    K.EXECUTION_REWOUND: _rewound,
    K.HISTORY_REWRITTEN: _rewritten,
    K.WORK_RENEWED: _work_reissued,
    K.EXECUTION_TERMINATED: _terminated,
    K.EXECUTION_COMPLETED: _completed,
    K.EXECUTION_FAILED: _failed,
    K.EXECUTION_CANCELED: _canceled,
    K.CONTINUED_AS_NEW: _completed,
}
