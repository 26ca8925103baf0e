"""How the outcome of an attempt comes in, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..engine.records import ActivityAttemptId, ActivityRow, Deferral, Outcome, Recorded
from . import attempts, audit, inbox, joint, outbox
from .runner import Cursor, Runner
from .timing import Timing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Outcomes"]

T = TypeVar("T")


class Outcomes:
    """Outcomes of attempts (``engine.store_ports.Outcomes``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    def record(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome once."""
        return self.database.transact(lambda cursor: self.record_within(cursor, outcome))

    def record_within(self, cursor: Cursor, outcome: Outcome | Deferral) -> Recorded | None:
        """Record an outcome, or that it is deferred, on a cursor inside a caller's transaction.

        None if it is not wanted any more.
        """
        if isinstance(outcome, Deferral):
            return self._defer_within(cursor, outcome)
        database, run, ticket = self.database, self.database.run, outcome.ticket
        # the lock of the attempt: of two that report an outcome, the second finds it gone
        row = run(cursor, outbox.LOCK_OUTCOME, **ticket._asdict()).fetchone()
        if row is None:
            return None
        instance, join, window, now = row
        outbox.delete(database, cursor, ticket)
        wakes, resend_after = join is None or outcome.has_failed, self.timing.resend_after
        # insert only: to lock the row of the instance could deadlock with its turn
        message = inbox.outcome_message(outcome, instance, wakes, resend_after)
        inbox.insert(database, cursor, message, now)
        audit.leave(database, cursor, instance)
        released: list[ActivityRow] = []
        if window is not None and not outcome.has_failed:
            released = outbox.release_slots(
                database, cursor, ticket.execution, {window: 1}, now, resend_after
            )
        return Recorded(instance, join, wakes, released)

    def finish_join(self, execution: str, instance_id: str, join_command: int) -> bool:
        """Wake a join whose last member is in; see ``engine.store_ports``."""
        if self.database.fetch_one(outbox.OPEN_MEMBER, execution=execution, join=join_command):
            return False
        dedup = inbox.join_dedup(execution, join_command)
        return self.database.change_one(
            inbox.WAKE_JOIN, id=instance_id, dedup=dedup, resend_after=self.timing.resend_after
        )

    def was_recorded(self, ticket: ActivityAttemptId, instance_id: str) -> bool:
        """Tell whether an outcome of this very attempt lies in the inbox."""
        values = {"dedup": inbox.outcome_dedup(ticket), "id": instance_id}
        return self.database.fetch_one(inbox.WAS_RECORDED, **values) is not None

    def transact_with_session(
        self,
        work: Callable[[Session], T],
        outcome_of: Callable[[T], Outcome | Deferral] | None,
        *,
        isolation_level: str | None = None,
        repeats: bool = True,
    ) -> tuple[T, Recorded | None]:
        """Run ``work`` with a session, and commit what it wrote together with the outcome of what
        it returned; see ``engine.store_ports``.
        """
        record = None if outcome_of is None else self._recorder(outcome_of)
        return joint.transact(self.database, work, record, isolation_level, repeats=repeats)

    def _recorder(
        self, outcome_of: Callable[[T], Outcome | Deferral]
    ) -> Callable[[Cursor, T], Recorded | None]:
        return lambda cursor, result: self.record_within(cursor, outcome_of(result))

    # -- outcomes that come by a token -------------------------------------------------------------

    def defer(self, deferral: Deferral) -> Recorded | None:
        """Note that a body has ended, and its outcome comes by its token; see
        ``engine.store_ports``.
        """
        return self.database.transact(lambda cursor: self._defer_within(cursor, deferral))

    def _defer_within(self, cursor: Cursor, deferral: Deferral) -> Recorded | None:
        run, database, ticket = self.database.run, self.database, deferral.ticket
        row = run(cursor, outbox.LOCK_OUTCOME, **ticket._asdict()).fetchone()
        if row is None or not run(cursor, attempts.DEFER, **ticket._asdict()).rowcount:
            return None
        instance, join, _, now = row
        # a member of a join has no turn of its own, as with its outcome
        wakes = join is None
        message = inbox.deferred_message(deferral, instance, wakes, self.timing.resend_after)
        inbox.insert(database, cursor, message, now)
        return Recorded(instance, None, wakes)

    def is_deferred(self, ticket: ActivityAttemptId) -> bool:
        """Tell whether a body has ended and its outcome is still to come."""
        return self.database.fetch_one(attempts.IS_DEFERRED, **ticket._asdict()) is not None
