"""Timers due soon become countdown messages, but never more than a worker can hold."""

from __future__ import annotations

import os

import pytest

from celery_durable import Durable
from celery_durable.engine.records import TurnAddress
from celery_durable.worker import countdowns as module
from celery_durable.worker.countdowns import Countdowns


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_only_so_many_are_under_way_at_a_time(clock):
    countdowns = Countdowns(3)
    assert [countdowns.may_send(delay) for delay in (10, 5, 20, 1)] == [True, True, True, False]
    clock.now += 5
    assert [countdowns.may_send(30), countdowns.may_send(30)] == [True, False]
    clock.now += 100
    assert [countdowns.may_send(1) for _ in range(4)] == [True, True, True, False]


def test_a_forked_child_counts_for_itself(clock):
    countdowns = Countdowns(1)
    assert countdowns.may_send(10)
    child = os.fork()
    if not child:
        os._exit(0 if countdowns.may_send(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not countdowns.may_send(10)


def test_a_burst_of_timers_sends_a_bounded_number_of_messages(tmp_path):
    from celery import Celery

    app = Celery("burst", broker="memory://", set_as_current=False)
    app.conf.durable_backend_url = f"sqlite:///{tmp_path}/store.db"
    durable = Durable(app)

    @durable.orchestrator(name="burst.sleeper")
    async def sleeper(ctx):
        await ctx.sleep(1)

    publisher = durable.runtime.publisher
    sent = []
    publisher.orchestrator_sender.send = lambda address, *_, **__: sent.append(address.id)
    results = [
        publisher.publish_turn(
            TurnAddress(f"i{number}", "burst.sleeper", None, None), delay=20_000_000
        )
        for number in range(5_000)
    ]
    assert (results.count(True), len(sent)) == (1_000, 1_000)
    assert publisher.publish_turn(TurnAddress("now", "burst.sleeper", None, None))
