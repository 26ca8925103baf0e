"""What an attempt knows of its token, once its body has asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore

from ..engine.completion_tokens import token_of
from ..errors import InvalidState
from .activity_context import current_attempt

if TYPE_CHECKING:
    from ..engine.records import ActivityAttemptId, Outcome

__all__ = ["BodyDeferral", "Deferred", "begin_deferral", "enter_transaction", "own_deferral"]


class Deferred(Ignore):  # type: ignore[misc]
    """What Celery is told of a body that has ended before its activity: that there is no result."""


@dataclass(slots=True)
class BodyDeferral:
    """The outcome of the attempt that runs here comes by a token."""

    token: str
    #: Whether the body's transaction holds the attempt: a client that brings the outcome waits.
    is_held: bool
    #: What was brought within that transaction: it is committed with the body's rows.
    outcome: Outcome | None = None

    def settle(self, outcome: Outcome) -> bool:
        """Take an outcome, if it is the first."""
        is_first = self.outcome is None
        if is_first:
            self.outcome = outcome
        return is_first

    def take(self) -> Outcome | None:
        """Return what was brought within the transaction; what comes from now on waits for it."""
        self.is_held = False
        return self.outcome


def begin_deferral(attempt: Any) -> BodyDeferral:
    """Return the deferral of an attempt whose body runs; a transaction of its own keeps others from
    the attempt from now on.

    Raises:
        StoreError: the store cannot be reached.
        InvalidState: the body has ended.
    """
    runtime, ticket, settlement = attempt.runtime, attempt.ticket, attempt.settlement
    if attempt.body.ended:
        raise InvalidState(
            f"activity {attempt.task.name} has returned: its completion cannot be deferred any more"
        )
    token = token_of(runtime.store, ticket)
    hold = settlement.hold if settlement.is_open else None
    if hold is not None:
        hold(ticket)
    return BodyDeferral(token, hold is not None)


def enter_transaction(hold: Callable[[ActivityAttemptId], None]) -> None:
    """Tell the attempt that runs here that the transaction of its body begins, and how that keeps
    others from the attempt; a transaction that is run again begins with nothing.
    """
    attempt = current_attempt()
    if attempt is not None and attempt.settlement.is_open:
        attempt.deferral, attempt.settlement.hold = None, hold


def own_deferral(token: str) -> tuple[ActivityAttemptId, BodyDeferral] | None:
    """Return the attempt that runs here, if it is the token's, and its transaction holds it: no
    other transaction could end it.
    """
    attempt = current_attempt()
    deferral = None if attempt is None else attempt.deferral
    if attempt is None or deferral is None or deferral.token != token or not deferral.is_held:
        return None
    return (attempt.ticket, deferral) if attempt.settlement.is_open else None
