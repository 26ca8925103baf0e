"""A schedule goes on by itself with plain workers: whichever of them dies, each tick runs once.

In the long tier also over Redis and PostgreSQL; what a store decides of it is in
``tests/contract/test_schedules.py``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from celery_durable import RuntimeStatus
from tests.conftest import wait_until


@pytest.fixture(params=["embedded-sqlite", pytest.param("redis-postgres", marks=pytest.mark.long)])
def stage(request, new_stage):
    """A pair of a broker and a store in turn."""
    broker, store = request.param.split("-")
    url = "durable://" if broker == "embedded" else request.getfixturevalue(f"{broker}_url")
    return new_stage(url, request.getfixturevalue(f"{store}_url"))


def started(stage) -> list[str]:
    return sorted(run.id for run in stage.durable.find(id_prefix="every second@", limit=1000).items)


def wait_for_more(stage, count: int) -> None:
    before = len(started(stage))
    wait_until(
        lambda: len(started(stage)) >= before + count,
        60,
        lambda: f"{count} more ticks\n{stage.state()}",
    )


def test_each_second_runs_once_though_workers_are_killed(stage):
    schedule = stage.durable.schedule(
        "every second",
        stage.testapp.triple.s(7),
        interval=1,
        overlap="allow",
        catch_up=timedelta(minutes=10),
    )
    first = schedule.next_at
    worker = stage.worker()
    wait_for_more(stage, 3)
    worker.kill()
    # nobody is there for some ticks
    wait_until(
        lambda: datetime.now(first.tzinfo) - schedule.refresh().next_at > timedelta(seconds=3),
        what="missed ticks",
    )
    workers = [stage.worker(), stage.worker()]
    wait_for_more(stage, 5)
    workers[0].kill()
    wait_for_more(stage, 3)

    last = schedule.pause(reason="enough").last_at

    seconds = round((last - first).total_seconds())
    expected = [
        f"every second@{(first + timedelta(seconds=number)).isoformat()}"
        for number in range(seconds + 1)
    ]
    assert started(stage) == sorted(expected)
    for id_ in expected:
        assert stage.finish(stage.durable.get(id_)) == 21
    assert schedule.refresh().next_at is None
    assert len(started(stage)) == len(expected) >= 3 + 5 + 3


@pytest.mark.long  # without a worker, on each store: tests/contract/test_schedules.py
def test_a_worker_that_dies_between_the_commit_and_the_message(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    place = "celery_durable.worker.publisher:CeleryPublisher.publish_turn"
    doomed = stage.worker(concurrency=1, environment={"TESTAPP_DIES_IN": place})
    schedule = stage.durable.schedule("once", stage.testapp.triple.s(2), interval=1)
    doomed.wait_dead()
    (run,) = stage.durable.find(id_prefix="once@").items
    assert run.runtime_status is RuntimeStatus.PENDING
    schedule.pause()
    stage.worker()
    assert stage.finish(run) == 6
    assert [run.id for run in stage.durable.find(id_prefix="once@").items] == [run.id]
