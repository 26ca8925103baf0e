"""What a worker knows of messages: those that it has, those that wait on its queues, and whether it
has looked at all that came.

Messages are received by the worker's main loop. Recovery, in a thread beside it, asks the loop to
pass by (``ask``): what the loop has read by then is in its hands, as a request that is not
acknowledged, however it is kept: reserved for the pool, in the timer until its time, or in the
bucket of a rate limit.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.worker import state as worker_state
from kombu.transport.virtual import Channel as VirtualChannel

from ..engine.inquiry import Hands
from ..engine.records import ActivityAttemptId
from .request import Message, received

__all__ = ["WorkerWitness", "depth", "snapshot"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")
_PUNCTUAL = 5_000_000
#: How long the broker may take to answer, in seconds, by the name of kombu's driver.
_TIMEOUTS: Mapping[str, Mapping[str, float]] = {
    "py-amqp": {"read_timeout": 10, "write_timeout": 10},
    "redis": {"socket_timeout": 10},
}


class WorkerWitness:
    """The witness of one worker (``engine.inquiry.Witness``)."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._asked_at = 0
        self._has_passed = False
        self._number = 0
        self._connection: Any = None

    @property
    def _consumer(self) -> Any:
        return getattr(self._worker, "consumer", None)

    def running(self) -> list[ActivityAttemptId]:
        """Return the activities that run here, or whose messages are here to be run."""
        requests = [
            *snapshot(worker_state.active_requests),
            *snapshot(worker_state.reserved_requests),
        ]
        return [
            ticket
            for request in requests
            if (ticket := getattr(request, "durable_ticket", None)) is not None
        ]

    # -- hands -------------------------------------------------------------------------------------

    def ask(self, now: int) -> None:
        """Ask the main loop to pass by; see ``Witness``."""
        self._asked_at, self._has_passed = now, False
        self._number += 1
        consumer = self._consumer
        if consumer is None or not _is_connected(consumer):
            self._has_passed = True  # nothing comes over a wire that is not there
        else:
            consumer.call_soon(self._pass_by, consumer, self._number)

    def _pass_by(self, consumer: Any, number: int) -> None:
        """Be called by the main loop: again until it has read everything that has come."""
        if number != self._number:
            return
        if not (_is_connected(consumer) and _has_unread(consumer.connection)):
            self._has_passed = True
        elif getattr(consumer, "hub", None) is not None:
            consumer.call_soon(self._pass_by, consumer, number)
        # a loop without a hub would call again before it reads: there the next question calls

    def answer(self) -> Hands | None:
        """Return what this worker has; see ``Witness``."""
        consumer = self._consumer
        if not self._has_passed:
            if consumer is not None and getattr(consumer, "hub", None) is None:
                consumer.call_soon(self._pass_by, consumer, self._number)
            return None
        messages = list(self._unacknowledged())
        return Hands(
            {message.ticket for message in messages if message.ticket is not None},
            {message.id for message in messages if message.ticket is None},
        )

    def _unacknowledged(self) -> Iterator[Message]:
        channel = getattr(getattr(self._consumer, "task_consumer", None), "channel", None)
        active = set(snapshot(worker_state.active_requests))
        reserved = set(snapshot(worker_state.reserved_requests))
        for request in snapshot(received):
            # what came over a connection that was lost is the broker's again, unless it runs
            if request.acknowledged or not (
                request.durable_came_over(channel) or request in active
            ):
                continue
            message: Message = request.durable_message()
            # one that is due later is of no use now, nor one whose time the sender's or this
            # worker's clock has put off
            is_in_time = not message.due or 0 <= self._asked_at - message.due < _PUNCTUAL
            if is_in_time or request in active or request in reserved:
                yield message

    # -- queues ------------------------------------------------------------------------------------

    def depths(self) -> Mapping[str, int | None]:
        """Return how many messages wait on each queue; see ``Witness``."""
        consumer = self._consumer
        task_consumer = getattr(consumer, "task_consumer", None)
        if consumer is None or task_consumer is None or not _is_connected(consumer):
            return {}
        found: dict[str, int | None] = {}
        for queue in task_consumer.queues:
            try:
                channel = self._channel(consumer.app)
            except Exception as error:
                log.debug("cannot ask the broker how many messages wait: %s", error)
                return {}
            try:
                found[queue.name] = depth(channel, queue.name)
            except Exception as error:  # such as a queue that is missing, which costs the channel
                log.debug("cannot tell how many messages wait on %s: %s", queue.name, error)
                found[queue.name] = None
                self.close()
        return found

    def _channel(self, app: Celery) -> Any:
        if self._connection is None:
            self._connection = app.connection_for_read(heartbeat=0)
            limits = _TIMEOUTS.get(self._connection.transport.driver_name, {})
            options = self._connection.transport_options
            self._connection.transport_options = {**limits, **options}
        try:
            self._connection.ensure_connection(max_retries=1, interval_start=0)
        except Exception:
            self.close()
            raise
        return self._connection.default_channel

    def close(self) -> None:
        """Give up the connection that queues are measured by."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.release()


def _is_connected(consumer: Any) -> bool:
    connection = getattr(consumer, "connection", None)
    return connection is not None and bool(connection.connected)


def depth(channel: Any, queue: str) -> int:
    """Return how many messages wait on a queue of a broker.

    Raises:
        Exception: what the broker's client raises, such as for a queue that is missing.
    """
    if isinstance(channel, VirtualChannel):
        # a passive declaration takes an empty queue for a missing one
        return int(channel._size(queue))  # type: ignore[no-untyped-call]
    return int(channel.queue_declare(queue, passive=True).message_count)


def _has_unread(connection: Any) -> bool:
    """Tell whether something has come over the wire that the main loop has not read."""
    cycle = getattr(connection.transport, "cycle", None)  # Redis: a socket for each channel
    if any(_is_readable(descriptor) for descriptor in list(getattr(cycle, "_fd_to_chan", ()))):
        return True
    wire = connection.connection  # AMQP: one socket, and what was read ahead of it
    if getattr(getattr(wire, "transport", None), "_read_buffer", b""):
        return True
    own = getattr(wire, "sock", None)
    return own is not None and _is_readable(own)


def _is_readable(sock: Any) -> bool:
    pending = getattr(sock, "pending", None)
    if callable(pending) and pending():
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def snapshot(requests: Any) -> list[Any]:
    """Copy one of Celery's weak sets, which changes under us."""
    for _ in range(20):
        try:
            return list(requests)
        except RuntimeError:
            continue
    return []
