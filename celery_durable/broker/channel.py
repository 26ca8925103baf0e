"""Channels of the embedded broker: how kombu puts messages into its file and takes them out."""

# kombu says that it is typed, but few of its functions are.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from queue import Empty
from time import time
from typing import Any

from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.json import dumps, loads

from .file import BrokerFile, delete_queue

__all__ = ["Channel"]

logger: logging.Logger = logging.getLogger("celery_durable.broker.transport")

# A queue that deletes itself outlives its last consumer by this much: a restarted worker comes back
# to it.
AUTO_DELETE_GRACE = 10.0


class QoS(virtual.QoS):
    """Knows which message of the file stands behind each delivery of one channel."""

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._messages: dict[str, int] = {}

    def append(self, message: virtual.Message, delivery_tag: str) -> None:
        """Note a delivery that awaits its acknowledgement."""
        self._messages[delivery_tag] = int(delivery_tag.partition(".")[0])
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Delete the message.

        If that fails the delivery stays open and the message is delivered again.
        """
        message = self._messages.get(delivery_tag)
        if message is not None:
            self.channel.file.acknowledge(message)
        self._settle(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Delete the message, or give it back."""
        message = self._messages.get(delivery_tag)
        if not requeue:
            self.ack(delivery_tag)
        elif message is not None:
            # Settled first: once released, the message may be delivered again before the next
            # line runs.
            self._settle(delivery_tag)
            self.channel.file.release([message])

    def restore_unacked(self) -> list[Any]:
        """Give back all open deliveries."""
        messages = list(self._messages.values())
        self._messages.clear()
        self._delivered.clear()
        self._dirty.clear()
        self.channel.file.release(messages)
        return []

    def _settle(self, delivery_tag: str) -> None:
        if self._messages.pop(delivery_tag, None) is not None:
            super().ack(delivery_tag)
            self.channel.wake()


class Channel(virtual.Channel):
    """A channel whose queues, exchanges, bindings and consumers live in the file, for all
    processes.
    """

    QoS = QoS
    supports_fanout = True
    max_priority = 255

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.file: BrokerFile = connection.file  # of the Transport
        self._no_ack_queues: set[str] = set()
        self._registrations: dict[str, int] = {}
        self._deliveries = itertools.count()

    def awaits_work(self) -> bool:
        """Tell whether it consumes messages that need an acknowledgement, not only commands and
        events.
        """
        return not self._no_ack_queues.issuperset(self._active_queues)

    def is_saturated(self) -> bool:
        """Tell whether its consumers can take nothing before they acknowledge something."""
        return bool(self._consumers) and not self.qos.can_consume()

    def wake(self) -> None:
        """Let the polling thread look at once: what it may take has changed."""
        if self.connection is not None:
            self.connection.wake()

    # messages

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self._put_all([queue], message)

    def _put_fanout(
        self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any
    ) -> None:
        self._put_all({queue for _, _, queue in self.get_table(exchange)}, message)

    def _put_all(self, queues: Iterable[str], message: dict[str, Any]) -> None:
        priority, body = self._get_message_priority(message), dumps(message)
        sql = """INSERT INTO message (queue, priority, body, expires_at)
            VALUES (?, ?, ?, ? + (SELECT ttl FROM queue WHERE name = ?))"""
        for queue in queues:
            self.file.change(sql, queue, priority, body, time(), queue)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        return self._take(queue, no_ack=queue in self._no_ack_queues)

    def _take(self, queue: str, no_ack: bool) -> dict[str, Any]:
        first = """SELECT id, CAST(body AS BLOB), redelivered FROM message
            WHERE queue = ? AND owner IS NULL ORDER BY priority DESC, id LIMIT 1"""
        while rows := self.file.rows(first, queue):
            ((message, body, redelivered),) = rows
            try:
                payload = self._decode(message, body, redelivered)
            except Exception:
                logger.exception(
                    "message %d cannot be decoded; moved to %s.undecodable", message, queue
                )
                aside = (
                    "UPDATE message SET queue = queue || '.undecodable' WHERE id = ? AND owner IS"
                    " NULL"
                )
                self.file.change(aside, message)
                continue
            if no_ack:
                taken = self.file.change(
                    "DELETE FROM message WHERE id = ? AND owner IS NULL", message
                )
            else:
                lease = "UPDATE message SET owner = ? WHERE id = ? AND owner IS NULL"
                taken = self.file.change(lease, self.file.owner(), message)
            if taken:
                return payload
        raise Empty()

    def _decode(self, message: int, body: bytes, redelivered: int) -> dict[str, Any]:
        payload: dict[str, Any] = loads(body)
        properties = payload["properties"]
        # A tag of its own for each delivery: the publisher's is shared by all copies of a fanout.
        properties["delivery_tag"] = f"{message}.{next(self._deliveries)}"
        properties["delivery_info"] = dict(
            properties["delivery_info"], redelivered=bool(redelivered)
        )
        payload["headers"] = dict(payload["headers"])
        self.Message(payload, channel=self)  # the body, too, must be readable
        return payload

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> virtual.Message | None:
        """Take one message without a consumer."""
        try:
            message = self.Message(self._take(queue, no_ack), channel=self)
        except Empty:
            return None
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def _size(self, queue: str) -> int:
        ready = self.file.rows(
            "SELECT count(*) FROM message WHERE queue = ? AND owner IS NULL", queue
        )
        return int(ready[0][0])

    def _purge(self, queue: str) -> int:
        return self.file.change("DELETE FROM message WHERE queue = ? AND owner IS NULL", queue)

    # consumers

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,
        callback: Callable[..., Any],
        consumer_tag: str,
        **kwargs: Any,
    ) -> None:
        """Consume from a queue; as long as this process does, the queue does not expire."""
        owner = self.file.owner()
        auto_delete = """UPDATE queue SET lifetime = min(ifnull(lifetime, 1e9), ?)
            WHERE name = ? AND auto_delete"""
        with self.file.transaction() as connection:
            connection.execute(auto_delete, (AUTO_DELETE_GRACE, queue))
            cursor = connection.execute(
                "INSERT INTO consumer (queue, owner) VALUES (?, ?)", (queue, owner)
            )
        self._registrations[consumer_tag] = cursor.lastrowid or 0
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self.wake()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Cancel a consumer; without another one its queue may expire."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        registration = self._registrations.pop(consumer_tag, None)
        if registration is not None:
            with self.file.transaction() as connection:
                mine = (registration, self.file.owner_name)
                connection.execute("DELETE FROM consumer WHERE id = ? AND owner = ?", mine)
                connection.execute("UPDATE queue SET used_at = ? WHERE name = ?", (time(), queue))

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> None:
        """Set how many deliveries may be open at a time."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.wake()

    # exchanges, queues, bindings

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Give the type of an exchange.

        One that this connection did not declare is known by its bindings.
        """
        if exchange not in self.state.exchanges:
            for (kind,) in self.file.rows(
                "SELECT type FROM binding WHERE exchange = ? LIMIT 1", exchange
            ):
                default = kind
        return super().typeof(exchange, default)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange, its bindings, and those of its queues that are empty and unused."""
        super().exchange_delete(exchange, if_unused, nowait)
        self.file.change("DELETE FROM binding WHERE exchange = ?", exchange)

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        """Spell ``expires`` and ``message_ttl`` as RabbitMQ does."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def _new_queue(self, queue: str, auto_delete: bool = False, **kwargs: Any) -> None:
        limits = kwargs.get("arguments") or {}
        lifetime, ttl = (
            None if limits.get(key) is None else limits[key] / 1000
            for key in ("x-expires", "x-message-ttl")
        )
        declare = """INSERT INTO queue VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET used_at = excluded.used_at"""
        self.file.change(declare, queue, auto_delete, lifetime, ttl, time())

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self.file.rows("SELECT 1 FROM queue WHERE name = ?", queue))

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any
    ) -> None:
        """Delete a queue with its bindings and its messages, those being worked on too."""
        with self.file.transaction() as connection:
            for is_condition, some in (
                (if_unused, "SELECT 1 FROM consumer WHERE queue = ? LIMIT 1"),
                (if_empty, "SELECT 1 FROM message WHERE queue = ? LIMIT 1"),
            ):
                if is_condition and connection.execute(some, (queue,)).fetchall():
                    return
            delete_queue(connection, queue)

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Route messages of an exchange to a queue."""
        exchange = exchange or "amq.direct"
        insert = "INSERT OR IGNORE INTO binding VALUES (?, ?, ?, ?)"
        self.file.change(insert, exchange, routing_key or "", queue, self.typeof(exchange).type)

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Undo ``queue_bind``."""
        delete = "DELETE FROM binding WHERE exchange = ? AND routing_key = ? AND queue = ?"
        self.file.change(delete, exchange or "amq.direct", routing_key or "", queue)

    def get_table(self, exchange: str) -> list[tuple[str, str | None, str]]:
        """List the bindings of an exchange, made by whichever process."""
        bindings = self.file.rows(
            "SELECT queue, routing_key FROM binding WHERE exchange = ?", exchange
        )
        prepare = self.typeof(exchange).prepare_bind
        return [prepare(queue, exchange, routing_key, None) for queue, routing_key in bindings]
