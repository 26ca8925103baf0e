"""The table of the audit trail: what verbs leave, written by the transaction that changes
something, and kept when what it is about is purged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ..engine.audit import AuditFilters, AuditRow, Entry, pending
from .runner import Cursor, Runner
from .schema import audit
from .statements import Statement
from .values import readable

__all__ = ["AuditRows", "change_one", "forget", "is_wanted", "leave", "leave_each"]

_BATCH = 1_000
INSERT_AUDIT = Statement(
    "INSERT INTO durable_audit (id, at, kind, target, verb, actor, door, reason, arguments, effect,"
    " error, made) VALUES (:id, {now}, :kind, :target, :verb, :actor, :door, :reason, :arguments,"
    " :effect, :error, :made) {if_new}"
)
OLD_AUDIT = Statement(
    "SELECT id FROM durable_audit WHERE at <= {once} - :kept ORDER BY at LIMIT :limit {skip_locked}"
)
DROP_AUDIT = Statement("DELETE FROM durable_audit WHERE id = :id")


def leave(database: Runner, cursor: Cursor, made: str | None = None) -> None:
    """Write the entry of the verb under way, if it is to leave one, within the transaction of what
    it changes.

    Args:
        database: whose statements.
        cursor: in the transaction.
        made: the id of the orchestration that is made by it.
    """
    if (entry := pending()) is None:
        return
    if made is not None and entry.target is None:
        entry.target = made
    elif made is not None and made != entry.target:
        entry.made = made
    _insert(database, cursor, entry)
    entry.is_written = True


def is_wanted() -> bool:
    """Tell whether the verb under way is to leave an entry."""
    return pending() is not None


def leave_each(database: Runner, cursor: Cursor, targets: Sequence[str]) -> None:
    """Write the entry of the verb under way for each orchestration that it has changed."""
    if (entry := pending()) is None or not targets:
        return
    for target in targets:
        # the same for a transaction that is repeated
        id_ = hashlib.sha256(f"{entry.id}:{target}".encode()).hexdigest()[:32]
        _insert(database, cursor, replace(entry, id=id_, target=target))
    entry.is_written = True


def forget() -> None:
    """Take notice that the transaction was undone that wrote the entry."""
    if (entry := pending()) is not None:
        entry.is_written = False


def change_one(database: Runner, statement: Statement, **parameters: Any) -> bool:
    """Run one writing statement, with the entry of the verb under way; True if it met exactly one
    row.
    """
    if pending() is None:
        return database.change_one(statement, **parameters)

    def change(cursor: Cursor) -> bool:
        has_changed = database.run(cursor, statement, **parameters).rowcount == 1
        if has_changed:
            leave(database, cursor)
        return has_changed

    return database.transact(change)


def _insert(database: Runner, cursor: Cursor, entry: Entry) -> None:
    database.run(
        cursor,
        INSERT_AUDIT,
        id=entry.id,
        kind=entry.kind,
        target=_short(entry.target),
        verb=entry.verb,
        actor=_short(entry.actor.name),
        door=entry.actor.door,
        reason=readable(entry.reason),
        arguments=entry.arguments,
        effect=entry.effect,
        error=readable(entry.error),
        made=entry.made,
    )


def _short(text: str | None) -> str | None:
    found = readable(text)
    return None if found is None else found[:200]


class AuditRows:
    """The trail (``engine.audit.AuditRows``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def insert(self, entry: Entry) -> None:
        """Write an entry by itself, unless it is there."""
        self.database.read(lambda cursor: self.insert_within(cursor, entry))

    def insert_within(self, cursor: Cursor, entry: Entry) -> None:
        """Do the same on a cursor inside a caller's transaction."""
        _insert(self.database, cursor, entry)

    def read(
        self, filters: AuditFilters, limit: int, cursor: str | None
    ) -> tuple[list[AuditRow], str | None]:
        """Return a page, newest first, and the cursor of the next one."""
        texts = (filters.target, filters.kind, filters.actor, filters.door, filters.verb)
        if any(readable(text) != text for text in texts):
            return [], None  # no column holds such text
        database, c = self.database, audit.c
        wanted = sa.and_(sa.true(), *_conditions(filters))
        if cursor is not None:
            at, id_ = _read_cursor(cursor)
            wanted = sa.and_(wanted, c.at <= at, sa.or_(c.at < at, c.id < id_))
        order = (c.at.desc(), c.id.desc())
        parts = [wanted]
        if filters.target is not None:  # each has an index
            is_target = c.target == filters.target
            is_made = sa.and_(c.made == filters.target, sa.func.coalesce(c.target, "") != c.made)
            parts = [sa.and_(wanted, is_target), sa.and_(wanted, is_made)]
        found: list[AuditRow] = []
        columns = [c[name] for name in AuditRow._fields]
        try:
            with database.using() as engine, engine.connect() as connection:
                for part in parts:
                    page = sa.select(*columns).where(part).order_by(*order).limit(limit + 1)
                    found += [AuditRow(*row) for row in connection.execute(page)]
            if (vault := database.vault) is not None:
                found = [AuditRow._make(map(vault.opened, row)) for row in found]
        except sa.exc.SQLAlchemyError as error:
            raise database.store_error(error) from error
        found.sort(key=lambda row: (row.at, row.id), reverse=True)
        page_of, rest = found[:limit], found[limit:]
        return page_of, _cursor_of(page_of[-1]) if rest else None

    def drop_old(self, kept_for: int) -> bool:
        """Delete entries older than so many microseconds; True if there may be more of them."""
        run = self.database.run

        def drop(cursor: Cursor) -> int:
            old = run(cursor, OLD_AUDIT, kept=kept_for, limit=_BATCH).fetchall()
            keys = [{"id": id_} for (id_,) in sorted(map(tuple, old))]
            self.database.run_many(cursor, DROP_AUDIT, keys)
            return len(keys)

        return self.database.transact(drop) == _BATCH


def _conditions(filters: AuditFilters) -> list[sa.ColumnElement[bool]]:
    c = audit.c
    found: list[sa.ColumnElement[bool]] = [
        c[name] == value
        for name in ("kind", "actor", "door", "verb")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.since is not None:
        found.append(c.at >= filters.since)
    if filters.until is not None:
        found.append(c.at < filters.until)
    return found


def _cursor_of(row: AuditRow) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.at, row.id]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[int, str]:
    if not isinstance(cursor, str):
        raise TypeError(f"cursor must be a text that audit() gave, not {cursor!r}")
    try:
        at, id_ = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not (isinstance(at, int) and 0 <= at < 2**63 and isinstance(id_, str) and id_.isalnum()):
            raise ValueError("no moment and id")
        return at, id_
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"{cursor!r} is not a cursor that audit() gave") from error
