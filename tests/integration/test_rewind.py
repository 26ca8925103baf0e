"""Rewinds, overrides and sagas on real workers."""

from __future__ import annotations

import pytest

from celery_durable import RuntimeStatus
from tests.conftest import wait_until


def fail(stage, signature):
    run = stage.start(signature)
    with pytest.raises(stage.testapp.OutOfStock):
        stage.finish(run)
    wait_until(lambda: is_told(stage, run), what="Celery to be told of the failure")
    assert backend_state(stage, run) == "FAILURE"
    return run


def backend_state(stage, run):
    return stage.app.backend.get_task_meta(run.id)["status"]


def is_told(stage, run):
    return stage.durable.runtime.store.reads.is_finished_for_celery(run.refresh()._known.execution)


def test_a_rewind_ends_as_a_success_for_celery_too(stage):
    run = fail(stage, stage.testapp.rewindable.s("once"))
    run.rewind("mended")
    assert stage.finish(run) == ["once", "once"]
    wait_until(
        lambda: backend_state(stage, run) == "SUCCESS", what="Celery to be told of the success"
    )
    assert len(stage.runs("flaky", "once")) == 2
    assert len(stage.runs("add", 40)) == 1
    stage.assert_nothing_ran_after_its_completion(run.id)


def test_what_was_undone_is_done_again_under_another_key(stage):
    run = fail(stage, stage.testapp.undoable.s("undone"))
    run.rewind("mended")
    assert stage.finish(run) is None
    first, again = (run.key for run in stage.runs("add", 90))
    assert first != again, "a bank would take the second payment for the first, which was paid back"


def test_a_rewind_survives_the_worker_that_took_it(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url, redis_url)
    first = stage.worker()
    run = fail(stage, stage.testapp.rewindable.s("kill", hold=True))
    run.rewind("mended")
    stage.wait_for_run("hold", "kill")
    first.kill()
    stage.release("kill")
    stage.worker()
    assert stage.finish(run) == ["kill", "kill"]
    assert len(stage.runs("add", 40)) == 1


def test_an_override_is_told_to_the_orchestrator(stage):
    run = fail(stage, stage.testapp.rewindable.s("by hand"))
    calls = {event.name: event.command for event in run.history() if event.command}
    flaky = next(command for name, command in calls.items() if name.endswith("flaky"))
    run.override(flaky, "given", reason="the shop said so")
    assert stage.finish(run) == ["given", "by hand"]


def test_a_saga_is_undone_by_another_worker(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url, redis_url)
    first = stage.worker()
    run = stage.start(stage.testapp.trip.s("trip"))
    stage.wait_for_run("hold", "trip")  # the first undo
    first.kill()
    stage.release("trip")
    stage.worker()
    with pytest.raises(stage.testapp.OutOfStock):
        stage.finish(run)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    undone = [
        event.name.rpartition(".")[2]
        for event in run.history()
        if event.kind == "ActivityScheduled"
    ][3:]
    assert undone == ["hold", "double"], "the last thing first"
    assert len(stage.runs("double", 77)) == 1
