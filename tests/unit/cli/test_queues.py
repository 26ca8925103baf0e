"""What keeps work from being done, as the doctor tells it."""

from __future__ import annotations

import pytest

from celery_durable.cli.queues import Consumer, problems_in
from celery_durable.store.metrics_snapshot import Queue

NOW = 10_000_000_000
LONG_AGO, JUST_NOW = NOW - 120_000_000, NOW - 5_000_000


def turns(queue: str) -> str:
    return queue if queue.endswith(".turns") else f"{queue}.turns"


def consumer(*queues: str, slots: int = 2, running: tuple[float, ...] = ()) -> Consumer:
    both = {each for queue in queues for each in (queue, turns(queue))}
    return Consumer("w@host", frozenset(both), slots, [("shop.render", each) for each in running])


def found(waiting: list[Queue], *consumers: Consumer) -> list[str]:
    return problems_in(waiting, consumers, turns, NOW)


@pytest.mark.parametrize(
    ("waiting", "consumers"),
    [
        ([], [consumer("celery")]),
        ([Queue("celery", 9, LONG_AGO)], [consumer("celery")]),  # a backlog that is worked on
        ([Queue("celery", 9, LONG_AGO)], [consumer("celery", running=(300.0,))]),  # one is free
        ([Queue("celery", 9, LONG_AGO)], [consumer("celery", running=(300.0, 5.0))]),
        ([Queue("celery", 9, JUST_NOW)], [consumer("celery", running=(300.0, 300.0))]),
        ([Queue("other", 9, JUST_NOW)], [consumer("celery")]),
        ([Queue("", 9, LONG_AGO)], [consumer("celery")]),  # which queue it is is not known
        ([Queue("celery", 9, LONG_AGO)], []),  # nobody answers
        ([Queue("celery", 9, None)], [consumer("celery", running=(300.0, 300.0))]),
    ],
)
def test_nothing_is_said_of_what_is_well(waiting: list[Queue], consumers: list[Consumer]) -> None:
    assert found(waiting, *consumers) == []


def test_a_queue_that_no_one_consumes_is_starved() -> None:
    (problem,) = found([Queue("mail", 7, LONG_AGO)], consumer("celery"))
    assert problem.startswith(
        "queue 'mail' is starved: 7 activities wait in it, the oldest for 120 s"
    )
    assert problem.endswith("start one with -Q mail")


def test_a_queue_of_turns_that_no_one_consumes_is_missing() -> None:
    old = Consumer("old@host", frozenset({"celery"}), 2, [])
    (problem,) = found([], old)
    assert "no worker consumes 'celery.turns'" in problem and "durable_turn_queue" in problem
    assert found([], old, consumer("celery")) == []


def test_slots_that_are_all_taken_by_long_activities() -> None:
    waiting = [Queue("celery", 3, LONG_AGO)]
    full = consumer("celery", running=(61.0, 3600.0))
    (problem,) = found(waiting, full, full)
    assert problem.startswith("all 4 slots of the workers of queue 'celery' have been taken")
    assert "shop.render" in problem
    assert found(waiting, full, consumer("celery")) == []  # another one has room
    assert found(waiting, full, consumer("mail", running=(61.0, 61.0))) == [
        problem.replace("4", "2")
    ]
