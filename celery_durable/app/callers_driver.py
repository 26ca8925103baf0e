"""A caller's connection whose driver is not the one that the store uses.

The store's statements are compiled for that driver. asyncpg lets the server infer the type of each
parameter from the text alone, which it often cannot: so each is given with its type.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import await_only

from ..store.runner import Cursor, Runner
from ..store.statements import Statement
from ..store.vault import Vault

__all__ = ["CallersDriver", "can_join"]

_TYPES = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE PRECISION", str: "TEXT", bytes: "BYTEA"}
_PLACE = re.compile(r"\$(\d+)")
#: Drivers whose connections take the store's statements, compiled for them.
_JOINED = {"psycopg", "asyncpg", "aiosqlite", "asyncmy"}


def can_join(dialect: sa.Dialect, spoken: sa.Dialect) -> bool:
    """Tell whether what the store writes can be written on a connection of this dialect."""
    is_like_ours = dialect.paramstyle == spoken.paramstyle and not dialect.is_async
    return is_like_ours or dialect.driver in _JOINED


class CallersDriver(Runner):
    """Runs statements on cursors of another driver; it opens no connection of its own."""

    def __init__(self, database: Runner, dialect: sa.Dialect) -> None:
        self.url: sa.URL = database.url
        self.family: str = database.family
        self.options: dict[str, Any] = database.options
        self.largest_packet: int | None = None  # it cannot be told beforehand: the server refuses
        self.vault: Vault | None = database.vault
        self._dialect = dialect

    @property
    def dialect(self) -> sa.Dialect:
        """That of the caller's engine."""
        return self._dialect

    def run_unsealed(
        self, cursor: Cursor, statement: Statement, parameters: Mapping[str, Any]
    ) -> Cursor:
        """Run one statement and return the cursor."""
        if self._dialect.paramstyle != "numeric_dollar":
            return super().run_unsealed(cursor, statement, parameters)
        sql, order = statement.compiled(self)
        cursor.execute(*_typed(sql, [parameters[name] for name in order or ()]))
        return cursor

    def apart(self, work: Callable[[], None]) -> None:
        """Do something slow in a thread, where a loop runs statements."""
        if self._dialect.is_async:
            await_only(asyncio.get_running_loop().run_in_executor(None, work))
        else:
            work()

    def run_many(
        self, cursor: Cursor, statement: Statement, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run one statement for many rows: what is None differs between them."""
        for row in rows:
            self.run(cursor, statement, **row)


def _typed(sql: str, values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Return a text whose parameters have types, and the values that are left for it."""
    given: dict[int, str] = {}
    left: list[Any] = []
    for number, value in enumerate(values, 1):
        if value is None:  # has no type of its own, and takes that of its place
            given[number] = "NULL"
            continue
        left.append(value)
        given[number] = f"CAST(${len(left)} AS {_TYPES[type(value)]})"
    return _PLACE.sub(lambda place: given[int(place[1])], sql), tuple(left)
