"""Connections, transactions and statements: what differs between the databases is said here, once.

Statements are written as SQL text with named parameters and a few ``{fragments}``, compiled once for the dialect by
SQLAlchemy and run on the pool's driver connection: SQLAlchemy is the author, the driver the executor. Every connection is
in autocommit; transactions are explicit, READ COMMITTED, and repeated whole when the database asks for it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

import sqlalchemy as sa

from ..errors import ConfigurationError, StoreError
from ..filesystem import refuse_network
from ..versions import OLDEST, demand
from .addresses import address_of

__all__ = ["Database", "Runner", "Statement", "family_of"]

log = logging.getLogger("celery_durable.store")
T = TypeVar("T")
Cursor = Any
_ATTEMPTS = 12

# {now} is the clock at the moment it is met, {once} the same for a whole statement: only that can range an index.
# MySQL's is read in UTC: a connection of others has the server's time zone, and an hour of local time comes twice a year
_MYSQL_ONCE = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
_FRAGMENTS = {
    "postgresql": {
        "now": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
        "once": "(SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT))",
        "lock_instance": "FOR NO KEY UPDATE SKIP LOCKED",
        "lock": "FOR UPDATE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "insert_new": "INSERT INTO",
        "integer": "INTEGER",
        "bigint": "BIGINT",
        "bytes": "BYTEA",
        "if_new": "ON CONFLICT DO NOTHING",
        "true": "TRUE",
        "false": "FALSE",
    },
    "sqlite": {
        "now": "durable_now()",
        "once": "(SELECT durable_now())",
        "lock_instance": "",
        "lock": "",
        "skip_locked": "",
        "insert_new": "INSERT OR IGNORE INTO",
        "integer": "INTEGER",
        "bigint": "INTEGER",
        "bytes": "BLOB",
        "if_new": "",
        "true": "1",
        "false": "0",
    },
    "mysql": {
        "now": f"({_MYSQL_ONCE} + TIMESTAMPDIFF(MICROSECOND, NOW(6), SYSDATE(6)))",
        "once": _MYSQL_ONCE,
        "lock_instance": "FOR UPDATE SKIP LOCKED",
        "lock": "FOR UPDATE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "insert_new": "INSERT IGNORE INTO",
        "integer": "SIGNED",
        "bigint": "SIGNED",
        "bytes": "BINARY",
        "if_new": "",
        "true": "TRUE",
        "false": "FALSE",
    },
}
# a client that freezes inside a transaction loses it: its locks fall, and its late commit fails
_BEGIN = {
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 30000",
    "sqlite": "BEGIN IMMEDIATE",
    "mysql": "START TRANSACTION",
}
_RETRYABLE = {"40P01", "40001", "55P03", 1213, 1205}
_TOO_LARGE = {1153}  # a packet above MySQL's max_allowed_packet
_SECRET = re.compile("pass|secret|token", re.IGNORECASE)
_NO_TABLE = {"42P01", "42703", 1146, 1054}


class Statement:
    """SQL text, compiled when it is first run on a database."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def compiled(self, runner: Runner) -> tuple[str, list[str] | None]:
        """Return the driver's text, and the order of parameters where they are positional."""
        dialect = runner.dialect
        key = f"{runner.family}+{dialect.driver}+{dialect.paramstyle}+{runner.clock}"
        if key not in self._compiled:
            sql = self.sql
            for name, text in runner.fragments.items():
                sql = sql.replace("{" + name + "}", text)
            compiled = sa.text(sql).compile(dialect=dialect)
            order = list(compiled.positiontup) if compiled.positiontup is not None else None  # type: ignore[attr-defined]
            self._compiled[key] = str(compiled), order
        return self._compiled[key]


class Runner:
    """Runs statements on a cursor and judges errors, whoever the connection belongs to."""

    url: sa.URL
    family: str
    options: dict[str, Any]
    #: Names the clock that the fragments tell the time by.
    clock = "own"

    @property
    def fragments(self) -> Mapping[str, str]:
        """What the ``{fragments}`` of statements stand for."""
        return _FRAGMENTS[self.family]

    @property
    def dialect(self) -> sa.Dialect:
        """What statements are compiled for."""
        raise NotImplementedError

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
        """Run one statement and return the cursor."""
        sql, order = statement.compiled(self)
        if order is None:
            cursor.execute(sql, parameters)
        else:
            cursor.execute(sql, [parameters[name] for name in order])
        return cursor

    def run_many(self, cursor: Cursor, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run one statement for many rows."""
        if not rows:
            return
        sql, order = statement.compiled(self)
        cursor.executemany(sql, rows if order is None else [[row[name] for name in order] for row in rows])

    def transact(self, work: Callable[[Cursor], T], *, begin: bool = True) -> T:
        """Run ``work`` in one transaction, again from the start when the database asks for it.

        Raises:
            StoreError: the database cannot be reached; it is not known whether a commit under way took place.
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
        return self.read(lambda cursor: int(self.run(cursor, statement, **parameters).rowcount)) == 1

    def may_repeat(self, error: Exception) -> bool:
        """Tell whether the database asks for its transaction to be run again."""
        original = getattr(error, "orig", None) or error
        return _code(error) in _RETRYABLE or (self.family == "sqlite" and _is_busy(original))

    def store_error(self, error: Exception) -> Exception:
        """Return what is raised for an error of the driver or of SQLAlchemy."""
        if _code(error) in _NO_TABLE or (self.family == "sqlite" and "no such table" in str(error)):
            return ConfigurationError(
                f"the tables in {self} are missing or behind this release ({error}); run durable.migrate()"
            )
        original = getattr(error, "orig", None) or error
        driver: Any = self.dialect.loaded_dbapi
        refusals = (driver.DataError, driver.IntegrityError, driver.ProgrammingError)
        is_permanent = isinstance(original, refusals) or _code(error) in _TOO_LARGE
        return StoreError(f"the store {self} failed: {type(original).__name__}: {original}", is_permanent=is_permanent)


class Database(Runner):
    """One SQL database, safe to use from any thread and after a fork.

    Args:
        url: an SQLAlchemy URL, or a name that ``address_of`` knows.
        options: extra keyword arguments of ``create_engine``.
        on_first_use: called once per process with the database, before its first statement.
    """

    def __init__(
        self, url: str, options: Mapping[str, Any] | None = None, on_first_use: Callable[[Database], None] | None = None
    ) -> None:
        self.address = address_of(url)
        self.url = self.address.url
        if secret := next((name for name in self.url.query if _SECRET.search(name)), None):
            raise ConfigurationError(
                f"durable_backend_url has {secret!r} in its query, where logs and `celery report` would show it: write the "
                "password before the host, or put it into durable_backend_options['connect_args']",
                setting="durable_backend_url",
            )
        self.family = family_of(self.url)
        self.options = _merged(self.address.options, options or {})
        self._on_first_use = on_first_use
        self._lock = threading.RLock()
        self._engine: sa.Engine | None = None
        self._pid: int | None = None
        self._is_ready = False
        self._in_use = 0
        self._gate = threading.Condition()
        with _fork_lock:
            _databases.add(self)

    # -- forks ----------------------------------------------------------------------------------------

    # SQLite keeps its locks per process: a child forked while a connection is open here would write without any, and
    # the parent could delete the log under it. So none is open at the moment of a fork.

    def before_fork(self) -> None:
        """Let no connection be in use until ``after_fork``."""
        self._gate.acquire()
        if self.family == "sqlite" and self._engine is not None and self._pid == os.getpid():
            self._gate.wait_for(lambda: self._in_use == 0, timeout=10)
            self._engine.dispose()

    def after_fork(self) -> None:
        """Let connections be used again."""
        self._gate.release()

    def renew(self) -> None:
        """Be usable in a child that was just forked."""
        self._lock, self._gate, self._in_use = threading.RLock(), threading.Condition(), 0

    @contextmanager
    def using(self) -> Iterator[sa.Engine]:
        """Give the engine for one use of a connection, which no fork interrupts."""
        with self._gate:
            self._in_use += 1
        try:
            yield self.engine
        finally:
            with self._gate:
                self._in_use -= 1
                self._gate.notify_all()

    # -- connections --------------------------------------------------------------------------------

    @property
    def dialect(self) -> sa.Dialect:
        """What statements are compiled for."""
        return self.engine.dialect

    @property
    def is_current(self) -> bool:
        """Whether this still is the database that the settings mean: an alias may come to mean another one."""
        return self.address.is_current()

    @property
    def engine(self) -> sa.Engine:
        """Return this process's engine; a child never touches its parent's sockets."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    if self._engine is not None:
                        self._engine.dispose(close=False)
                    self._engine, self._is_ready = self._make_engine(), False
                    self._pid = os.getpid()
        assert self._engine is not None
        return self._engine

    def _make_engine(self) -> sa.Engine:
        options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
        arguments: dict[str, Any] = {}
        if self.family == "sqlite":
            arguments["timeout"] = 20
            if self.url.database in (None, "", ":memory:"):
                raise ConfigurationError(
                    "the store cannot live in memory: no other process would see it. Let durable_backend_url name a file; "
                    "in a Django test, use DurableTestMixin or durable_inline()"
                )
            refuse_network(self.url.database.removeprefix("file:").partition("?")[0], "the store")
        else:
            options.update(pool_size=2, max_overflow=30, pool_recycle=1800)
        if self.family == "mysql":
            arguments["connect_timeout"] = 5
        if self.family == "postgresql":
            arguments.update(
                keepalives=1,
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30000,
                connect_timeout=5,
            )
            arguments["prepare_threshold"] = None
        options.update(self.options)
        options["connect_args"] = {**arguments, **(options.get("connect_args") or {})}
        url = self.url.set(drivername="mysql+pymysql") if self.url.drivername in ("mysql", "mariadb") else self.url
        try:
            demand(*{url.get_driver_name()} & OLDEST.keys())
            engine = sa.create_engine(url, **options)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the driver of {self} is not installed: {error}. Try: pip install 'celery-durable[postgres]' or [mysql]"
            ) from error
        except ImportError as error:
            raise ConfigurationError(f"the driver of {self} is too old: {error}") from error
        if self.family == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
        elif self.family == "mysql":
            sa.event.listen(engine, "connect", _prepare_mysql)
        elif "prepare_threshold" not in (self.options.get("connect_args") or {}):
            sa.event.listen(engine, "connect", _prepare_postgres)
        return engine

    def schema_engine(self) -> sa.Engine:
        """Return an engine for work on the schema, without a pool; its connections are not in autocommit."""
        arguments = self.options.get("connect_args") or {}
        return sa.create_engine(self.engine.url, poolclass=sa.pool.NullPool, connect_args=arguments)

    def dispose(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Give a cursor on a pooled connection, in autocommit.

        Raises:
            StoreError: the database cannot be reached, or refuses.
            ConfigurationError: its schema is not ours.
        """
        with self.using() as engine, self._cursor(engine) as cursor:
            yield cursor

    @contextmanager
    def _cursor(self, engine: sa.Engine) -> Iterator[Cursor]:
        if not self._is_ready and self._on_first_use is not None:
            with self._lock:
                if not self._is_ready:
                    self._is_ready = True  # set first: the hook comes through here too
                    try:
                        self._on_first_use(self)
                    except sa.exc.DBAPIError as error:
                        self._is_ready = False
                        raise self.store_error(error) from error
                    except BaseException:
                        self._is_ready = False
                        raise
        try:
            connection = engine.raw_connection()
        except sa.exc.SQLAlchemyError as error:
            raise self.store_error(error) from error
        except engine.dialect.loaded_dbapi.Error as error:
            raise self.store_error(error) from error
        except TypeError as error:
            raise ConfigurationError(
                f"durable_backend_options['connect_args'] do not fit the driver of {self}: {error}"
            ) from error
        try:
            cursor = connection.cursor()
            yield cursor
        except engine.dialect.loaded_dbapi.Error as error:
            if engine.dialect.is_disconnect(error, connection.driver_connection, None):
                error.durable_is_disconnect = True  # type: ignore[attr-defined]
                connection.invalidate()
                engine.dispose()  # what else the pool has is as dead
            raise
        except BaseException:
            if self.family == "postgresql":
                connection.invalidate()  # an interrupted statement may have left its answer on the wire
            raise
        finally:
            if connection.is_valid:
                connection.close()

    # -- running ----------------------------------------------------------------------------------------

    def transact(self, work: Callable[[Cursor], T], *, begin: bool = True) -> T:
        """Run ``work`` in one transaction, again from the start when the database asks for it.

        Raises:
            StoreError: the database cannot be reached; it is not known whether a commit under way took place.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.cursor() as cursor:
                    return self._attempt(cursor, work) if begin else work(cursor)
            except self.engine.dialect.loaded_dbapi.Error as error:
                if attempt == _ATTEMPTS or not self._may_repeat(error, attempt):
                    raise self.store_error(error) from error
            time.sleep(random.uniform(0, 0.004 * 2 ** min(attempt, 6)))  # noqa: S311
        raise AssertionError("unreachable")

    def _attempt(self, cursor: Cursor, work: Callable[[Cursor], T]) -> T:
        cursor.execute(_BEGIN[self.family])
        try:
            result = work(cursor)
            cursor.execute("COMMIT")
        except BaseException:
            try:
                cursor.execute("ROLLBACK")
            except Exception:
                log.debug("rollback failed; the connection is given up", exc_info=True)
            raise
        return result

    def _may_repeat(self, error: Exception, attempt: int) -> bool:
        if self.may_repeat(error):
            return True
        # a pooled connection that the server closed long ago: once more on a fresh one
        return attempt == 1 and getattr(error, "durable_is_disconnect", False)


# one hook for all, which keeps none of them alive; the lock is held from before a fork until after it
_databases: WeakSet[Database] = WeakSet()
_held: list[Database] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    for database in list(_databases):
        database.before_fork()
        _held.append(database)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().after_fork()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.renew()
    _held.clear()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def family_of(url: sa.URL) -> str:
    """Return which kind of database a URL names: "postgresql", "sqlite" or "mysql".

    Raises:
        ConfigurationError: it is none of these.
    """
    known = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}
    family = known.get(url.get_backend_name())
    if family is None:
        raise ConfigurationError(
            f"durable_backend_url names {url.get_backend_name()!r}; SQLite, PostgreSQL and MySQL/MariaDB are supported"
        )
    return family


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of ``create_engine``, the second before the first, also within ``connect_args``."""
    merged = {**first, **second}
    if arguments := {**(first.get("connect_args") or {}), **(second.get("connect_args") or {})}:
        merged["connect_args"] = arguments
    return merged


def _code(error: BaseException) -> Any:
    """Return PostgreSQL's SQLSTATE, or MySQL's number: its drivers may offer a SQLSTATE too, which says less."""
    original = getattr(error, "orig", None) or error
    first = original.args[0] if original.args else None
    return first if isinstance(first, int) else getattr(original, "sqlstate", first)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def _clock() -> int:
    return time.time_ns() // 1000  # SQLite has no clock of its own: all its processes share this machine's


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.create_function("durable_now", 0, _clock)
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # switching to WAL ignores the busy timeout
            if attempt == 99:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=20000")


def _prepare_postgres(connection: Any, _record: Any) -> None:
    """Prepare statements only where the server answers itself: behind a pooler they may belong to another session."""
    if not connection.autocommit:
        return
    with connection.cursor() as cursor:
        backend = cursor.execute("SELECT pg_backend_pid()").fetchone()[0]
    if backend == connection.info.backend_pid:
        connection.prepare_threshold = 2


def _prepare_mysql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 10")
        if "MariaDB" in connection.get_server_info():
            cursor.execute("SET SESSION idle_write_transaction_timeout = 30")
