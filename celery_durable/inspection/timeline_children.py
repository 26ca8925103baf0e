"""The waits of sub-orchestrations, for the timeline of their parent: read from their histories.

None of their code is run. Few histories are read, and no long ones: a sub-orchestration that was
not looked at is drawn as working.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.history import Event
from ..core.ports import Codec
from ..core.status import RuntimeStatus
from ..engine.listing import Filters, InstanceRecord, Pending
from ..engine.replay import events_of
from ..engine.store_ports import Store
from ..errors import DurableError
from .timeline_builder import Handlers, TimelineBuilder
from .timeline_rows import Row
from .timeline_work import Interval, shortest_wait, show_waits, split, waits_of

__all__ = ["Children"]

#: So many histories are read for one timeline, of so many generations; none with more turns.
_MOST, _DEEPEST, _LONGEST = 20, 3, 300
_NOTHING = Pending([], [], None, None)


class Children:
    """Reads the sub-orchestrations of one timeline.

    Args:
        store: where they are.
        codec: for what their histories hold.
        handlers: what each event does to a timeline.
        now: until when what lives is under way.
    """

    def __init__(
        self, store: Store, codec: Codec, handlers: Callable[[], Handlers], now: int
    ) -> None:
        self._store, self._codec, self._handlers, self._now = store, codec, handlers, now
        self._left = _MOST

    def show_waits(self, parent_id: str, builder: TimelineBuilder, depth: int = 1) -> None:
        """Let the bars of an orchestration and of its sub-orchestrations show when they wait."""
        rows = list(builder)
        shortest = shortest_wait(builder.begin, builder.last_at)
        children = {row.instance_id: row for row in rows if row.instance_id}
        if children and depth <= _DEEPEST and self._left:
            for record in self._records(parent_id):
                if (row := children.get(record.id)) is not None and self._left:
                    self._show_child(record, row, shortest, depth)
        show_waits(rows[0], rows[1:], shortest)

    def _records(self, parent_id: str) -> list[InstanceRecord]:
        """Return sub-orchestrations: those that live first, then those made last."""
        found, *_ = self._store.reads.find_page(Filters(parent_id=parent_id), 2 * _MOST, None)
        return sorted(found, key=lambda record: record.status.is_terminal)

    def _show_child(self, record: InstanceRecord, row: Row, shortest: int, depth: int) -> None:
        if record.status is RuntimeStatus.PENDING:
            for span in row.spans[-1:]:
                span.kind = "queued"
            return
        if record.sequence > _LONGEST:
            return
        self._left -= 1
        waits = self._waits(record, depth)
        row.spans = [
            piece
            for span in row.spans
            for piece in (split(span, waits, shortest) if span.kind != "waiting" else [span])
        ]

    def _waits(self, record: InstanceRecord, depth: int) -> list[Interval]:
        """Return when a sub-orchestration has only waited in its current execution."""
        try:
            events = self._history(record.id)
        except DurableError:
            return []  # the page of it says so
        if not events:
            return []
        builder = TimelineBuilder(self._codec, record.name, record.created_at, record.started_at)
        builder.read(events, self._handlers())
        if record.status.is_terminal or builder.has_ended:
            builder.end(record.completed_at or builder.last_at, record.status)
        else:
            builder.end_live(max(self._now, builder.last_at), _NOTHING, [], "")
        self.show_waits(record.id, builder, depth + 1)
        return waits_of(builder.whole.row)

    def _history(self, instance_id: str) -> list[Event]:
        rows = self._store.reads.events(instance_id)
        return [
            event
            for number, row in enumerate(rows, 1)
            for event in events_of(row, instance_id, number)
        ]
