"""Outcomes that commit together with rows of the user's.

The transaction that a body's rows and its outcome share is an SQLAlchemy session's, on the store's
own engine. It is READ COMMITTED unless another level is asked for; on SQLite it begins IMMEDIATE,
at the first statement.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from .._errors import ConfigurationError
from ..engine.at_most_once import CommitInDoubt, OutcomeRefused
from ..engine.records import Recorded
from ..engine.store_ports import ISOLATION_LEVELS
from .runner import Cursor, Runner

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["AgainError", "repeated", "transact"]

log: logging.Logger = logging.getLogger("celery_durable.store")
T = TypeVar("T")
_REPEATS = 5


def transact(
    database: Runner,
    work: Callable[[Session], T],
    record: Callable[[Cursor, T], Recorded | None] | None,
    isolation_level: str | None,
    *,
    repeats: bool,
) -> tuple[T, Recorded | None]:
    """Run ``work`` with a session, and commit what it wrote together with what ``record`` writes.

    Raises:
        OutcomeRefused: the outcome is not wanted any more; nothing was committed.
        CommitInDoubt: the connection ended during the commit, with an outcome in it.
        StoreError: the database cannot be reached; nothing was committed.
    """
    with database.cursor():  # the first use of a process checks the schema
        pass

    def once() -> tuple[T, Recorded | None]:
        with database.using() as engine:
            return _Joint(database, engine, isolation_level).run(work, record)

    return repeated(once, repeats=repeats)


class AgainError(Exception):
    """The transaction was rolled back, and may well succeed when it is run once more."""

    def __init__(self, error: Exception, *, is_disconnect: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_disconnect = is_disconnect


def repeated(once: Callable[[], T], *, repeats: bool = True) -> T:
    """Run a transaction, and the whole of it again, a few times, as long as it asks for that by
    ``AgainError``.

    Raises:
        Exception: the error that it was asked for with, when it was run often enough, or a
            connection was lost twice.
    """
    most = _REPEATS if repeats else 1
    for attempt in range(1, most + 1):
        try:
            return once()
        except AgainError as again:
            if attempt == most or (again.is_disconnect and attempt > 1):
                raise again.error from again.error.__cause__
        time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
    raise AssertionError("unreachable")


class _Joint:
    """One try of one transaction."""

    def __init__(self, database: Runner, engine: sa.Engine, isolation_level: str | None) -> None:
        self.database = database
        self.engine = engine
        self.isolation_level = isolation_level or ISOLATION_LEVELS[0]
        self.errors: list[BaseException] = []
        self.is_ending = False

    def run(
        self, work: Callable[[Session], T], record: Callable[[Cursor, T], Recorded | None] | None
    ) -> tuple[T, Recorded | None]:
        from sqlalchemy.orm import Session  # no one else needs the ORM

        connection = self._connect()
        try:
            with Session(connection) as session:
                sa.event.listen(session, "before_commit", self._refuse_commit)
                try:
                    result = work(session)
                    session.flush()
                    recorded = None if record is None else self._record(session, record, result)
                except BaseException as error:
                    if _is_torn(error) and not connection.invalidated:
                        connection.invalidate()
                    self._undo(session, connection)
                    self._judge(error, connection)
                    raise
                self._commit(session, connection, result, is_joint=record is not None)
                return result, recorded
        finally:
            self._close(connection)

    def _connect(self) -> sa.Connection:
        _watch_errors(self.engine)
        try:
            connection = self.engine.connect()
            if self.database.family == "sqlite":
                sa.event.listen(connection, "begin", _begin_immediate)
                return connection.execution_options(durable_errors=self.errors)
            return connection.execution_options(
                durable_errors=self.errors, isolation_level=self.isolation_level
            )
        except sa.exc.SQLAlchemyError as error:
            raise self.database.store_error(error) from error

    def _record(
        self, session: Session, record: Callable[[Cursor, T], Recorded | None], result: T
    ) -> Recorded | None:
        connection = session.connection()
        if self.database.family == "postgresql":
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 30000")
        cursor = connection.connection.cursor()
        try:
            recorded = record(cursor, result)
        except self.engine.dialect.loaded_dbapi.Error as error:
            if self.engine.dialect.is_disconnect(
                error, connection.connection.driver_connection, None
            ):
                connection.invalidate(error)
            wrapped = self.database.store_error(error)
            if self.database.may_repeat(error):
                raise AgainError(wrapped, is_disconnect=False) from error
            raise wrapped from error
        finally:
            cursor.close()
        if recorded is None:
            raise OutcomeRefused
        return recorded

    def _commit(
        self, session: Session, connection: sa.Connection, result: Any, *, is_joint: bool
    ) -> None:
        self.is_ending = True
        try:
            session.commit()
        except Exception as error:
            is_lost = connection.invalidated
            self._undo(session, connection)
            if is_lost and is_joint:
                raise CommitInDoubt(result) from error
            if not is_lost:
                self._judge(error, connection)
            raise

    def _refuse_commit(self, session: Session) -> None:
        if not self.is_ending and not session.in_nested_transaction():
            raise ConfigurationError(
                "a transactional activity does not commit: its rows are committed with its outcome"
                " when it returns. Take session.commit() out, or use session.begin_nested() for a"
                " part that may be undone"
            )

    def _undo(self, session: Session, connection: sa.Connection) -> None:
        try:
            session.rollback()
        except Exception:
            log.debug("rollback failed; the connection is given up", exc_info=True)
            if not connection.invalidated:
                connection.invalidate()

    def _judge(self, error: BaseException, connection: sa.Connection) -> None:
        """Turn an error of our own connection that is no fault of the body into what is done about
        it.
        """
        if not isinstance(error, Exception) or all(error is not own for own in self.errors):
            return
        if connection.invalidated:
            raise AgainError(self.database.store_error(error), is_disconnect=True) from error
        if self.database.may_repeat(error):
            raise AgainError(error, is_disconnect=False) from error

    def _close(self, connection: sa.Connection) -> None:
        is_unusual = self.database.family == "mysql" and self.isolation_level != ISOLATION_LEVELS[0]
        if is_unusual and not connection.invalidated:
            # MySQL would keep the level for the next use of the connection
            connection.invalidate()
        connection.close()


def _is_torn(error: BaseException) -> bool:
    """Tell whether something that is no error of the database came up within a statement, whose
    answer may be under way.
    """
    frames = (
        []
        if isinstance(error, sa.exc.SQLAlchemyError)
        else [frame for frame, _ in walk_tb(error.__traceback__)]
    )
    return any(
        str(frame.f_globals.get("__name__")).startswith("sqlalchemy.engine.") for frame in frames
    )


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _watch_errors(engine: sa.Engine) -> None:
    if not sa.event.contains(engine, "handle_error", _note_error):
        sa.event.listen(engine, "handle_error", _note_error)


def _note_error(context: Any) -> None:
    """Note whose errors they are: a body may use other databases too."""
    if context.connection is not None and context.sqlalchemy_exception is not None:
        noted = context.connection.get_execution_options().get("durable_errors")
        if noted is not None:
            noted.append(context.sqlalchemy_exception)
