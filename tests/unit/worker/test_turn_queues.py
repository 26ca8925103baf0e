"""Each queue has one for turns beside it: the same for who sends and for who consumes."""

from __future__ import annotations

from typing import Any

import pytest
from celery import signals
from kombu import Exchange, Queue
from kombu.common import Broadcast

PATTERN = "{queue}.turns"
#: Queues as an application may declare them, and whether turns go beside them.
DECLARED = {
    "classic": (Queue("classic"), True),
    "topic": (Queue("topic", Exchange("e", type="topic"), routing_key="topic.#"), True),
    "headers": (Queue("headers", Exchange("h", type="headers")), True),
    "quorum": (Queue("quorum", queue_arguments={"x-queue-type": "quorum"}), True),
    "ranked": (Queue("ranked", max_priority=7), True),
    "transient": (Queue("transient", durable=False), True),
    "exclusive": (Queue("exclusive", exclusive=True), False),
    "temporary": (Queue("temporary", auto_delete=True), False),
    "everybody": (Broadcast("everybody"), False),
    "is.turns": (Queue("is.turns"), False),
}


def made(new_app: Any, **conf: Any) -> Any:
    app = new_app(task_queues=[queue for queue, _ in DECLARED.values()], **conf)

    @app.durable.orchestrator(name="flow")
    async def flow(ctx: Any) -> None: ...

    return app, app.durable.runtime.publisher.turn_queues


def test_a_queue_of_turns_is_as_the_one_beside_it(new_app: Any) -> None:
    _, turns = made(new_app)
    for name, (queue, has_one) in DECLARED.items():
        beside = turns.beside(name)
        assert (beside is not None) is has_one, name
        assert turns.name_beside(name) == (f"{name}.turns" if has_one else name)
        if beside is not None:
            kept = [(each.durable, each.max_priority) for each in (queue, beside)]
            assert kept[0] == kept[1]
            assert beside.queue_arguments == (queue.queue_arguments or {})
            assert beside.exchange.type == (queue.exchange.type if queue.exchange else "direct")
            # nothing that is sent to one comes to the other
            assert beside.exchange.name == beside.routing_key == beside.name == f"{name}.turns"


@pytest.mark.parametrize("pattern", [None, "turns"])
def test_there_are_none_without_a_place_in_the_name(new_app: Any, pattern: str | None) -> None:
    app, turns = made(new_app, durable_turn_queue=pattern)
    assert turns.is_off and turns.missing() == turns.left_over() == []
    assert all(turns.beside(name) is None for name in DECLARED)
    assert app.tasks["flow"].queue == pattern


def test_who_sends_and_who_consumes_declare_the_same(new_app: Any) -> None:
    """A client does not know all queues; RabbitMQ refuses a declaration that differs."""
    conf = {"task_queue_max_priority": 5, "task_create_missing_queue_type": "quorum"}
    client = new_app(**conf).durable.runtime.publisher.turn_queues
    app = new_app(**conf)
    app.amqp.queues.select(["celery", "orders"])
    worker = app.durable.runtime.publisher.turn_queues
    for queue in worker.missing():
        worker.consume(queue)
    consumed = app.amqp.queues.consume_from
    assert set(consumed) == {"celery", "celery.turns", "orders", "orders.turns"}
    for name in ("celery", "orders"):
        sent, taken = client.beside(name), consumed[f"{name}.turns"]
        assert sent.queue_arguments == taken.queue_arguments
        assert sent.queue_arguments["x-max-priority"] == 5
        assert (sent.exchange.name, sent.exchange.type) == (
            taken.exchange.name,
            taken.exchange.type,
        )
    assert worker.missing() == []


class Consumer:
    """As much of a worker's consumer as takes queues and leaves them."""

    task_consumer = object()

    def __init__(self, app: Any) -> None:
        self.app, self.queues = app, []

    def call_soon(self, call: Any, *args: Any) -> None:
        call(*args)

    def add_task_queue(self, name: str) -> None:
        self.app.amqp.queues.select_add(self.app.amqp.queues[name])
        self.queues.append(name)

    def cancel_task_queue(self, name: str) -> None:
        self.app.amqp.queues.deselect(name)
        self.queues.remove(name)


def test_a_worker_follows_what_it_is_told_to_consume(new_app: Any) -> None:
    app = new_app()
    turns = app.durable.runtime.publisher.turn_queues
    app.amqp.queues.select(["celery", "mine.turns"])
    consumer = Consumer(app)
    turns.follow(consumer)
    assert consumer.queues == ["celery.turns"]
    consumer.add_task_queue("orders")
    turns.follow(consumer)
    turns.follow(consumer)
    assert consumer.queues == ["celery.turns", "orders", "orders.turns"]
    consumer.cancel_task_queue("orders")
    turns.follow(consumer)
    assert consumer.queues == ["celery.turns"]
    # what somebody asked for by its name is nobody else's to leave
    assert set(app.amqp.queues.consume_from) == {"celery", "celery.turns", "mine.turns"}


ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "default": ({}, {}, "celery.turns"),
    "default queue": ({"task_default_queue": "other"}, {}, "other.turns"),
    "route": ({"task_routes": {"flow": {"queue": "orders"}}}, {}, "orders.turns"),
    "pattern": ({"task_routes": {"f*": {"queue": Queue("orders")}}}, {}, "orders.turns"),
    "function": ({"task_routes": [lambda *args, **_: {"queue": "orders"}]}, {}, "orders.turns"),
    "queue of the start": ({}, {"queue": "orders"}, "orders.turns"),
    "key of the start": ({}, {"routing_key": "orders"}, "celery"),
    "exchange of the start": ({}, {"exchange": "e", "routing_key": "orders"}, "orders"),
    "off": ({"durable_turn_queue": None}, {}, "celery"),
    "one for all": ({"durable_turn_queue": "turns"}, {}, "turns"),
}


@pytest.mark.parametrize(("conf", "options", "expected"), ROUTES.values(), ids=ROUTES)
def test_turns_go_beside_where_a_task_would_go(
    new_app: Any, conf: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    app = new_app(**conf)

    @app.durable.orchestrator(name="flow")
    async def flow(ctx: Any) -> None: ...

    sent = set()

    def note(routing_key: str, **_: Any) -> None:
        sent.add(routing_key)

    run = app.durable.start(flow.s().set(**options))
    (address,) = app.durable.runtime.store.reads.turn_addresses([run.id])
    signals.before_task_publish.connect(note)
    try:
        assert app.durable.runtime.publisher.publish_turn(address)
    finally:
        signals.before_task_publish.disconnect(note)
    assert sent == {expected}
