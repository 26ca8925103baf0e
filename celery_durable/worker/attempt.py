"""One run of an activity's body in this process: begin, run, encode, accept.

Only the body is ended by a soft time limit; what the engine does around it is shielded. When the
store is down, "begin" and "accept" wait for it with patience, and then the message goes back to the
broker (``Reject(requeue=True)``), if the body may run again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, timedelta
from functools import partial
from typing import Any, TypeVar

from celery.exceptions import Ignore, Reject, Retry

from ..core.plain_task import carrier_of
from ..core.times import EPOCH
from ..engine.activity_limits import LIMITED
from ..engine.outcome import AttemptView, Verdict
from ..engine.propagation import context_of
from ..engine.records import ActivityAttemptId, ActivityStart, Deferral, Outcome
from ..engine.scope import Scope
from ..errors import ConfigurationError, DurableError, PayloadError, StoreError
from ..interrupts import exposed, shielded
from .activity_context import ActivityContext, current
from .body_run import BodyRun
from .deferral import BodyDeferral, Deferred, begin_deferral
from .delivery import Delivery, delivery_of, is_replacement
from .errbacks import spare_errbacks
from .headers import MessageHeader, header_in
from .limits import defer_soft_limit
from .mismatch import is_of_another_execution, refuse_foreign
from .patience import with_patience
from .raised import as_exception, as_failure
from .runtime import Runtime, is_behind
from .settlement import Settlement

__all__ = ["Attempt"]

log: logging.Logger = logging.getLogger("celery_durable.activity")
T = TypeVar("T")


class Attempt:
    """One run of one activity."""

    def __init__(
        self, runtime: Runtime, task: Any, ticket: ActivityAttemptId, header: MessageHeader | None
    ) -> None:
        self.runtime = runtime
        self.task = task
        self.ticket = ticket
        self.request: Any = task.request
        #: What its message says of itself; None: nothing, of what a task has replaced itself by.
        self.header = header
        #: Whether the message may be one of several: it was sent or delivered before.
        self.is_copy: bool = bool(header is not None and header.tries) or bool(
            (self.request.delivery_info or {}).get("redelivered")
        )
        self.delivery: Delivery = delivery_of(runtime, task, self.request, ticket)
        self.settlement: Settlement = Settlement(
            runtime, ticket, self._end_of, repeats=self.delivery.repeats
        )
        #: When this run began, in seconds.
        self.began: float = time.monotonic()
        #: What its body does and gives.
        self.body: BodyRun = BodyRun(runtime, task, ticket)
        #: Set once the body has said that its outcome comes by a token.
        self.deferral: BodyDeferral | None = None

    def run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the body between what the engine does for it, and return what it returned."""
        defer_soft_limit()
        with shielded(drops=True):
            return self._run(body, args, kwargs)

    def _run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # from here on this worker holds the activity: if it dies, others run it again
        view = self._begun()
        try:
            result, error = self._run_body(view.start, body, args, kwargs), None
        except (Retry, Ignore, Reject) as request:
            # Celery's own words are no outcome: the row waits for the message that follows
            self._keep(view)
            if self.settlement.is_done:
                self._follow(view)
            else:
                self._control(request)
            raise
        except BaseException as raised:
            if not self.body.ended_by(raised):
                self._keep(view)
                self.delivery.interrupted("it was ended from outside")
                raise
            result, error = None, raised
        # a transactional body has committed its outcome with its rows; the others hand it in now,
        # and a crash in between runs the body again
        if self.settlement.is_done:
            self._keep(view)
            self._follow(view)
        elif self.deferral is not None and error is None:
            self._defer(view)
        else:
            error = self._accept(view, result, error)
        if self.deferral is not None and error is None:
            raise Deferred("its outcome comes by its token")
        # what Celery does after this (its result, links) is not to be taken for a lost outcome
        self.request.durable_is_recorded = True
        self._give_back()
        if error is not None:
            heard = error if isinstance(error, Exception) else as_exception(error)
            spare_errbacks(self.task, self.request, heard)
            raise heard
        return result

    def _give_back(self) -> None:
        """Let others in, if it had slots of limits."""
        if not header_in(self.request, LIMITED):
            return
        try:
            self.runtime.runner.dispatcher.admit(is_likely=False)
        except Exception:
            log.exception("who is admitted after activity %s is left to recovery", self.request.id)

    def _keep(self, view: AttemptView) -> None:
        """Put the machine back: nothing of this run goes through it."""
        live, view.live = view.live, None
        self.runtime.live.put(live)

    # -- begin -------------------------------------------------------------------------------------

    def _begun(self) -> AttemptView:
        """Take the activity for this run.

        An overdue turn of its instance is taken first: it may be about this very activity.

        Raises:
            Ignore: it is not to run here.
            Reject: the store cannot be reached.
        """
        view = self._begin()
        if view.start.wants_turn and self.delivery.repeats and view.may_take_turn():
            self._keep(view)
            self._take_overdue_turn(view.start)
            view = self._begin(is_again=True)
        return view

    def _begin(self, *, is_again: bool = False) -> AttemptView:
        runtime = self.runtime
        live = runtime.live.take(self.ticket.execution)
        try:
            with_patience(runtime, self._expect_welcome)
            start = self.delivery.begin(live, is_again=is_again)
        except BaseException as error:
            runtime.live.put(live)
            self._put_back(error)
            raise
        may_run = start is not None and start.is_claimed
        if start is not None and is_of_another_execution(runtime, start, self.task, self.request):
            may_run = False
        if start is None or not may_run:
            runtime.live.put(live)
            is_unwanted = start is None
            why = "is not wanted any more" if is_unwanted else "is run elsewhere: a copy is dropped"
            log.debug("activity %s %s", self.request.id, why)
            raise Ignore
        return AttemptView(
            start,
            live,
            partial(self._may_take_turn, start),
            is_copy=self.is_copy,
            shares_commit=self.delivery.repeats,
            marking=partial(runtime.crash_markers.marking, self.request.id),
        )

    def _expect_welcome(self) -> None:
        """Refuse a message of another store, and leave an attempt to the end of a pause; one that
        has begun ends as usual.
        """
        runtime = self.runtime
        refuse_foreign(runtime.store, self.header, self.request)
        has_begun = self.request.retries or is_replacement(self.request)
        if not has_begun and runtime.runner.pausing.holds(self.ticket, self.task.name):
            raise Ignore

    def _put_back(self, error: BaseException) -> None:
        """Leave a message to another time, or another process, where that may help."""
        if isinstance(error, StoreError):
            raise self.delivery.unreachable(error) from error
        if isinstance(error, ConfigurationError) and is_behind(error):
            log.error("activity %s is put back: %s", self.request.id, error)
            time.sleep(1.0)
            raise Reject(str(error), requeue=True) from error

    def _take_overdue_turn(self, start: ActivityStart) -> None:
        try:
            self.runtime.runner.run(start.instance.id)
        except Exception:
            log.warning(
                "an overdue turn of %r is left to its message", start.instance.id, exc_info=True
            )

    def _may_take_turn(self, start: ActivityStart) -> bool:
        """Tell whether a turn may follow here: in time before the hard limit, and on this queue."""
        runtime = self.runtime
        if not runtime.settings.inline_turns:
            return False
        hard, _ = self.request.timelimit or (None, None)
        limits = (hard, self.task.time_limit, self.task.app.conf.task_time_limit)
        limit = next(filter(None, limits), None)
        if limit is not None and time.monotonic() - self.began > limit - 2:
            return False
        name = carrier_of(start.instance.name, start.instance.version)
        return bool(runtime.publisher.may_take_turns(name, start.instance.queue))

    # -- run ---------------------------------------------------------------------------------------

    def _run_body(
        self,
        start: ActivityStart,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        context, tracing = self._context(start), self.runtime.tracing
        scope = context.scope
        assert scope is not None
        token = current.set(context)
        span: AbstractContextManager[Any] = nullcontext()
        if tracing is not None:
            span = tracing.activity(scope, self.ticket, self.request)
        try:
            runtime = self.runtime
            restored = runtime.runner.propagators.restored(runtime.codec, start.instance.canvas)
            with restored, scope, span:
                self.body.began = time.monotonic_ns()
                try:
                    with exposed():
                        return body(*args, **kwargs)
                finally:
                    self.body.ended = time.monotonic_ns()
        finally:
            current.reset(token)

    def _context(self, start: ActivityStart) -> ActivityContext:
        instance, ticket, due = start.instance, self.ticket, start.deadline_at
        deadline = None if due is None else EPOCH + timedelta(microseconds=due)
        return ActivityContext(
            instance.id,
            ticket.attempt,
            _key_of(ticket, self.request),
            deadline.astimezone(UTC) if deadline else None,
            None if start.details is None else self.runtime.codec.decode(start.details),
            self.runtime,
            ticket,
            _attempt=self,
            context=context_of(self.runtime.codec, instance.canvas),
            scope=Scope(
                instance.id, instance.name, instance.sequence, self.task.name, ticket.attempt
            ),
        )

    # -- an outcome that comes by a token ----------------------------------------------------------

    def defer(self) -> str:
        """Return the token by which the outcome will come, not from the body.

        Raises:
            StoreError: the store cannot be reached.
            InvalidState: the body has ended.
        """
        if self.deferral is None:
            self.deferral = begin_deferral(self)
        return self.deferral.token

    def _defer(self, view: AttemptView) -> None:
        """Leave the outcome of the attempt to those who have its token."""
        self._keep(view)
        try:
            deferral = Deferral(self.ticket, self.body.ran)
            self.runtime.runner.outcomes.defer(deferral, view, self._patiently)
        except StoreError as problem:
            raise self.delivery.unreachable(problem) from problem

    def _end_of(self, result: Any) -> Outcome | Deferral:
        """Return what a transactional body commits together with its rows.

        Raises:
            PayloadError: its result cannot be encoded.
        """
        if self.deferral is None:
            return self.body.success_of(result)
        return self.deferral.take() or Deferral(self.ticket, self.body.ran)

    # -- encode and accept -------------------------------------------------------------------------

    def _accept(
        self, view: AttemptView | None, result: Any, error: BaseException | None
    ) -> BaseException | None:
        """Hand in the outcome; return with what the attempt has failed."""
        outcome = None
        if error is None:
            try:
                outcome = self.body.success_of(result)
            except PayloadError as problem:
                error = problem
        if outcome is None:
            assert error is not None
            outcome = self.body.failure_of(error)
        try:
            verdict = self.runtime.runner.outcomes.accept(outcome, view, self._patiently)
        except StoreError as problem:
            raise self.delivery.unreachable(problem) from problem
        if error is not None and verdict is not Verdict.LATE:
            self.runtime.runner.breakers.note_failure(self.task.name, error)
        return error

    def _patiently(self, work: Callable[[], T]) -> T:
        return with_patience(self.runtime, work)

    def _control(self, request: BaseException) -> None:
        """Note what the body asked Celery for: a retry waits, a replacement gives the outcome, the
        rest has failed.
        """
        try:
            if not self.delivery.control(request):
                self._accept(None, None, as_failure(request))
                self.request.durable_is_recorded = True
        except DurableError:
            log.exception(
                "what became of activity %s could not be noted; recovery will find it",
                self.request.id,
            )

    def _follow(self, view: AttemptView) -> None:
        """Bring about what an outcome sets in motion that was committed with the body's rows."""
        try:
            self.runtime.runner.outcomes.follow(self.ticket, self.settlement.recorded, view)
        except Exception:
            log.exception("what follows from activity %s is left to recovery", self.request.id)


def _key_of(ticket: ActivityAttemptId, request: Any) -> str:
    """Return the key under which a call is the same thing in all its attempts: another one once a
    saga has undone it.
    """
    redo = header_in(request, "durable_redo")
    return f"{ticket.execution}-{ticket.command}" + (f"-{redo}" if redo else "")
