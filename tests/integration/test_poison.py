"""A poisonous orchestrator is set aside with its reason.

Its worker goes on, and so does all that is good.
"""

from __future__ import annotations

import pytest

from celery_durable import RuntimeStatus
from tests.conftest import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_turn_that_never_ends_is_set_aside(new_stage, redis_url, postgres_url, pool):
    stage = new_stage(redis_url, postgres_url)
    stage.worker(pool=pool, environment={"TESTAPP_TURN_TIMEOUT": "1"})
    bad = stage.start(stage.testapp.poison.s("loop", "loop"))
    good = stage.start(stage.testapp.sum_of_doubles.s(4))
    assert stage.finish(good) == 12
    wait_until(
        lambda: bad.refresh().runtime_status is RuntimeStatus.SUSPENDED, 120, "the suspension"
    )
    assert "durable_turn_timeout" in bad.reason
    stage.release("loop-mended")
    bad.resume()
    assert stage.finish(bad) == 5
    assert len(stage.runs("add", 4, 1)) == 1


def test_a_turn_that_kills_its_child_is_set_aside(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    worker = stage.worker()
    bad = stage.start(stage.testapp.poison.s("kill", "kill"))
    wait_until(
        lambda: bad.refresh().runtime_status is RuntimeStatus.SUSPENDED, 150, "the suspension"
    )
    assert "crash" in bad.reason
    assert worker.is_running
    assert stage.finish(stage.start(stage.testapp.sum_of_doubles.s(4))) == 12
    assert len(stage.runs("add", 4, 1)) <= 2, "its outcome is recorded alone after the first crash"
    stage.release("kill-mended")
    bad.resume()
    assert stage.finish(bad) == 5
