"""An activity is an ordinary task, watched: its class's ``__call__`` is wrapped.

That is the one place where an error of ours is handled in every pool. The wrapper asks the store whether the activity
is still wanted, runs it, and has the outcome committed before Celery hears of it; "store down" becomes
``Reject(requeue=True)`` only after patience has run out. Messages that are not ours pass through untouched.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from celery import Celery
from celery.app.task import Task as BaseTask
from celery.exceptions import Ignore, Reject, Retry

from ..core.context import EPOCH
from ..core.replay import Execution
from ..engine.cache import known_of
from ..engine.effects import CommitInDoubt, OutcomeRefused, level_of, new_mark
from ..engine.observation import Scope
from ..engine.records import ActivityStart, ActivityTicket, Outcome, Recorded
from ..engine.turn import address_of
from ..errors import ActivityError, ActivityInterrupted, ConfigurationError, DurableError, PayloadError, StoreError
from .orchestrator import OrchestratorTask
from .runtime import OutcomeLost, Runtime, header_of, runtime_of

__all__ = ["ActivityContext", "attempt_of", "durable_context", "wrap_tasks"]

log = logging.getLogger("celery_durable.activity")
T = TypeVar("T")
_current: contextvars.ContextVar[ActivityContext | None] = contextvars.ContextVar("durable_activity", default=None)


@dataclass
class ActivityContext:
    """What an activity may know of the orchestration that asked for it."""

    instance_id: str
    attempt: int
    idempotency_key: str
    deadline: datetime | None
    details: Any
    _runtime: Runtime = field(repr=False)
    _ticket: ActivityTicket = field(repr=False)
    _asked_at: float = field(default=0.0, repr=False)
    _is_canceled: bool = field(default=False, repr=False)
    _attempt: _Attempt | None = field(default=None, repr=False)
    scope: Scope | None = field(default=None, repr=False)

    @property
    def cancelled(self) -> bool:
        """True once the orchestration does not want the result any more; asks the store at most once a second."""
        if not self._is_canceled and time.monotonic() - self._asked_at >= 1.0:
            self._asked_at = time.monotonic()
            self._is_canceled = self._runtime.store.find_instance_of(self._ticket) is None
        return self._is_canceled

    def heartbeat(self, details: Any = None) -> None:
        """Say that the activity makes progress; ``details`` is what a next attempt of a lost worker finds.

        Raises:
            StoreError: the store cannot be reached.
            PayloadError: ``details`` cannot be encoded.
        """
        payload = None if details is None else self._runtime.codec.encode(details)
        self._is_canceled = not self._runtime.store.heartbeat(self._ticket, payload)
        self._asked_at = time.monotonic()


def durable_context() -> ActivityContext | None:
    """Return the context of the activity that runs here, or None outside an orchestration."""
    return _current.get()


def _key_of(ticket: ActivityTicket, request: Any) -> str:
    """Return the key under which a call is the same thing in all its attempts: another one once a saga has undone it."""
    headers = getattr(request, "headers", None)
    redo = (headers if isinstance(headers, dict) else {}).get("durable_redo") or getattr(request, "durable_redo", None)
    return f"{ticket.execution}-{ticket.command}" + (f"-{redo}" if redo else "")


def attempt_of(function: object) -> _Attempt | None:
    """Return the attempt that runs here if its body is this transactional function, and has not begun it yet.

    Raises:
        ConfigurationError: the body has been committed already.
    """
    context = _current.get()
    attempt = None if context is None else context._attempt
    if attempt is None or getattr(attempt.task.run, "durable_transactional", None) is not function:
        return None
    if attempt.is_settled:
        raise ConfigurationError(f"activity {attempt.task.name} has been committed: its body can run only once")
    return None if attempt.is_settling else attempt


def wrap_tasks(app: Celery) -> None:
    """Wrap every registered task that is not an orchestrator; safe to call again."""
    for task in list(app._tasks.values()):
        cls = type(task)
        if isinstance(task, OrchestratorTask) or "_durable_wrapped" in cls.__dict__:
            continue
        cls.__call__ = _wrapped(cls)
        cls._durable_wrapped = True


def _wrapped(cls: type) -> Callable[..., Any]:
    own = cls.__call__ if cls.__call__ is not BaseTask.__call__ else None  # type: ignore[operator]

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        request = self.request
        if own is not None:
            body: Callable[..., Any] = lambda *a, **k: own(self, *a, **k)  # noqa: E731
        elif request.called_directly:
            return BaseTask.__call__(self, *args, **kwargs)
        else:
            body = self.run  # BaseTask.__call__ would push a copied context, and lose the children of the body
        if request.called_directly or (ticket := ActivityTicket.parse(request.id)) is None:
            return body(*args, **kwargs)
        if getattr(
            request, "durable_has_begun", False
        ):  # the body calls its own task, whose request is a copy of this one
            return body(*args, **kwargs) if own is not None else BaseTask.__call__(self, *args, **kwargs)
        request.durable_has_begun = True
        return _Attempt(runtime_of(self.app), self, ticket).run(body, args, kwargs)

    return __call__


def with_patience(runtime: Runtime, work: Callable[[], T], patience: float | None = None) -> T:
    """Do something with the store, again and again while it is down, up to ``durable_store_patience``.

    Raises:
        StoreError: patience has run out.
    """
    end = time.monotonic() + (runtime.settings.store_patience if patience is None else patience)
    pause = 0.05
    while True:
        try:
            return work()
        except StoreError as error:
            if time.monotonic() + pause > end:
                raise
            log.warning("the store is down, trying again in %.1f s: %s", pause, error)
        time.sleep(pause * (1 + random.random()))  # noqa: S311
        pause = min(pause * 2, 1.0)


class _Attempt:
    """One run of one activity in this process."""

    def __init__(self, runtime: Runtime, task: Any, ticket: ActivityTicket) -> None:
        self.runtime = runtime
        self.task = task
        self.ticket = ticket
        self.request = task.request
        header = header_of(self.request) or {}
        self.is_copy = bool(header.get("n")) or bool((self.request.delivery_info or {}).get("redelivered"))
        self.store_tag = header.get("s")
        self.began = time.monotonic()
        self.body_began = self.body_ended = 0
        self.is_once = bool(getattr(task, "at_most_once", False))
        self.mark = 0
        self.start: ActivityStart | None = None
        self.is_settling = self.is_settled = False
        self.recorded: Recorded | None = None

    def run(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        runtime = self.runtime
        live = runtime.live.take(self.ticket.execution)
        start = self._begin(live)
        try:
            result, error = self._run_body(start, body, args, kwargs), None
        except (Retry, Ignore, Reject) as control:
            self._keep(live)
            if self.is_settled:
                self._follow(start)
            else:
                self._control(control)
            raise
        except Exception as raised:
            result, error = None, raised
        except BaseException:
            self._keep(live)
            if self.is_once:
                self._interrupt("it was ended from outside")
            raise
        if self.is_settled:
            self._keep(live)
            self._follow(start)
        else:
            outcome, error = self._outcome(result, error)
            self._commit(outcome, start, live)
        runtime.just_recorded.task_id = self.request.id
        if error is not None:
            raise error
        return result

    def _begin(self, live: Execution | None) -> ActivityStart:
        runtime, ticket = self.runtime, self.ticket
        try:
            self._refuse_foreign(live)
            start: ActivityStart | None = with_patience(
                runtime, lambda: runtime.store.begin_activity(ticket, known_of(live))
            )
            must_claim = start is not None and (self.is_copy or start.must_claim or start.holder is not None)
            if start is not None and self.is_once:
                may_run = self._begin_once()
            else:
                may_run = not must_claim or self._claim()
            if not may_run:
                self._keep(live)
                log.debug("activity %s is run by another worker already; this copy is dropped", self.request.id)
                raise Ignore
        except StoreError as error:
            self._keep(live)
            raise self._unrecorded(error) from error
        if start is None:
            self._keep(live)
            log.debug("activity %s is not wanted any more and does not start", self.request.id)
            raise Ignore
        self.start = start
        return start

    def _refuse_foreign(self, live: Execution | None) -> None:
        runtime = self.runtime
        if self.store_tag is None or self.store_tag == with_patience(runtime, lambda: runtime.store.id[:12]):
            return
        self._keep(live)
        log.error(
            "activity %s belongs to another store (%s...) than this worker's, %s: it is put back. Is "
            "durable_backend_url the same, and absolute, everywhere?",
            self.request.id, self.store_tag, runtime.store.database,
        )  # fmt: skip
        time.sleep(1.0)
        raise Reject("another store", requeue=True)

    def _claim(self) -> bool:
        """Take the activity for this worker; a try whose answer was lost may have succeeded."""
        runtime, tries = self.runtime, itertools.count()
        lease = int(runtime.settings.worker_lease * 1_000_000)
        return with_patience(
            runtime, lambda: bool(runtime.store.claim(self.ticket, runtime.worker_id, lease, is_again=next(tries) > 0))
        )

    def _begin_once(self) -> bool:
        """Mark the activity as begun, if no other run of it has; without that mark the body must not run."""
        runtime, tries = self.runtime, itertools.count()
        level = level_of(self.request.retries, getattr(self.request, "replaced_task_nesting", 0))
        mark = new_mark(level)
        own = with_patience(
            runtime,
            lambda: runtime.store.begin_once(self.ticket, runtime.worker_id, level, mark, is_again=next(tries) > 0),
        )
        self.mark = own or 0
        return own is not None

    def _unrecorded(self, error: StoreError) -> Ignore | Reject:
        """Return how to end when the store cannot be told: what may run again is put back, the rest looked into."""
        if self.is_once:
            return OutcomeLost(str(error))
        return Reject(str(error), requeue=True)

    def _keep(self, live: Execution | None) -> None:
        if live is not None:
            self.runtime.live.put(live)

    def _run_body(
        self, start: ActivityStart, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        instance, ticket, tracing = start.instance, self.ticket, self.runtime.tracing
        scope = Scope(instance.id, instance.name, instance.sequence, self.task.name, ticket.attempt)
        deadline = None if start.deadline_at is None else EPOCH + timedelta(microseconds=start.deadline_at)
        context = ActivityContext(
            start.instance.id, self.ticket.attempt, _key_of(self.ticket, self.request),
            deadline.astimezone(UTC) if deadline else None,
            None if start.details is None else self.runtime.codec.decode(start.details), self.runtime, self.ticket,
            _attempt=self, scope=scope,
        )  # fmt: skip
        token = _current.set(context)
        try:
            with scope, nullcontext() if tracing is None else tracing.activity(scope, ticket, self.request):
                self.body_began = time.monotonic_ns()
                try:
                    return body(*args, **kwargs)
                finally:
                    self.body_ended = time.monotonic_ns()
        finally:
            _current.reset(token)

    @property
    def ran(self) -> int:
        """How many microseconds the body has run, so far or altogether."""
        return ((self.body_ended or time.monotonic_ns()) - self.body_began) // 1000

    def _control(self, control: BaseException) -> None:
        """Celery's own control flow: a retry waits, a replacement goes on elsewhere, the rest has failed."""
        runtime, ticket = self.runtime, self.ticket
        try:
            if self.is_once and self._note_wish(control):
                return
            if isinstance(control, Retry):
                runtime.store.postpone(ticket, _delay_of(control) + int(runtime.settings.worker_lease * 1_000_000))
            elif isinstance(control, Ignore) and "Replaced by new task" in str(control):
                runtime.store.delegate(ticket)
            elif isinstance(control, Reject) and control.requeue:
                runtime.store.postpone(ticket, int(runtime.settings.worker_lease * 1_000_000))
            else:
                name = "ignored" if isinstance(control, Ignore) else "rejected"
                error = ActivityError(name, type=f"celery.exceptions.{type(control).__name__}", message=name)
                self._record_alone(Outcome(ticket, runtime.codec.encode_failure(error), has_failed=True, ran=self.ran))
                runtime.just_recorded.task_id = self.request.id
        except DurableError:
            log.exception("what became of activity %s could not be noted; recovery will find it", self.request.id)

    def _note_wish(self, control: BaseException) -> bool:
        """Note what the body of an activity that runs at most once asks for; False if it asks for nothing."""
        store = self.runtime.store
        if isinstance(control, Retry):
            delay = _delay_of(control) + int(self.runtime.settings.worker_lease * 1_000_000)
            store.postpone_once(self.ticket, self.mark, delay)
        elif isinstance(control, Ignore) and "Replaced by new task" in str(control):
            store.delegate_once(self.ticket, self.mark)
        elif isinstance(control, Reject) and control.requeue:
            self._interrupt("its message was put back")
        else:
            return False
        return True

    def _interrupt(self, why: str) -> None:
        """Record that nobody knows how the activity ended; what cannot be recorded is left to recovery."""
        start = self.start
        error = ActivityInterrupted(
            f"activity {self.task.name} (attempt {self.ticket.attempt}) runs at most once and was interrupted: {why}",
            instance_id=None if start is None else start.instance.id, task=self.task.name, attempt=self.ticket.attempt,
        )  # fmt: skip
        outcome = Outcome(self.ticket, self.runtime.codec.encode_failure(error), has_failed=True)
        try:
            recorded = self.runtime.store.record_outcome(outcome)
            if recorded is not None:
                self.runtime.runner.wake_after(self.ticket, recorded, lambda id_: self._take_turn(id_, None))
        except Exception:
            log.exception("the interruption of activity %s is left to recovery", self.request.id)

    def _outcome(self, result: Any, error: Exception | None) -> tuple[Outcome, Exception | None]:
        codec = self.runtime.codec
        if error is None:
            try:
                return Outcome(self.ticket, codec.encode(result), has_failed=False, ran=self.ran), None
            except PayloadError as problem:
                error = PayloadError(f"activity {self.task.name} returned {problem}")
        return Outcome(self.ticket, codec.encode_failure(error), has_failed=True, ran=self.ran), error

    # -- commit -------------------------------------------------------------------------------------------

    def _commit(self, outcome: Outcome, start: ActivityStart, live: Execution | None) -> None:
        runtime = self.runtime
        if (
            not self.is_once
            and self._may_take_turn(start)
            and start.join_command is None
            and start.window_command is None
            and not self.is_copy
        ):
            try:
                with runtime.marks.marking(self.request.id):
                    is_complete = runtime.runner.complete(outcome, start, live)
                if is_complete:
                    return
            except StoreError:
                log.warning(
                    "a turn of %r failed with the store; its outcome is recorded alone",
                    start.instance.id,
                    exc_info=True,
                )
        else:
            self._keep(live)
        self._record_alone(outcome, start)

    def _may_take_turn(self, start: ActivityStart) -> bool:
        runtime = self.runtime
        if not runtime.settings.inline_turns:
            return False
        hard, soft = self.request.timelimit or (None, None)
        limits = [limit for limit in (hard, soft, self.task.time_limit, self.task.soft_time_limit) if limit]
        if limits and time.monotonic() - self.began > min(limits) - 2:
            return False
        return bool(runtime.publisher.may_take_turns(start.instance.name, start.instance.queue))

    def _record_alone(self, outcome: Outcome, start: ActivityStart | None = None) -> None:
        runtime = self.runtime
        release = start is None or start.window_command is not None
        try:
            recorded = with_patience(runtime, lambda: runtime.store.record_outcome(outcome, release=release))
        except StoreError as error:
            raise self._unrecorded(error) from error
        if recorded is None:
            if start is not None and runtime.store.was_recorded(self.ticket, start.instance.id):
                self._take_turn(start.instance.id, start)  # the commit whose answer was lost was ours
            else:
                log.info("the outcome of activity %s came too late and is dropped", self.request.id)
            return
        self._wake(recorded, start)

    def _wake(self, recorded: Recorded, start: ActivityStart | None) -> None:
        runtime = self.runtime
        try:
            runtime.runner.wake_after(self.ticket, recorded, lambda instance_id: self._take_turn(instance_id, start))
        except Exception:
            log.exception("the outcome of activity %s is recorded, its turn is left to recovery", self.request.id)

    # -- rows and outcome in one commit ---------------------------------------------------------------------

    def settle(self, transact: Callable[..., tuple[Any, Recorded | None]]) -> Any:
        """Run a body in a transaction that also records its outcome, and return what it returned.

        Raises:
            PayloadError: the result cannot be encoded; nothing was committed.
            Ignore: the outcome is not wanted any more; nothing was committed.
            Reject: the store cannot be reached; nothing was committed.
        """
        self.is_settling = True
        try:
            return with_patience(self.runtime, lambda: self._settle(transact), patience=0 if self.is_once else None)
        except OutcomeRefused:
            self.is_settled = True
            log.info("the outcome of activity %s came too late; its rows are undone", self.request.id)
            raise Ignore from None
        except StoreError as error:
            if self.is_once or error.is_permanent:
                raise
            raise Reject(str(error), requeue=True) from error
        finally:
            self.is_settling = False

    def _settle(self, transact: Callable[..., tuple[Any, Recorded | None]]) -> Any:
        try:
            result, self.recorded = transact(outcome_of=self._success, repeats=not self.is_once)
        except CommitInDoubt as doubt:
            runtime = self.runtime
            if with_patience(runtime, lambda: runtime.store.begin_activity(self.ticket, None)) is not None:
                raise StoreError(f"the transaction of activity {self.request.id} was not committed") from doubt
            result = doubt.result
        self.is_settled = True
        return result

    def _success(self, result: Any) -> Outcome:
        try:
            return Outcome(self.ticket, self.runtime.codec.encode(result), has_failed=False, ran=self.ran)
        except PayloadError as problem:
            raise PayloadError(f"activity {self.task.name} returned {problem}") from None

    def _follow(self, start: ActivityStart) -> None:
        """Bring about what follows from an outcome that was committed with the body's rows."""
        if self.recorded is not None:
            self._wake(self.recorded, start)
            return
        try:
            if self.runtime.store.was_recorded(self.ticket, start.instance.id):
                self._take_turn(start.instance.id, start)  # the commit whose answer was lost was ours
        except Exception:
            log.exception("what follows from activity %s is left to recovery", self.request.id)

    def _take_turn(self, instance_id: str, start: ActivityStart | None) -> None:
        runtime = self.runtime
        if start is not None and not self.is_copy and self._may_take_turn(start):
            runtime.runner.run(instance_id)
            return
        addresses = runtime.store.turn_addresses([instance_id]) if start is None else [address_of(start.instance)]
        for address in addresses:
            runtime.publisher.publish_turn(address)


def _delay_of(retry: Retry) -> int:
    when = retry.when
    if isinstance(when, datetime):
        aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0, (aware - datetime.now(UTC)) // timedelta(microseconds=1))
    return int(float(when or 0) * 1_000_000)
