"""Joining a transaction of the caller's: a start or an event commits or rolls back with the caller's own rows.

The rows are written on the caller's connection at once; the message that makes them move is sent when the outermost
transaction has really committed. A plain ``Connection`` has no hook after COMMIT: there recovery finds the rows within
seconds, or the caller says ``run.nudge()``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .errors import ConfigurationError

__all__ = ["join_transaction"]

log = logging.getLogger("celery_durable.session")


@contextmanager
def join_transaction(session: Any, store: Any) -> Iterator[tuple[Any, Callable[[Callable[[], None]], None]]]:
    """Give a cursor on the caller's connection, and a way to be called after its commit.

    Raises:
        ConfigurationError: it is no SQLAlchemy session or connection, or of another database than the store's.
    """
    if isinstance(session, Session):
        connection = session.connection()
    elif isinstance(session, sa.Connection):
        connection = session
    else:
        raise ConfigurationError(f"session= takes an SQLAlchemy Session or Connection, not {type(session).__name__}")
    _check_same_database(connection, store)
    cursor = connection.connection.cursor()
    try:
        yield cursor, lambda call: _after_commit(session, call)
    finally:
        cursor.close()


def _check_same_database(connection: sa.Connection, store: Any) -> None:
    ours, theirs = store.database.url, connection.engine.url
    same = ours.get_backend_name() == theirs.get_backend_name() and ours.database == theirs.database
    if same and store.database.family != "sqlite":
        same = (ours.host or "localhost", ours.port) == (theirs.host or "localhost", theirs.port)
    if not same:
        raise ConfigurationError(
            f"session= is on {theirs.render_as_string(hide_password=True)}, but the store is {store.database}: a start "
            "can only join a transaction of the store's own database"
        )
    if store.database.family == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.create_function("durable_now", 0, _sqlite_clock)


def _sqlite_clock() -> int:
    import time

    return time.time_ns() // 1000


def _after_commit(session: Any, call: Callable[[], None]) -> None:
    """Call once the outermost transaction is over, if it and every savepoint around us committed."""
    if not isinstance(session, Session):
        return
    savepoint = session.get_nested_transaction()
    outermost = session.get_transaction()
    fate = {"dropped": False, "committed": False}

    def committed(_: Session) -> None:
        fate["committed"] = True

    def soft_rollback(_: Session, previous: Any) -> None:
        if previous is savepoint or previous is outermost:
            fate["dropped"] = True

    def ended(_: Session, transaction: Any) -> None:
        if transaction is not outermost:
            return
        for name, listener in (("after_commit", committed), ("after_soft_rollback", soft_rollback),
                               ("after_transaction_end", ended)):  # fmt: skip
            sa.event.remove(session, name, listener)
        if fate["committed"] and not fate["dropped"]:
            try:
                call()
            except Exception:
                log.warning("the turn of a committed start could not be sent, recovery will", exc_info=True)

    sa.event.listen(session, "after_commit", committed)
    sa.event.listen(session, "after_soft_rollback", soft_rollback)
    sa.event.listen(session, "after_transaction_end", ended)
