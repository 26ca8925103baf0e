"""Statements: SQL text with named parameters and a few ``{fragments}``, and the shapes of rows.

A statement is compiled once for each dialect by SQLAlchemy and run on the driver's connection:
SQLAlchemy is the author, the driver the executor. What differs between the databases is said here,
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa

__all__ = ["FRAGMENTS", "Dialected", "Shape", "Statement"]

R = TypeVar("R")

# What {if_new} ends is inserted unless it is there. MySQL says so by an error: its INSERT IGNORE
# would also cut what is too long. {now} is the clock at the moment it is met, {once} the same for a
# whole statement: only that can range an index. MySQL's is read in UTC: a connection of others has
# the server's time zone, and an hour of local time comes twice a year. {oldest} is the number of
# the oldest transaction that is open, {coming} that of the next one, where these have numbers.
# {unhurried} ends the conditions of a statement whose commit need not wait for the disk: what it
# writes is written once more, should the database lose it
_MYSQL_ONCE = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
FRAGMENTS = {
    "postgresql": {
        "now": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
        "once": "(SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT))",
        "lock_instance": "FOR NO KEY UPDATE SKIP LOCKED",
        "lock": "FOR UPDATE",
        "share": "FOR SHARE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "integer": "INTEGER",
        "bigint": "BIGINT",
        "bytes": "BYTEA",
        "octets": "OCTET_LENGTH",
        "if_new": "ON CONFLICT DO NOTHING",
        "true": "TRUE",
        "false": "FALSE",
        "least": "LEAST",
        "oldest": "txid_snapshot_xmin(txid_current_snapshot())",
        "coming": "txid_snapshot_xmax(txid_current_snapshot())",
        "unhurried": "AND set_config('synchronous_commit', 'off', TRUE) = 'off'",
    },
    "sqlite": {
        "now": "durable_now()",
        "once": "(SELECT durable_now())",
        "lock_instance": "",
        "lock": "",
        "share": "",
        "skip_locked": "",
        "integer": "INTEGER",
        "bigint": "INTEGER",
        "bytes": "BLOB",
        "octets": "LENGTH",
        "if_new": "ON CONFLICT DO NOTHING",
        "true": "1",
        "false": "0",
        "least": "MIN",
        "oldest": "0",
        "coming": "0",
        "unhurried": "",
    },
    "mysql": {
        "now": f"({_MYSQL_ONCE} + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)))",
        "once": _MYSQL_ONCE,
        "lock_instance": "FOR UPDATE SKIP LOCKED",
        "lock": "FOR UPDATE",
        "share": "LOCK IN SHARE MODE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "integer": "SIGNED",
        "bigint": "SIGNED",
        "bytes": "BINARY",
        "octets": "OCTET_LENGTH",
        "if_new": "",
        "true": "TRUE",
        "false": "FALSE",
        "least": "LEAST",
        "oldest": "0",
        "coming": "0",
        "unhurried": "",
    },
}


class Dialected(Protocol):
    """What a statement is compiled for: a dialect, its fragments and the clock these tell."""

    @property
    def compiled_for(self) -> str:
        """What tells texts apart that are compiled differently."""

    @property
    def fragments(self) -> Mapping[str, str]:
        """What the ``{fragments}`` of statements stand for."""

    @property
    def dialect(self) -> sa.Dialect:
        """SQLAlchemy's dialect."""


class Statement:
    """SQL text, compiled when it is first run on a database."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        #: Whether it inserts only what is not there yet.
        self.may_be_there: bool = "{if_new}" in sql
        #: Whether its commit has to wait for the disk.
        self.is_lasting: bool = "{unhurried}" not in sql
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def compiled(self, runner: Dialected) -> tuple[str, list[str] | None]:
        """Return the driver's text, and the order of parameters where they are positional."""
        found = self._compiled.get(runner.compiled_for)
        if found is None:
            sql = self.sql
            for name, text in runner.fragments.items():
                sql = sql.replace("{" + name + "}", text)
            compiled: Any = sa.text(sql).compile(dialect=runner.dialect)
            order = list(compiled.positiontup) if compiled.positiontup is not None else None
            found = self._compiled[runner.compiled_for] = str(compiled), order
        return found


class Shape(Generic[R]):
    """The columns of a row type, in the order of its fields; a row is read in one call.

    Args:
        kind: a dataclass or a NamedTuple, whose fields are named as the columns are.
        alias: of the table in the statements.
        decode: for fields of a dataclass that are stored in another form, what decodes them.
    """

    __slots__ = ("_decode", "_kind", "_width", "columns", "names")

    def __init__(
        self,
        kind: Callable[..., R],
        alias: str = "",
        decode: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        given: Any = kind
        #: The names of the columns, in order.
        self.names: Sequence[str] = (
            [field.name for field in fields(given)] if is_dataclass(given) else given._fields
        )
        #: The columns as a SELECT names them.
        self.columns: str = ", ".join(f"{alias}.{name}" if alias else name for name in self.names)
        self._kind = kind
        self._width = len(self.names)
        self._decode = tuple((decode or {}).items())

    def read(self, columns: Sequence[Any]) -> R:
        """Return the row that these columns are."""
        row = self._kind(*columns)
        for name, decoded in self._decode:
            setattr(row, name, decoded(getattr(row, name)))
        return row

    def take(self, columns: Sequence[Any]) -> tuple[R, Sequence[Any]]:
        """Return the row that the first columns are, and the columns after them."""
        return self.read(columns[: self._width]), columns[self._width :]
