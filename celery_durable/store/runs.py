"""One attempt of an activity: how it begins, shows that it lives, and is let go of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..engine.at_most_once import RunMark, is_begun, may_begin
from ..engine.records import ActivityAttemptId, ActivityRow, ActivityStart, Claim, ReplayPosition
from . import attempts
from .runner import Cursor, Runner
from .statements import Statement
from .timing import Timing
from .values import readable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Attempts"]

_UNKNOWN_PROCESS = 3_600_000_000


class Attempts:
    """Attempts of activities (``engine.attempt_ports.Attempts``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    def begin(
        self, ticket: ActivityAttemptId, known: ReplayPosition | None, claim: Claim | None = None
    ) -> ActivityStart | None:
        """Look at an activity about to run, and take it; see ``engine.store_ports``."""
        database = self.database
        if claim is None:
            return database.read(
                lambda cursor: attempts.read_start(database, cursor, ticket, known)
            )
        tries = [claim.is_again]

        def begin(cursor: Cursor) -> ActivityStart | None:
            # a repeated transaction may meet what its first try has committed
            own, tries[0] = claim._replace(is_again=tries[0]), True
            is_claimed = attempts.claim(database, cursor, ticket, own)
            start = attempts.read_start(database, cursor, ticket, known)
            if start is not None:
                start.is_claimed = is_claimed
            return start

        return database.transact(begin, is_lasting=False)

    def begin_once(
        self,
        ticket: ActivityAttemptId,
        worker: str | None,
        level: int,
        mark: RunMark,
        *,
        is_again: bool = False,
    ) -> RunMark | None:
        """Mark an activity as begun by this run; see ``engine.store_ports``."""
        run, tries = self.database.run, [is_again]

        def begin(cursor: Cursor) -> RunMark | None:
            is_second, tries[0] = tries[0], True
            row = run(cursor, attempts.LOCK_MARK, **ticket._asdict()).fetchone()
            if row is None:
                return None
            (found,) = row
            own = may_begin(int(found), level, mark, is_again=is_second)
            if own is not None:
                run(cursor, attempts.BEGIN_ONCE, **ticket._asdict(), worker=worker, mark=own.pack())
                if worker is None:
                    values = {**ticket._asdict(), "delay": _UNKNOWN_PROCESS}
                    run(cursor, attempts.CHECK_LATER, **values)
            return own

        return self.database.transact(begin)

    def find_begun(self, ticket: ActivityAttemptId) -> tuple[str, str] | None:
        """Tell whether a run that must not be repeated has begun; see ``engine.store_ports``."""
        row = self.database.fetch_one(attempts.MARK_OF, **ticket._asdict())
        if row is None:
            return None
        mark, instance, task = row
        return (str(instance), str(task)) if is_begun(int(mark)) else None

    def find_instance_of(self, ticket: ActivityAttemptId) -> str | None:
        """Return whose activity this is, if it is still outstanding."""
        row = self.database.fetch_one(attempts.INSTANCE_OF, **ticket._asdict())
        if row is None:
            return None
        (instance,) = row
        return str(instance)

    def hold_within(self, cursor: Cursor, ticket: ActivityAttemptId) -> None:
        """Let those who bring an outcome wait for this transaction; see ``engine.store_ports``."""
        self.database.run(cursor, attempts.LOCK_ATTEMPT, **ticket._asdict())

    def hold_in_session(self, session: Session, ticket: ActivityAttemptId) -> None:
        """Let those who bring an outcome wait for the transaction of a session."""
        session.execute(sa.text(attempts.LOCK_ATTEMPT.sql), ticket._asdict())

    def heartbeat_outside(self, ticket: ActivityAttemptId, details: str | None) -> bool:
        """Note that an activity makes progress elsewhere than in its worker."""
        return self.database.read(lambda cursor: self.heartbeat_within(cursor, ticket, details))

    def heartbeat_within(
        self, cursor: Cursor, ticket: ActivityAttemptId, details: str | None
    ) -> bool:
        """Do that within a caller's transaction."""
        kept = None if details is None else details.encode()
        values = {**ticket._asdict(), "details": kept}
        return bool(self.database.run(cursor, attempts.HEARTBEAT_OUTSIDE, **values).rowcount)

    def postpone(
        self,
        ticket: ActivityAttemptId,
        delay: int,
        worker: str | None = None,
        *,
        only_free: bool = False,
    ) -> bool:
        """Leave an activity to Celery's own retry for ``delay`` microseconds, unless another worker
        has begun that.

        ``only_free``: unless any worker has it.
        """
        if only_free:
            return self._one(attempts.POSTPONE_FREE, ticket, delay=delay)
        return self._one(attempts.POSTPONE, ticket, delay=delay, worker=worker)

    def postpone_once(self, ticket: ActivityAttemptId, mark: RunMark, delay: int) -> bool:
        """Leave an activity to Celery's own retry, unless that has begun already."""
        return self._one(attempts.POSTPONE_ONCE, ticket, **_marks(mark), delay=delay)

    def delegate(self, ticket: ActivityAttemptId) -> bool:
        """Note that the activity replaced itself by another task: no worker holds it until that
        ends.
        """
        return self._one(attempts.DELEGATE, ticket)

    def delegate_once(self, ticket: ActivityAttemptId, mark: RunMark) -> bool:
        """Note that the activity replaced itself by another task, unless that has begun already."""
        return self._one(attempts.DELEGATE_ONCE, ticket, **_marks(mark))

    def interrupt(self, ticket: ActivityAttemptId) -> ActivityRow | None:
        """Let an activity run again whose process died after its body.

        Return what to send, or None if it is not wanted.
        """
        if not self._one(attempts.INTERRUPT, ticket, resend_after=self.timing.resend_after):
            return None
        return self.database.read(
            lambda cursor: attempts.interrupted(self.database, cursor, ticket)
        )

    def unsend(self, tickets: Sequence[ActivityAttemptId], delay: int = 1_000_000) -> None:
        """Note that publishing failed: recovery sends these soon."""
        for ticket in tickets:
            self._one(attempts.UNSEND, ticket, delay=delay)

    def heartbeat(self, ticket: ActivityAttemptId, details: str | None) -> bool:
        """Note that an activity makes progress; False if it is not wanted any more."""
        kept = None if details is None else details.encode()
        return self._one(attempts.HEARTBEAT_ACTIVITY, ticket, details=kept)

    def note_refusal(self, ticket: ActivityAttemptId, why: str) -> None:
        """Keep why the last message of an instance could not be sent, for people to see."""
        self._one(attempts.HEARTBEAT_ACTIVITY, ticket, details=(readable(why) or "").encode())

    def _one(self, statement: Statement, ticket: ActivityAttemptId, **values: Any) -> bool:
        return self.database.change_one(statement, **ticket._asdict(), **values)


def _marks(mark: RunMark) -> dict[str, int]:
    return {"mark": mark.pack(), "waiting": mark.waiting().pack()}
