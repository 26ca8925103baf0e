"""Rows and outcome in one commit: what ``@durable.transactional`` does for an attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery.exceptions import Ignore, Reject

from ..engine.at_most_once import CommitInDoubt, OutcomeRefused
from ..engine.records import ActivityAttemptId, Deferral, Outcome, Recorded
from ..errors import StoreError
from ..interrupts import shielded
from .patience import with_patience
from .runtime import Runtime

__all__ = ["Settlement"]

log: logging.Logger = logging.getLogger("celery_durable.activity")
#: Runs a body in a transaction that also records its outcome.
Transact = Callable[..., tuple[Any, Recorded | None]]


@dataclass(slots=True)
class Settlement:
    """The commit by which the body of an attempt records its own outcome; at most one."""

    runtime: Runtime
    ticket: ActivityAttemptId
    #: Makes the outcome of a result, or says that it is deferred; raises ``PayloadError``.
    outcome_of: Callable[[Any], Outcome | Deferral]
    #: Whether the body may run again after a transaction that failed.
    repeats: bool
    #: True while the transaction is open.
    is_open: bool = False
    #: True once the outcome is decided: recorded, or refused.
    is_done: bool = False
    #: What the store said of the commit; None if its answer was lost.
    recorded: Recorded | None = None
    #: Lets those who bring the outcome by a token wait for the transaction that is open.
    hold: Callable[[ActivityAttemptId], None] | None = None

    def run(self, transact: Transact) -> Any:
        """Run a body in a transaction that also records its outcome, and return what it returned.

        Raises:
            PayloadError: the result cannot be encoded; nothing was committed.
            Ignore: the outcome is not wanted any more; nothing was committed.
            Reject: the store cannot be reached; nothing was committed.
        """
        self.is_open = True
        try:
            with shielded(drops=True):
                patience = None if self.repeats else 0
                return with_patience(self.runtime, lambda: self._commit(transact), patience)
        except OutcomeRefused:
            self.is_done = True
            log.info(
                "the outcome of activity %s came too late; its rows are undone", self.ticket.task_id
            )
            raise Ignore from None
        except StoreError as error:
            if not self.repeats or error.is_permanent:
                raise
            raise Reject(str(error), requeue=True) from error
        finally:
            self.is_open = False

    def _commit(self, transact: Transact) -> Any:
        try:
            result, self.recorded = transact(outcome_of=self.outcome_of, repeats=self.repeats)
        except CommitInDoubt as doubt:
            # the outbox row goes with the commit, or is deferred by it: else nothing was committed
            if self._is_outstanding():
                raise StoreError(
                    f"the transaction of activity {self.ticket.task_id} was not committed"
                ) from doubt
            result = doubt.result
        self.is_done = True
        return result

    def _is_outstanding(self) -> bool:
        store, ticket = self.runtime.store, self.ticket
        if with_patience(self.runtime, lambda: store.attempts.begin(ticket, None)) is None:
            return False
        return not with_patience(self.runtime, lambda: store.outcomes.is_deferred(ticket))
