"""What a client can do: start, look and steer, and what it is told when it asks for something that
cannot be.
"""

from __future__ import annotations

import pickle
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from celery_durable import (
    ConfigurationError,
    InstanceExists,
    InstanceNotFound,
    InvalidState,
    OrchestrationFailed,
    OrchestrationRevoked,
    PayloadError,
    RuntimeStatus,
    StoreError,
)
from tests.conftest import wait_until
from tests.nodes import free_port


def unique(name: str = "order") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def waiting(stage):
    """An orchestration that waits for the event ``go``, after its first turn."""

    def start(**options):
        run = stage.start(stage.testapp.wait_for_go.s(), **options)
        wait_until(
            lambda: run.refresh().runtime_status is RuntimeStatus.RUNNING, what="its first turn"
        )
        return run

    return start


# -- the handle ------------------------------------------------------------------------------------


def test_a_handle_tells_all_that_the_store_knows(stage):
    begun = datetime.now(UTC) - timedelta(seconds=5)
    run = stage.start(stage.testapp.triple.s(3), instance_id=unique(), tags={"customer": "7"})
    assert stage.finish(run) == 9
    run = stage.durable.get(run.id)
    assert (run.name, run.version, run.runtime_status) == (
        "testapp.triple",
        None,
        RuntimeStatus.COMPLETED,
    )
    assert run.runtime_status.is_terminal
    assert run.input == {"args": [3], "kwargs": {}}
    assert (run.output, run.failure, run.custom_status, run.parent_id) == (9, None, None, None)
    assert run.tags == {"customer": "7"}
    assert (
        begun
        <= run.created_at
        <= run.started_at
        <= run.completed_at
        <= datetime.now(UTC) + timedelta(seconds=5)
    )
    assert run.updated_at == run.completed_at
    assert run.created_at.tzinfo is not None
    assert run.wait() == run.get() == 9


def test_history_names_what_happened_in_order(stage):
    run = stage.start(stage.testapp.triple.s(3))
    stage.finish(run)
    kinds = [str(event.kind) for event in run.history()]
    assert kinds == [
        "ExecutionStarted",
        "ActivityScheduled",
        "ActivityCompleted",
        "ExecutionCompleted",
    ]


def test_a_handle_survives_pickle(stage):
    run = stage.start(stage.testapp.triple.s(3))
    stage.finish(run)
    assert pickle.loads(pickle.dumps(run)).output == 9


def test_get_of_an_unknown_id_raises(stage):
    with pytest.raises(InstanceNotFound) as caught:
        stage.durable.get("nobody")
    assert caught.value.instance_id == "nobody"
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), InstanceNotFound)


def test_wait_gives_up_after_its_timeout(waiting):
    run = waiting()
    with pytest.raises(TimeoutError, match=run.id):
        run.wait(timeout=0.2)
    run.terminate()


# -- starting --------------------------------------------------------------------------------------


def test_if_exists_return_gives_the_one_there(stage, waiting):
    run = waiting()
    again = stage.start(stage.testapp.wait_for_go.s("other input"), instance_id=run.id)
    assert again.input == {"args": [], "kwargs": {}}
    run.terminate()


def test_if_exists_raise(stage, waiting):
    run = waiting()
    with pytest.raises(InstanceExists) as caught:
        stage.start(stage.testapp.wait_for_go.s(), instance_id=run.id, if_exists="raise")
    assert caught.value.instance_id == run.id
    run.terminate()


def test_if_exists_restart_takes_finished_ones_only(stage, waiting):
    run = waiting()
    with pytest.raises(InvalidState):
        stage.start(stage.testapp.wait_for_go.s(), instance_id=run.id, if_exists="restart")
    run.raise_event("go", 1)
    assert stage.finish(run) == 1
    assert stage.outcome(stage.testapp.triple.s(2), instance_id=run.id, if_exists="restart") == 6


def test_if_exists_replace_ends_a_running_one(stage, waiting):
    run = waiting()
    assert stage.outcome(stage.testapp.triple.s(2), instance_id=run.id, if_exists="replace") == 6
    assert stage.durable.get(run.id).name == "testapp.triple"


def test_start_at_is_durable_and_never_early(stage):
    begin = datetime.now(UTC) + timedelta(seconds=1)
    run = stage.start(stage.testapp.triple.s(1), start_at=begin)
    assert run.runtime_status is RuntimeStatus.PENDING
    assert stage.finish(run) == 3
    assert run.refresh().started_at >= begin - timedelta(milliseconds=50)


def test_an_event_before_the_delayed_start_is_kept(stage):
    run = stage.start(
        stage.testapp.wait_for_go.s(), start_at=datetime.now(UTC) + timedelta(seconds=0.5)
    )
    run.raise_event("go", "early")
    assert stage.finish(run) == "early"


@pytest.mark.parametrize("instance_id", ["ü/ 'x'\n\u20ac", "a" * 150, "d-not-a-ticket", "A B"])
def test_odd_ids_work(stage, instance_id):
    instance_id = (
        f"{instance_id[:-8]}{uuid.uuid4().hex[:8]}" if len(instance_id) == 150 else instance_id
    )
    run = stage.start(stage.testapp.triple.s(1), instance_id=instance_id, if_exists="replace")
    assert stage.finish(run) == 3
    assert stage.durable.get(instance_id).id == instance_id


# -- finding ---------------------------------------------------------------------------------------


def test_find_and_count_by_every_filter(stage, waiting):
    prefix, tag = unique("find"), unique("tag")
    runs = [
        waiting(instance_id=f"{prefix}-{number}", tags={"t": tag, "n": str(number)})
        for number in range(3)
    ]
    done = stage.start(stage.testapp.triple.s(1), instance_id=f"{prefix}-done", tags={"t": tag})
    stage.finish(done)
    find = stage.durable.find

    def ids(**filters):
        return {run.id for run in find(**filters).items}

    everything = {run.id for run in runs} | {done.id}
    assert ids(id_prefix=prefix) == everything
    assert ids(id_prefix=prefix, status="RUNNING") == {run.id for run in runs}
    assert ids(id_prefix=prefix, status=["RUNNING", RuntimeStatus.COMPLETED]) == everything
    assert (
        ids(id_prefix=prefix, name="testapp.triple")
        == ids(id_prefix=prefix, name=stage.testapp.triple)
        == {done.id}
    )
    assert ids(tags={"t": tag}) == everything
    assert ids(tags={"t": tag, "n": "1"}) == {f"{prefix}-1"}
    assert (
        ids(id_prefix=prefix, created_after=done.refresh().created_at + timedelta(seconds=1))
        == set()
    )
    assert (
        ids(id_prefix=prefix, created_before=done.created_at + timedelta(seconds=1)) == everything
    )
    assert ids(id_prefix=prefix, version="2") == set()
    assert stage.durable.count(id_prefix=prefix, status="RUNNING") == 3
    for run in runs:
        run.terminate()


def test_pages_are_stable_while_rows_are_inserted(stage):
    prefix = unique("page")
    later = datetime.now(UTC) + timedelta(days=1)
    for number in range(5):
        stage.start(
            stage.testapp.triple.s(number), instance_id=f"{prefix}-{number}", start_at=later
        )
    seen, cursor = [], None
    while True:
        page = stage.durable.find(id_prefix=prefix, limit=2, cursor=cursor)
        seen += [run.id for run in page.items]
        stage.start(
            stage.testapp.triple.s(0), instance_id=f"{prefix}-new-{len(seen)}", start_at=later
        )
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"{prefix}-{number}" for number in (4, 3, 2, 1, 0)]
    for run in stage.durable.find(id_prefix=prefix).items:
        run.terminate()


def test_unknown_filters_are_refused(stage):
    with pytest.raises(TypeError, match="colour"):
        stage.durable.find(colour="red")
    with pytest.raises(ValueError):
        stage.durable.count(status="DANCING")
    with pytest.raises(ValueError):
        stage.durable.find(created_after=datetime(2030, 1, 1))


# -- steering --------------------------------------------------------------------------------------


def test_an_event_id_deduplicates(stage):
    run = stage.start(stage.testapp.collect.s(2))
    run.raise_event("item", "first", event_id="a")
    wait_until(
        lambda: any(event.kind == "EventRaised" for event in run.history()), what="the first event"
    )
    run.raise_event("item", "again", event_id="a")
    run.raise_event("item", "second", event_id="b")
    assert stage.finish(run) == ["first", "second"]


@pytest.mark.parametrize("payload", [0, "", [], False, None, {"k": "v" * 100_000}])
def test_payloads_of_events_survive(stage, waiting, payload):
    run = waiting()
    run.raise_event("go", payload)
    assert stage.finish(run) == payload


def test_an_event_to_a_finished_or_unknown_one_is_refused(stage):
    run = stage.start(stage.testapp.at_once.s(1))
    stage.finish(run)
    with pytest.raises(InvalidState) as caught:
        run.raise_event("go")
    assert caught.value.status == RuntimeStatus.COMPLETED
    with pytest.raises(InstanceNotFound):
        stage.durable.raise_event("nobody", "go")


def test_suspend_keeps_what_arrives_and_resume_delivers_it(stage, waiting):
    run = waiting()
    run.suspend(reason="lunch")
    assert (run.runtime_status, run.reason) == (RuntimeStatus.SUSPENDED, "lunch")
    run.suspend()
    run.raise_event("go", "kept")
    assert stage.outcome(stage.testapp.triple.s(1)) == 3
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    run.resume(reason="back")
    assert stage.finish(run) == "kept"
    assert "ExecutionSuspended" in [event.kind for event in run.history()]
    with pytest.raises(InvalidState):
        run.suspend()
    with pytest.raises(InvalidState):
        run.resume()


def test_outcomes_while_suspended_are_kept(stage):
    key = unique("hold")
    run = stage.start(stage.testapp.pipeline.s(key))
    stage.wait_for_run("hold", key)
    run.suspend()
    stage.release(key)
    assert stage.outcome(stage.testapp.triple.s(1)) == 3
    run.resume()
    assert stage.finish(run) == 22
    assert len(stage.runs("hold", key)) == 1


def test_terminate_ends_at_once_with_an_output_and_a_reason(stage, waiting):
    run = waiting()
    run.terminate(output={"partial": True}, reason="enough")
    assert run.runtime_status is RuntimeStatus.TERMINATED
    assert (run.output, run.reason) == ({"partial": True}, "enough")
    with pytest.raises(OrchestrationRevoked) as caught:
        run.get(timeout=300)
    assert isinstance(caught.value, OrchestrationFailed)
    assert caught.value.status == RuntimeStatus.TERMINATED
    run.terminate()


def test_terminate_while_suspended(waiting):
    run = waiting()
    run.suspend()
    run.terminate()
    assert run.runtime_status is RuntimeStatus.TERMINATED


def test_terminate_ends_children_too(stage):
    child_id = unique("child")
    run = stage.start(stage.testapp.try_child.s(child_id))
    wait_until(lambda: stage.durable.count(id_prefix=child_id) == 1, what="the child")
    run.terminate()
    child = stage.durable.get(child_id)
    wait_until(
        lambda: child.refresh().runtime_status is RuntimeStatus.TERMINATED,
        what="the end of the child",
    )


def test_an_activity_of_a_terminated_orchestration_does_not_start(stage):
    x = int(uuid.uuid4().int % 10**9)
    options = {"queue": f"{stage.queue}-slow"}
    run = stage.start(stage.testapp.attempt.s("testapp.add", (x, 1), options=options))
    wait_until(lambda: run.refresh().runtime_status is RuntimeStatus.RUNNING, what="its first turn")
    run.terminate()
    worker = stage.worker(queues=(f"{stage.queue}-slow",), pool="solo")
    try:
        stage.testapp.add.apply_async((x, 2), queue=f"{stage.queue}-slow").get(timeout=300)
        assert [one.facts for one in stage.runs("add", x)] == [[x, 2]]
    finally:
        worker.stop()


def test_purge_deletes_finished_ones_only(stage, waiting):
    run = waiting()
    with pytest.raises(InvalidState):
        run.purge()
    run.terminate()
    wait_until(lambda: _purged(run), what="the purge")
    with pytest.raises(InstanceNotFound):
        stage.durable.get(run.id)
    run.purge()


def _purged(run) -> bool:
    try:
        run.purge()
    except InvalidState:
        return False
    return True


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance_id", ["", "a" * 151, "a\0b", "\ud800"])
def test_ids_that_cannot_be_are_refused(stage, instance_id):
    with pytest.raises(ValueError):
        stage.start(stage.testapp.triple.s(1), instance_id=instance_id)
    with pytest.raises(ValueError):
        stage.durable.get(instance_id)


@pytest.mark.parametrize("task_id", ["a" * 151, "a\0b", "\ud800"])
def test_task_ids_that_cannot_be_are_refused(stage, task_id):
    with pytest.raises(ValueError):
        stage.testapp.triple.apply_async((1,), task_id=task_id)


def test_a_naive_datetime_is_refused(stage):
    with pytest.raises(ValueError, match="time zone"):
        stage.start(stage.testapp.triple.s(1), start_at=datetime(2030, 1, 1))


def test_a_plain_task_is_started_as_one_activity(stage):
    run = stage.start(stage.testapp.add.s(1, 2))
    assert run.get(timeout=60) == 3 and run.name == "testapp.add"


def test_an_orchestrator_without_its_s_is_named_so(stage):
    with pytest.raises(TypeError, match="not the orchestrator itself"):
        stage.start(stage.testapp.wait_for_go)


def test_an_unknown_name_is_no_orchestrator(stage):
    with pytest.raises(TypeError, match="not registered"):
        stage.start(stage.app.signature("testapp.nobody"))


@pytest.mark.parametrize("thing", [None, "testapp.triple", 7])
def test_only_signatures_are_started(stage, thing):
    with pytest.raises(TypeError, match="signature"):
        stage.start(thing)


def test_an_argument_that_cannot_be_encoded_is_named(stage):
    with pytest.raises(PayloadError, match="object"):
        stage.start(stage.testapp.triple.s([1, object()]))


def test_tags_are_strings(stage):
    with pytest.raises(TypeError, match="tags"):
        stage.start(stage.testapp.triple.s(1), tags={"customer": 7})


def test_an_unknown_policy_is_refused(stage):
    with pytest.raises(ValueError, match="if_exists"):
        stage.start(stage.testapp.triple.s(1), if_exists="maybe")


def test_a_store_that_cannot_be_reached_is_a_store_error(new_stage, redis_url):
    url = f"postgresql+psycopg://postgres@127.0.0.1:{free_port()}/nothing"
    with pytest.raises(StoreError):
        new_stage(redis_url, url)
    stage = new_stage(redis_url, url, migrates=False)
    for ask in (
        lambda: stage.start(stage.testapp.triple.s(1)),
        lambda: stage.testapp.triple.delay(1),
    ):
        with pytest.raises(StoreError):
            ask()


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_store_without_tables_is_a_configuration_error(request, new_stage, redis_url, kind):
    url = request.getfixturevalue(f"{kind}_url")
    stage = new_stage(redis_url, url, migrates=False)
    with pytest.raises(ConfigurationError, match="migrate"):
        stage.start(stage.testapp.triple.s(1))


def test_a_schema_that_is_behind_is_a_configuration_error(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        tables = (
            connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
            .scalars()
            .all()
        )
        version = next(name for name in tables if "version" in name)
        connection.execute(text(f"UPDATE {version} SET version_num = '0000'"))
    engine.dispose()
    stage.close()
    stage = new_stage(redis_url, postgres_url, migrates=False)
    with pytest.raises(ConfigurationError, match="migrate"):
        stage.start(stage.testapp.triple.s(1))


# -- code that changes -----------------------------------------------------------------------------


def test_changed_code_suspends_readably_and_the_old_code_continues(
    new_stage, redis_url, sqlite_url
):
    stage = new_stage(redis_url, sqlite_url)
    worker = stage.worker(pool="threads")
    run = stage.start(stage.testapp.changing.s())
    wait_until(
        lambda: "ActivityCompleted" in [event.kind for event in run.history()],
        what="the first activity",
    )
    worker.stop()
    changed = stage.worker(pool="threads", environment={"TESTAPP_VARIANT": "changed"})
    run.raise_event("go")
    wait_until(
        lambda: run.refresh().runtime_status is RuntimeStatus.SUSPENDED, what="the suspension"
    )
    for part in (
        "NonDeterminismError",
        run.id,
        "testapp.changing",
        "testapp.add",
        "testapp.double",
    ):
        assert part in run.reason
    changed.stop()
    stage.worker(pool="threads")
    run.resume()
    assert stage.finish(run) == 4
    assert stage.counts() == {"add": 2}


def test_an_unknown_orchestrator_waits_visibly_for_a_worker_that_knows_it(
    new_stage, redis_url, sqlite_url
):
    stage = new_stage(redis_url, sqlite_url)
    ignorant = stage.worker(pool="threads", environment={"TESTAPP_VARIANT": "without"})
    run = stage.start(stage.testapp.changing.s())
    run.raise_event("go")
    wait_until(lambda: run.refresh().reason is not None, what="a visible reason")
    assert "testapp.changing" in run.reason
    assert run.runtime_status is RuntimeStatus.PENDING
    ignorant.stop()
    stage.worker(pool="threads")
    assert stage.finish(run) == 4
