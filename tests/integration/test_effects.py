"""Workers and their children that are killed: an activity's rows are there once, and what may run
once did.
"""

from __future__ import annotations

import os
import signal

import pytest

AGAIN = {"first_interval": 0, "max_attempts": 5}


@pytest.fixture
def effects(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    with stage.durable.runtime.store.database.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE deposits (name VARCHAR(50))")
    return stage


def test_workers_that_are_killed(effects):
    stage, names = effects, ("once", "rows")
    first = stage.worker()
    once = stage.start(stage.testapp.attempt.s("testapp.hold_once", ("once",), retry=AGAIN))
    rows = stage.start(stage.testapp.attempt.s("testapp.deposit", ("rows",)))
    stage.wait_for_run("hold_once", "once")
    stage.wait_for_run("deposit", "rows")
    first.kill()
    for name in names:
        stage.release(name)
    stage.worker()
    assert stage.finish(once)["raised"] == "ActivityInterrupted"
    assert stage.finish(rows) == {"returned": 1}, "the first one's row went with its transaction"
    assert (len(stage.runs("hold_once")), len(stage.runs("deposit"))) == (1, 2)


def test_children_that_are_killed_and_what_runs_well(effects):
    stage = effects
    worker = stage.worker(concurrency=1)
    answer = stage.outcome(
        stage.testapp.attempt.s("testapp.kill_own_process_once", ("a",), retry=AGAIN)
    )
    assert (answer["raised"], answer["facts"]["task"]) == (
        "ActivityInterrupted",
        "testapp.kill_own_process_once",
    )
    run = stage.start(stage.testapp.attempt.s("testapp.hold_once", ("b",), retry=AGAIN))
    stage.wait_for_run("hold_once", "b")
    for child in worker.children():
        os.kill(child, signal.SIGKILL)
    assert stage.finish(run)["raised"] == "ActivityInterrupted"
    limited = stage.testapp.attempt.s(
        "testapp.hold_once", ("c",), options={"time_limit": 1}, retry=AGAIN
    )
    assert stage.outcome(limited)["raised"] == "ActivityInterrupted"
    assert stage.outcome(stage.testapp.attempt.s("testapp.retry_once", ("d",))) == {"returned": 2}
    stage.release("e")
    assert stage.outcome(stage.testapp.attempt.s("testapp.hold_once", ("e",))) == {"returned": "e"}
    assert stage.outcome(stage.testapp.attempt.s("testapp.deposit", ("e",))) == {"returned": 1}
    assert [len(stage.runs("hold_once", key)) for key in "bce"] == [1, 1, 1]
    assert (len(stage.runs("kill_own_process_once")), len(stage.runs("retry_once"))) == (1, 3)


def test_a_warm_shutdown_lets_it_finish(effects):
    stage = effects
    worker = stage.worker()
    run = stage.start(stage.testapp.attempt.s("testapp.hold_once", ("warm",)))
    stage.wait_for_run("hold_once", "warm")
    worker.process.terminate()
    stage.release("warm")
    worker.wait_dead()
    stage.worker()
    assert stage.finish(run) == {"returned": "warm"}
    assert len(stage.runs("hold_once", "warm")) == 1
