"""What a message of an orchestrator does in a worker: a start, a turn, or the last one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from celery import Task, signals
from celery.app.task import Context
from celery.exceptions import Ignore, Reject

from ..core.status import RuntimeStatus
from ..engine.outcome import Verdict
from ..engine.records import ActivityAttemptId, Outcome, TurnAddress
from ..engine.start import StartRequest
from ..engine.turn import TurnState
from ..errors import ConfigurationError, StoreError
from .headers import MessageHeader, ticket_of
from .runtime import Runtime, is_behind
from .starting import canvas_of_message, moment

__all__ = ["Receiver"]

log: logging.Logger = logging.getLogger("celery_durable.orchestrator")


class Receiver:
    """One message that a worker has received."""

    __slots__ = ("request", "runtime", "task")

    def __init__(self, task: Task, runtime: Runtime, request: Context) -> None:
        self.task: Any = task
        self.runtime: Runtime = runtime
        self.request: Any = request

    def receive(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Do what the message asks for; only the last message returns.

        Raises:
            Ignore: it was a turn: Celery is to see no end.
            Reject: it is put back.
            Exception: what the orchestration failed with; of the last message.
        """
        request, runtime = self.request, self.runtime
        header = MessageHeader.from_request(request)
        try:
            if header is None:
                self._start_from_message(args, kwargs)
            elif not header.is_of(runtime.store.id):
                self._refuse_foreign(header)
            elif (ticket := ticket_of(request)) is not None:
                self._refuse_call(ticket)
            elif header.kind == "finish":
                return self._finish(header)
            elif not self._is_early(header):
                self._take_turns(header)
        except (StoreError, ConfigurationError) as error:
            if not isinstance(error, StoreError) and not is_behind(error):
                raise
            log.error("turn of %r is put back: %s", request.id, error)
            time.sleep(1.0)
            raise Reject(str(error), requeue=True) from error
        raise Ignore

    def _start_from_message(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Create the instance of a start message that our client did not send, and take its first
        turn.
        """
        runtime, request = self.runtime, self.request
        headers = runtime.publisher.context_headers.of_message(request)
        context = runtime.runner.propagators.capture(headers)
        canvas = canvas_of_message(request).with_context(context)
        start = StartRequest(
            self.task.name,
            args,
            kwargs,
            instance_id=request.id,
            canvas=canvas.kept,
            root_id=_root(request),
            queue=runtime.publisher.route(self.task.name, canvas.options),
            expires=moment(runtime, request.expires),
        )
        runtime.runner.starter.start_from_message(start)

    def _take_turns(self, header: MessageHeader) -> None:
        runtime = self.runtime
        state = runtime.runner.run(self.request.id, sends=header.tries)
        if state is TurnState.UNKNOWN:
            record = runtime.store.reads.fetch(self.request.id)
            if record is not None:
                runtime.store.turns.note_waiting(
                    record.id,
                    f"waits for a worker that has {self.task.name} version {record.version!r}",
                )
            self._again(header)
        elif state is TurnState.MISSING:
            # a start inside a transaction that is not visible yet; recovery finds it later than
            # this would
            self._again(header)

    def _again(self, header: MessageHeader) -> None:
        runtime = self.runtime
        tries = header.tries
        if 0 <= tries < 2:
            queue = canvas_of_message(self.request).options.get("queue")
            address = TurnAddress(self.request.id, self.task.name, queue, None)
            runtime.publisher.publish_turn(address, delay=1_000_000 * 2**tries, tries=tries + 1)

    def _is_early(self, header: MessageHeader) -> bool:
        """Wait for the due time if it is close; else send the message once more.

        Clocks of brokers differ.
        """
        runtime = self.runtime
        due = header.due
        if due is None or due <= runtime.runner.clock.now():
            return False
        early = due - runtime.store.now()
        if early <= 0:
            return False
        if early <= 1_000_000:
            time.sleep(early / 1_000_000)
            return False
        for address in runtime.store.reads.turn_addresses([self.request.id]):
            runtime.publisher.publish_turn(address, delay=early, due=due)
        return True

    def _refuse_foreign(self, header: MessageHeader) -> NoReturn:
        runtime = self.runtime
        log.error(
            "a message of orchestration %r belongs to another store (%s...) than this worker's, %s"
            " (%s...): it is put back. Is durable_backend_url the same, and absolute, everywhere?",
            self.request.id,
            header.store,
            runtime.store.location,
            runtime.store.id[:12],
        )
        time.sleep(1.0)
        raise Reject("another store", requeue=True)

    def _refuse_call(self, ticket: ActivityAttemptId) -> None:
        """Let a call fail that was sent as an activity: its sender did not know that this is an
        orchestrator.
        """
        runtime, name = self.runtime, self.task.name
        instance_id = runtime.store.attempts.find_instance_of(ticket)
        error = ConfigurationError(
            f"{name} is an orchestrator, and the worker that took the turn of {instance_id!r}"
            " did not know it: it was sent as an activity. Let all workers that run"
            f" {instance_id!r} import the module that defines {name}, then rewind() it",
            instance_id=instance_id,
            task=name,
        )
        outcome = Outcome(ticket, runtime.codec.encode_failure(error), has_failed=True)
        if runtime.runner.outcomes.accept(outcome) is not Verdict.LATE:
            log.error("%s", error)

    def _finish(self, header: MessageHeader) -> Any:
        """Give Celery the end: return the output, raise the failure, or mark as revoked."""
        runtime, request = self.runtime, self.request
        record = runtime.store.reads.fetch(request.id)
        if record is None or record.execution != header.execution or not record.status.is_terminal:
            raise Ignore
        if runtime.store.reads.is_finished_for_celery(record.execution):
            raise Ignore  # another copy of this message has told it
        request.durable_tells_end = True  # what is raised from here on is the orchestration's own
        if record.status is RuntimeStatus.COMPLETED:
            return runtime.codec.decode(record.output or "null")
        if record.status is RuntimeStatus.FAILED:
            raise runtime.codec.decode_failure(record.failure or "")[0]
        self.task.backend.mark_as_revoked(
            request.id,
            reason=record.reason or str(record.status),
            request=request,
            store_result=not request.ignore_result,
        )
        signals.task_revoked.send(
            sender=self.task,
            request=request,
            terminated=record.status is RuntimeStatus.TERMINATED,
            signum=None,
            expired=record.reason == "expired",
        )
        raise Ignore


def _root(request: Context) -> str | None:
    return request.root_id if request.root_id != request.id else None
