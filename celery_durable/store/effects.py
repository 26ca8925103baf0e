"""Activities that run at most once, and outcomes that commit together with rows of the user's.

The transaction that a body's rows and its outcome share is an SQLAlchemy session's, on the store's own engine. It is
READ COMMITTED unless another level is asked for; on SQLite it begins IMMEDIATE, at the first statement.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..engine.effects import CommitInDoubt, OutcomeRefused, is_begun, may_begin, waiting_mark
from ..engine.records import ActivityTicket, Outcome, Recorded
from ..errors import ConfigurationError
from .database import Cursor, Runner, Statement
from .sweep import SweepTables
from .turns import NEXT_LOOK

__all__ = ["ISOLATION_LEVELS", "AgainError", "EffectTables", "repeated"]

log = logging.getLogger("celery_durable.store")
T = TypeVar("T")
ISOLATION_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_REPEATS = 5
_UNKNOWN_PROCESS = 3_600_000_000
_THIS = "WHERE execution = :execution AND command = :command AND attempt = :attempt AND kind = 'activity'"
LOCK_MARK = Statement(f"SELECT COALESCE(crashes, 0) FROM durable_outbox {_THIS} {{lock}}")
MARK_OF = Statement(f"SELECT COALESCE(crashes, 0), instance, name FROM durable_outbox {_THIS}")
BEGIN_ONCE = Statement(
    f"UPDATE durable_outbox SET holder = :worker, crashes = :mark, start_by = NULL, is_delegated = {{false}}, "
    f"check_at = {NEXT_LOOK}, beat_by = {{now}} + beat_timeout {_THIS}"
)
# a process that is no worker shows no heartbeat: nobody can tell whether it lives
LOOK_LATER = Statement(
    "UPDATE durable_outbox SET check_at = CASE WHEN check_at IS NULL OR check_at > {now} + :delay THEN {now} + :delay "
    f"ELSE check_at END {_THIS}"
)
POSTPONE_ONCE = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, crashes = :waiting, check_at = CASE "
    "WHEN deadline_at IS NULL OR {now} + :delay < deadline_at THEN {now} + :delay ELSE deadline_at END "
    f"{_THIS} AND crashes = :mark"
)
DELEGATE_ONCE = Statement(
    "UPDATE durable_outbox SET is_delegated = {true}, holder = NULL, crashes = :waiting, check_at = deadline_at "
    f"{_THIS} AND crashes = :mark"
)


class EffectTables(SweepTables):
    """The part of the store that effects go through."""

    # -- at most once ---------------------------------------------------------------------------------------

    def begin_once(
        self, ticket: ActivityTicket, worker: str | None, level: int, mark: int, *, is_again: bool = False
    ) -> int | None:
        """Mark an activity as begun by this run; see ``EffectStore``."""
        run, tries = self.database.run, [is_again]

        def begin(cursor: Cursor) -> int | None:
            is_second, tries[0] = tries[0], True
            row = run(cursor, LOCK_MARK, **ticket._asdict()).fetchone()
            own = None if row is None else may_begin(int(row[0]), level, mark, is_again=is_second)
            if own is not None:
                run(cursor, BEGIN_ONCE, **ticket._asdict(), worker=worker, mark=own)
                if worker is None:
                    run(cursor, LOOK_LATER, **ticket._asdict(), delay=_UNKNOWN_PROCESS)
            return own

        return self.database.transact(begin)

    def find_begun(self, ticket: ActivityTicket) -> tuple[str, str] | None:
        """Tell whether a run that must not be repeated has begun; see ``EffectStore``."""
        row = self.database.fetch_one(MARK_OF, **ticket._asdict())
        return (str(row[1]), str(row[2])) if row is not None and is_begun(int(row[0])) else None

    def postpone_once(self, ticket: ActivityTicket, mark: int, delay: int) -> bool:
        """Leave an activity to Celery's own retry; see ``EffectStore``."""
        return self._one(POSTPONE_ONCE, ticket, mark=mark, waiting=waiting_mark(mark), delay=delay)

    def delegate_once(self, ticket: ActivityTicket, mark: int) -> bool:
        """Note that the activity replaced itself by another task; see ``EffectStore``."""
        return self._one(DELEGATE_ONCE, ticket, mark=mark, waiting=waiting_mark(mark))

    # -- rows and outcome together --------------------------------------------------------------------------

    def transact_with_session(
        self,
        work: Callable[[Session], T],
        outcome_of: Callable[[T], Outcome] | None,
        *,
        isolation_level: str | None = None,
        repeats: bool = True,
    ) -> tuple[T, Recorded | None]:
        """Run ``work`` with a session, and commit what it wrote together with the outcome of what it returned.

        The whole transaction is run again, a few times, if the database asks for that and ``repeats`` allows it. With no
        ``outcome_of`` it is a transaction like any other.

        Raises:
            OutcomeRefused: the outcome is not wanted any more; nothing was committed.
            CommitInDoubt: the connection ended during the commit, with an outcome in it.
            StoreError: the database cannot be reached; nothing was committed.
        """
        with self.database.cursor():  # the first use of a process checks the schema
            pass

        def once() -> tuple[T, Recorded | None]:
            with self.database.using() as engine:
                return _Joint(self.database, engine, isolation_level).run(work, self._recorder(outcome_of))

        return repeated(once, repeats=repeats)

    def _recorder(self, outcome_of: Callable[[T], Outcome] | None) -> Callable[[Cursor, T], Recorded | None] | None:
        if outcome_of is None:
            return None

        def record(cursor: Cursor, result: T) -> Recorded | None:
            return self.record_with(cursor, outcome_of(result))

        return record


class AgainError(Exception):
    """The transaction was rolled back, and may well succeed when it is run once more."""

    def __init__(self, error: Exception, *, is_disconnect: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_disconnect = is_disconnect


def repeated(once: Callable[[], T], *, repeats: bool = True) -> T:
    """Run a transaction, and the whole of it again, a few times, as long as it asks for that by ``AgainError``.

    Raises:
        Exception: the error that it was asked for with, when it was run often enough, or a connection was lost twice.
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
        connection = self._connect()
        try:
            with Session(connection) as session:
                sa.event.listen(session, "before_commit", self._refuse_commit)
                try:
                    result = work(session)
                    session.flush()
                    recorded = None if record is None else self._record(session, record, result)
                except BaseException as error:
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
            return connection.execution_options(durable_errors=self.errors, isolation_level=self.isolation_level)
        except sa.exc.SQLAlchemyError as error:
            raise self.database.store_error(error) from error

    def _record(self, session: Session, record: Callable[[Cursor, T], Recorded | None], result: T) -> Recorded | None:
        connection = session.connection()
        if self.database.family == "postgresql":
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 30000")
        cursor = connection.connection.cursor()
        try:
            recorded = record(cursor, result)
        except self.engine.dialect.loaded_dbapi.Error as error:
            if self.engine.dialect.is_disconnect(error, connection.connection.driver_connection, None):
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

    def _commit(self, session: Session, connection: sa.Connection, result: Any, *, is_joint: bool) -> None:
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
                "a transactional activity does not commit: its rows are committed with its outcome when it returns. Take "
                "session.commit() out, or use session.begin_nested() for a part that may be undone"
            )

    def _undo(self, session: Session, connection: sa.Connection) -> None:
        try:
            session.rollback()
        except Exception:
            log.debug("rollback failed; the connection is given up", exc_info=True)
            if not connection.invalidated:
                connection.invalidate()

    def _judge(self, error: BaseException, connection: sa.Connection) -> None:
        """Turn an error of our own connection that is no fault of the body into what is done about it."""
        if not isinstance(error, Exception) or all(error is not own for own in self.errors):
            return
        if connection.invalidated:
            raise AgainError(self.database.store_error(error), is_disconnect=True) from error
        if self.database.may_repeat(error):
            raise AgainError(error, is_disconnect=False) from error

    def _close(self, connection: sa.Connection) -> None:
        is_unusual = self.database.family == "mysql" and self.isolation_level != ISOLATION_LEVELS[0]
        if is_unusual and not connection.invalidated:
            connection.invalidate()  # MySQL would keep the level for whoever has the connection next
        connection.close()


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
