"""The orchestrator as a Celery task: one name and one task id for the whole life of an orchestration.

Three kinds of message reach it. A *start* from a process without this extension creates the instance; a *turn* moves
it and ends in ``Ignore``, so that Celery sees nothing final; the *finish* message alone returns or raises, and so
carries link, chain, chord and result.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from celery import Task
from celery.app.task import Context
from celery.exceptions import Ignore, Reject

from ..core.commands import shown_in
from ..core.status import RuntimeStatus
from ..engine.client import StartRequest
from ..engine.records import TurnAddress
from ..engine.turn import TurnState
from ..errors import StoreError
from ..result import Orchestration
from .announcer import shown_otherwise
from .backend import is_rpc
from .runtime import Runtime, header_of, runtime_of
from .tracing import QuietTracer, raise_pending

__all__ = ["OrchestratorTask"]

log = logging.getLogger("celery_durable.orchestrator")
_TURN_OPTIONS = ("queue", "routing_key", "exchange", "priority", "serializer", "compression", "headers")
_CALLBACKS = (
    "link",
    "link_error",
    "chain",
    "chord",
    "group_id",
    "group_index",
    "stamped_headers",
    "replaced_task_nesting",
)


class OrchestratorTask(Task):  # type: ignore[misc]
    """The task class of orchestrators; ``run`` is the user's function and takes the context first."""

    abstract = True
    typing = False
    acks_late = True
    track_started = False
    __trace__ = QuietTracer()
    #: The versions of an orchestrator that was declared without an app: functions, and the rest of their definitions.
    durable_versions: Sequence[tuple[Callable[..., Any], dict[str, Any]]] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a turn when a worker calls; call the user's function itself when anybody else does."""
        request = self.request
        if request.called_directly:
            return self._newest(*args, **kwargs)
        raise_pending(request)
        header = header_of(request)
        runtime = runtime_of(self.app)
        try:
            if header is None:
                self._start_from_message(runtime, request, args, kwargs)
            elif header.get("s") not in (None, runtime.store.id[:12]):
                self._refuse_foreign(runtime, header)
            elif header.get("t") == "finish":
                return self._finish(runtime, header)
            elif not self._is_early(runtime, header):
                self._take_turns(runtime, header)
        except StoreError as error:
            log.error("turn of %r is put back: %s", request.id, error)
            time.sleep(1.0)
            raise Reject(str(error), requeue=True) from error
        raise Ignore

    # -- messages -----------------------------------------------------------------------------------------

    def _start_from_message(
        self, runtime: Runtime, request: Context, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Create the instance of a start message that our client did not send, and take its first turn."""
        canvas = _canvas_of_request(request)
        start = StartRequest(self.name, args, kwargs, instance_id=request.id, canvas=canvas, root_id=_root(request),
                             queue=runtime.publisher.route(self.name, canvas.get("options") or {}))  # fmt: skip
        new = runtime.client.prepare(start)
        if new.admission is not None:
            runtime.client.start_prepared(new)
            return
        if runtime.store.insert_instance(new):
            runtime.runner.observation.started(new)
        runtime.runner.run(request.id)

    def _take_turns(self, runtime: Runtime, header: Mapping[str, Any]) -> None:
        state = runtime.runner.run(self.request.id)
        if state is TurnState.UNKNOWN:
            record = runtime.store.fetch(self.request.id)
            runtime.store.note_waiting(
                self.request.id, f"waits for a worker that has {self.name} version {record.version!r}"
            )
            self._again(runtime, header)
        elif state is TurnState.MISSING:
            # a start inside a transaction that is not visible yet; recovery finds it later than this would
            self._again(runtime, header)

    def _again(self, runtime: Runtime, header: Mapping[str, Any]) -> None:
        tries = header.get("n") or 0
        if isinstance(tries, int) and 0 <= tries < 2:
            address = TurnAddress(self.request.id, self.name, None, None)
            runtime.publisher.publish_turn(address, delay=1_000_000 * 2**tries, tries=tries + 1)

    def _is_early(self, runtime: Runtime, header: Mapping[str, Any]) -> bool:
        """Wait for the due time if it is close; else send the message once more. Clocks of brokers differ."""
        due = header.get("due")
        if not isinstance(due, int):
            return False
        early = due - runtime.store.now()
        if early <= 0:
            return False
        if early <= 1_000_000:
            time.sleep(early / 1_000_000)
            return False
        for address in runtime.store.turn_addresses([self.request.id]):
            runtime.publisher.publish_turn(address, delay=early, due=due)
        return True

    def _refuse_foreign(self, runtime: Runtime, header: Mapping[str, Any]) -> NoReturn:
        log.error(
            "a message of orchestration %r belongs to another store (%s...) than this worker's, %s (%s...): it is put back. "
            "Is durable_backend_url the same, and absolute, everywhere?",
            self.request.id, header.get("s"), runtime.store.database, runtime.store.id[:12],
        )  # fmt: skip
        time.sleep(1.0)
        raise Reject("another store", requeue=True)

    def _finish(self, runtime: Runtime, header: Mapping[str, Any]) -> Any:
        """Give Celery the end: return the output, raise the failure, or mark as revoked."""
        record = runtime.store.fetch(self.request.id)
        if record is None or record.execution != header.get("x") or not record.status.is_terminal:
            raise Ignore
        if record.status is RuntimeStatus.COMPLETED:
            return runtime.codec.decode(record.output or "null")
        if record.status is RuntimeStatus.FAILED:
            raise runtime.codec.decode_failure(record.failure or "")[0]
        self.backend.mark_as_revoked(self.request.id, reason=record.reason or str(record.status), request=self.request)
        raise Ignore

    # -- starting ---------------------------------------------------------------------------------------------

    def publish(self, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> Any:
        """Send a message of this task as it is."""
        return super().apply_async(args, kwargs, **options)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Orchestration:
        """Start an orchestration; the same as ``durable.start`` with Celery's own options.

        Raises:
            TypeError: the arguments do not fit the orchestrator.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started. (Inside a worker's task the plain message is
                sent instead, and creates the orchestration where the store can be reached.)
        """
        runtime = runtime_of(self.app)
        self.check_arguments(args or (), kwargs or {})
        options.update(link=link, link_error=link_error)
        canvas = _canvas_of_options(self, options)
        request = StartRequest(
            self.name, tuple(args or ()), dict(kwargs or {}), instance_id=task_id, canvas=canvas,
            queue=runtime.publisher.route(self.name, options), start_at=_start_at(runtime, options),
            root_id=options.get("root_id"),
        )  # fmt: skip
        try:
            started = runtime.client.start(request)
        except StoreError:
            if self.app.current_worker_task is None or runtime.client.transactions.find() is not None:
                raise  # nothing is sent before the commit that decides it
            log.warning("the store cannot be reached: %s is started by a plain message", self.name, exc_info=True)
            given = {key: value for key, value in options.items() if value is not None}
            self.publish(tuple(args or ()), dict(kwargs or {}), task_id=task_id, **given)
            return Orchestration(task_id or "", app=self.app)
        result = Orchestration(started.id, app=self.app, nudge=started.nudge)
        parent = self.app.current_worker_task
        if parent is not None and options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that the orchestrator cannot take.

        Raises:
            TypeError: they do not fit its signature.
        """
        try:
            _signature_of(self._newest).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None

    @property
    def _newest(self) -> Callable[..., Any]:
        """The function that new instances run."""
        definition = self.app.durable.registry.newest(self.name) if hasattr(self.app, "durable") else None
        return self.run if definition is None else definition.function  # type: ignore[no-any-return]

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Orchestration:  # noqa: N802
        """Return the handle of an orchestration of this task, which a canvas may start only later."""
        return Orchestration(task_id, app=self.app, may_come=True)


@functools.cache
def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _start_at(runtime: Runtime, options: Mapping[str, Any]) -> int | None:
    from ..core.context import as_microseconds

    if (eta := options.get("eta")) is not None:
        if isinstance(eta, str):
            from datetime import datetime

            eta = datetime.fromisoformat(eta)
        return as_microseconds(eta)
    if countdown := options.get("countdown"):
        return int(runtime.store.now()) + round(float(countdown) * 1_000_000)
    return None


def _canvas_of_options(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept for the turn messages and for the end, of the options of ``apply_async``."""
    kept: dict[str, Any] = {}
    turn = {key: _plain(options[key]) for key in _TURN_OPTIONS if options.get(key) is not None}
    if turn:
        kept["options"] = turn
    finish = {key: options[key] for key in _CALLBACKS if options.get(key)}
    if options.get("group_index") is not None and "group_id" in finish:
        finish["group_index"] = options["group_index"]
    if finish:
        kept["finish"] = {**finish, **({"parent_id": options["parent_id"]} if options.get("parent_id") else {})}
    backend = task.backend
    if is_rpc(backend):
        kept["reply"] = {"reply_to": options.get("reply_to") or backend.oid}
        with task.app.producer_pool.acquire(block=True) as producer:
            backend.on_task_call(producer, "")  # declares the reply queue, as sending a task would
    elif options.get("reply_to"):
        kept["reply"] = {"reply_to": options["reply_to"]}
    if options.get("ignore_result", task.ignore_result):
        kept["ignore_result"] = True
    if shown := shown_in(options):
        kept["shown"] = shown
    return kept


def _plain(value: Any) -> Any:
    return getattr(value, "name", value)


def _canvas_of_request(request: Context) -> dict[str, Any]:
    """Return the same for a start message that came over the broker."""
    delivery = request.delivery_info or {}
    kept: dict[str, Any] = {}
    if delivery.get("routing_key") and not delivery.get("exchange"):
        kept["options"] = {"queue": delivery["routing_key"]}
    if delivery.get("priority"):
        kept.setdefault("options", {})["priority"] = delivery["priority"]
    finish = {
        "link": request.callbacks, "link_error": request.errbacks, "chain": request.chain, "chord": request.chord,
        "group_id": request.group, "group_index": getattr(request, "group_index", None),
    }  # fmt: skip
    kept_finish = {key: value for key, value in finish.items() if value is not None and value != []}
    if kept_finish:
        kept["finish"] = {**kept_finish, **({"parent_id": request.parent_id} if request.parent_id else {})}
    if request.reply_to:
        kept["reply"] = {"reply_to": request.reply_to, "correlation_id": request.correlation_id}
    if request.ignore_result:
        kept["ignore_result"] = True
    if shown := shown_otherwise(request):
        kept["shown"] = shown
    return kept


def _root(request: Context) -> str | None:
    return request.root_id if request.root_id != request.id else None
