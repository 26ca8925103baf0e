"""How connections to each database are made and prepared."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from .._errors import ConfigurationError
from ..filesystem import refuse_network
from ..versions import OLDEST, demand

__all__ = ["family_of", "make_engine", "merged_options", "watch_connect"]

# a connection whose other end is silent is given up well before the lease of a worker that waits
# for it is over: seconds without a word, between questions, number of questions, and all in all
_SILENCE, _ASKS_AGAIN, _QUESTIONS, _LONGEST_SILENCE = 3, 2, 2, 7


def family_of(url: sa.URL) -> str:
    """Return which kind of database a URL names: "postgresql", "sqlite" or "mysql".

    Raises:
        ConfigurationError: it is none of these.
    """
    known = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}
    family = known.get(url.get_backend_name())
    if family is None:
        raise ConfigurationError(
            f"durable_backend_url names {url.get_backend_name()!r}; SQLite, PostgreSQL and"
            " MySQL/MariaDB are supported"
        )
    return family


def merged_options(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of ``create_engine``, the second before the first, also within
    ``connect_args``.

    Raises:
        ConfigurationError: they are no mappings.
    """
    for given in (second, second.get("connect_args") or {} if isinstance(second, Mapping) else {}):
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                "durable_backend_options and their 'connect_args' are mappings of names to values,"
                f" not {type(given).__name__}"
            )
    merged = {**first, **second}
    if arguments := {**(first.get("connect_args") or {}), **(second.get("connect_args") or {})}:
        merged["connect_args"] = arguments
    return merged


def make_engine(
    url: sa.URL, options: Mapping[str, Any], name: str, note_packet: Callable[[int], None]
) -> sa.Engine:
    """Return an engine whose connections are in autocommit.

    Args:
        url: of the database.
        options: further arguments of ``create_engine``, before our own.
        name: of the database, without its password.
        note_packet: told how many bytes a statement may have, where a server limits that.

    Raises:
        ConfigurationError: the options do not fit, or the driver is missing or too old.
    """
    family = family_of(url)
    given = _own_options(url, family)
    arguments = given.pop("connect_args")
    given.update(options)
    given["connect_args"] = {**arguments, **(given.get("connect_args") or {})}
    if url.drivername in ("mysql", "mariadb"):
        url = url.set(drivername="mysql+pymysql")
    try:
        demand(*{url.get_driver_name()} & OLDEST.keys())
        engine = sa.create_engine(url, **given)
    except TypeError as error:
        raise ConfigurationError(f"durable_backend_options do not fit {name}: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the driver of {name} is not installed: {error}. Try: pip install"
            " 'celery-durable[postgres]' or [mysql]"
        ) from error
    except ImportError as error:
        raise ConfigurationError(f"the driver of {name} is too old: {error}") from error
    watch_connect(engine, name)
    if family == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    elif family == "mysql":

        def prepare(connection: Any, record: Any) -> None:
            _prepare_mysql(connection, record)
            _note_packet(connection, note_packet)

        sa.event.listen(engine, "connect", prepare)
    elif "prepare_threshold" not in (options.get("connect_args") or {}):
        sa.event.listen(engine, "connect", _prepare_postgres)
    return engine


def _own_options(url: sa.URL, family: str) -> dict[str, Any]:
    """Return our arguments of ``create_engine``.

    Raises:
        ConfigurationError: the store cannot live where the URL says.
    """
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    arguments: dict[str, Any] = {}
    if family == "sqlite":
        arguments["timeout"] = 20
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError(
                "the store cannot live in memory: no other process would see it. Let"
                " durable_backend_url name a file; in a Django test, use DurableTestMixin or"
                " durable_inline()"
            )
        refuse_network(url.database.removeprefix("file:").partition("?")[0], "the store")
    else:
        options.update(pool_size=2, max_overflow=30, pool_recycle=1800)
    if family == "mysql":
        arguments["connect_timeout"] = 5
    if family == "postgresql":
        arguments.update(
            keepalives=1,
            keepalives_idle=_SILENCE,
            keepalives_interval=_ASKS_AGAIN,
            keepalives_count=_QUESTIONS,
            tcp_user_timeout=_LONGEST_SILENCE * 1000,
            connect_timeout=5,
        )
        arguments["prepare_threshold"] = None
    return {**options, "connect_args": arguments}


def watch_connect(engine: sa.Engine, name: str) -> None:
    """Say what is wrong where the driver does not take what it is given."""
    sa.event.listen(engine, "do_connect", _connecting(name))


def _note_packet(connection: Any, note: Callable[[int], None]) -> None:
    """Tell how large a statement may be, if the driver can show its size beforehand."""
    if hasattr(connection.cursor(), "mogrify"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            (most,) = cursor.fetchone()
            note(int(most))


def _connecting(database: str) -> Callable[..., Any]:
    """Return what connects as SQLAlchemy does, and says whose fault it is if the driver does not
    take what it is given.
    """

    def connect(dialect: sa.Dialect, _record: Any, args: Any, arguments: Any) -> Any:
        try:
            return dialect.connect(*args, **arguments)
        except TypeError as error:
            raise ConfigurationError(
                f"durable_backend_options['connect_args'] do not fit the driver of {database}:"
                f" {error}"
            ) from error

    return connect


def _clock() -> int:
    # SQLite has no clock of its own: all its processes share this machine's
    return time.time_ns() // 1000


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    import sqlite3

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
    """Prepare statements only where the server answers itself: behind a pooler they may belong to
    another session.
    """
    if not connection.autocommit:
        return
    with connection.cursor() as cursor:
        (backend,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
    if backend == connection.info.backend_pid:
        connection.prepare_threshold = 2


def _prepare_mysql(connection: Any, _record: Any) -> None:
    _watch_silence(getattr(connection, "_sock", None))
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 10")
        cursor.execute(
            "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
        )  # nothing is cut
        if "MariaDB" in connection.get_server_info():
            cursor.execute("SET SESSION idle_write_transaction_timeout = 30")


def _watch_silence(connection: Any) -> None:
    """Give a driver's TCP connection up when its other end is silent, as PostgreSQL's own driver
    does.
    """
    options = {
        "TCP_KEEPIDLE": _SILENCE,
        "TCP_KEEPINTVL": _ASKS_AGAIN,
        "TCP_KEEPCNT": _QUESTIONS,
        "TCP_USER_TIMEOUT": _LONGEST_SILENCE * 1000,
    }
    if isinstance(connection, socket.socket) and connection.family != getattr(
        socket, "AF_UNIX", None
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
