"""How an outcome of an activity comes in: one way for all that know one.

The worker where a body ended, the main process that saw a pool's child die, recovery that found a
deadline passed, the sender of a message that can never be sent: each hands an ``Outcome`` to the
desk. It is recorded together with the turn that follows, if the body ran here and the turn may be
taken here; else it is recorded alone, as a message in the inbox, and then what it sets in motion is
brought about: the next activity of a window is sent, a join is looked at, a turn is taken or sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeVar

from .._errors import StoreError
from ..core.machine import Machine
from .dispatch import Dispatcher, address_of
from .inline_turns import InlineTurns
from .parts import Parts
from .records import ActivityAttemptId, ActivityStart, Deferral, Outcome, Recorded

__all__ = ["AttemptView", "OutcomeDesk", "Patience", "Verdict"]

log: logging.Logger = logging.getLogger("celery_durable.activity")
T = TypeVar("T")


class Verdict(Enum):
    """What became of an outcome."""

    #: It and the turn that follows are one commit.
    WITH_TURN = auto()
    #: It is in the inbox of its instance.
    ALONE = auto()
    #: It is not wanted any more, or another one of the same attempt was first.
    LATE = auto()


class Patience(Protocol):
    """Does something with the store again and again while it is down."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns.

        Raises:
            StoreError: patience has run out.
        """


@dataclass(slots=True)
class AttemptView:
    """The run of a body that has ended in this process."""

    #: What was read when it began.
    start: ActivityStart
    #: The machine in memory, if there is one; it is given away with the view.
    live: Machine | None
    #: Whether turns of the instance may be taken here; it may take until some time limit.
    may_take_turn: Callable[[], bool]
    #: Whether its message may be one of several, which all end about now.
    is_copy: bool = False
    #: Whether the outcome may share its commit with the turn.
    shares_commit: bool = True
    #: Surrounds the commit with the turn: who dies there, dies in a turn.
    marking: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def is_free(self) -> bool:
        """Whether no join and no window waits for the outcome."""
        return self.start.join_command is None and self.start.window_command is None


def _at_once(work: Callable[[], T]) -> T:
    return work()


@dataclass(slots=True)
class OutcomeDesk:
    """Where outcomes come in."""

    parts: Parts
    inline: InlineTurns
    dispatcher: Dispatcher

    def accept(
        self, outcome: Outcome, attempt: AttemptView | None = None, patience: Patience = _at_once
    ) -> Verdict:
        """Record an outcome, and bring about what it sets in motion.

        Args:
            outcome: of one attempt.
            attempt: the run of the body, if that was here.
            patience: how to wait for the store to record it alone.

        Raises:
            StoreError: patience has run out; nothing is recorded.
        """
        if attempt is not None and self._completes(outcome, attempt):
            return Verdict.WITH_TURN
        # a held member of the same window may go: only then is there something to release
        releases = attempt is None or attempt.start.window_command is not None
        record = self.parts.store.outcomes.record
        recorded = patience(lambda: record(outcome, release=releases))
        return self.follow(outcome.ticket, recorded, attempt)

    def _completes(self, outcome: Outcome, attempt: AttemptView) -> bool:
        """Try to commit the outcome and its turn at once."""
        may_share = attempt.shares_commit and attempt.is_free and not attempt.is_copy
        live, attempt.live = attempt.live, None
        if not (may_share and attempt.may_take_turn()):
            self.parts.live.put(live)
            return False
        try:
            with attempt.marking():
                return self.inline.complete(outcome, attempt.start, live)
        except StoreError:
            log.warning(
                "a turn of %r failed with the store; its outcome is recorded alone",
                attempt.start.instance.id,
                exc_info=True,
            )
            return False

    def defer(self, deferral: Deferral, attempt: AttemptView, patience: Patience) -> None:
        """Record that a body has ended and its outcome comes by its token, and bring about what
        that sets in motion: its instance notes it.

        Raises:
            StoreError: patience has run out; nothing is recorded.
        """
        defer = self.parts.store.outcomes.defer
        self.follow(deferral.ticket, patience(lambda: defer(deferral)), attempt)

    def follow(
        self,
        ticket: ActivityAttemptId,
        recorded: Recorded | None,
        attempt: AttemptView | None = None,
    ) -> Verdict:
        """Bring about what an outcome sets in motion that is recorded alone.

        What fails here is left to recovery: the outcome itself is safe.

        Args:
            ticket: of the attempt.
            recorded: what the store said of the commit; None: it changed nothing.
            attempt: the run of the body, if that was here.
        """
        if recorded is None:
            return self._meet_unrecorded(ticket, attempt)
        try:
            self.dispatcher.follow(
                ticket, recorded, lambda instance_id: self._take_turn(instance_id, attempt)
            )
            if attempt is None:
                self.dispatcher.admit_eagerly()
        except Exception:
            log.exception(
                "the outcome of activity %s is recorded, its turn is left to recovery",
                ticket.task_id,
            )
        return Verdict.ALONE

    def _meet_unrecorded(self, ticket: ActivityAttemptId, attempt: AttemptView | None) -> Verdict:
        """Tell an outcome that came too late from one whose first commit's answer was lost."""
        if attempt is None:
            return Verdict.LATE
        instance = attempt.start.instance
        if self.parts.store.outcomes.was_recorded(ticket, instance.id):
            self._take_turn(instance.id, attempt)
            return Verdict.ALONE
        log.info("the outcome of activity %s came too late and is dropped", ticket.task_id)
        return Verdict.LATE

    def _take_turn(self, instance_id: str, attempt: AttemptView | None) -> None:
        if attempt is None:
            self.dispatcher.turn_of(instance_id)
        elif not attempt.is_copy and attempt.may_take_turn():
            self.inline.run(instance_id)
        else:
            self.parts.publisher.publish_turn(address_of(attempt.start.instance))
