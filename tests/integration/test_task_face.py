"""The orchestrator as a Celery task: whatever starts, links, waits for or revokes a task does so
with it.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery, chain, chord, group
from celery.beat import ScheduleEntry, Scheduler
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from celery.schedules import schedule

from celery_durable import OrchestrationFailed, RuntimeStatus
from tests.conftest import wait_until


def unique(name: str = "key") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def result_of(stage):
    """Celery's own view of a task id."""
    return lambda task_id: AsyncResult(task_id, app=stage.app)


# -- starting --------------------------------------------------------------------------------------


def test_delay_starts_and_the_result_is_success(stage, result_of):
    run = stage.testapp.triple.delay(3)
    assert result_of(run.id).get(timeout=300) == 9
    assert result_of(run.id).state == "SUCCESS"
    assert run.runtime_status is RuntimeStatus.COMPLETED


def test_the_task_id_is_the_instance_id(stage, result_of):
    task_id = unique("order")
    stage.testapp.triple.apply_async((3,), task_id=task_id)
    assert result_of(task_id).get(timeout=300) == 9
    assert stage.durable.get(task_id).output == 9


def test_starting_one_id_twice_starts_once(stage):
    task_id, x = unique("order"), int(uuid.uuid4().int % 10**9)
    first = stage.testapp.triple.apply_async((x,), task_id=task_id)
    second = stage.testapp.triple.apply_async((x + 1,), task_id=task_id)
    assert stage.finish(first) == second.get(timeout=300) == 3 * x
    third = stage.testapp.triple.apply_async((x + 2,), task_id=task_id)
    assert third.get(timeout=300) == 3 * x
    assert len(stage.runs("add", x)) == 1
    assert not stage.runs("add", x + 1) and not stage.runs("add", x + 2)


def test_a_failed_orchestration_is_a_failure_with_the_original_exception(stage, result_of):
    run = stage.testapp.fail_unhandled.delay("nothing left")
    with pytest.raises(stage.testapp.CardDeclined, match="nothing left"):
        result_of(run.id).get(timeout=300)
    assert result_of(run.id).state == "FAILURE"


def test_arguments_that_do_not_fit_are_refused_at_once(stage):
    with pytest.raises(TypeError, match=r"testapp\.triple"):
        stage.testapp.triple.delay()


@pytest.mark.parametrize("options", [{"countdown": 1}, {"eta": "later"}], ids=["countdown", "eta"])
def test_a_delayed_start_is_durable_and_never_early(stage, options):
    begin = datetime.now(UTC) + timedelta(seconds=1)
    options = {"eta": begin} if "eta" in options else options
    run = stage.testapp.triple.apply_async((1,), **options)
    assert run.runtime_status is RuntimeStatus.PENDING
    assert stage.finish(run) == 3
    run.refresh()
    assert run.started_at - run.created_at >= timedelta(seconds=0.9)
    assert run.started_at >= begin - timedelta(milliseconds=50)


def test_the_queue_option_routes_the_turns(stage):
    run = stage.testapp.at_once.apply_async((1,), queue=f"{stage.queue}-dead")
    assert stage.testapp.triple.delay(1).get(timeout=300) == 3
    assert run.refresh().runtime_status is RuntimeStatus.PENDING
    run.terminate()


def test_beat_starts_an_orchestration(stage):
    scheduler = Scheduler(app=stage.app, lazy=True)
    entry = ScheduleEntry(
        name="hourly",
        task="testapp.triple",
        schedule=schedule(3600),
        args=(5,),
        kwargs={},
        options={},
        app=stage.app,
    )
    assert stage.finish(stage.durable.get(scheduler.apply_async(entry, advance=False).id)) == 15


def test_a_client_without_the_extension_starts_it_by_name(stage):
    plain = Celery(
        "plain",
        broker=stage.app.conf.broker_url,
        backend=stage.app.conf.result_backend,
        set_as_current=False,
    )
    plain.conf.broker_transport_options = stage.app.conf.broker_transport_options
    plain.conf.result_backend_transport_options = stage.app.conf.result_backend_transport_options
    try:
        result = plain.send_task("testapp.triple", args=(7,), queue=stage.queue)
        assert result.get(timeout=300) == 21
        assert stage.durable.get(result.id).output == 21
        failed = plain.send_task("testapp.fail_unhandled", queue=stage.queue)
        with pytest.raises(Exception, match="no money"):
            failed.get(timeout=300)
    finally:
        plain.close()


# -- callbacks and canvas --------------------------------------------------------------------------


def test_link_runs_once_with_the_output(stage, result_of):
    key = unique()
    callback = stage.testapp.callback.s(key)
    run = stage.testapp.triple.apply_async((4,), link=callback)
    wait_until(
        lambda: any(one.facts == [12, key] for one in stage.runs("callback")), what="the callback"
    )
    assert result_of(run.id).get(timeout=300) == 12
    assert stage.outcome(stage.testapp.triple.s(1)) == 3
    assert len([one for one in stage.runs("callback") if key in one.facts]) == 1


def test_link_error_runs_once(stage, result_of):
    before = len(stage.runs("errback"))
    run = stage.testapp.fail_unhandled.apply_async(link_error=stage.testapp.errback.si())
    stage.wait_for_run("errback", count=before + 1)
    wait_until(lambda: result_of(run.id).state == "FAILURE", what="the failure")
    assert stage.outcome(stage.testapp.triple.s(1)) == 3
    assert len(stage.runs("errback")) == before + 1


def test_in_a_chain_between_plain_tasks(stage):
    line = chain(stage.testapp.add.s(1, 2), stage.testapp.triple.s(), stage.testapp.add.s(1))
    assert line.apply_async().get(timeout=300) == 10


def test_first_in_a_chain(stage):
    assert (
        chain(stage.testapp.triple.s(2), stage.testapp.add.s(1), stage.testapp.triple.s())
        .delay()
        .get(timeout=300)
        == 21
    )


def test_a_failed_orchestration_ends_a_chain(stage):
    key = unique()
    result = chain(stage.testapp.fail_unhandled.s(key), stage.testapp.callback.s(key)).apply_async()
    with pytest.raises(stage.testapp.CardDeclined):
        result.parent.get(timeout=300)
    assert not [one for one in stage.runs("callback") if key in one.facts]


def test_in_a_group(stage):
    result = group(
        stage.testapp.triple.s(1), stage.testapp.add.s(1, 1), stage.testapp.triple.s(2)
    ).apply_async()
    assert result.get(timeout=300) == [3, 2, 6]


def test_in_the_header_of_a_chord(stage):
    result = chord(
        [stage.testapp.triple.s(1), stage.testapp.add.s(1, 1)], stage.testapp.total.s()
    ).apply_async()
    assert result.get(timeout=300) == 5


def test_as_the_body_of_a_chord(stage):
    result = chord(
        [stage.testapp.add.s(n, n) for n in range(4)], stage.testapp.sum_up.s()
    ).apply_async()
    assert result.get(timeout=300) == 12


# -- revoke ----------------------------------------------------------------------------------------


def revoke_by_result(stage, task_id):
    AsyncResult(task_id, app=stage.app).revoke()


def revoke_by_control(stage, task_id):
    stage.app.control.revoke(task_id)


def revoke_by_handle(stage, task_id):
    stage.durable.get(task_id).revoke()


@pytest.mark.parametrize("revoke", [revoke_by_result, revoke_by_control, revoke_by_handle])
def test_revoke_cancels_with_compensation_and_poisons_no_id(stage, result_of, revoke):
    key, task_id = unique(), unique("order")
    stage.testapp.cooperative.apply_async((key,), task_id=task_id)
    stage.wait_for_run("watching", key)
    before = len(stage.runs("add", 0, 0))
    revoke(stage, task_id)
    run = stage.durable.get(task_id)
    with pytest.raises(TaskRevokedError):
        stage.finish(run)
    assert run.refresh().runtime_status is RuntimeStatus.CANCELED
    assert len(stage.runs("add", 0, 0)) == before + 1
    wait_until(lambda: result_of(task_id).state == "REVOKED", what="the state of Celery's result")
    replies = stage.app.control.inspect(timeout=2).revoked() or {}
    assert all(task_id not in ids for ids in replies.values())
    assert (
        stage.start(stage.testapp.triple.s(2), instance_id=task_id, if_exists="restart").get(
            timeout=300
        )
        == 6
    )


def test_revoke_of_one_that_waits_for_its_start(stage):
    run = stage.testapp.triple.apply_async((1,), countdown=600)
    run.revoke()
    with pytest.raises(OrchestrationFailed):
        stage.finish(run)
    assert run.refresh().runtime_status is RuntimeStatus.CANCELED


# -- other result backends, and none ---------------------------------------------------------------


@pytest.fixture(params=["none", "rpc", "database"])
def other_backend(request, redis_url, rabbitmq_url, sqlite_url, tmp_path: Path, new_stage):
    backend = {
        "none": None,
        "rpc": "rpc://",
        "database": f"db+sqlite:///{tmp_path / 'results.db'}",
    }[request.param]
    stage = new_stage(rabbitmq_url if request.param == "rpc" else redis_url, sqlite_url, backend)
    stage.worker(pool="threads")
    return stage


def test_other_result_backends(other_backend):
    stage = other_backend
    run, failing = stage.testapp.triple.delay(3), stage.testapp.fail_unhandled.delay()
    assert stage.finish(run) == 9
    with pytest.raises(stage.testapp.CardDeclined):
        stage.finish(failing)
    if not stage.environment["TESTAPP_BACKEND"]:
        return
    assert AsyncResult(run.id, app=stage.app).get(timeout=300) == 9
    with pytest.raises(stage.testapp.CardDeclined):
        AsyncResult(failing.id, app=stage.app).get(timeout=300)
    assert (
        chain(stage.testapp.triple.s(1), stage.testapp.add.s(1)).apply_async().get(timeout=300) == 4
    )


# -- eager -----------------------------------------------------------------------------------------


def test_task_always_eager_runs_it_all_in_the_caller(new_stage, sqlite_url):
    stage = new_stage("memory://", sqlite_url, TESTAPP_EAGER="1")
    assert stage.testapp.triple.delay(3).get(timeout=300) == 9
    assert stage.testapp.canvas.delay().get(timeout=300)["chain"] == 16
    with pytest.raises(stage.testapp.CardDeclined):
        stage.testapp.fail_unhandled.delay().get(timeout=300)
    assert stage.testapp.sum_of_doubles.delay(200).get(timeout=300) == 39_800
    waiting = stage.testapp.wait_for_go.delay()
    assert waiting.refresh().runtime_status is RuntimeStatus.RUNNING
    waiting.raise_event("go", 0)
    assert waiting.get(timeout=300) == 0
