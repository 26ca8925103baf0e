"""Sending the messages of orchestrations: turns, and the last one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from celery import Celery
from celery.app.routes import Router

from ..core.canvas_options import CanvasOptions
from ..engine.records import TurnAddress
from ..engine.store_ports import Store
from ..errors import PayloadError
from ..payload import PayloadCodec
from .countdowns import Countdowns, has_quorum_queue
from .fast_publish import FastPublisher
from .headers import HEADER, MessageHeader, store_tag
from .routing import ROUTING, CeleryRouting
from .send_queue import SendQueue
from .task_events import NoSentEvent

__all__ = ["OrchestratorSender"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")


class OrchestratorSender:
    """Sends the messages of one app's orchestrators."""

    def __init__(
        self,
        app: Celery,
        store: Store,
        codec: PayloadCodec,
        routing: CeleryRouting,
        queue: SendQueue,
        light: FastPublisher,
        *,
        turn_timeout: float,
    ) -> None:
        self.app = app
        self.store = store
        self.codec = codec
        self._routing = routing
        self._queue = queue
        self._light = light
        self._turn_timeout = turn_timeout
        self._countdowns = Countdowns()

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        """Send a turn message, ``delay`` microseconds from now.

        False if it could not be, or was better not, sent.
        """
        if delay > 0 and not self._countdowns.may_send(delay / 1_000_000):
            return False
        header = MessageHeader("turn", store_tag(self.store.id), tries, due=due)

        def send() -> None:
            options = self._turn_options(address)
            if delay > 0:
                options["countdown"] = self._countdown(delay)
            self.send(address, options, header, ignore_result=True)

        return self._queue.deliver(send, f"turn of {address.id!r}") is None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the turns that are sent in this block reach the broker together; see
        ``engine.ports.Publisher``.
        """
        with nullcontext() if self._queue.is_eager else self._light.together("turns"):
            yield

    def _countdown(self, delay: int) -> float:
        seconds = delay / 1_000_000
        # native delayed delivery (quorum queues) refuses less than a second: come early and wait
        # instead
        return (
            0
            if seconds < 1
            and self.app.conf.broker_native_delayed_delivery_queue_type
            and has_quorum_queue(self.app)
            else seconds
        )

    def _turn_options(self, address: TurnAddress) -> dict[str, Any]:
        try:
            options = _with_context(CanvasOptions.read(self.codec, address.canvas))
        except (PayloadError, TypeError, ValueError) as error:
            log.error(
                "a turn of %r is sent without its options, which are damaged: %s", address.id, error
            )
            options = {}
        if (
            not any(options.get(key) for key in ROUTING)
            and address.queue is not None
            and (address.name not in self.app.tasks or self._routing.must_ask_each_time)
        ):
            options["queue"] = address.queue
        return options

    def send_finish(
        self, address: TurnAddress, canvas: CanvasOptions, header: MessageHeader
    ) -> None:
        """Send the last message of an orchestration.

        Raises:
            Exception: whatever Celery or the broker's client raises.
        """
        args, kwargs = (), {}
        # no tracer of ours comes between
        if self._queue.is_eager and (record := self.store.reads.fetch(address.id)) is not None:
            args, kwargs = self.codec.decode(record.input or "[[], {}]")
        self.send(
            address,
            {**_with_context(canvas), **canvas.finish, **canvas.reply},
            header,
            ignore_result=canvas.ignores_result,
            arguments=(tuple(args), kwargs),
        )

    def send(
        self,
        address: TurnAddress,
        options: dict[str, Any],
        header: MessageHeader,
        *,
        ignore_result: bool,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {}),
    ) -> None:
        """Send one message, or run it here if this thread does."""
        headers = {**(options.pop("headers", None) or {}), HEADER: header.to_wire()}
        options = {
            "root_id": address.root_id or address.id,
            "parent_id": None,
            **options,
            "task_id": address.id,
            "headers": headers,
            "expires": None,
            "ignore_result": ignore_result,
        }
        if self.app.conf.task_send_sent_event:
            options["event_dispatcher"] = NoSentEvent()
        if self._routing.must_ask_each_time:
            options["router"] = self._way_kept()
        task = self.app.tasks.get(address.name)
        if task is None:
            self._light.let_go()
            with self._routing.context_headers.kept(options):
                self.app.send_task(address.name, (), {}, **options)
            return
        if not hasattr(task, "publish"):
            log.error("%r is registered here as a plain task, not as an orchestrator", address.name)
            self._light.let_go()
            self.app.send_task(address.name, (), {}, **options)
            return
        if task.time_limit is None and header.kind == "turn":
            options.setdefault("time_limit", self._turn_timeout)
        if (
            header.kind == "turn"
            and (queue := self._routing.turn_queue(address.name, options)) is not None
        ):
            options["queue"] = queue
        if self._queue.is_draining:
            task.run_message(*arguments, options)
        elif header.kind != "turn" or not self._light.send(task, (), {}, options):
            self._light.let_go()
            with self._routing.context_headers.kept(options):
                task.publish(*arguments, **options)

    def _way_kept(self) -> Router:
        """Return a router that goes by the options alone: what was asked at the start is kept
        there.
        """
        amqp = self.app.amqp
        return Router(
            [], amqp.queues, create_missing=self.app.conf.task_create_missing_queues, app=self.app
        )


def _with_context(canvas: CanvasOptions) -> dict[str, Any]:
    """Return the options of an orchestration's messages, with the headers that travel with it."""
    travels = canvas.context.get("headers")
    if not travels:
        return dict(canvas.options)
    return {**canvas.options, "headers": {**(canvas.options.get("headers") or {}), **travels}}
