"""The only way out to Celery: activities, turn messages, and the last message of an orchestration.

Everything here happens after the commit that decided it. A failure is reported or logged, never raised: the rows in the
store say what should have been sent, and recovery sends it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.task import Context, extract_exec_options
from celery.backends.base import DisabledBackend

from ..core.status import RuntimeStatus
from ..engine.records import ActivityRow, ActivityTicket, TurnAddress
from ..engine.registry import Registry
from ..errors import OrchestrationRevoked, PayloadError
from ..payload import PayloadCodec
from .announcer import NoSentEvent
from .countdowns import Countdowns
from .light import LightSender

if TYPE_CHECKING:
    from .runtime import Tracing

__all__ = ["CeleryPublisher"]

log = logging.getLogger("celery_durable.publisher")
_ROUTING = ("queue", "routing_key", "exchange")


class CeleryPublisher:
    """Publishes for one app (``engine.protocols.Publisher``)."""

    def __init__(
        self,
        app: Celery,
        store: Any,
        codec: PayloadCodec,
        registry: Registry,
        *,
        turn_timeout: float,
        stores_results: bool,
    ) -> None:
        self.app = app
        self.store = store
        self.codec = codec
        self.registry = registry
        self.queues: frozenset[str] | None = None
        self._turn_timeout = turn_timeout
        self._stores_results = stores_results
        self._routes: dict[tuple[Any, ...], str | None] = {}
        self._eager = threading.local()
        self._light = LightSender(app)
        self._countdowns = Countdowns()
        self.tracing: Tracing | None = None

    # -- where to ---------------------------------------------------------------------------------------

    def route(self, name: str, options: Mapping[str, Any]) -> str | None:
        """Return the queue that a task with these options goes to; None if that depends on more."""
        queue = options.get("queue")
        key = (name, str(queue), options.get("routing_key"), str(options.get("exchange")))
        if key not in self._routes:
            self._routes[key] = self._find_route(name, {k: options[k] for k in _ROUTING if options.get(k) is not None})
        return self._routes[key]

    def _find_route(self, name: str, given: dict[str, Any]) -> str | None:
        task = self.app.tasks.get(name)
        if task is not None:
            given = {**{k: getattr(task, k) for k in _ROUTING if getattr(task, k, None)}, **given}
        try:
            found = self.app.amqp.router.route(given, name)
        except Exception:
            log.debug("cannot tell the queue of %s beforehand", name, exc_info=True)
            return None
        queue = found.get("queue") or self.app.amqp.default_queue
        return str(getattr(queue, "name", queue))

    def knows_task(self, name: str) -> bool:
        """Tell whether this process has the task."""
        return name in self.app.tasks

    def newest_version(self, name: str) -> str | None:
        """Return the version that new instances of this orchestrator get."""
        definition = self.registry.newest(name)
        return definition.version if definition is not None else None

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process may run turns of this orchestrator by itself."""
        if name not in self.registry:
            return False
        if self._is_eager():
            return True
        return self.queues is not None and (queue is None or queue in self.queues)

    def _is_eager(self) -> bool:
        return bool(self.app.conf.task_always_eager)

    # -- activities ---------------------------------------------------------------------------------------

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityTicket, Exception]:
        """Send activities; return those that could not be sent, and why: a ``PayloadError`` is damage in the row."""
        failed: dict[ActivityTicket, Exception] = {}
        for row in rows:
            error = self._deliver(partial(self._send_activity, row), f"activity {row.name} of {row.instance!r}")
            if error is not None:
                failed[row.ticket] = error
        return failed

    def _send_activity(self, row: ActivityRow) -> None:
        args, kwargs, options = row.signature if row.signature is not None else self._stored_signature(row)
        root_id = row.root_id or row.instance
        options = dict(options)
        headers = {**(options.pop("headers", None) or {}), "durable": {"n": row.sends, "s": self.store.id[:12]}}
        options.setdefault("ignore_result", not self._stores_results)
        options.update(task_id=row.ticket.task_id, root_id=root_id, parent_id=row.instance, headers=headers)
        task = self.app.tasks.get(row.name)
        if task is not None and self._light.can_send(task, options):
            with _misfits_sent(task, args, kwargs, options):
                self._light.send(task, tuple(args), dict(kwargs), options, row.queue)
        else:
            with nullcontext() if self.tracing is None else self.tracing.sending(headers):
                if task is not None:
                    with _misfits_sent(task, args, kwargs, options):
                        task.apply_async(tuple(args), dict(kwargs), **options)
                else:
                    self.app.send_task(row.name, tuple(args), dict(kwargs), **options)

    def _stored_signature(self, row: ActivityRow) -> tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]]:
        match self.codec.decode(row.message):
            case [str(payload), dict(options)]:
                match self.codec.decode(payload):
                    case [list(args) | tuple(args), dict(kwargs)]:
                        return args, kwargs, options
        raise PayloadError(f"the message of activity {row.ticket.task_id} ({row.name}) of {row.instance!r} is damaged")

    # -- turns ----------------------------------------------------------------------------------------------

    def publish_turn(self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0) -> bool:
        """Send a turn message, ``delay`` microseconds from now; False if it could not be, or was better not, sent."""
        if delay > 0 and not self._countdowns.may_send(delay / 1_000_000):
            return False
        header: dict[str, Any] = {"t": "turn", "s": self.store.id[:12]}
        if due is not None:
            header["due"] = due
        if tries:
            header["n"] = tries

        def send() -> None:
            options = self._turn_options(address)
            if delay > 0:
                options["countdown"] = self._countdown(delay)
            self._send_orchestrator(address, options, header, ignore_result=True)

        return self._deliver(send, f"turn of {address.id!r}") is None

    def _countdown(self, delay: int) -> float:
        seconds = delay / 1_000_000
        # native delayed delivery (quorum queues) refuses less than a second: come early and wait instead
        return (
            0
            if seconds < 1 and self.app.conf.broker_native_delayed_delivery_queue_type and self._has_quorum()
            else seconds
        )

    def _has_quorum(self) -> bool:
        queues = self.app.amqp.queues.values()
        return any((getattr(queue, "queue_arguments", None) or {}).get("x-queue-type") == "quorum" for queue in queues)

    def _turn_options(self, address: TurnAddress) -> dict[str, Any]:
        try:
            options = dict(self._canvas(address.canvas).get("options") or {})
        except (PayloadError, TypeError, ValueError) as error:
            log.error("a turn of %r is sent without its options, which are damaged: %s", address.id, error)
            options = {}
        if (
            not any(options.get(key) for key in _ROUTING)
            and address.queue is not None
            and address.name not in self.app.tasks
        ):
            options["queue"] = address.queue
        return options

    def _canvas(self, canvas: str | None) -> dict[str, Any]:
        found = self.codec.decode(canvas) if canvas else {}
        if not isinstance(found, dict):
            raise PayloadError(f"stored options are {type(found).__name__}, not a dict")
        return found

    def _send_orchestrator(
        self, address: TurnAddress, options: dict[str, Any], header: dict[str, Any], *, ignore_result: bool
    ) -> None:
        headers = {**(options.pop("headers", None) or {}), "durable": header}
        options = {
            "root_id": address.root_id or address.id, "parent_id": None, **options, "task_id": address.id,
            "headers": headers, "expires": None, "ignore_result": ignore_result,
        }  # fmt: skip
        if self.app.conf.task_send_sent_event:
            options["event_dispatcher"] = NoSentEvent()
        task = self.app.tasks.get(address.name)
        if task is None:
            self.app.send_task(address.name, (), {}, **options)
            return
        if not hasattr(task, "publish"):
            log.error("%r is registered here as a plain task, not as an orchestrator", address.name)
            self.app.send_task(address.name, (), {}, **options)
            return
        if task.time_limit is None and header["t"] == "turn":
            options.setdefault("time_limit", self._turn_timeout)
        if header["t"] == "turn" and self._light.can_send(task, options):
            self._light.send(task, (), {}, options, address.queue)
        else:
            task.publish((), {}, **options)

    # -- the end --------------------------------------------------------------------------------------------

    def needs_finish(self, canvas: str | None) -> bool:
        """Tell whether Celery is to be told of the end; if that cannot be read, it is, once that is mended."""
        try:
            kept = self._canvas(canvas)
        except PayloadError:
            return True
        if kept.get("finish") or kept.get("reply"):
            return True
        return not kept.get("ignore_result") and not isinstance(self.app.backend, DisabledBackend)

    def finish(
        self, address: TurnAddress, execution: str, status: RuntimeStatus, output: str | None, failure: str | None,
        reason: str | None,
    ) -> None:  # fmt: skip
        """Store the orchestration's result, or send the last message where callbacks wait for it."""

        def tell() -> None:
            canvas = self._canvas(address.canvas)
            if canvas.get("finish"):
                self._send_finish(address, execution, canvas)
            else:
                self._store_result(address, execution, canvas, status, output, failure, reason)

        self._deliver(tell, f"end of {address.id!r}")

    def _send_finish(self, address: TurnAddress, execution: str, canvas: Mapping[str, Any]) -> None:
        options = {**(canvas.get("options") or {}), **canvas["finish"], **(canvas.get("reply") or {})}
        header = {"t": "finish", "x": execution, "s": self.store.id[:12]}
        self._send_orchestrator(address, options, header, ignore_result=bool(canvas.get("ignore_result")))

    def finish_again(self, row: ActivityRow) -> None:
        """Let Celery finish an orchestration whose end it was not told of, or not for certain."""
        record = self.store.fetch(row.instance)
        if record is None or record.execution != row.ticket.execution or not record.status.is_terminal:
            self.store.drop_finish(row.instance, row.ticket.execution)
            return
        address = TurnAddress(record.id, record.name, record.queue, record.canvas, record.root_id)
        self.finish(address, record.execution, record.status, record.output, record.failure, record.reason)

    def _store_result(
        self, address: TurnAddress, execution: str, canvas: Mapping[str, Any], status: RuntimeStatus, output: str | None,
        failure: str | None, reason: str | None,
    ) -> None:  # fmt: skip
        task = self.app.tasks.get(address.name)
        backend = task.backend if task is not None else self.app.backend
        reply = canvas.get("reply") or {}
        request = Context(
            id=address.id, task=address.name, root_id=address.root_id or address.id, args=(), kwargs={}, children=[],
            ignore_result=False, correlation_id=reply.get("correlation_id") or address.id, reply_to=reply.get("reply_to"),
        )  # fmt: skip
        if status is RuntimeStatus.COMPLETED:
            backend.store_result(address.id, self.codec.decode(output or "null"), "SUCCESS", request=request)
        elif status is RuntimeStatus.FAILED:
            error, _ = self.codec.decode_failure(failure or "")
            backend.store_result(address.id, error, "FAILURE", traceback="", request=request)
        else:
            revoked = OrchestrationRevoked(
                f"orchestration {address.id!r} is {status}" + (f": {reason}" if reason else ""),
                instance_id=address.id, status=status, reason=reason,
            )  # fmt: skip
            backend.store_result(address.id, revoked, "REVOKED", request=request)
        self.store.drop_finish(address.id, execution)

    # -- sending ----------------------------------------------------------------------------------------------

    def _deliver(self, send: Callable[[], None], what: str) -> Exception | None:
        """Send now, and return what went wrong; with ``task_always_eager`` after what runs already, so that nothing nests."""
        if not self._is_eager():
            return self._attempt(send, what)
        queue: deque[tuple[Callable[[], None], str]] | None = getattr(self._eager, "queue", None)
        if queue is not None:
            queue.append((send, what))
            return None
        self._eager.queue = queue = deque([(send, what)])
        try:
            while queue:
                self._attempt(*queue.popleft())
        finally:
            self._eager.queue = None
        return None

    def _attempt(self, send: Callable[[], None], what: str) -> Exception | None:
        try:
            send()
        except Exception as error:
            log.warning("%s could not be sent, recovery will: %s: %s", what, type(error).__name__, error)
            return error
        return None


@contextmanager
def _misfits_sent(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[None]:
    """Send arguments that ``apply_async`` refuses here: the body refuses them in the worker, and that is an outcome.

    Without it nothing would ever be sent, and the orchestration would wait for it for ever.
    """
    try:
        yield
    except TypeError:
        if _takes(task, args, kwargs):
            raise
        if task.app.conf.task_always_eager:
            task.apply(tuple(args), dict(kwargs), **options)
        else:
            task.app.send_task(task.name, tuple(args), dict(kwargs), **{**extract_exec_options(task), **options})


def _takes(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a task takes these arguments, by the check that ``apply_async`` makes."""
    header = getattr(task, "__header__", None)
    if header is None or not task.typing:
        return True
    try:
        header(*args, **kwargs)
    except TypeError:
        return False
    return True
