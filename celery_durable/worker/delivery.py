"""How often a body may begin: at least once, or at most once.

``AtLeastOnce`` claims the activity in the statement that reads it: of two living workers one runs
it. If that worker dies, another one runs it again. ``AtMostOnce`` marks it as begun, in a commit of
its own, before the body begins: a run that finds the mark of another one never runs the body, and
if it is not known how that run ended, the attempt has failed with ``ActivityInterrupted``.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from celery.exceptions import Ignore, Reject, Retry

from ..core.machine import Machine
from ..engine.at_most_once import RunMark, level_of
from ..engine.cache import known_of
from ..engine.records import ActivityAttemptId, ActivityStart, Claim, Outcome
from ..errors import ActivityInterrupted, StoreError
from .patience import with_patience
from .runtime import OutcomeLost, Runtime

__all__ = ["AtLeastOnce", "AtMostOnce", "Delivery", "delivery_of", "is_replacement"]

log: logging.Logger = logging.getLogger("celery_durable.activity")
_SECOND = 1_000_000
#: For how many seconds a run waits for the one that asked for it, and may not have let go yet.
_LETTING_GO = 5.0


class Delivery(Protocol):
    """One run of one activity, as far as it depends on how often a body may begin."""

    #: Whether a body may run again; then its outcome may share a commit with the turn that follows.
    repeats: bool

    def begin(self, live: Machine | None, *, is_again: bool = False) -> ActivityStart | None:
        """Read the activity and take it for this run; None if it is not wanted any more.

        ``is_claimed`` of what is returned tells whether the body may begin.

        Args:
            live: the machine in memory: history that it knows is not read.
            is_again: whether this very run has taken it before.

        Raises:
            StoreError: the store cannot be reached.
        """

    def control(self, request: BaseException) -> bool:
        """Note what a body asked Celery for; False if that is the end of the attempt, a failure.

        Raises:
            StoreError: the store cannot be reached.
        """

    def interrupted(self, why: str) -> None:
        """Note that the body was ended from outside."""

    def unreachable(self, error: StoreError) -> Ignore | Reject:
        """Return what to raise when the store cannot be told how the run ended."""


@dataclass(slots=True)
class _Run:
    runtime: Runtime
    task: Any
    request: Any
    ticket: ActivityAttemptId

    @property
    def _lease(self) -> int:
        """After how many microseconds of silence a worker is taken for dead."""
        return int(self.runtime.settings.worker_lease * _SECOND)

    def _read(self, live: Machine | None, claim: Claim | None) -> ActivityStart | None:
        return self.runtime.store.attempts.begin(self.ticket, known_of(live), claim)


@dataclass(slots=True)
class AtLeastOnce(_Run):
    """A body may begin again where it is not known whether it ended."""

    repeats = True

    def begin(self, live: Machine | None, *, is_again: bool = False) -> ActivityStart | None:
        """See ``Delivery``; a run that asked for this one and has not let go is waited for."""
        start = self._take(live, is_again)
        # a retry's message can be faster than the store hears that the run before has let go
        follows = self.request.retries or is_replacement(self.request)
        end = time.monotonic() + (_LETTING_GO if follows else 0)
        while start is not None and not start.is_claimed and time.monotonic() < end:
            time.sleep(0.05)
            start = self._take(live, False)
        return start

    def _take(self, live: Machine | None, is_again: bool) -> ActivityStart | None:
        # a repeat after a lost answer may find the activity taken by itself
        tries = itertools.count(int(is_again))
        worker, lease = self.runtime.worker_id, self._lease
        return with_patience(
            self.runtime, lambda: self._read(live, Claim(worker, lease, is_again=next(tries) > 0))
        )

    def control(self, request: BaseException) -> bool:
        """See ``Delivery``: another message of it comes, or its replacement gives the outcome."""
        if isinstance(request, Retry):
            self._postpone(delay_of(request))
        elif is_replaced(request):
            delegate = self.runtime.store.attempts.delegate
            with_patience(self.runtime, lambda: delegate(self.ticket))
        elif isinstance(request, Reject) and request.requeue:
            self._postpone(0)
        else:
            return False
        return True

    def _postpone(self, delay: int) -> None:
        """Let go of the activity: another message of it comes ``delay`` microseconds from now."""
        # Celery has sent the retry already: recovery looks only if that is lost
        postpone, after = self.runtime.store.attempts.postpone, delay + self._lease
        worker = self.runtime.worker_id
        with_patience(self.runtime, lambda: postpone(self.ticket, after, worker))

    def interrupted(self, why: str) -> None:
        """Do nothing: it runs again."""

    def unreachable(self, error: StoreError) -> Ignore | Reject:
        """Have the message delivered again."""
        return Reject(str(error), requeue=True)


@dataclass(slots=True)
class AtMostOnce(_Run):
    """A body never begins again unless it asks for that itself."""

    repeats = False
    #: Which run this is; None before it began.
    mark: RunMark | None = None

    def begin(self, live: Machine | None, *, is_again: bool = False) -> ActivityStart | None:
        """See ``Delivery``: without its mark in the store the body must not run."""
        start = with_patience(self.runtime, lambda: self._read(live, None))
        if start is not None:
            start.is_claimed = self._mark_begun()
        return start

    def _mark_begun(self) -> bool:
        tries, worker = itertools.count(), self.runtime.worker_id
        nesting = getattr(self.request, "replaced_task_nesting", 0)
        level = level_of(self.request.retries, nesting)
        mark, begin = RunMark.new(level), self.runtime.store.attempts.begin_once
        self.mark = with_patience(
            self.runtime, lambda: begin(self.ticket, worker, level, mark, is_again=next(tries) > 0)
        )
        return self.mark is not None

    def control(self, request: BaseException) -> bool:
        """See ``Delivery``: the mark says that the body has let go by itself."""
        attempts, mark = self.runtime.store.attempts, self.mark
        if isinstance(request, Retry) and mark is not None:
            delay = delay_of(request) + self._lease
            with_patience(self.runtime, lambda: attempts.postpone_once(self.ticket, mark, delay))
        elif is_replaced(request) and mark is not None:
            with_patience(self.runtime, lambda: attempts.delegate_once(self.ticket, mark))
        elif isinstance(request, Reject) and request.requeue:
            self.interrupted("its message was put back")
        else:
            return False
        return True

    def interrupted(self, why: str) -> None:
        """Record that its end is not known; what fails here is left to recovery."""
        runtime, ticket = self.runtime, self.ticket
        try:
            error = ActivityInterrupted(
                f"activity {self.task.name} (attempt {ticket.attempt}) runs at most once and was"
                f" interrupted: {why}",
                instance_id=runtime.store.attempts.find_instance_of(ticket),
                task=self.task.name,
                attempt=ticket.attempt,
            )
            failure = runtime.codec.encode_failure(error)
            runtime.runner.outcomes.accept(Outcome(ticket, failure, has_failed=True))
        except Exception:
            log.exception("the interruption of activity %s is left to recovery", ticket.task_id)

    def unreachable(self, error: StoreError) -> Ignore | Reject:
        """Drop the message: the body has run, or may have."""
        return OutcomeLost(str(error))


def delivery_of(runtime: Runtime, task: Any, request: Any, ticket: ActivityAttemptId) -> Delivery:
    """Return how the body of a task is delivered: as its option ``at_most_once`` says."""
    is_once = bool(getattr(task, "at_most_once", False))
    return (AtMostOnce if is_once else AtLeastOnce)(runtime, task, request, ticket)


def is_replacement(request: Any) -> bool:
    """Tell whether a task runs in the place of another one, which has replaced itself."""
    return bool(getattr(request, "replaced_task_nesting", 0))


def is_replaced(control: BaseException) -> bool:
    """Tell whether a task has replaced itself by another one: Celery says it in the text alone."""
    return isinstance(control, Ignore) and "Replaced by new task" in str(control)


def delay_of(retry: Retry) -> int:
    """Return in how many microseconds Celery tries again."""
    when = retry.when
    if isinstance(when, datetime):
        aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0, (aware - datetime.now(UTC)) // timedelta(microseconds=1))
    return int(float(when or 0) * _SECOND)
