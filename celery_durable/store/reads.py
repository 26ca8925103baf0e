"""What clients ask: one instance, pages of them, their history.

Cold paths, so SQLAlchemy Core throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..core.history import EventKind
from ..core.plain_task import carrier_of
from ..core.status import RuntimeStatus
from ..engine.listing import Filters, InstanceRecord, Outstanding, OwedEnd, Pending, Waits
from ..engine.records import TurnAddress
from ..engine.version_choice import OPEN
from . import instances as instances_table
from . import queries, upkeep
from .filters import condition, parts_by_status
from .inbox import FAR
from .overview import Overview
from .pages import beyond, cursor_of, first_of, read_cursor
from .runner import Cursor
from .schema import history, inbox, instances, outbox, workers
from .values import tags_of, text_of
from .waits import OF_THE_RUN, gathered, is_awaited, waits_statement

__all__ = ["Reads"]

_MOST_SHOWN = 100
_FOUND_BY_STATUS = frozenset(RuntimeStatus) - {RuntimeStatus.PENDING, RuntimeStatus.RUNNING}
_BRIEF = [
    column
    for column in instances.c
    if column.name
    not in ("input", "output", "failure", "custom_status", "canvas", "is_lasting", "listed_as")
]


class Reads(Overview):
    """What clients ask; nothing is changed (``engine.store_ports.Reads``)."""

    def _query(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        return queries.fetch(self.database, statement)

    def fetch(self, instance_id: str) -> InstanceRecord | None:
        """Return one instance with its payloads and its deadline, or None."""
        return self.fetch_many([instance_id]).get(instance_id)

    def fetch_many(self, ids: Sequence[str]) -> dict[str, InstanceRecord]:
        """Return those of these instances that are there, with payloads and deadlines, by id."""
        found: dict[str, InstanceRecord] = {}
        for first in range(0, len(ids), 500):
            part = ids[first : first + 500]
            key = instances.c.id == part[0] if len(part) == 1 else instances.c.id.in_(part)
            rows = self._query(self._with_deadline().where(key))
            found |= {row.id: _record(row) for row in rows}
        return found

    def _with_deadline(self) -> sa.Select[Any]:
        m = inbox.c
        deadline = sa.select(sa.func.min(sa.func.abs(m.visible_at))).where(
            m.instance == instances.c.id,
            m.kind == str(EventKind.TIMER_FIRED),
            m.facts == OF_THE_RUN,
        )
        return sa.select(instances, deadline.scalar_subquery().label("deadline"))

    def status_of(self, instance_id: str) -> RuntimeStatus | None:
        """Return the status alone, cheaply enough to poll."""
        rows = self._query(sa.select(instances.c.status).where(instances.c.id == instance_id))
        return RuntimeStatus(rows[0].status) if rows else None

    def statuses_of(self, ids: Sequence[str]) -> dict[str, RuntimeStatus]:
        """Return the status of each of these instances that is there, by its id."""
        found: dict[str, RuntimeStatus] = {}
        for first in range(0, len(ids), 500):
            wanted = sa.select(instances.c.id, instances.c.status)
            part = wanted.where(instances.c.id.in_(ids[first : first + 500]))
            found |= {row.id: RuntimeStatus(row.status) for row in self._query(part)}
        return found

    def status_within(self, cursor: Cursor, instance_id: str) -> RuntimeStatus | None:
        """Return a status as a caller's transaction sees it."""
        return instances_table.status_of(self.database, cursor, instance_id)

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""
        c = instances.c
        wanted = sa.select(c.id, c.name, c.version, c.queue, c.canvas, c.root_id)
        chunks = (list(ids[start : start + 500]) for start in range(0, len(ids), 500))
        rows = [row for chunk in chunks for row in self._query(wanted.where(c.id.in_(chunk)))]
        return [
            TurnAddress(
                row.id,
                carrier_of(row.name, row.version),
                row.queue,
                text_of(row.canvas),
                row.root_id,
            )
            for row in rows
        ]

    def open_children(self, instance_id: str) -> list[str]:
        """Return the children of an instance that are not over, or are about to be rewound."""
        run, statement = self.database.run, instances_table.OPEN_CHILDREN
        rows = self.database.read(lambda cursor: run(cursor, statement, id=instance_id).fetchall())
        return [id_ for (id_,) in rows]

    def find(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None]:
        """Return a page, newest first, and the cursor of the next one."""
        records, next_cursor, _ = self.find_page(
            filters, limit, cursor, with_payloads=with_payloads
        )
        return records, next_cursor

    def find_page(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None, str | None]:
        """Return a page, newest first, and the cursors of the next one (older) and of the one
        before (newer).
        """
        place = None if cursor is None else read_cursor(cursor)
        goes_back = place is not None and place.goes_back
        columns = list(instances.c) if with_payloads else _BRIEF
        matching = self._matching(filters, columns)
        if place is not None:
            matching = [part.where(beyond(place)) for part in matching]
        rows = self._query(first_of(matching, limit + 1, goes_back=goes_back))
        has_more, records = len(rows) > limit, [_record(row) for row in rows[:limit]]
        if goes_back:
            records.reverse()
        has_older, has_newer = (True, has_more) if goes_back else (has_more, place is not None)
        return (
            records,
            cursor_of(records[-1]) if records and has_older else None,
            cursor_of(records[0], "back") if records and has_newer else None,
        )

    def count(self, filters: Filters) -> int:
        """Return how many instances match."""
        numbers = self._matching(filters, [sa.func.count()])
        return sum(int(number) for (number,) in self._query(sa.union_all(*numbers)))

    def _matching(
        self, filters: Filters, columns: Sequence[sa.ColumnElement[Any]]
    ) -> list[sa.Select[Any]]:
        """Return statements that each read a part of what matches, by an index of its own."""
        now = 0 if filters.stuck is None else queries.now(self.database)
        matching = condition(filters, self.database.family, now)
        wanted = sa.select(*columns).select_from(instances).where(matching)
        if not filters.statuses:
            return [wanted]
        parts = parts_by_status(filters.statuses, self._listed_until(filters.statuses))
        return [wanted.where(part) for part in parts]

    def _listed_until(self, statuses: Sequence[RuntimeStatus]) -> int:
        if all(status in _FOUND_BY_STATUS for status in statuses):
            return 0
        return upkeep.listed_until(self.database)

    def count_versions(
        self, statuses: Sequence[RuntimeStatus]
    ) -> list[tuple[str, str | None, int]]:
        """Return names, versions and how many instances with one of these statuses have them."""
        c = instances.c
        numbers = sa.union_all(
            *(
                part.group_by(c.name, c.version)
                for part in self._matching(
                    Filters(statuses=tuple(statuses)), [c.name, c.version, sa.func.count()]
                )
            )
        )
        found = Counter[tuple[str, str | None]]()
        for name, version, count in map(tuple, self._query(numbers)):
            found[name, version] += int(count)
        return [(*key, count) for key, count in found.items()]

    def events(self, instance_id: str) -> list[str]:
        """Return the history rows of the current execution, in order."""
        statement = (
            sa.select(history.c.events)
            .join(
                instances,
                sa.and_(
                    instances.c.id == history.c.instance,
                    instances.c.execution == history.c.execution,
                ),
            )
            .where(history.c.instance == instance_id)
            .order_by(history.c.sequence)
        )
        return [text_of(row.events) or "" for row in self._query(statement)]

    def pending(self, instance_id: str) -> Pending:
        """Return what an instance waits for."""
        o, w, m = outbox.c, workers.c, inbox.c
        activities = self._query(
            sa.select(
                o.name,
                o.command,
                o.attempt,
                o.queue,
                o.is_held,
                o.holder,
                w.hostname.label("worker"),
                o.sent_at,
                o.sends,
                o.is_delegated,
                o.deferred_at,
                o.gate,
            )
            .select_from(outbox.outerjoin(workers, w.id == o.holder))
            .where(o.instance == instance_id, o.kind == "activity")
            .order_by(o.command)
            .limit(_MOST_SHOWN)
        )
        ended = [str(status) for status in RuntimeStatus if status.is_terminal]
        c = instances.c
        children = self._query(
            sa.select(*_BRIEF)
            .where(c.parent_id == instance_id, c.status.not_in(ended))
            .order_by(c.created_at)
            .limit(_MOST_SHOWN)
        )
        now = queries.now(self.database)
        times = sa.select(
            sa.func.min(
                sa.case(
                    (sa.and_(m.visible_at > now, m.visible_at < FAR, is_awaited()), m.visible_at)
                )
            ).label("timer"),
            sa.func.min(sa.case((m.visible_at <= now, m.wake_at))).label("overdue"),
        ).where(m.instance == instance_id)
        (first,) = self._query(times)
        return Pending(
            [Outstanding(**row._mapping) for row in activities],
            [_record(row) for row in children],
            first.timer,
            first.overdue,
        )

    def waits(self, records: Sequence[InstanceRecord]) -> dict[str, Waits]:
        """Return what these instances wait for, as far as rows tell, by id.

        Nothing for one of which they tell nothing.
        """
        found: dict[str, Waits] = {}
        for start in range(0, len(records), 500):
            id_of = {record.execution: record.id for record in records[start : start + 500]}
            now = queries.now(self.database)
            rows = self._query(waits_statement(list(id_of), list(id_of.values()), now))
            found |= gathered(map(tuple, rows), id_of)
        return found

    def is_finished_for_celery(self, execution: str) -> bool:
        """Tell whether no last message is under way."""
        return not self._query(
            sa.select(outbox.c.kind).where(outbox.c.execution == execution).limit(1)
        )

    def owed_end(self, execution: str) -> OwedEnd | None:
        """Return what is known of a last message that is under way, or None."""
        o = outbox.c
        rows = self._query(
            sa.select(o.sends, o.details).where(o.execution == execution, o.kind == "finish")
        )
        return None if not rows else OwedEnd(rows[0].sends, text_of(rows[0].details))


def _record(row: sa.Row[Any]) -> InstanceRecord:
    values = row._mapping
    return InstanceRecord(
        id=values["id"],
        execution=values["execution"],
        name=values["name"],
        version=None if values["version"] == OPEN else values["version"],
        status=RuntimeStatus(values["status"]),
        reason=values["reason"],
        sequence=values["sequence"],
        parent_id=values["parent_id"],
        root_id=values["root_id"],
        tags=tags_of(values["tags"] or ""),
        created_at=values["created_at"],
        started_at=values["started_at"],
        updated_at=values["updated_at"],
        completed_at=values["completed_at"],
        queue=values["queue"],
        **{
            name: text_of(values[name])
            for name in ("input", "output", "failure", "custom_status", "canvas")
            if name in values
        },
        deadline=values.get("deadline"),
    )
