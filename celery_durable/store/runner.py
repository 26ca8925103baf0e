"""Running statements on a cursor, a pooled connection or one of a caller."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa

from .._errors import StoreError
from ..engine.cursor import Cursor
from . import faults
from .large_payloads import keep
from .statements import FRAGMENTS, Dialected, Statement
from .vault import Vault

__all__ = ["Cursor", "ManyRows", "ManyValues", "Runner"]

T = TypeVar("T")
_REST_OF_PACKET = 1024
_NAMED, _NUMBERED = re.compile(r"%\((\w+)\)s"), re.compile(r"\$(\d+)")
#: Statements of so many lengths are kept: most have the same few.
_KEPT = 8


class _Nothing:
    """What a statement gave that did nothing."""

    rowcount = 0


_NOTHING: Any = _Nothing()


class Runner:
    """Runs statements on a cursor and judges errors, on a pooled connection or a caller's."""

    url: sa.URL
    family: str
    options: dict[str, Any]
    #: Names the clock that the fragments tell the time by.
    clock = "own"
    #: Whether a statement by itself is a whole transaction: on a caller's connection it is a part
    #: of one, whose commit is the caller's.
    is_own = False
    #: Seals what statements write, and opens what they read; None where values are kept as they
    #: are.
    vault: Vault | None = None
    #: How many bytes a statement may have, where the server cuts the connection of one that has
    #: more.
    largest_packet: int | None = None

    @property
    def fragments(self) -> Mapping[str, str]:
        """What the ``{fragments}`` of statements stand for."""
        own = FRAGMENTS[self.family]
        return own if self.is_own else {**own, "unhurried": ""}

    @property
    def dialect(self) -> sa.Dialect:
        """What statements are compiled for."""
        raise NotImplementedError

    @functools.cached_property
    def compiled_for(self) -> str:
        """What tells the texts of statements apart; it is the same for all engines of a runner."""
        dialect = self.dialect
        return f"{self.family}+{dialect.driver}+{dialect.paramstyle}+{self.clock}+{self.is_own}"

    @property
    def is_current(self) -> bool:
        """Whether this still is the database that the settings mean."""
        return True

    def using(self) -> AbstractContextManager[sa.Engine]:
        """Give the engine for one use of a connection."""
        raise NotImplementedError

    def cursor(self) -> AbstractContextManager[Cursor]:
        """Give a cursor, in autocommit if no transaction is open.

        Raises:
            StoreError: the database cannot be reached, or refuses.
            ConfigurationError: its schema is not ours.
        """
        raise NotImplementedError

    def dispose(self) -> None:
        """Close what was opened here."""

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def run(self, cursor: Cursor, statement: Statement, **parameters: Any) -> Cursor:
        """Run one statement and return the cursor.

        Raises:
            StoreError: the statement is larger than the server takes.
        """
        if self.vault is None:
            return self.run_unsealed(cursor, statement, parameters)
        sealed = self._sealed(self.vault, cursor, parameters)
        return self.vault.over(self.run_unsealed(cursor, statement, sealed))

    def _sealed(
        self, vault: Vault, cursor: Cursor, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        large = vault.large
        if large is None:
            return vault.sealed(parameters, _refuse)
        return vault.sealed(parameters, functools.partial(keep, self, large, cursor))

    def run_unsealed(
        self, cursor: Cursor, statement: Statement, parameters: Mapping[str, Any]
    ) -> Cursor:
        """Run one statement on values as the columns have them.

        Raises:
            StoreError: the statement is larger than the server takes.
        """
        sql, order = statement.compiled(self)
        values: Any = parameters if order is None else [parameters[name] for name in order]
        self._refuse_large(cursor, sql, values, parameters)
        try:
            cursor.execute(sql, values)
        except Exception as error:
            if statement.may_be_there and faults.is_duplicate(error):
                nothing: Cursor = _NOTHING
                return nothing
            raise
        return cursor

    def apart(self, work: Callable[[], None]) -> None:
        """Do something slow that is no statement: where a loop runs, beside it."""
        work()

    def run_many(
        self, cursor: Cursor, statement: Statement, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run one statement for many rows."""
        if not rows:
            return
        if self.vault is not None:
            rows = [self._sealed(self.vault, cursor, row) for row in rows]
        sql, order = statement.compiled(self)
        many: Sequence[Any] = (
            rows if order is None else [[row[name] for name in order] for row in rows]
        )
        for values, row in zip(many, rows, strict=True):
            self._refuse_large(cursor, sql, values, row)
        try:
            cursor.executemany(sql, many)
        except Exception as error:
            if not (statement.may_be_there and faults.is_duplicate(error)):
                raise
            for row in rows:  # some of them are there
                self.run_unsealed(cursor, statement, row)

    def _refuse_large(
        self, cursor: Cursor, sql: str, values: Any, named: Mapping[str, Any]
    ) -> None:
        """Refuse what MySQL would cut the connection for, so that it is not taken for a server that
        is away.
        """
        most = self.largest_packet
        if (
            most is None
            or 4 * sum(len(each) for each in named.values() if isinstance(each, (str, bytes)))
            < most
        ):
            return
        driver: Any = cursor
        size = len(driver.mogrify(sql, values))
        if size + _REST_OF_PACKET > most:
            raise StoreError(
                f"the store {self} takes no statement of {size:,} bytes: its max_allowed_packet is"
                f" {most:,}. Raise that, or keep large values elsewhere; durable_payload_limit"
                " refuses them where they arise",
                is_permanent=True,
            )

    def transact(
        self, work: Callable[[Cursor], T], *, begin: bool = True, is_lasting: bool = True
    ) -> T:
        """Run ``work`` in one transaction, again from the start when the database asks for it.

        With ``is_lasting`` False its commit need not wait for the disk, where that can be had for
        one transaction.

        Raises:
            StoreError: the database cannot be reached; it is not known whether a commit under way
                took place.
        """
        raise NotImplementedError

    def read(self, work: Callable[[Cursor], T]) -> T:
        """Run reads, or one statement that is a transaction by itself."""
        return self.transact(work, begin=False)

    def fetch_one(self, statement: Statement, **parameters: Any) -> Any:
        """Run one reading statement by itself and return its first row, or None."""
        return self.read(lambda cursor: self.run(cursor, statement, **parameters).fetchone())

    def change_one(self, statement: Statement, **parameters: Any) -> bool:
        """Run one writing statement by itself; True if it met exactly one row."""

        def change(cursor: Cursor) -> bool:
            return int(self.run(cursor, statement, **parameters).rowcount) == 1

        return self.transact(change, begin=False, is_lasting=statement.is_lasting)

    def may_repeat(self, error: Exception) -> bool:
        """Tell whether the database asks for its transaction to be run again."""
        return faults.may_repeat(self.family, error)

    def store_error(self, error: Exception) -> Exception:
        """Return what is raised for an error of the driver or of SQLAlchemy."""
        driver: Any = self.dialect.loaded_dbapi
        return faults.store_error(str(self), self.family, driver, error)


def _refuse(*_: Any) -> None:
    """Keep nothing elsewhere."""


class ManyRows:
    """A statement about rows of some keys: its ``{these}`` is true of them.

    One is compiled for each number of rows: cut them by ``values.portions``.
    """

    def __init__(self, sql: str, *columns: str) -> None:
        self.sql = sql
        #: Of the key, in the order in which keys are given.
        self.columns: tuple[str, ...] = columns
        self._compiled: dict[int, Statement] = {}

    def run(
        self, runner: Runner, cursor: Cursor, keys: Sequence[Sequence[Any]], **parameters: Any
    ) -> Cursor:
        """Run it for these keys, and return the cursor."""
        names = (f"{name}{n}" for n in range(len(keys)) for name in self.columns)
        values = dict(zip(names, chain(*keys), strict=True))
        return runner.run(cursor, self.about(len(keys)), **values, **parameters)

    def about(self, number: int) -> Statement:
        """Return the statement about so many rows."""
        if number not in self._compiled:
            these = " OR ".join(map(self._one, range(number)))
            self._compiled[number] = Statement(self.sql.replace("{these}", these))
        return self._compiled[number]

    def _one(self, number: int) -> str:
        return f"({' AND '.join(f'{name} = :{name}{number}' for name in self.columns)})"


class ManyValues:
    """The insert of one row, for several rows at once: one statement, whatever their number.

    The texts for the last few numbers of rows are kept: cut rows into equal parts.
    """

    def __init__(self, one: Statement) -> None:
        self._one = one
        self.about: Callable[[int], Statement] = functools.lru_cache(maxsize=_KEPT)(self._about)

    def run(self, runner: Runner, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert these rows, and return how many were inserted.

        Where the statement leaves out what is there: MySQL inserts none then, the others all that
        are new.
        """
        values = {f"{name}_{n}": value for n, row in enumerate(rows) for name, value in row.items()}
        return int(runner.run(cursor, self.about(len(rows)), **values).rowcount)

    def _about(self, number: int) -> Statement:
        return _Several(self._one, number)


class _Several(Statement):
    """An insert of several rows, made from the text of one row as the driver has it: compiling all
    of them takes longer than the insert.
    """

    def __init__(self, one: Statement, number: int) -> None:
        super().__init__(one.sql)
        self._one, self._number = one, number

    def compiled(self, runner: Dialected) -> tuple[str, list[str] | None]:
        """Return the driver's text, and the order of parameters where they are positional."""
        found = self._compiled.get(runner.compiled_for)
        if found is None:
            found = self._compiled[runner.compiled_for] = self._made(runner)
        return found

    def _made(self, runner: Dialected) -> tuple[str, list[str] | None]:
        sql, order = self._one.compiled(runner)
        head, _, rest = sql.partition(" VALUES ")
        tail = runner.fragments["if_new"] if self.may_be_there else ""
        row, numbers = rest.removesuffix(tail).rstrip(), range(self._number)
        if order is None:
            rows = [_NAMED.sub(rf"%(\1_{n})s", row) for n in numbers]
        elif runner.dialect.paramstyle == "numeric_dollar":
            rows = [_numbered(row, n * len(order)) for n in numbers]
        else:
            rows = [row] * self._number
        text = f"{head} VALUES {', '.join(rows)} {tail}"
        return text, None if order is None else [f"{name}_{n}" for n in numbers for name in order]


def _numbered(row: str, by: int) -> str:
    return _NUMBERED.sub(lambda place: f"${int(place[1]) + by}", row)
