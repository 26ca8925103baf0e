"""What a worker says of messages, without a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.records import ActivityAttemptId
from celery_durable.worker import witness
from celery_durable.worker.request import Message, received
from celery_durable.worker.witness import WorkerWitness

SECOND = 1_000_000
TICKET = ActivityAttemptId("x" * 20, 1, 1)


class Request:
    """One message in hand."""

    def __init__(self, message: Message, channel: object = None) -> None:
        self.message, self.channel, self.acknowledged = message, channel, False

    def durable_message(self) -> Message:
        return self.message

    def durable_came_over(self, channel: object) -> bool:
        return channel is None or channel is self.channel


@pytest.fixture
def hands() -> Iterator[list[Request]]:
    """What the worker has; the witness finds it by itself."""
    kept: list[Request] = []
    yield kept
    for request in kept:
        received.discard(request)


def asked(consumer: Any = None, now: int = 100 * SECOND) -> WorkerWitness:
    found = WorkerWitness(SimpleNamespace(consumer=consumer))
    found.ask(now)
    return found


def have(hands: list[Request], message: Message, **about: Any) -> Request:
    request = Request(message, **about)
    hands.append(request)
    received.add(request)
    return request


def test_what_is_not_acknowledged_is_in_hand(hands: list[Request]) -> None:
    one, _ = have(hands, Message("d-1", TICKET, 0)), have(hands, Message("i", None, 0))
    found = asked().answer()
    assert found is not None
    assert (set(found.activities), set(found.instances)) == ({TICKET}, {"i"})
    one.acknowledged = True
    found = asked().answer()
    assert found is not None
    assert not found.activities


@pytest.mark.parametrize(("due", "counts"), [(0, True), (99, True), (101, False), (60, False)])
def test_a_countdown_that_is_early_or_put_off_by_a_wrong_clock_does_not_count(
    hands: list[Request], due: int, counts: bool
) -> None:
    have(hands, Message("i", None, due * SECOND))
    found = asked().answer()
    assert found is not None
    assert bool(found.instances) is counts


def test_what_came_over_another_connection_is_the_brokers_again(hands: list[Request]) -> None:
    have(hands, Message("i", None, 0), channel="old")
    consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel="new"), connection=None)
    found = asked(consumer).answer()
    assert found is not None
    assert not found.instances


class Loop:
    """A consumer whose loop calls back as Celery's do, with a hub or without."""

    def __init__(self, hub: object) -> None:
        self.hub = hub
        self.connection = SimpleNamespace(connected=True)
        self.pending: deque[Callable[[], None]] = deque()

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.pending.append(lambda: call(*args))

    def turn(self) -> None:
        """Call what is pending; a loop without a hub goes on until nothing is."""
        for _ in range(len(self.pending)):
            self.pending.popleft()()
        if self.hub is None:
            assert not self.pending, "it would never read again"


@pytest.mark.parametrize("hub", [None, "a hub"])
def test_a_loop_that_has_not_read_all_is_asked_again(
    hub: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = [True]
    monkeypatch.setattr(witness, "_has_unread", lambda connection: unread[0])
    loop = Loop(hub)
    found = asked(loop)
    for _ in range(3):
        loop.turn()
        assert found.answer() is None
    unread[0] = False
    loop.turn()
    assert found.answer() is not None
