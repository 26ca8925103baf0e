"""Limits of activities, pauses, ramps and maps with real workers, one of which is killed."""

from __future__ import annotations

import time

import pytest

from celery_durable import RuntimeStatus
from tests.conftest import wait_until

#: What a client sets is in force everywhere after so many seconds: the testapp's interval, and one.
IN_FORCE = 1.6


@pytest.fixture(params=["embedded", "redis"])
def stage(request, new_stage):
    if request.param == "embedded":
        return new_stage("durable://", request.getfixturevalue("sqlite_url"))
    redis = request.getfixturevalue("redis_url")
    return new_stage(redis, request.getfixturevalue("postgres_url"), redis)


def most_at_once(stage, killed_at):
    """Return how many ran at a time at the most: what was killed ran until then."""
    begun = {}
    changes = []
    for run in sorted(stage.runs("busy") + stage.runs("idle"), key=lambda run: run.at):
        if run.what == "busy":
            if (before := begun.get(run.key)) is not None:
                changes.append((max(before, killed_at), -1))
            begun[run.key] = run.at
            changes.append((run.at, 1))
        else:
            changes.append((run.at, -1))
            begun.pop(run.key, None)
    most = count = 0
    for _, change in sorted(changes):
        count += change
        most = max(most, count)
    return most


def test_never_more_than_its_number_run_though_a_worker_is_killed(stage):
    first, _ = stage.worker(concurrency=4), stage.worker(concurrency=4)
    runs = [stage.start(stage.testapp.busy_with_places.s(8, 3)) for _ in range(3)]
    stage.wait_for_run("idle", count=6)
    first.kill()
    killed_at = time.time()
    assert [stage.finish(run) for run in runs] == [list(range(8))] * 3
    assert most_at_once(stage, killed_at) <= 3
    wait_until(lambda: stage.durable.limits() == [], 10, stage.state)


def test_a_place_that_a_token_gives_back_is_soon_taken(stage):
    stage.worker(concurrency=2)
    durable = stage.durable
    runs = [stage.start(stage.testapp.in_turn.s(key)) for key in "abc"]
    for number in range(1, 4):
        stage.wait_for_run("in turn", count=number)
        key, token = stage.runs("in turn")[-1].facts
        time.sleep(0.5)
        assert len(stage.runs("in turn")) == number
        assert durable.complete(token, key)
    assert [stage.finish(run) for run in runs] == list("abc")


def test_a_paused_task_is_held_in_its_queue_and_over_a_restart(stage):
    durable, other = stage.durable, f"{stage.queue}-other"
    stage.worker(concurrency=1, queues=(stage.queue,))
    held = stage.testapp.one_hold
    runs = [stage.start(held.s(str(number), other)) for number in range(4)]
    wait_until(lambda: all(len(run.history()) > 1 for run in runs), 30, stage.state)
    pause = durable.pause(task=stage.testapp.hold, reason="stock count")
    for _ in range(2):
        worker = stage.worker(concurrency=1, queues=(other,))
        wait_until(lambda: durable.pauses()[0].held == 4, 30, stage.state)
        worker.stop()
    stage.worker(concurrency=1, queues=(other,))
    for number in range(4):
        stage.release(str(number))
    late = stage.start(held.s("0", other))
    wait_until(lambda: durable.pauses()[0].held == 5, 30, stage.state)
    assert not stage.runs("hold") and not durable.find(stuck=True).items
    assert "stock count" in str(late.explain()) and pause.unpause()
    assert [stage.finish(run) for run in [*runs, late]] == ["0", "1", "2", "3", "0"]
    assert len(stage.runs("hold")) == 5


def test_a_paused_orchestrator_takes_no_turn_and_its_activities_end(stage):
    stage.worker(concurrency=2)
    durable, held = stage.durable, stage.testapp.one_hold
    running, stopped = stage.start(held.s("a")), stage.start(held.s("b"))
    stage.wait_for_run("hold", count=2)
    durable.pause(orchestrator=held)
    time.sleep(IN_FORCE)
    later = [held.delay("c"), stage.start(held.s("c"))]
    for key in "abc":
        stage.release(key)
    wait_until(lambda: durable.pauses()[0].held >= 3, 30, stage.state)
    stopped.terminate()
    wait_until(
        lambda: stopped.refresh().runtime_status is RuntimeStatus.TERMINATED, 30, stage.state
    )
    assert [durable.get(run.id).runtime_status for run in later] == [RuntimeStatus.PENDING] * 2
    assert running.refresh().runtime_status is RuntimeStatus.RUNNING
    assert len(stage.runs("hold")) == 2 and not durable.find(stuck=True).items
    durable.unpause(orchestrator=held)
    assert [stage.finish(durable.get(run.id)) for run in (running, *later)] == ["a", "c", "c"]


def test_a_ramp_holds_for_children_and_upgrades_in_workers(stage):
    stage.worker(concurrency=2)
    durable, flow = stage.durable, stage.testapp.versioned
    old = stage.start(flow.s(True), version="1")
    assert stage.outcome(stage.testapp.calls_versioned.s(3)) == ["2"] * 3
    durable.ramp(flow, "1")
    time.sleep(2)
    assert stage.outcome(stage.testapp.calls_versioned.s(3)) == ["1"] * 3
    assert stage.finish(flow.delay()) == "1"
    durable.ramp(flow, "1", share=0)
    time.sleep(2)
    assert stage.outcome(stage.testapp.calls_versioned.s(3)) == ["2"] * 3
    old.raise_event("again")
    assert stage.finish(old) == "2"


def test_a_map_that_has_enough_tells_those_that_run(stage):
    stage.worker(concurrency=3)
    run = stage.start(stage.testapp.first_of.s(["x", "y"]))
    stage.wait_for_run("until told", count=3)
    stage.release("done")
    assert stage.finish(run) == ["done", None, None]
    stage.wait_for_run("told", "x", True)
    stage.wait_for_run("told", "y", True)
