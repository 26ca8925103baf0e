"""Rows as they lie in a store: read, damaged behind everybody's back, and put right again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from celery_durable.store import Store
from celery_durable.store.schema import history, inbox, instances, outbox
from celery_durable.store.types import PAYLOAD

TABLES = {"instances": instances, "history": history, "inbox": inbox, "outbox": outbox}


def _of(table: str, id_: str) -> sa.ColumnElement[bool]:
    chosen = TABLES[table]
    return (chosen.c.id if table == "instances" else chosen.c.instance) == id_


def values_of(store: Store, table: str, column: str, id_: str, **where: Any) -> list[Any]:
    """Read one column of the rows of an instance."""
    chosen = TABLES[table]
    conditions = [chosen.c[name] == value for name, value in where.items()]
    statement = (
        sa.select(chosen.c[column])
        .where(_of(table, id_), *conditions)
        .order_by(*chosen.primary_key.columns)
    )
    with store.database.engine.connect() as connection:
        return [row[0] for row in connection.execute(statement)]


def set_value(store: Store, table: str, column: str, id_: str, value: Any, **where: Any) -> None:
    """Write one column of the rows of an instance; text goes into a payload column as its bytes."""
    chosen = TABLES[table]
    if isinstance(value, str) and chosen.c[column].type is PAYLOAD:
        value = value.encode("utf-8", "surrogatepass")
    conditions = [chosen.c[name] == given for name, given in where.items()]
    with store.database.engine.connect() as connection:
        found = connection.execute(
            sa.update(chosen).where(_of(table, id_), *conditions).values({column: value})
        )
        assert found.rowcount >= 1, f"nothing to damage in {table}.{column} of {id_}"


@contextmanager
def damaged(
    store: Store, table: str, column: str, id_: str, value: Any, **where: Any
) -> Iterator[None]:
    """Damage one row for a while."""
    (before,) = values_of(store, table, column, id_, **where)
    set_value(store, table, column, id_, value, **where)
    try:
        yield
    finally:
        set_value(store, table, column, id_, before, **where)


def due_now(store: Store) -> None:
    """Let recovery look at every row that it would look at one day, as if it was sent long
    before.
    """
    with store.database.engine.connect() as connection:
        connection.execute(
            sa.update(outbox).where(outbox.c.sent_at.is_not(None)).values(sent_at=-(10**9))
        )
        for table in (inbox, outbox):
            connection.execute(
                sa.update(table).where(table.c.check_at.is_not(None)).values(check_at=1)
            )
