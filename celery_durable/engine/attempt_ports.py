"""What the engine and workers need of a store for one attempt of an activity: how it begins, shows
that it lives, and is let go of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .at_most_once import RunMark
from .cursor import Cursor
from .records import ActivityAttemptId, ActivityRow, ActivityStart, Claim, ReplayPosition

__all__ = ["Attempts"]

#: A session of SQLAlchemy.
Session = Any


class Attempts(Protocol):
    """Attempts of activities, from their beginning until their outcome is recorded."""

    def begin(
        self, ticket: ActivityAttemptId, known: ReplayPosition | None, claim: Claim | None = None
    ) -> ActivityStart | None:
        """Look at an activity about to run, and take it if a claim is made.

        None if it is not wanted any more.

        A claim need not outlive a failure of the database's machine: it is there to keep two runs
        apart.
        """

    def hold_within(self, cursor: Cursor, ticket: ActivityAttemptId) -> None:
        """Let those who bring the outcome of an attempt wait for the end of the transaction that
        the cursor is in.
        """

    def hold_in_session(self, session: Session, ticket: ActivityAttemptId) -> None:
        """Do the same for the transaction of a session that ``transact_with_session`` gave."""

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

    def delegate(self, ticket: ActivityAttemptId) -> bool:
        """Note that the activity replaced itself by another task: no worker holds it until that
        ends.
        """

    def begin_once(
        self,
        ticket: ActivityAttemptId,
        worker: str | None,
        level: int,
        mark: RunMark,
        *,
        is_again: bool = False,
    ) -> RunMark | None:
        """Mark an activity as begun by this run, and return the mark.

        None if it must not run, or is not wanted any more.

        ``is_again`` tells that a try before this one may have succeeded without an answer.
        """

    def postpone_once(self, ticket: ActivityAttemptId, mark: RunMark, delay: int) -> bool:
        """Leave an activity to Celery's own retry, unless that has begun already."""

    def delegate_once(self, ticket: ActivityAttemptId, mark: RunMark) -> bool:
        """Note that the activity replaced itself by another task, unless that has begun already."""

    def find_begun(self, ticket: ActivityAttemptId) -> tuple[str, str] | None:
        """Return the instance and the task of an activity whose run has begun and must not be
        repeated, else None.
        """

    def find_instance_of(self, ticket: ActivityAttemptId) -> str | None:
        """Return whose activity this is, if it is still outstanding."""

    def interrupt(self, ticket: ActivityAttemptId) -> ActivityRow | None:
        """Let an activity run again whose process died after its body.

        Return what to send, or None if it is not wanted.
        """

    def heartbeat(self, ticket: ActivityAttemptId, details: str | None) -> bool:
        """Note that an activity makes progress; False if it is not wanted any more."""

    def heartbeat_outside(self, ticket: ActivityAttemptId, details: str | None) -> bool:
        """Do the same for one that makes progress elsewhere than in its worker."""

    def heartbeat_within(
        self, cursor: Cursor, ticket: ActivityAttemptId, details: str | None
    ) -> bool:
        """Do that on a cursor inside a caller's transaction."""

    def unsend(self, tickets: Sequence[ActivityAttemptId], delay: int = 1000000) -> None:
        """Note that these could not be published.

        Recovery tries again ``delay`` microseconds from now.
        """

    def note_refusal(self, ticket: ActivityAttemptId, why: str) -> None:
        """Keep why the last message of an instance could not be sent, for people to see."""
