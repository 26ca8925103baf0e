"""What clients ask: one instance, pages of them, their history; and purging. Cold paths, so SQLAlchemy Core throughout."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..core.entity import ORCHESTRATORS
from ..core.status import RuntimeStatus
from ..engine.records import Filters, InstanceRecord, Outstanding, Pending, TurnAddress
from .admissions import FAR
from .database import Database, Runner, Statement
from .effects import EffectTables
from .migrate import store_id
from .schema import history, inbox, instances, outbox, workers
from .turns import CLEAR_EXECUTION, CLEAR_HISTORY, CLEAR_INBOX, text_of
from .waits import Waits, gathered, waits_statement

__all__ = ["Store", "is_stuck", "tags_of"]

PURGE_OUTBOX = Statement("DELETE FROM durable_outbox WHERE execution = :execution")
PURGE_INSTANCE = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND execution = :execution "
    "AND status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED')"
)
_IS_OVER = "status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED')"
_HAS_CHILDREN = f"EXISTS (SELECT 1 FROM durable_instances c WHERE c.parent_id = i.id AND c.{_IS_OVER})"
_IS_DUE = f"i.purge_at <= {{once}} AND i.{_IS_OVER}"
DUE_PURGES = Statement(
    f"SELECT i.id, i.execution FROM durable_instances i WHERE {_IS_DUE} AND NOT {_HAS_CHILDREN} "
    "AND NOT EXISTS (SELECT 1 FROM durable_outbox o WHERE o.execution = i.execution) "
    "AND (SELECT MAX(b.id) FROM durable_inbox b WHERE b.instance = i.id AND b.kind = 'RewindRequested') IS NULL "
    "ORDER BY i.purge_at, i.id LIMIT :limit {skip_locked}"
)
# its parent was rewound and waits for it
IS_TO_REWIND = Statement("SELECT 1 FROM durable_inbox WHERE instance = :id AND kind = 'RewindRequested' LIMIT 1")
DUE_PARENTS = Statement(
    f"SELECT i.id FROM durable_instances i WHERE {_IS_DUE} AND {_HAS_CHILDREN} ORDER BY i.purge_at, i.id LIMIT :limit"
)
PURGE_CHILDREN = Statement(
    "UPDATE durable_instances SET purge_at = {now} "
    f"WHERE parent_id = :id AND {_IS_OVER} AND (purge_at IS NULL OR purge_at > {{now}})"
)
CLEAN_ENTITY = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND execution = :execution AND sequence = 0 AND status = 'RUNNING' "
    "AND NOT EXISTS (SELECT 1 FROM durable_inbox b WHERE b.instance = :id AND b.kind <> 'ExecutionStarted')"
)
_MOST_SHOWN = 100
STUCK_AFTER = 60_000_000
_BRIEF = [
    column for column in instances.c if column.name not in ("input", "output", "failure", "custom_status", "canvas")
]


def _condition(filters: Filters, family: str, now: int) -> sa.ColumnElement[bool]:
    c = instances.c
    texts = (filters.name, filters.version, filters.parent_id, filters.id_prefix)
    if any("\x00" in text or not _is_whole(text) for text in texts if text is not None):
        return sa.false()  # no column holds such text
    found: list[sa.ColumnElement[bool]] = [sa.true()]
    if filters.statuses:
        found.append(c.status.in_([str(status) for status in filters.statuses]))
    for column, value in ((c.name, filters.name), (c.version, filters.version), (c.parent_id, filters.parent_id)):
        if value is not None:
            found.append(column == value)
    for pair in filters.tags:
        place = sa.func.strpos if family == "postgresql" else sa.func.instr  # LIKE would fold case
        found.append(place(c.tags, "\n" + json.dumps(list(pair), ensure_ascii=True) + "\n") > 0)
    if filters.id_prefix:
        found += [c.id >= filters.id_prefix, sa.func.substr(c.id, 1, len(filters.id_prefix)) == filters.id_prefix]
        if (end := _after(filters.id_prefix)) is not None:
            found.append(c.id < end)
    if filters.roots is not None:
        found.append(c.parent_id.is_(None) if filters.roots else c.parent_id.is_not(None))
    if filters.created_after is not None:
        found.append(c.created_at >= filters.created_after)
    if filters.created_before is not None:
        found.append(c.created_at < filters.created_before)
    if filters.entities is not None:
        is_entity = sa.func.substr(c.name, 1, len(ORCHESTRATORS)) == ORCHESTRATORS
        found.append(is_entity if filters.entities else sa.not_(is_entity))
    if filters.stuck is not None:
        found.append(is_stuck(now) if filters.stuck else sa.not_(is_stuck(now)))
    return sa.and_(*found)


def is_stuck(now: int) -> sa.ColumnElement[bool]:
    """Tell what does not move and should: a turn that nobody takes, a message that nobody runs, code that nobody has."""
    c, m, o = instances.c, inbox.c, outbox.c
    overdue = sa.exists().where(m.instance == c.id, m.wake_at <= now - STUCK_AFTER)
    unseen = sa.exists().where(
        o.execution == c.execution,
        o.kind == "activity",
        o.holder.is_(None),
        o.sends >= 3,
        o.sent_at <= now - STUCK_AFTER,
    )
    waits = sa.and_(c.status.in_(["PENDING", "RUNNING"]), sa.or_(c.reason.is_not(None), overdue, unseen))
    return sa.and_(sa.true(), sa.func.coalesce(waits, sa.false()))


def _after(prefix: str) -> str | None:
    """Return the text that follows all that begin with a prefix; None where there is no such character."""
    last = ord(prefix[-1]) + 1
    return None if 0xD800 <= last <= 0xDFFF or last > 0x10FFFF else prefix[:-1] + chr(last)


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


class Store(EffectTables):
    """The whole store: turns, recovery and what clients ask."""

    _id: str | None = None

    @property
    def id(self) -> str:
        """Return the id of this very store."""
        if self._id is None:
            self._id = store_id(self.database)
        return self._id

    def database_without_check(self) -> Database:
        """Return the database for work on the schema itself, which does not need it to be there."""
        return Database(self.database.url.render_as_string(hide_password=False), self.database.options)

    def through(self, database: Runner) -> Store:
        """Return this store as it is reached through other connections to its database."""
        return Store(database, resend_after=self.resend_after, timer_horizon=self.timer_horizon)

    def _query(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        with self.database.cursor():  # the first use of a process checks the schema
            pass
        for attempt in (1, 2):
            try:
                with self.database.using() as engine, engine.connect() as connection:
                    return connection.execute(statement).fetchall()
            except sa.exc.DBAPIError as error:
                if attempt == 2 or not error.connection_invalidated:
                    raise self.database.store_error(error) from error
        raise AssertionError("unreachable")

    def fetch(self, instance_id: str) -> InstanceRecord | None:
        """Return one instance with its payloads, or None."""
        rows = self._query(sa.select(instances).where(instances.c.id == instance_id))
        return _record(rows[0]) if rows else None

    def status_of(self, instance_id: str) -> RuntimeStatus | None:
        """Return the status alone, cheaply enough to poll."""
        rows = self._query(sa.select(instances.c.status).where(instances.c.id == instance_id))
        return RuntimeStatus(rows[0][0]) if rows else None

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""
        c = instances.c
        wanted = sa.select(c.id, c.name, c.queue, c.canvas, c.root_id)
        chunks = (list(ids[start : start + 500]) for start in range(0, len(ids), 500))
        rows = [row for chunk in chunks for row in self._query(wanted.where(c.id.in_(chunk)))]
        return [TurnAddress(row.id, row.name, row.queue, text_of(row.canvas), row.root_id) for row in rows]

    def open_children(self, instance_id: str) -> list[str]:
        """Return the children of an instance that are not over."""
        ended = [str(status) for status in RuntimeStatus if status.is_terminal]
        c = instances.c
        rows = self._query(sa.select(c.id).where(c.parent_id == instance_id, c.status.not_in(ended)))
        return [row.id for row in rows]

    def find(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None]:
        """Return a page, newest first, and the cursor of the next one."""
        records, next_cursor, _ = self.find_page(filters, limit, cursor, with_payloads=with_payloads)
        return records, next_cursor

    def find_page(
        self, filters: Filters, limit: int, cursor: str | None, *, with_payloads: bool = False
    ) -> tuple[list[InstanceRecord], str | None, str | None]:
        """Return a page, newest first, and the cursors of the next one (older) and of the one before (newer)."""
        c = instances.c
        place = None if cursor is None else _read_cursor(cursor)
        goes_back = place is not None and place.goes_back
        order = (c.created_at, c.id) if goes_back else (c.created_at.desc(), c.id.desc())
        statement = sa.select(*(list(c) if with_payloads else _BRIEF)).where(self._condition(filters)).order_by(*order)
        if place is not None:
            statement = statement.where(_beyond(place))
        rows = self._query(statement.limit(limit + 1))
        has_more, records = len(rows) > limit, [_record(row) for row in rows[:limit]]
        if goes_back:
            records.reverse()
        has_older, has_newer = (True, has_more) if goes_back else (has_more, place is not None)
        return (
            records,
            _cursor(records[-1]) if records and has_older else None,
            _cursor(records[0], "back") if records and has_newer else None,
        )

    def count(self, filters: Filters) -> int:
        """Return how many instances match."""
        return int(self._query(sa.select(sa.func.count()).select_from(instances).where(self._condition(filters)))[0][0])

    def _condition(self, filters: Filters) -> sa.ColumnElement[bool]:
        return _condition(filters, self.database.family, 0 if filters.stuck is None else self.now())

    def count_versions(self, statuses: Sequence[RuntimeStatus]) -> list[tuple[str, str | None, int]]:
        """Return names, versions and how many instances with one of these statuses have them."""
        c = instances.c
        statement = (
            sa.select(c.name, c.version, sa.func.count())
            .where(c.status.in_([str(status) for status in statuses]))
            .group_by(c.name, c.version)
        )
        return [(name, version, int(count)) for name, version, count in map(tuple, self._query(statement))]

    def events(self, instance_id: str) -> list[str]:
        """Return the history rows of the current execution, in order."""
        statement = (
            sa.select(history.c.events)
            .join(
                instances, sa.and_(instances.c.id == history.c.instance, instances.c.execution == history.c.execution)
            )
            .where(history.c.instance == instance_id)
            .order_by(history.c.sequence)
        )
        return [bytes(row[0]).decode("utf-8", "replace") for row in self._query(statement)]

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
        now = self.now()
        times = sa.select(
            sa.func.min(sa.case((sa.and_(m.visible_at > now, m.visible_at < FAR), m.visible_at))).label("timer"),
            sa.func.min(sa.case((m.visible_at <= now, m.wake_at))).label("overdue"),
        ).where(m.instance == instance_id)
        first = self._query(times)[0]._mapping
        return Pending(
            [Outstanding(**row._mapping) for row in activities],
            [_record(row) for row in children],
            first["timer"],
            first["overdue"],
        )

    def waits(self, records: Sequence[InstanceRecord]) -> dict[str, Waits]:
        """Return what these instances wait for, as far as rows tell, by id; nothing for one of which they tell nothing."""
        found: dict[str, Waits] = {}
        for start in range(0, len(records), 500):
            id_of = {record.execution: record.id for record in records[start : start + 500]}
            rows = self._query(waits_statement(list(id_of), list(id_of.values()), self.now()))
            found |= gathered(map(tuple, rows), id_of)
        return found

    def living_workers(self, lease: int) -> list[str]:
        """Return the host names of workers that were seen within ``lease`` microseconds."""
        w = workers.c
        return [row.hostname for row in self._query(sa.select(w.hostname).where(w.last_seen > self.now() - lease))]

    def clean_entity(self, instance_id: str, execution: str) -> bool:
        """Delete an entity that still is as it was seen, and that no message waits for; False if that is not so."""
        run = self.database.run

        def delete(cursor: Any) -> bool:
            if not run(cursor, CLEAN_ENTITY, id=instance_id, execution=execution).rowcount:
                return False
            run(cursor, CLEAR_EXECUTION, id=instance_id, execution=execution)
            return True

        return self.database.transact(delete)

    def is_finished_for_celery(self, execution: str) -> bool:
        """Tell whether no last message is under way."""
        return not self._query(sa.select(outbox.c.kind).where(outbox.c.execution == execution).limit(1))

    def purge(self, instance_id: str, execution: str) -> bool:
        """Delete a terminal instance with all its rows; False if it has moved meanwhile.

        The outbox goes first: that is the row which recorders of late outcomes take.
        """
        run = self.database.run

        def delete(cursor: Any) -> bool:
            if run(cursor, IS_TO_REWIND, id=instance_id).fetchone() is not None:
                raise _HasMovedError
            run(cursor, PURGE_OUTBOX, execution=execution)
            run(cursor, CLEAR_INBOX, id=instance_id)
            run(cursor, CLEAR_HISTORY, id=instance_id)
            if not run(cursor, PURGE_INSTANCE, id=instance_id, execution=execution).rowcount:
                raise _HasMovedError
            return True

        try:
            return self.database.transact(delete)
        except _HasMovedError:
            return False

    def purge_due(self, limit: int) -> bool:
        """Delete finished instances whose time has come, children before their parents; True if there may be more.

        Those of which Celery has not been told yet wait, and so do their parents. Rows that another worker has are skipped.
        """
        run, run_many = self.database.run, self.database.run_many

        def delete(cursor: Any) -> int:
            due = run(cursor, DUE_PURGES, limit=limit).fetchall()
            keys = [{"id": id_, "execution": execution} for id_, execution in sorted(map(tuple, due))]
            ids = [{"id": key["id"]} for key in keys]
            run_many(cursor, CLEAR_INBOX, ids)
            run_many(cursor, CLEAR_HISTORY, ids)
            run_many(cursor, PURGE_INSTANCE, keys)
            return len(keys)

        count = self.database.transact(delete)
        parents = self.database.read(lambda cursor: run(cursor, DUE_PARENTS, limit=limit).fetchall())
        marked = 0
        for (id_,) in parents:  # each by itself: no transaction waits for a child while it has a parent
            marked += self._mark_children(id_)
        return count + marked > 0

    def _mark_children(self, parent_id: str) -> int:
        return self.database.read(lambda cursor: int(self.database.run(cursor, PURGE_CHILDREN, id=parent_id).rowcount))


class _HasMovedError(Exception):
    """Rolls a purge back: the instance is not what it was."""


def _record(row: sa.Row[Any]) -> InstanceRecord:
    values = row._mapping
    return InstanceRecord(
        id=values["id"], execution=values["execution"], name=values["name"], version=values["version"],
        status=RuntimeStatus(values["status"]), reason=values["reason"], sequence=values["sequence"],
        parent_id=values["parent_id"], root_id=values["root_id"], tags=tags_of(values["tags"] or ""),
        created_at=values["created_at"], started_at=values["started_at"], updated_at=values["updated_at"],
        completed_at=values["completed_at"], queue=values["queue"], **{
            name: text_of(values[name])
            for name in ("input", "output", "failure", "custom_status", "canvas") if name in values
        },
    )  # fmt: skip


def tags_of(text: str) -> dict[str, str]:
    """Decode tags; a damaged one is left out, so that its instance can still be found."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        try:
            match json.loads(line):
                case [str(key), str(value)]:
                    found[key] = value
        except (ValueError, RecursionError):
            continue
    return found


class _Place(NamedTuple):
    """A row that a page begins after, or before if it ``goes_back``."""

    created_at: int
    id: str
    goes_back: bool


def _beyond(place: _Place) -> sa.ColumnElement[bool]:
    """Tell what lies beyond a place; the bound on the time alone is what lets an index begin there."""
    c = instances.c
    if place.goes_back:
        is_beyond = sa.or_(c.created_at > place.created_at, c.id > place.id)
        return sa.and_(c.created_at >= place.created_at, is_beyond)
    is_beyond = sa.or_(c.created_at < place.created_at, c.id < place.id)
    return sa.and_(c.created_at <= place.created_at, is_beyond)


def _cursor(record: InstanceRecord, *direction: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([record.created_at, record.id, *direction]).encode()).decode()


def _read_cursor(cursor: str) -> _Place:
    try:
        created_at, id_, *direction = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not (isinstance(created_at, int) and 0 <= created_at < 2**63 and isinstance(id_, str) and "\x00" not in id_):
            raise ValueError("not a moment and an id")
        if direction not in ([], ["back"]):
            raise ValueError("no direction")
        id_.encode()
        return _Place(created_at, id_, bool(direction))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"{cursor!r} is not a cursor that find() gave") from error
