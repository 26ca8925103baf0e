"""Django's own connection as the store's: its transaction, its cursor, its SQL log.

Statements are compiled for Django's cursor, so that everything that wraps it sees them; what
SQLAlchemy or Alembic are to do is done by an engine over the driver's connection. Neither ever
commits, rolls back or closes: the transaction is Django's.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import django.db
import sqlalchemy as sa
from django.db import connections, transaction

from ...store.addresses import Address
from ...store.connecting import family_of
from ...store.runner import Cursor, Runner

__all__ = ["SharedConnection", "shared_engine", "driver_error"]

T = TypeVar("T")
_DRIVERS = {
    "psycopg": "postgresql+psycopg",
    "psycopg_binary": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "pymysql": "mysql+pymysql",
    "MySQLdb": "mysql+mysqldb",
}
_clocks: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class SharedConnection(Runner):
    """The connection that the running thread has to the database of an alias, in whatever
    transaction it is in.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.options: dict[str, Any] = {}
        self.url = sa.make_url(f"{_dialect_name(alias)}://")
        self.address: Address = Address(self.url, name=alias)
        self.family: str = family_of(self.url)

    def __str__(self) -> str:
        return f"Django's connection {self.alias!r}"

    @property
    def wrapper(self) -> Any:
        """Django's own wrapper, of this thread."""
        return connections[self.alias]

    @functools.cached_property
    def dialect(self) -> sa.Dialect:
        """What statements are compiled for: Django's cursors take named parameters,
        ``%(name)s``.
        """
        kind: Any = self.url.get_dialect()
        options = {"paramstyle": "pyformat"} if self.family == "sqlite" else {}
        dialect: sa.Dialect = kind(dbapi=kind.import_dbapi(), **options)
        return dialect

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Give one of Django's cursors, as everything of Django's that wraps it sees it."""
        wrapper = self.wrapper
        with wrapper.cursor() as cursor:
            _add_clock(wrapper)
            self.set_clock(cursor)
            yield cursor

    def set_clock(self, cursor: Cursor) -> None:
        """Prepare what the statements tell the time by."""

    @contextmanager
    def using(self) -> Iterator[sa.Engine]:
        """Give an engine over this thread's connection."""
        _add_clock(self.wrapper)
        yield shared_engine(self.wrapper)

    def transact(
        self, work: Callable[[Cursor], T], *, begin: bool = True, is_lasting: bool = True
    ) -> T:
        """Run ``work`` within Django's transaction, under a savepoint.

        Or in one of its own, if none is open.

        Raises:
            StoreError: the database refuses; what ``work`` did is undone.
        """
        try:
            if not begin:
                with self.cursor() as cursor:
                    return work(cursor)
            with (
                transaction.atomic(using=self.alias, savepoint=self._has_savepoints()),
                self.cursor() as cursor,
            ):
                return work(cursor)
        except transaction.TransactionManagementError:
            raise  # Django says best what is wrong with its transaction
        except django.db.Error as error:
            raise self.store_error(driver_error(error)) from error

    def _has_savepoints(self) -> bool:
        """Tell whether a savepoint can be had: in SQLite one without ``atomic()`` around it would
        commit at its end.
        """
        wrapper = self.wrapper
        return bool(
            wrapper.in_atomic_block or wrapper.get_autocommit() or wrapper.vendor != "sqlite"
        )


def driver_error(error: BaseException) -> Exception:
    """Return the driver's own error, which Django has wrapped."""
    inner = error.__cause__ if isinstance(error, django.db.Error) else None
    found = inner if isinstance(inner, Exception) else error
    assert isinstance(found, Exception)
    return found


def _dialect_name(alias: str) -> str:
    wrapper = connections[alias]
    if wrapper.vendor == "sqlite":
        return "sqlite+pysqlite"
    return _DRIVERS[wrapper.Database.__name__.partition(".")[0]]


def _add_clock(wrapper: Any) -> None:
    """Give an SQLite connection the clock that our statements ask, once."""
    if wrapper.vendor == "sqlite":
        wrapper.ensure_connection()
        if _clocks.get(wrapper) is not wrapper.connection:
            wrapper.connection.create_function("durable_now", 0, _now)
            _clocks[wrapper] = wrapper.connection


def _now() -> int:
    return time.time_ns() // 1000


# -- SQLAlchemy and Alembic on it ------------------------------------------------------------------


def shared_engine(wrapper: Any) -> sa.Engine:
    """Return an engine over the connection that one of Django's wrappers has, or opens."""
    name = _dialect_name(wrapper.alias)

    def connection() -> Any:
        wrapper.ensure_connection()
        return wrapper.connection

    dialect = _dialects.get(name) or _lent_dialect(name)
    pool = sa.pool.NullPool(connection, reset_on_return=None, dialect=dialect)
    engine = sa.Engine(pool, dialect, sa.make_url(f"{name}://"))
    if name not in _dialects:
        with engine.connect() as first:
            # without SQLAlchemy's own handlers of new connections: this one is not new
            dialect.initialize(first)
        _dialects[name] = dialect
    return engine


_dialects: dict[str, sa.Dialect] = {}


def _lent_dialect(name: str) -> sa.Dialect:
    """Return a dialect that leaves the connection and its transaction alone."""
    kind: Any = sa.make_url(f"{name}://").get_dialect()
    options = {"use_native_hstore": False} if name.startswith("postgresql") else {}
    dialect: sa.Dialect = kind(dbapi=kind.import_dbapi(), **options)
    for method in ("do_begin", "do_commit", "do_rollback", "do_close", "do_terminate"):
        setattr(dialect, method, _leave_to_django)
    return dialect


def _leave_to_django(*_: Any) -> None:
    """Do nothing: the connection, and its transaction, are Django's."""
