"""A message is sent once, however long it waits: on the queue, in the worker, for a rate limit,
beside countdowns.

In the full tier each server meets one prefetch, and a backlog is passed on the embedded broker; in
the long tier each meets each.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from celery_durable.cli.queues import check_queues
from tests.conftest import wait_until


@pytest.mark.sparse(3)
@pytest.mark.parametrize("servers", ["embedded-sqlite", "redis-postgres", "rabbitmq-mariadb"])
@pytest.mark.parametrize("prefetch", [1, 4, 0], ids=["prefetch one", "prefetch four", "no limit"])
def test_what_waits_is_not_sent_again(request, new_stage, servers, prefetch):
    """All wait for several times as long as recovery waits before it looks.

    Two copies in a hundred are allowed.
    """
    broker, store = servers.split("-")
    url = "durable://" if broker == "embedded" else request.getfixturevalue(f"{broker}_url")
    stage = new_stage(url, request.getfixturevalue(f"{store}_url"), TESTAPP_RESEND_AFTER="0.5")
    worker = stage.worker(options=[f"--prefetch-multiplier={prefetch}"])
    # their countdowns raise the worker's prefetch
    naps = [stage.start(stage.testapp.nap.s(25)) for _ in range(3)]
    runs = [
        stage.start(stage.testapp.spread.s("tiny", 150)),
        stage.start(stage.testapp.spread.s("brief", 60)),
        stage.start(stage.testapp.spread.s("rated", 12)),
    ]
    assert [stage.finish(run) for run in runs] == [150, 60, 12]
    for run in naps:
        run.terminate()
    received = Counter(re.findall(r"\.(\w+)\[d-[0-9a-z-]+\] received", worker.text()))
    assert set(received) == {"tiny", "brief", "rated"}
    assert received.total() <= 1.02 * 222, received


@pytest.mark.parametrize(
    ("servers", "turn_queue"),
    [
        ("embedded-sqlite", "turns"),
        pytest.param("embedded-sqlite", "{queue}.turns", marks=pytest.mark.long),
        pytest.param("redis-postgres", "{queue}.turns", marks=pytest.mark.long),
        pytest.param("rabbitmq-mariadb", "{queue}.turns", marks=pytest.mark.long),
    ],
)
def test_turns_with_a_queue_of_their_own_pass_a_backlog(request, new_stage, servers, turn_queue):
    broker, store = servers.split("-")
    url = "durable://" if broker == "embedded" else request.getfixturevalue(f"{broker}_url")
    stage = new_stage(url, request.getfixturevalue(f"{store}_url"), TESTAPP_TURN_QUEUE=turn_queue)
    stage.worker(options=["--prefetch-multiplier=1"])
    backlog = stage.start(stage.testapp.spread.s("brief", 400))  # ten seconds of work
    stage.wait_for_run("brief")
    assert stage.outcome(stage.testapp.nap.s(0.5)) == "awake"  # a start, and a timer
    waiting = stage.start(stage.testapp.approval.s(60))
    waiting.raise_event("approved", "yes")
    assert stage.finish(waiting) == "yes"
    assert not backlog.refresh().runtime_status.is_terminal
    backlog.terminate()


def test_a_worker_that_is_given_another_queue_takes_the_turns_beside_it(new_stage, sqlite_url):
    stage = new_stage("durable://", sqlite_url)
    worker = stage.worker()
    stage.app.control.add_consumer("more")
    wait_until(lambda: "Started consuming from more.turns" in worker.text())
    run = stage.start(stage.testapp.nap.s(0.1).set(queue="more"))
    assert stage.finish(run) == "awake"
    stage.app.control.cancel_consumer("more")
    wait_until(lambda: "Canceling queue more.turns" in worker.text())


def test_the_doctor_asks_the_workers_what_they_consume(new_stage, sqlite_url):
    stage = new_stage("durable://", sqlite_url)
    assert check_queues(stage.durable).endswith("no worker says what it consumes")
    worker = stage.worker()
    assert f"{stage.queue}, " in check_queues(stage.durable)
    assert f"{stage.queue}.turns" in check_queues(stage.durable)
    # a queue of turns is consumed as long as the one beside it is
    stage.app.control.cancel_consumer(f"{stage.queue}.turns")
    again = f"Started consuming from {stage.queue}.turns"
    wait_until(lambda: again in worker.text())
