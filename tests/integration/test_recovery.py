"""Nothing is lost and nothing finished runs again, whatever dies: workers, children, brokers, the
store.

In the full tier each loss comes once, and each broker and each store is met by some of them. The
long tier has the other pairs, and what a test elsewhere in the full tier shows too: that a worker
takes over from a killed one (``tests/chaos/test_matrix.py``), a Redis, a RabbitMQ and a
PostgreSQL that restart under load (``tests/chaos/test_servers.py``), a warm shutdown
(``test_embedded_broker.py``), a process that dies in a turn (``test_poison.py``).
"""

from __future__ import annotations

import os
import signal

import pytest
import sqlalchemy as sa

from celery_durable import RuntimeStatus
from celery_durable.store.schema import workers
from tests.chaos.cable import Cable
from tests.conftest import wait_until
from tests.nodes import OwnPostgres, OwnRabbit, OwnRedis, running


@pytest.fixture
def servers(request):
    """A pair of a broker and a store."""
    broker, store = request.param.split("-")
    url = "durable://" if broker == "embedded" else request.getfixturevalue(f"{broker}_url")
    return url, request.getfixturevalue(f"{store}_url")


long = pytest.mark.long


def on(pair, then):
    """Run a test with a broker and a store, and in the long tier with a second pair: all together
    lose each of them in each way once.
    """
    pairs = [pair, pytest.param(then, marks=long)]
    return pytest.mark.parametrize("servers", pairs, indirect=True)


@pytest.fixture
def recovering(servers, new_stage):
    return new_stage(*servers)


# -- workers that die ------------------------------------------------------------------------------


@on("embedded-sqlite", "redis-mariadb")
def test_a_worker_killed_in_an_activity(recovering):
    stage = recovering
    first = stage.worker()
    run = stage.start(stage.testapp.pipeline.s("middle"))
    stage.wait_for_run("hold", "middle")
    first.kill()
    stage.release("middle")
    stage.worker()
    assert stage.finish(run) == 22
    assert stage.counts() == {"add": 2, "hold": 2, "double": 5}
    stage.assert_nothing_ran_after_its_completion(run.id)


@on("embedded-sqlite", "redis-postgres")
def test_workers_killed_before_and_after_the_return_of_a_body_that_has_deferred(recovering):
    stage = recovering
    first = stage.worker()
    run = stage.start(stage.testapp.by_token.s("job"))
    stage.wait_for_run("deferred", "job")
    first.kill()
    second = stage.worker()
    stage.wait_for_run("deferred", "job", count=2)
    stage.release("job")
    wait_until(
        lambda: any(event.kind == "ActivityDeferred" for event in run.history()), 60, "the deferral"
    )
    second.kill()
    stage.worker()
    wait_until(
        lambda: len(stage.durable.runtime.store.workers.living_workers(10**12)) == 1,
        60,
        "the dead to be buried",
    )
    assert stage.outcome(stage.testapp.sum_of_doubles.s(4)) == 12
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    (token,) = {deferred.facts[1] for deferred in stage.runs("deferred", "job")}
    assert len(stage.runs("deferred", "job")) == 2, "nothing was sent again"
    assert "since" in str(run.explain())
    assert stage.durable.complete(token, {"size": 3})
    assert stage.finish(run) == {"size": 3}
    assert not stage.durable.complete(token)


@long
@on("embedded-sqlite", "rabbitmq-postgres")
def test_a_worker_killed_in_its_first_turn_and_its_successor_in_a_later_one(recovering):
    stage = recovering
    first = stage.worker()
    run = stage.start(stage.testapp.block_in_turn.s("turn"))
    stage.wait_for_run("block", "turn-first")
    first.kill()
    second = stage.worker()
    stage.wait_for_run("block", "turn-second")
    second.kill()
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    stage.worker()
    assert stage.finish(run) == 3
    stage.assert_nothing_ran_after_its_completion(run.id)
    assert len(stage.runs("add", 2, 1)) == 1


@pytest.mark.parametrize(
    ("servers", "place"),
    [
        ("embedded-sqlite", "celery_durable.worker.publisher:CeleryPublisher.publish_activities"),
        ("redis-mariadb", "celery_durable.engine.dispatch:Dispatcher.follow"),
        ("rabbitmq-postgres", "celery_durable.worker.publisher:CeleryPublisher.finish"),
    ],
    indirect=["servers"],
    ids=["activities are sent", "a wake is sent on redis", "Celery hears of the end on rabbitmq"],
)
def test_a_worker_that_dies_between_commit_and_publish(servers, redis_url, new_stage, place):
    stage = new_stage(*servers, redis_url)
    first = stage.worker(concurrency=1, environment={"TESTAPP_DIES_IN": place})
    run = stage.start(stage.testapp.sum_of_doubles.s(4))
    first.wait_dead()
    stage.worker()
    assert stage.finish(run) == 12
    assert stage.counts() == {"double": 4}
    wait_until(lambda: stage.app.AsyncResult(run.id).state == "SUCCESS", what="Celery's result")
    stage.assert_nothing_ran_after_its_completion(run.id)


def test_a_pool_child_that_is_killed_is_a_failed_attempt(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    stage.worker()
    assert stage.outcome(stage.testapp.survive_lost_process.s("poison")) == "poison"
    assert len(stage.runs("kill_own_process", "poison")) == 2
    answer = stage.outcome(stage.testapp.attempt.s("testapp.kill_own_process", ("again",)))
    assert answer["raised"] == "WorkerLostError"


@long
def test_a_pool_child_that_is_killed_in_a_turn(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    worker = stage.worker(concurrency=1)
    run = stage.start(stage.testapp.block_in_turn.s("turn"))
    stage.wait_for_run("block", "turn-first")
    for child in worker.children():
        os.kill(child, signal.SIGKILL)
    stage.wait_for_run("block", "turn-second")
    for child in worker.children():
        os.kill(child, signal.SIGKILL)
    assert stage.finish(run) == 3
    stage.assert_nothing_ran_after_its_completion(run.id)


@long
def test_progress_survives_the_worker(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    first = stage.worker()
    run = stage.start(stage.testapp.with_progress.s("half"))
    stage.wait_for_run("said", "half")
    first.kill()
    stage.release("half")
    stage.worker()
    assert stage.finish(run) == {"done": 3}


@long
def test_another_worker_takes_over_from_a_killed_one(new_stage, redis_url, postgres_url):
    stage = new_stage(redis_url, postgres_url)
    first = stage.worker()
    run = stage.start(stage.testapp.parallel_holds.s(["a", "b"]))
    stage.wait_for_run("hold", "a")
    stage.wait_for_run("hold", "b")
    stage.worker()
    first.kill()
    stage.wait_for_run("hold", "a", count=2)
    stage.release("a")
    stage.release("b")
    assert stage.finish(run) == ["a", "b"]


@long
def test_a_warm_shutdown_finishes_what_runs_and_hands_over_the_rest(
    new_stage, redis_url, postgres_url
):
    stage = new_stage(redis_url, postgres_url)
    first = stage.worker()
    run = stage.start(stage.testapp.pipeline.s("middle"))
    stage.wait_for_run("hold", "middle")
    first.process.terminate()
    stage.release("middle")
    first.wait_dead()
    stage.worker()
    assert stage.finish(run) == 22
    assert stage.counts() == {"add": 2, "hold": 1, "double": 5}


# -- brokers that forget or stop -------------------------------------------------------------------


@on("embedded-sqlite", "redis-mariadb")
def test_a_wiped_broker_while_no_one_works(recovering):
    stage = recovering
    started = [stage.start(stage.testapp.triple.s(number)) for number in range(3)]
    waiting = stage.start(stage.testapp.wait_for_go.s())
    waiting.raise_event("go", 1)
    stage.wipe_broker()
    stage.worker()
    assert [stage.finish(run) for run in started] == [0, 3, 6]
    assert stage.finish(waiting) == 1


@on("embedded-sqlite", "rabbitmq-postgres")
def test_a_wiped_broker_with_activities_in_the_queue(recovering):
    stage = recovering
    first = stage.worker()
    run = stage.start(stage.testapp.parallel_holds.s([f"k{number}" for number in range(6)]))
    stage.wait_for_run("hold", count=2)
    first.kill()
    stage.wipe_broker()
    for number in range(6):
        stage.release(f"k{number}")
    stage.worker()
    assert stage.finish(run) == [f"k{number}" for number in range(6)]
    assert len(stage.runs("hold")) <= 8
    stage.assert_nothing_ran_after_its_completion(run.id)


def test_a_flushed_broker_under_a_running_worker(new_stage, tmp_path, postgres_url):
    with running(OwnRedis(tmp_path)) as redis:
        stage = new_stage(redis.url, postgres_url)
        stage.worker()
        run = stage.start(stage.testapp.parallel_holds.s([f"k{number}" for number in range(12)]))
        stage.wait_for_run("hold", count=2)
        redis.flush()
        for number in range(12):
            stage.release(f"k{number}")
        assert stage.finish(run) == [f"k{number}" for number in range(12)]
        stage.assert_nothing_ran_after_its_completion(run.id)
        assert stage.outcome(stage.testapp.pipeline.s("k0")) == 22


@long
def test_a_redis_that_restarts_empty(new_stage, tmp_path, postgres_url):
    with running(OwnRedis(tmp_path)) as redis:
        stage = new_stage(redis.url, postgres_url)
        worker = stage.worker()
        run = stage.start(stage.testapp.pipeline.s("middle"))
        stage.wait_for_run("hold", "middle")
        redis.stop()
        stage.release("middle")
        redis.start()
        # kombu 5.7 may end a worker that holds unacknowledged messages when Redis goes away:
        # whoever runs it starts it again
        wait_until(
            lambda: not worker.is_running or stage.durable.count(status="COMPLETED"),
            30,
            "a reaction of the worker",
        )
        if not worker.is_running:
            stage.worker()
        assert stage.finish(run) == 22
        assert stage.counts()["double"] == 5
        stage.assert_nothing_ran_after_its_completion(run.id)


@long
def test_a_rabbitmq_that_restarts(new_stage, postgres_url):
    with running(OwnRabbit()) as rabbit:
        stage = new_stage(rabbit.url, postgres_url)
        stage.worker()
        run = stage.start(stage.testapp.pipeline.s("middle"))
        stage.wait_for_run("hold", "middle")
        rabbit.stop()
        stage.release("middle")
        rabbit.start()
        assert stage.finish(run) == 22
        assert stage.counts()["double"] == 5
        stage.assert_nothing_ran_after_its_completion(run.id)


# -- the store -------------------------------------------------------------------------------------


@long
def test_a_store_that_is_down_while_activities_finish(new_stage, redis_url):
    with running(OwnPostgres()) as postgres:
        stage = new_stage(redis_url, postgres.url)
        worker = stage.worker(concurrency=3)
        run = stage.start(stage.testapp.parallel_holds.s(["a", "b"]))
        other = stage.start(stage.testapp.pipeline.s("a"))
        stage.wait_for_run("hold", "a")
        stage.wait_for_run("hold", "b")
        postgres.stop()
        stage.release("a")
        stage.release("b")
        wait_until(
            lambda: "the store is down, trying again" in worker.text(), what="an attempt to record"
        )
        postgres.start()
        assert stage.finish(run) == ["a", "b"]
        assert stage.finish(other) == 22
        assert len(stage.runs("hold", "b")) == 1
        stage.assert_nothing_ran_after_its_completion(run.id)


def test_a_worker_that_starts_while_the_store_is_down(new_stage, redis_url):
    with running(OwnPostgres()) as postgres:
        stage = new_stage(redis_url, postgres.url)
        run = stage.start(stage.testapp.triple.s(3))
        postgres.stop()
        worker = stage.worker()
        wait_until(
            lambda: "the durable store cannot be reached yet" in worker.text(),
            what="the worker's word",
        )
        postgres.start()
        assert stage.finish(run) == 9


# -- what the broker carries -----------------------------------------------------------------------


def test_messages_carry_ids_and_their_own_arguments_only(new_stage, redis_url, postgres_url):
    import redis

    stage = new_stage(redis_url, postgres_url)
    large = "x" * 100_000
    run = stage.start(stage.testapp.attempt.s("testapp.echo", (1,), {"large": large}))
    fan_out = stage.start(stage.testapp.sum_of_doubles.s(30))
    fan_out.raise_event("unused", large)
    with redis.Redis.from_url(redis_url) as client:
        turns = client.lrange(f"{stage.queue}:{stage.queue}.turns", 0, -1)
        assert len(turns) == 3
        stage.durable.runtime.runner.run(fan_out.id)
        messages = client.lrange(f"{stage.queue}:{stage.queue}", 0, -1)
    assert len(messages) == 30
    assert max(map(len, turns)) < 1024, max(turns, key=len)
    assert max(map(len, messages)) < 1200, max(messages, key=len)
    run.terminate()


@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=long)])
def test_a_broker_that_does_not_answer_keeps_no_worker_from_saying_that_it_lives(
    request, new_stage, postgres_url, broker
):
    """Others would take it for dead, and run again what it runs."""
    cable = Cable(request.getfixturevalue(f"{broker}_url"))
    try:
        stage = new_stage(cable.url, postgres_url, TESTAPP_RESEND_AFTER="0.5")
        worker = stage.worker(options=["--prefetch-multiplier=1"])
        # what waits for so long makes recovery ask the broker how many messages there are
        stage.start(stage.testapp.spread.s("brief", 400))
        stage.wait_for_run("brief")
        seen = workers.c.last_seen
        with sa.create_engine(postgres_url).connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            cable.silence()
            for _ in range(8):  # longer than any question that was on its way
                before = connection.scalar(sa.select(seen))
                wait_until(lambda before=before: connection.scalar(sa.select(seen)) > before)
            assert connection.scalar(sa.select(sa.func.count()).select_from(workers)) == 1
        assert worker.is_running
    finally:
        cable.close()
