"""Activities that are sent together are one round trip on Redis, and each is sent once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.signals import before_task_publish
from kombu import Producer, Queue

from celery_durable import Durable
from celery_durable.engine.records import ActivityAttemptId, ActivityRow
from celery_durable.worker.batches import Batch
from celery_durable.worker.fast_publish import FastPublisher
from celery_durable.worker.runtime import runtime_of
from tests.servers import own_keys

CAN_BATCH = hasattr(Producer, "batch")
needs_batches = pytest.mark.skipif(not CAN_BATCH, reason="kombu publishes in batches as of 5.7")


def noop(number: int) -> None:
    """Do nothing."""


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    name = f"batch-{uuid.uuid4().hex[:8]}"
    app = Celery(broker=redis_url)
    app.conf.update(task_default_queue=name, broker_pool_limit=1)
    app.conf.broker_transport_options = {"global_keyprefix": f"{name}:"}
    app.conf.broker_pool_acquire_timeout = 5  # where a wait would last for ever
    app.task(name="noop")(noop)
    with own_keys(redis_url, name):
        yield app


def waiting(app: Celery) -> list[int]:
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        found: list[int] = []
        with suppress(queue.Empty):
            while message := queue.get(block=False):
                found.append(message.payload[0][0])
                message.ack()
        return found


def send(publisher: FastPublisher, app: Celery, number: Any) -> bool:
    options = {
        "task_id": f"t{number}",
        "root_id": None,
        "parent_id": "i",
        "headers": None,
        "ignore_result": True,
    }
    return publisher.send(app.tasks["noop"], (number,), {}, options)


@needs_batches
def test_they_are_sent_at_the_end_in_their_order(app: Celery) -> None:
    publisher = FastPublisher(app)
    with publisher.together() as batch:
        assert all(send(publisher, app, number) for number in range(20))
        assert waiting(app) == []
    assert waiting(app) == list(range(20))
    assert batch.refused == {}
    send(publisher, app, 20)
    assert waiting(app) == [20], "after the block each goes by itself"


@needs_batches
def test_one_whose_arguments_cannot_be_sent_takes_no_other_with_it(app: Celery) -> None:
    publisher = FastPublisher(app)
    with publisher.together() as batch:
        send(publisher, app, 1)
        with pytest.raises(Exception, match="not JSON serializable"):
            send(publisher, app, object())
        send(publisher, app, 2)
    assert waiting(app) == [1, 2]
    assert batch.refused == {}


def test_one_that_celery_has_to_send_finds_a_producer(app: Celery) -> None:
    publisher = FastPublisher(app)

    def seen(**_: Any) -> None:
        """Be what Celery would call."""

    with publisher.together() as batch:
        assert send(publisher, app, 1)
        before_task_publish.connect(seen)
        try:
            assert not send(publisher, app, 2)
            publisher.let_go()
            app.tasks["noop"].apply_async((2,))
        finally:
            before_task_publish.disconnect(seen)
        assert send(publisher, app, 3)
    assert waiting(app) == [1, 2, 3]
    assert batch.refused == {}


@needs_batches
def test_what_the_broker_did_not_take_is_said(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FastPublisher(app)
    send(publisher, app, 0)

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    with publisher.together() as batch:
        send(publisher, app, 1)
        monkeypatch.setattr("redis.client.Pipeline.execute", refuse)
    assert "uncertain" in str(batch.refused["t1"])
    monkeypatch.undo()
    send(publisher, app, 2)
    assert waiting(app) == [0, 2]


def test_a_broker_without_batches_gets_each_by_itself() -> None:
    app = Celery(broker="memory://")
    app.conf.task_default_queue = f"batch-{uuid.uuid4().hex[:8]}"  # all share that broker
    app.task(name="noop")(noop)
    publisher = FastPublisher(app)
    with publisher.together() as batch:
        assert send(publisher, app, 1)
        assert waiting(app) == [1]
    assert batch.refused == {}


def test_an_empty_batch_is_nothing() -> None:
    batch = Batch()
    batch.close()
    assert batch.refused == {}


@needs_batches
@pytest.mark.parametrize("expires", [None, 60])
def test_each_message_has_an_answer_of_its_own(
    app: Celery, monkeypatch: pytest.MonkeyPatch, expires: int | None
) -> None:
    name = app.conf.task_default_queue
    app.conf.task_queues = [Queue(name, routing_key=name, expires=expires)]
    publisher = FastPublisher(app)
    execute = redis.client.Pipeline.execute

    def full(pipeline: Any, raise_on_error: bool = True) -> list[Any]:
        answers = execute(pipeline, raise_on_error=False)
        answers[len(answers) // 3] = redis.ResponseError("OOM command not allowed")
        return answers

    send(publisher, app, 0)
    with publisher.together() as batch:
        for number in range(1, 4):
            send(publisher, app, number)
        monkeypatch.setattr("redis.client.Pipeline.execute", full)
    assert batch.refused.keys() == {"t2"} and "OOM" in str(batch.refused["t2"])


@needs_batches
def test_what_a_slow_broker_may_have_taken_is_not_sent_again(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = FastPublisher(app)
    send(publisher, app, 0)

    def wait(*_: Any, **__: Any) -> None:
        raise redis.TimeoutError("no answer")

    with publisher.together() as batch:
        send(publisher, app, 1)
        monkeypatch.setattr("redis.client.Pipeline.execute", wait)
    assert batch.refused == {}


@needs_batches
def test_a_batch_that_cannot_be_opened_is_tried_once(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = FastPublisher(app)
    send(publisher, app, 0)

    def fail(self: Any) -> bool:
        raise OSError("no transport")

    monkeypatch.setattr(Producer, "supports_batch_publish", property(fail))
    with publisher.together():
        with pytest.raises(OSError, match="no transport"):
            send(publisher, app, 1)
        assert send(publisher, app, 2)
    assert waiting(app) == [0, 2]


def row(number: int, name: str) -> ActivityRow:
    signature: Any = ([number], {}, {})
    ticket = ActivityAttemptId("e", number, 1)
    return ActivityRow(ticket, "i", "activity", name, "", None, 0, signature=signature)


def test_a_task_of_another_app_between_ours_finds_a_producer(app: Celery, tmp_path: Path) -> None:
    app.conf.durable_backend_url = f"sqlite:///{tmp_path}/store.db"
    durable = Durable(app)
    durable.migrate()
    names = ["noop", "noop", "elsewhere", "noop"]
    rows = [row(number, name) for number, name in enumerate(names, 1)]
    assert runtime_of(app).publisher.publish_activities(rows) == {}
    assert waiting(app) == [1, 2, 3, 4]


@needs_batches
def test_first_turns_of_many_are_one_round_trip(
    app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.conf.durable_backend_url = f"sqlite:///{tmp_path}/store.db"
    durable = Durable(app)
    durable.migrate()

    @durable.orchestrator(name="batched")
    async def batched(ctx: Any) -> None:
        """End at once."""

    trips: list[int] = []
    execute = redis.client.Pipeline.execute

    def counted(pipeline: Any, raise_on_error: bool = True) -> list[Any]:
        trips.append(len(pipeline.command_stack))
        return execute(pipeline, raise_on_error)

    monkeypatch.setattr("redis.client.Pipeline.execute", counted)
    started = durable.start_many([batched.s() for _ in range(1_030)])
    assert len({run.id for run in started}) == 1_030
    assert [each for each in trips if each > 10] == [500, 500, 30]


def test_where_answers_cannot_be_told_apart_all_count_as_refused() -> None:
    batch = Batch()
    batch.task_ids = ["a", "b"]
    batch._judge([1, 1, 1])
    assert batch.refused == {}
    batch._judge([1, ValueError("full"), 1])
    assert batch.refused.keys() == {"a", "b"}
