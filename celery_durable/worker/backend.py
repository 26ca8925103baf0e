"""A layer over the app's own result backend: it sees what only a worker's main process knows.

A hard time limit, a lost worker, a revoked or expired message, an unknown task, the end of a
replaced task: none of these passes through the activity's process. This layer never raises and
never waits long: what cannot be recorded at once is left to recovery. And for a turn message it
tells the backend nothing at all: only the last message of an orchestration may end its task.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, states
from celery.app import backends
from celery.app.task import Context
from celery.exceptions import NotRegistered, TaskRevokedError, TimeLimitExceeded, WorkerLostError

from ..engine.records import ActivityAttemptId, Outcome
from ..errors import ActivityInterrupted, PayloadError
from .ends import store_again
from .errbacks import spare_errbacks
from .headers import MessageHeader, message_of
from .runtime import Runtime, runtime_of
from .sealing import is_unreadable

__all__ = ["DurableBackendMixin", "is_rpc", "make_backend"]

log: logging.Logger = logging.getLogger("celery_durable.backend")
_RESEND_UNKNOWN = 5_000_000
_DIED = (WorkerLostError, TimeLimitExceeded)
_KILLED = (*_DIED, TaskRevokedError)
#: Of each thread: the orchestration whose success it stores for the first time.
_first = threading.local()


class DurableBackendMixin:
    """Mixed in front of the user's backend class."""

    app: Celery

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **options: Any,
    ) -> Any:
        """Store a result.

        The end of an orchestration that was refused before is told of in another way.
        """
        store: Any = super().store_result  # type: ignore[misc]
        header = MessageHeader.from_request(request)
        if header is None or header.kind != "finish":
            return store(task_id, result, state, traceback, request, **options)
        if (name := getattr(request, "durable_name", None)) is not None:
            request = Context({**vars(request), "task": name})
        try:
            if header.tries:
                return store_again(store, task_id, result, state, traceback, request, **options)
            _first.task_id = task_id if state == states.SUCCESS else None
            return store(task_id, result, state, traceback, request, **options)
        except Exception as error:
            self._note_refusal(str(header.execution), error)
            raise
        finally:
            _first.task_id = None

    def _get_task_meta_for(self, task_id: str) -> Any:
        """Read what is stored of a task.

        Celery does so before it stores anything, so that a task that was run twice does not lose a
        success. The success of an orchestration is decided by one commit: it is not asked for.
        """
        if getattr(_first, "task_id", None) == task_id:
            return {"status": states.PENDING}
        above: Any = super()
        return above._get_task_meta_for(task_id)

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Record the end of a replaced activity; forget the last message of an orchestration."""
        above: Any = super()
        if _is_recorded(request):
            return above.mark_as_done(task_id, result, request, *args, **kwargs)
        header, ticket = message_of(request, task_id)
        if ticket is not None:
            self._note(ticket, task_id, result, None)
        answer = above.mark_as_done(task_id, result, request, *args, **kwargs)
        self._forget_finish(task_id, request, header)
        return answer

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Record a failure that the activity's process could not.

        Keep a turn's failure from the backend.
        """
        header, ticket = message_of(request, task_id)
        if (
            isinstance(exc, NotRegistered)
            and (unknown := ActivityAttemptId.parse(task_id)) is not None
        ):
            # Celery keeps nothing of the message
            wait = "waits for a worker that knows the task of an activity"
            self._postpone_unknown(unknown, wait)
        elif ticket is not None:
            if is_unreadable(exc):  # another worker may have the codec
                self._postpone_unknown(ticket, "waits for a worker with the right durable_codec")
                return None
            if isinstance(exc, _DIED) and self._died_in_turn(ticket, exc):
                return None
            else:
                task = self._task_of(request)
                spare_errbacks(task, request, exc)
                if not _is_recorded(request):
                    self._note(ticket, task_id, None, exc, task)
        elif self._is_turn(task_id, exc, request, header):
            return None
        above: Any = super()
        answer = above.mark_as_failure(task_id, exc, traceback, request, *args, **kwargs)
        self._forget_finish(task_id, request, header)
        return answer

    def mark_as_revoked(
        self, task_id: str, reason: str = "", request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Record that an activity was revoked or expired."""
        # by remote control there is no message, only an id that an operator has named
        header, ticket = message_of(request, task_id)
        if request is None:
            ticket = ActivityAttemptId.parse(task_id)
        if ticket is not None:
            self._note(ticket, task_id, None, TaskRevokedError(reason or "revoked"))
        above: Any = super()
        answer = above.mark_as_revoked(task_id, reason, request, *args, **kwargs)
        self._forget_finish(task_id, request, header)
        return answer

    def __reduce__(self, *args: Any, **kwargs: Any) -> Any:
        """Pickle as the user's own class: results carry their backend along."""
        reduced: Any = super().__reduce__(*args, **kwargs)  # type: ignore[misc]
        function, arguments = reduced
        return function, (type(self).__durable_base__, *arguments[1:])  # type: ignore[attr-defined]

    # -- ours --------------------------------------------------------------------------------------

    def _note(
        self,
        ticket: ActivityAttemptId,
        task_id: str,
        result: Any,
        error: BaseException | None,
        task: Any = None,
    ) -> None:
        runtime = runtime_of(self.app)
        from ..engine.outcome import Verdict  # the runtime has it

        try:
            if isinstance(error, _DIED) and runtime.store.outcomes.is_deferred(ticket):
                log.info("activity %s had deferred its completion: it waits for that", task_id)
                return
            if (
                isinstance(error, _KILLED)
                and (begun := runtime.store.attempts.find_begun(ticket)) is not None
            ):
                error = _interruption(ticket, begun, error)
            outcome = self._outcome(runtime, ticket, result, error)
            verdict = runtime.runner.outcomes.accept(outcome)
            if error is not None and task is not None and verdict is not Verdict.LATE:
                runtime.runner.breakers.note_failure(task.name, error)
        except Exception:
            log.exception("the outcome of activity %s is left to recovery", task_id)

    def _outcome(
        self, runtime: Runtime, ticket: ActivityAttemptId, result: Any, error: BaseException | None
    ) -> Outcome:
        if error is None:
            try:
                return Outcome(ticket, runtime.codec.encode(result), has_failed=False)
            except PayloadError as problem:
                error = problem
        return Outcome(ticket, runtime.codec.encode_failure(error), has_failed=True)

    def _postpone_unknown(self, ticket: ActivityAttemptId, wait: str) -> None:
        runtime = runtime_of(self.app)
        try:
            runtime.store.attempts.postpone(ticket, _RESEND_UNKNOWN, only_free=True)
            if (instance_id := runtime.store.attempts.find_instance_of(ticket)) is not None:
                runtime.store.turns.note_waiting(instance_id, wait)
        except Exception:
            log.exception("activity %s is left to recovery: it %s", ticket.task_id, wait)

    def _died_in_turn(self, ticket: ActivityAttemptId, exc: BaseException) -> bool:
        """Let an activity run again whose body had ended: its process died in the turn that
        followed.
        """
        runtime = runtime_of(self.app)
        if not runtime.crash_markers.take(ticket.task_id):
            return False
        try:
            row = runtime.store.attempts.interrupt(ticket)
            if row is not None:
                # the time limit was the activity's: its next run records the outcome alone, and the
                # turn has its own
                crashes = runtime.store.turns.count_crash(
                    row.instance, int(not isinstance(exc, TimeLimitExceeded))
                )
                log.error(
                    "a turn of %r after %s crashed its process (%d in a row): %r",
                    row.instance,
                    row.name,
                    crashes,
                    exc,
                )
                runtime.runner.dispatcher.activities([row])
        except Exception:
            log.exception(
                "activity %s, whose process died in a turn, is left to recovery", ticket.task_id
            )
        return True

    def _is_turn(
        self, task_id: str, exc: BaseException, request: Any, header: MessageHeader | None
    ) -> bool:
        """Tell whether a message failed that says nothing of the orchestration's end, and deal with
        it.
        """
        runtime = runtime_of(self.app)
        try:
            if header is None:
                if (
                    not isinstance(exc, NotRegistered)
                    or runtime.store.reads.status_of(task_id) is None
                ):
                    return False
                runtime.store.turns.note_waiting(
                    task_id, f"waits for a worker that knows its orchestrator: {exc}"
                )
                return True
            if header.kind == "finish" and isinstance(exc, NotRegistered):
                log.warning(
                    "the end of orchestration %r waits for a worker that knows it: %s", task_id, exc
                )
                return True
            if header.kind == "finish" and not getattr(request, "durable_tells_end", False):
                # a limit, a signal or a death ended the message, not the orchestration: its row
                # stays, and recovery sends the message again
                log.error("the last message of orchestration %r broke off: %r", task_id, exc)
                return True
            if header.kind != "turn":
                return False
            log.error("a turn of orchestration %r crashed its process: %r", task_id, exc)
        except Exception:
            log.exception("the failed turn of %r is left to recovery", task_id)
        return True

    def _note_refusal(self, execution: str, error: Exception) -> None:
        try:
            runtime_of(self.app).store.attempts.note_refusal(
                ActivityAttemptId(execution, 0, 0), f"{type(error).__name__}: {error}"
            )
        except Exception:
            log.debug("why the end of %s was refused is not noted", execution, exc_info=True)

    def _forget_finish(self, task_id: str, request: Any, header: MessageHeader | None) -> None:
        if (
            header is None
            or header.kind != "finish"
            or not hasattr(self._task_of(request), "durable_versions")
        ):
            return
        try:
            runtime_of(self.app).store.recovery.drop_finish(task_id, str(header.execution))
        except Exception:
            log.exception("the end of %r may be told to Celery once more", task_id)

    def _task_of(self, request: Any) -> Any:
        return self.app.tasks.get(getattr(request, "task", None) or getattr(request, "name", None))


def _is_recorded(request: Any) -> bool:
    """Tell whether the attempt of this very request has recorded its outcome by itself."""
    return bool(getattr(request, "durable_is_recorded", False))


def _interruption(
    ticket: ActivityAttemptId, begun: tuple[str, str], cause: BaseException
) -> ActivityInterrupted:
    instance_id, task = begun
    return ActivityInterrupted(
        f"activity {task} (attempt {ticket.attempt}) of {instance_id!r} runs at most once and was"
        f" interrupted: {type(cause).__name__}: {cause}",
        instance_id=instance_id,
        task=task,
        attempt=ticket.attempt,
    )


def is_rpc(backend: Any) -> bool:
    """Tell whether results go to the caller's own reply queue."""
    return any(base.__module__ == "celery.backends.rpc" for base in type(backend).__mro__)


_classes: dict[type, type] = {}


def make_backend(app: Celery) -> Any:
    """Make the app's backend, of the user's class with our layer in front."""
    base, url = backends.by_url(app.backend_cls or app.conf.result_backend, app.loader)
    if base not in _classes:
        _classes[base] = type(
            f"Durable{base.__name__}", (DurableBackendMixin, base), {"__durable_base__": base}
        )
    return _classes[base](app=app, url=url)
