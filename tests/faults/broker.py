"""A broker and a result backend in memory that outlive every process.

Kombu and Celery see no difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from celery.backends.base import KeyValueStoreBackend
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.serialization import dumps

from celery_durable.engine.records import ActivityAttemptId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Parcel:
    """One message on a queue."""

    number: int
    queue: str
    body: Any
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    due: int = 0
    is_redelivered: bool = False

    @property
    def is_durable(self) -> bool:
        """Tell whether the store knows what it is for."""
        return "durable" in self.headers


@dataclass
class Broker:
    """Queues with acknowledgements.

    What a worker that is gone had taken is delivered again, or lost.
    """

    parcels: list[Parcel] = field(default_factory=list)
    taken: dict[int, tuple[Any, Parcel]] = field(default_factory=dict)
    tags: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(
        self,
        body: Any,
        routing_key: str,
        headers: dict[str, Any],
        serializer: str,
        **properties: Any,
    ) -> None:
        """Take a message from a producer."""
        content_type, encoding, text = dumps(body, serializer=serializer)
        due = 0
        if headers.get("eta"):
            due = (datetime.fromisoformat(headers["eta"]) - _EPOCH) // timedelta(microseconds=1)
        self.parcels.append(
            Parcel(
                next(self.tags),
                routing_key,
                text,
                content_type,
                encoding,
                dict(headers),
                properties,
                due,
            )
        )

    def take(self, owner: Any, queues: frozenset[str], now: int) -> Message | None:
        """Deliver the oldest message that is due, to be acknowledged."""
        for parcel in self.parcels:
            if parcel.queue in queues and parcel.due <= now:
                self.parcels.remove(parcel)
                tag = next(self.tags)
                self.taken[tag] = (owner, parcel)
                return Message(
                    body=parcel.body,
                    delivery_tag=tag,
                    content_type=parcel.content_type,
                    content_encoding=parcel.content_encoding,
                    headers=dict(parcel.headers),
                    properties=dict(parcel.properties),
                    channel=Channel(self, owner),
                    delivery_info={
                        "routing_key": parcel.queue,
                        "exchange": "",
                        "redelivered": parcel.is_redelivered,
                    },
                )
        return None

    def depths(self, queues: frozenset[str], now: int) -> dict[str, int | None]:
        """Tell how many messages wait on each queue."""
        waiting = [parcel.queue for parcel in self.parcels if parcel.due <= now]
        return {queue: waiting.count(queue) for queue in queues}

    def ack(self, owner: Any, tag: int) -> None:
        """Forget a message."""
        if self.taken.get(tag, (None,))[0] is owner:
            del self.taken[tag]

    def give_back(self, owner: Any) -> None:
        """Deliver again what an owner holds."""
        for tag in [tag for tag, (other, _) in self.taken.items() if other is owner]:
            self.parcels.append(replace(self.taken.pop(tag)[1], is_redelivered=True))

    def lose(self, queues: frozenset[str]) -> None:
        """Lose what lies on some queues, and what was taken from them.

        Not what is the user's own.
        """
        self.parcels = [
            parcel for parcel in self.parcels if parcel.queue not in queues or not parcel.is_durable
        ]
        self.taken = {tag: held for tag, held in self.taken.items() if not held[1].is_durable}

    def shift(self, micros: int) -> None:
        """Bring every due time by the store's clock nearer."""
        for number, parcel in enumerate(self.parcels):
            headers = dict(parcel.headers)
            ours = headers.get("durable")
            if isinstance(ours, dict) and "due" in ours:
                headers["durable"] = {**ours, "due": ours["due"] - micros}
            self.parcels[number] = replace(parcel, headers=headers)


class Channel:
    """What kombu's messages acknowledge through."""

    no_ack_consumers: frozenset[str] = frozenset()

    def __init__(self, broker: Broker, owner: Any) -> None:
        self._broker, self._owner = broker, owner

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        held = self._broker.taken.get(tag)
        if (
            held is not None
            and (ticket := ActivityAttemptId.parse(held[1].headers["id"])) is not None
        ):
            self._owner.world.activity_is_acknowledged(ticket)
        self._tell("ack", lambda: self._broker.ack(self._owner, tag))

    def basic_reject(self, tag: int, requeue: bool = True) -> None:
        def reject() -> None:
            if requeue and self._broker.taken.get(tag, (None,))[0] is self._owner:
                self._broker.parcels.append(
                    replace(self._broker.taken[tag][1], is_redelivered=True)
                )
            self._broker.ack(self._owner, tag)

        self._tell("reject", reject)

    def _tell(self, name: str, work: Callable[[], None]) -> None:
        try:
            self._owner.call("broker", name, work)
        except OperationalError:
            self._owner.has_lost_connection = True
            raise


class Connection:
    """As much of a connection as Celery asks for when it publishes."""

    transport = SimpleNamespace(driver_type="memory")
    recoverable_connection_errors = recoverable_channel_errors = connection_errors = (
        OperationalError,
    )
    channel_errors: tuple[type[Exception], ...] = ()
    declared_entities: frozenset[int] = frozenset()

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        yield


class Producers:
    """Stands in for the app's pool of producers; ``owner`` gives the process that sends."""

    limit = 1
    channel = None  # of no transport that kombu has
    connection = Connection()
    connections = SimpleNamespace(connection=connection)

    def __init__(self, owner: Callable[[], Any]) -> None:
        self._owner = owner

    def revive(self, connection: Any) -> None:
        """Go on after a connection was lost."""

    @contextmanager
    def acquire(self, *args: Any, **kwargs: Any) -> Iterator[Producers]:
        yield self

    def publish(
        self,
        body: Any,
        exchange: Any = "",
        routing_key: str = "",
        serializer: str = "json",
        headers: dict[str, Any] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        **_: Any,
    ) -> None:
        owner, given = self._owner(), headers or {}
        kind = (given.get("durable") or {}).get(
            "t", "activity" if given.get("durable") else "ordinary"
        )
        if (ticket := ActivityAttemptId.parse(given.get("id"))) is not None and not owner.is_dead:
            owner.world.activity_is_sent(ticket)
        properties = {"correlation_id": correlation_id, "reply_to": reply_to}
        owner.call(
            "broker",
            f"publish {kind}",
            lambda: owner.world.broker.put(
                body, routing_key, given, serializer or "json", **properties
            ),
        )


class ResultsBackend(KeyValueStoreBackend):
    """A result backend whose content belongs to the world."""

    owner: Callable[[], Any]

    def get(self, key: Any) -> Any:
        return self.owner().world.results.get(str(key))

    def mget(self, keys: Any) -> list[Any]:
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        owner = self.owner()
        owner.world.result_is_told(str(key).removeprefix("celery-task-meta-"))
        owner.call("backend", "set", lambda: owner.world.results.__setitem__(str(key), value))

    def delete(self, key: Any) -> None:
        self.owner().world.results.pop(str(key), None)
