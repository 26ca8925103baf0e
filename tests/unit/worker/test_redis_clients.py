"""kombu's channel on Redis keeps one client for its pool, and does all else as before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.transport import redis as transport

from celery_durable.worker.redis_clients import keep_client
from tests.servers import own_keys


@pytest.fixture(params=["", "prefixed:"])
def channel(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    options = {"global_keyprefix": f"{name}:{request.param}"}
    with own_keys(redis_url, name), Connection(redis_url, transport_options=options) as connection:
        yield connection.default_channel


def clients_made(channel: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    make = channel.Client

    def counted(**options: Any) -> Any:
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr(channel, "Client", counted)
    return made


def round_trip(channel: Any, body: str) -> None:
    queue = Queue("kept", channel=channel)
    queue.declare()
    producer = channel.connection.client.Producer(channel)
    producer.publish({"body": body}, routing_key="kept", exchange="")
    message = queue.get()
    assert message is not None and message.payload == {"body": body}
    message.ack()
    assert queue.get() is None


def test_commands_share_a_client(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = clients_made(channel, monkeypatch)
    round_trip(channel, "plain")
    for_one = len(made)
    assert for_one > 3, "kombu makes one for each command"
    keep_client(channel)
    made.clear()
    for number in range(5):
        round_trip(channel, str(number))
    assert len(made) == 1


def test_it_is_put_in_place_once(channel: Any) -> None:
    keep_client(channel)
    kept = channel.Client
    keep_client(channel)
    assert channel.Client is kept
    assert kept.__name__ if not channel.global_keyprefix else kept.func  # as the class has it


def test_clients_that_hold_a_connection_are_their_own(channel: Any) -> None:
    keep_client(channel)
    first, second = (channel._create_client(asynchronous=True) for _ in range(2))
    assert first is not second
    assert first.connection_pool is channel.async_pool is not channel.pool
    shared = channel._create_client()
    assert shared is channel._create_client() and shared.connection is None
    assert shared.connection_pool is channel.pool


def test_another_pool_has_another_client(channel: Any) -> None:
    keep_client(channel)
    before = channel._create_client()
    channel._disconnect_pools()
    after = channel._create_client()
    assert after is not before and after.connection_pool is channel.pool
    round_trip(channel, "again")


def test_options_beside_the_pool_make_a_client_of_their_own(channel: Any) -> None:
    keep_client(channel)
    own = channel.Client(connection_pool=channel.pool, decode_responses=True)
    assert own is not channel._create_client()


def test_other_transports_are_left_alone() -> None:
    with Connection("memory://") as connection:
        channel = connection.default_channel
        keep_client(channel)
        assert not isinstance(channel, transport.Channel) and not hasattr(channel, "Client")
