"""Joining a transaction of the caller's: a start or an event commits or rolls back with the
caller's own rows.

The rows are written on the caller's connection at once; the message that makes them move is sent
when the outermost transaction has really committed. A plain ``Connection`` has no hook after
COMMIT: there recovery finds the rows within seconds, or the caller says ``run.nudge()``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.util import await_only

from ..engine.cursor import Cursor
from ..engine.ports import Transaction
from ..errors import ConfigurationError
from ..store import Store
from .callers_driver import CallersDriver, can_join

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["CallersTransactions", "join_transaction", "watch_transactions"]

log: logging.Logger = logging.getLogger("celery_durable.session")
T = TypeVar("T")
Finder = Callable[[Any], Transaction | None]
_finders: list[Finder] = []
_AWAIT = (
    ": await durable.astart(..., session={0}), or await {0}.run_sync(lambda sync:"
    " durable.start(..., session=sync))"
)
_INSTEAD = {
    "AsyncSession": _AWAIT.format("session"),
    "async_scoped_session": _AWAIT.format("session"),
    "AsyncConnection": _AWAIT.format("connection"),
    "sessionmaker": ": call it, and pass the session in which your own rows are written",
    "async_sessionmaker": ": call it, and pass what session.run_sync() gives",
    "Engine": ": pass the connection, or the session, in which your own rows are written",
    "AsyncEngine": ": pass what connection.run_sync() gives",
    "SQLAlchemy": ": pass its .session",
}


def watch_transactions(finder: Finder) -> None:
    """Ask ``finder``, with the store, for the transaction that is open around each start, event and
    signal.
    """
    if finder not in _finders:
        _finders.append(finder)


class CallersTransactions:
    """The transactions of a store's callers (``engine.protocols.Transactions``)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, session: Any = None) -> Transaction | None:
        """Return the transaction of ``session``, or else the one that is open around the caller."""
        if session is not None:
            return _SessionTransaction(_session_of(session), self._store)
        for finder in _finders:
            if (transaction := finder(self._store)) is not None:
                return transaction
        return None


class _SessionTransaction:
    """The transaction of an SQLAlchemy session or connection."""

    def __init__(self, session: Any, store: Store) -> None:
        self._session = session
        self._store = store

    def write(self, work: Callable[[Store, Cursor], T]) -> T:
        """Return ``work(store, cursor)``, on the session's connection."""
        dialect, store = _bind_of(self._session).engine.dialect, self._store
        with join_transaction(self._session, store) as (cursor, _):
            if dialect.driver != store.database.dialect.driver or dialect.is_async:
                store = store.through(CallersDriver(store.database, dialect))
            return work(store, cursor)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call after the commit of a session; a plain connection does not tell."""
        _after_commit(self._session, call)


@contextmanager
def join_transaction(
    session: Any, store: Store
) -> Iterator[tuple[Any, Callable[[Callable[[], None]], None]]]:
    """Give a cursor on the caller's connection, and a way to be called after its commit.

    Raises:
        ConfigurationError: it is no SQLAlchemy session or connection, or of another database than
            the store's.
    """
    session = _session_of(session)
    _check_same_database(_bind_of(session), store)
    connection = session if isinstance(session, sa.Connection) else session.connection()
    _add_clock(connection, store)
    if not connection.in_transaction():
        connection.begin()
    cursor = connection.connection.cursor()
    try:
        _begin(connection, cursor)
        yield cursor, lambda call: _after_commit(session, call)
    finally:
        cursor.close()


def _session_of(given: Any) -> Session | sa.Connection:
    """Return the session that was given, or the one that a scoped session stands for in this scope.

    Raises:
        ConfigurationError: it is neither; the text says what to pass instead.
    """
    # who has a session has imported it; no one else needs SQLAlchemy's ORM
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(given, scoped_session):  # Flask-SQLAlchemy's db.session is one
        given = given()
    if isinstance(given, (Session, sa.Connection)):
        return given
    instead = next(
        (
            text
            for name, text in _INSTEAD.items()
            if any(name == cls.__name__ for cls in type(given).__mro__)
        ),
        "",
    )
    raise ConfigurationError(
        f"session= takes an SQLAlchemy Session or Connection, not {type(given).__name__}{instead}"
    )


def _bind_of(session: Session | sa.Connection) -> sa.Engine | sa.Connection:
    """Return what a session would speak to, without a word to it.

    Raises:
        ConfigurationError: that depends on what is asked.
    """
    if isinstance(session, sa.Connection):
        return session
    try:
        return session.get_bind()
    except sa.exc.UnboundExecutionError as error:
        raise ConfigurationError(
            "session= has no engine of its own, as its models are bound to several: pass the"
            " connection that it has to the store's database,"
            " session.connection(bind_arguments={...})"
        ) from error


def _check_same_database(bind: sa.Engine | sa.Connection, store: Store) -> None:
    ours, theirs = store.database.url, bind.engine.url
    names = [_name_of(url) for url in (ours, theirs)]
    same = ours.get_backend_name() == theirs.get_backend_name() and names[0] == names[1]
    if same and store.database.family != "sqlite":
        same = (ours.host or "localhost", ours.port) == (theirs.host or "localhost", theirs.port)
    if not same:
        raise ConfigurationError(
            f"session= is on {theirs.render_as_string(hide_password=True)}, but the store is"
            f" {store.database}: a start can only join a transaction of the store's own database"
        )
    spoken, dialect = store.database.dialect, bind.dialect
    if not can_join(dialect, spoken):
        raise ConfigurationError(
            f"session= is of the driver {dialect.driver!r}, which the store's statements cannot be"
            f" run on; nothing was done to its transaction. Use {spoken.driver!r}, the driver of"
            " durable_backend_url"
        )


def _add_clock(connection: sa.Connection, store: Store) -> None:
    if store.database.family == "sqlite":
        driver: Any = connection.connection.driver_connection
        made = driver.create_function("durable_now", 0, _sqlite_clock)
        if made is not None:  # aiosqlite's, within run_sync()
            await_only(made)


def _begin(connection: sa.Connection, cursor: Any) -> None:
    """Let what follows belong to a transaction: SQLite's driver begins one by itself before some
    statements only, and commits the others at once.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and not driver.in_transaction:
        cursor.execute("BEGIN")


def _name_of(url: sa.URL) -> str | None:
    if url.get_backend_name() == "sqlite" and url.database:
        return os.path.realpath(url.database.removeprefix("file:").partition("?")[0])
    return url.database


def _sqlite_clock() -> int:
    import time

    return time.time_ns() // 1000


def _after_commit(session: Any, call: Callable[[], None]) -> None:
    """Call once the outermost transaction is over, if it and every savepoint around us
    committed.
    """
    if isinstance(session, sa.Connection):
        return
    around: list[Any] = []
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        around.append(transaction)
        transaction = transaction.parent
    _waiting(session).append((call, around))
    for name, listener in (
        ("after_commit", _committed),
        ("after_soft_rollback", _rolled_back),
        ("after_transaction_end", _ended),
    ):
        if not sa.event.contains(session, name, listener):
            sa.event.listen(session, name, listener)


def _waiting(session: Session) -> list[tuple[Callable[[], None], list[Any]]]:
    """Return the calls that wait for the session's transaction.

    Kept on the session, as its life is theirs.
    """
    waiting: list[tuple[Callable[[], None], list[Any]]] = session.info.setdefault(
        "celery_durable.waiting", []
    )
    return waiting


def _committed(session: Session) -> None:
    # releasing a savepoint fires too, and commits nothing
    if session.get_nested_transaction() is None:
        session.info["celery_durable.committed"] = True


def _rolled_back(session: Session, previous: Any) -> None:
    waiting = _waiting(session)
    waiting[:] = [(call, around) for call, around in waiting if previous not in around]


def _ended(session: Session, transaction: Any) -> None:
    if transaction.parent is not None:
        return
    waiting = _waiting(session)
    calls, waiting[:] = [call for call, _ in waiting], []
    if not session.info.pop("celery_durable.committed", False):
        return
    for call in calls:
        try:
            call()
        except Exception:
            log.warning(
                "the turn of a committed start could not be sent, recovery will", exc_info=True
            )
