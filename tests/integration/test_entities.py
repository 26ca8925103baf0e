"""Entities with real workers: nothing is lost or doubled, whatever dies.

In the long tier over each broker; what the store decides is in ``tests/contract/test_entities.py``.
"""

from __future__ import annotations

import pytest

from tests.conftest import wait_until


@pytest.fixture(
    params=[
        "embedded-sqlite",
        pytest.param("redis-postgres", marks=pytest.mark.long),
        pytest.param("rabbitmq-mariadb", marks=pytest.mark.long),
    ]
)
def servers(request):
    """A pair of a broker and a store in turn."""
    broker, store = request.param.split("-")
    url = "durable://" if broker == "embedded" else request.getfixturevalue(f"{broker}_url")
    return url, request.getfixturevalue(f"{store}_url")


def test_two_that_count_under_a_lock_while_a_worker_is_killed(servers, new_stage):
    stage = new_stage(*servers)
    testapp, durable = stage.testapp, stage.durable
    first = stage.worker()
    runs = [stage.start(testapp.count_under_lock.s("k", 8)) for _ in range(2)]
    wait_until(lambda: stage.counts()["add"] >= 4, what="the first increments")
    first.kill()
    for _ in range(20):
        durable.entity("Ledger", "signals").signal.add(1)
    stage.worker()
    assert [stage.finish(run) for run in runs] == [run.id for run in runs]
    ledger = durable.entity(testapp.Ledger, "k")
    assert ledger.state() == {"value": 16}
    wait_until(
        lambda: durable.entity(testapp.Ledger, "signals").state() == {"value": 20},
        what="the signals",
    )
    wait_until(
        lambda: not any(each.locked_by or each.waiting for each in durable.entities().items),
        what="free locks",
    )
    assert stage.outcome(testapp.ask_ledger.s("signals")) == [7, 21]


def test_a_delayed_signal_and_a_terminated_holder(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    testapp, durable = stage.testapp, stage.durable
    stage.worker()
    run = stage.start(testapp.hold_under_lock.s("k"))
    stage.wait_for_run("hold", "k")
    ledger = durable.entity(testapp.Ledger, "k")
    ledger.signal(delay=0.5).add(5)
    wait_until(
        lambda: [each.waiting for each in durable.entities(testapp.Ledger).items] == [1],
        what="the signal",
    )
    assert ledger.state() is None
    run.terminate(reason="enough")
    wait_until(lambda: ledger.state() == {"value": 5}, what="the released lock")
    stage.release("k")
