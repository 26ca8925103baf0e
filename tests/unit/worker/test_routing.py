"""Where messages go, as this process alone can tell; and what an error of sending means."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.exceptions import QueueNotFound
from kombu.exceptions import LimitExceeded, OperationalError, SerializationError

from celery_durable.engine.ports import SendFailure
from celery_durable.engine.registry import Registry
from celery_durable.worker.routing import CeleryRouting


def routing(
    *, routes: Any = None, turn_queue: str | None = None, headers: tuple[str, ...] = (), **conf: Any
) -> CeleryRouting:
    app = Celery("routing", broker="memory://", set_as_current=False)
    app.conf.update(task_routes=routes, **conf)

    @app.task(name="charge", queue="own", shared=False)
    def charge(order: str) -> None: ...

    @app.task(name="plain", shared=False)
    def plain() -> None: ...

    app.finalize()
    return CeleryRouting(app, Registry(), turn_queue, headers)


class ByArguments:
    """A router that looks at arguments."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def route_for_task(self, name: str, args: Any, kwargs: Any, *_: Any, **__: Any) -> Any:
        self.asked.append((name, args, kwargs))
        return {"queue": f"q-{args[0]}", "priority": 3} if args else None


def test_a_task_goes_to_its_own_queue_to_the_one_of_the_options_or_to_that_of_a_map() -> None:
    asked = routing(routes={"plain": {"queue": "mapped"}})
    assert asked.route("charge", {}) == "own"
    assert asked.route("charge", {"queue": "given"}) == "given"
    assert asked.route("plain", {}) == "mapped"
    assert asked.route("not.here", {}) == "celery"
    assert asked.route("not.here", {"route_name": "plain"}) == "mapped"


def test_answers_are_kept_apart_by_all_that_routes() -> None:
    asked = routing()
    assert [asked.route("plain", {"queue": each}) for each in ("a", "b", "a", None)] == [
        "a",
        "b",
        "a",
        "celery",
    ]


def test_a_router_that_looks_at_arguments_is_asked_each_time() -> None:
    router = ByArguments()
    asked = routing(routes=[router])
    assert asked.must_ask_each_time and not routing(routes={"a": "b"}).must_ask_each_time
    some: Any = (("eu",), {})
    others: Any = (("us",), {})
    assert [asked.route("plain", {}, lambda: each) for each in (some, others)] == ["q-eu", "q-us"]
    assert router.asked == [("plain", ("eu",), {}), ("plain", ("us",), {})]


def test_a_queue_that_cannot_be_told_beforehand_is_none() -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise LookupError("no such tenant")

    asked = routing(routes=[breaks])
    assert asked.route("plain", {}) is None
    with pytest.raises(LookupError):
        asked.place("plain", {}, lambda: ((), {}))
    missing = routing(task_create_missing_queues=False)
    assert missing.route("plain", {"queue": "nowhere"}) is None
    with pytest.raises(QueueNotFound):
        missing.place("plain", {"queue": "nowhere"}, lambda: ((), {}))


def test_a_start_keeps_what_the_router_says_but_for_what_it_was_given() -> None:
    asked = routing(routes=[ByArguments()])
    queue, options = asked.place("plain", {"priority": 9, "shadow": None}, lambda: (("eu",), {}))
    assert (queue, options["queue"], options["priority"]) == ("q-eu", "q-eu", 9)
    assert "shadow" not in options
    given = {"priority": 9}
    assert routing().place("charge", given, lambda: ((), {})) == ("own", given)


def test_turns_have_a_queue_beside_that_of_their_orchestrator() -> None:
    asked = routing(turn_queue="{queue}.turns")
    beside = asked.turn_queue("charge", {})
    assert beside is not None and beside.name == "own.turns"
    assert asked.turn_queue_of("own") == "own.turns"
    assert asked.turn_queue("charge", {"routing_key": "k"}) is None
    assert asked.turn_queue("charge", {"exchange": "e"}) is None
    assert routing().turn_queue("charge", {}) is None and routing().turn_queue_of("own") == "own"


def test_headers_that_travel_need_a_message_for_each_turn() -> None:
    assert routing(headers=("x",)).needs_messages("plain")
    assert not routing().needs_messages("plain") and not routing().needs_messages("not.here")
    with_own_call = routing()
    with_own_call.app.tasks["plain"].has_own_call = True
    assert with_own_call.needs_messages("plain")


def test_tasks_are_known_by_their_names() -> None:
    assert routing().knows_task("plain") and not routing().knows_task("not.here")


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (OperationalError("down"), SendFailure.PASSES),
        (ConnectionResetError(), SendFailure.PASSES),
        (LimitExceeded("all connections are in use"), SendFailure.PASSES),
        (SerializationError(), SendFailure.IS_FINAL),
        (QueueNotFound("q"), SendFailure.IS_FINAL),
        (TypeError(), SendFailure.IS_FINAL),
        (ValueError(), SendFailure.IS_FINAL),
        (RuntimeError("of a router"), SendFailure.IS_ODD),
        (LookupError(), SendFailure.IS_ODD),
    ],
    ids=repr,
)
def test_what_an_error_of_sending_means(error: Exception, means: SendFailure) -> None:
    assert routing().classify(error) is means
