"""No option of Celery's is dropped without a word: where an orchestration is started, called or
declared, and in a call.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import celery.app.task
import pytest
from celery import Celery, Task, chain, chord, group
from celery.app.amqp import AMQP
from celery.app.autoretry import add_autoretry_behaviour
from celery.exceptions import QueueNotFound
from kombu.messaging import Producer
from pydantic import BaseModel

from celery_durable import OrchestrationFailed, OrchestrationRevoked, PayloadError, RuntimeStatus
from celery_durable.core.options import (
    AT_THE_END,
    NEEDLESS,
    NEEDLESS_FOR_ORCHESTRATORS,
    OF_THE_START,
    REFUSED_BY_ACTIVITIES,
    REFUSED_BY_ORCHESTRATORS,
    REFUSED_BY_STARTS,
)

#: What goes with each message of an orchestration, and what Celery makes of it there.
WITH_MESSAGES = {
    "queue",
    "routing_key",
    "exchange",
    "exchange_type",
    "priority",
    "serializer",
    "compression",
    "delivery_mode",
    "headers",
    "shadow",
    "stamped_headers",
    "properties",
}
#: Names of parameters for one thing, and those that are filled in by Celery itself.
OTHER_NAMES = {
    "self",
    "args",
    "kwargs",
    "options",
    "name",
    "queue_name",
    "message",
    "callbacks",
    "errbacks",
}

#: What Celery takes where a task is declared, and an orchestrator honours, by itself or through
#: Celery.
DECLARED = {
    "name",
    "base",
    "queue",
    "routing_key",
    "exchange",
    "exchange_type",
    "priority",
    "serializer",
    "compression",
    "delivery_mode",
    "expires",
    "ignore_result",
    "backend",
    "rate_limit",
    "time_limit",
    "soft_time_limit",
    "acks_late",
    "acks_on_failure_or_timeout",
    "acks_on_failure",
    "acks_on_timeout",
    "reject_on_worker_lost",
    "retry_on_worker_lost",
    "throws",
    "trail",
    "send_events",
    "store_errors_even_if_ignored",
    "store_eager_result",
    "resultrepr_maxsize",
    "Strategy",
    "Request",
    "abstract",
    "shared",
    "lazy",
    "filter",
}
#: Attributes of a task that are no options.
NO_OPTIONS = {
    "request_stack",
    "from_config",
    "app",
    "MaxRetriesExceededError",
    "OperationalError",
    "request",
    "on_bound",
}


def _parameters(*functions: Callable[..., Any]) -> Iterator[str]:
    for function in functions:
        yield from inspect.signature(function).parameters


def _options_of_publishing(app: Celery) -> set[str]:
    documented = re.findall(r"^ {12}(\w+) \(", Task.apply_async.__doc__ or "", re.MULTILINE)
    functions = (
        Task.apply_async,
        Celery.send_task,
        AMQP.as_task_v2,
        app.amqp.send_task_message,
        Producer.publish,
    )
    return {*documented, *_parameters(*functions)} - OTHER_NAMES


def test_every_option_of_publishing_has_its_fate(new_app: Any) -> None:
    known = {*WITH_MESSAGES, *AT_THE_END, *OF_THE_START, *NEEDLESS, *REFUSED_BY_STARTS}
    options = _options_of_publishing(new_app())
    assert {"countdown", "expires", "soft_time_limit", "stamped_headers", "declare"} <= options
    assert options <= known, f"Celery has more options: {sorted(options - known)}"
    told = [WITH_MESSAGES, set(AT_THE_END), OF_THE_START, NEEDLESS, REFUSED_BY_STARTS.keys()]
    assert sum(map(len, told)) == len(known), "each has one fate"


def test_every_option_of_a_declaration_has_its_fate() -> None:
    attributes = {
        name
        for name in vars(Task)
        if not name.startswith("_") and not inspect.isroutine(vars(Task)[name])
    }
    source = inspect.getsource(add_autoretry_behaviour)
    retries = set(re.findall(r"options\.get\(\s*'(\w+)'", source))
    source = inspect.getsource(celery.app.task)
    executed = set(
        re.findall(
            r"'(\w+)'", source.partition("extract_exec_options = mattrgetter(")[2].partition(")")[0]
        )
    )
    assert "autoretry_for" in retries and "queue" in executed
    options = {*attributes, *retries, *executed, *_parameters(Celery._task_from_fun)}
    options -= NO_OPTIONS | {"self", "fun", "options"}
    known = DECLARED | REFUSED_BY_ORCHESTRATORS.keys() | NEEDLESS_FOR_ORCHESTRATORS
    assert options <= known, f"Celery has more options: {sorted(options - known)}"
    assert not DECLARED & REFUSED_BY_ORCHESTRATORS.keys()


class Shop:
    """An app whose activities and orchestrations are run at once, or whose messages are kept."""

    def __init__(self, app: Celery) -> None:
        self.app, self.durable = app, app.durable
        self.began: list[Any] = []

        @app.task(name="options.who", bind=True)
        def who(self: Any, *args: Any) -> dict[str, Any]:
            return {
                "id": self.request.id,
                "stamps": self.request.stamps,
                "link": self.request.callbacks,
            }

        @app.durable.orchestrator(name="options.flow")
        async def flow(ctx: Any, *signatures: Any) -> list[Any]:
            self.began.append(ctx.instance_id)
            return [await ctx.call(signature) for signature in signatures]

        @app.durable.orchestrator(name="options.strict")
        async def strict(ctx: Any, signature: Any, **options: Any) -> Any:
            return await ctx.call(signature, **options)

        self.who, self.flow, self.strict = who, flow, strict


@pytest.fixture
def shop(new_app: Any) -> Shop:
    return Shop(new_app(task_always_eager=True))


@pytest.fixture
def asleep(new_app: Any) -> Shop:
    """The same with nobody who takes a turn, but by hand."""
    return Shop(new_app(result_backend="cache+memory://"))


def doors(shop: Shop) -> dict[str, Callable[..., Any]]:
    """The ways to start an orchestration with options."""
    flow = shop.flow
    return {
        "apply_async": lambda **options: flow.apply_async((), **options),
        "set": lambda **options: flow.s().set(**options).apply_async(),
        "start": lambda **options: shop.durable.start(flow.s().set(**options)),
        "schedule": lambda **options: shop.durable.schedule(
            "s", flow.s().set(**options), interval=60
        ),
    }


@pytest.mark.parametrize("name", sorted(REFUSED_BY_STARTS))
def test_what_an_orchestration_cannot_honour_is_refused_at_each_door(shop: Shop, name: str) -> None:
    for door, start in doors(shop).items():
        with pytest.raises(
            TypeError, match=rf"options\.flow: the start of an orchestration takes no {name}=: \w+"
        ):
            start(**{name: 5})
    run = shop.durable.start(shop.flow.s(shop.flow.s().set(**{name: 5})))
    assert f"sub-orchestration options.flow takes no {name}=" in str(run.refresh().failure)
    assert shop.durable.count() == 1, "nothing was started"


@pytest.mark.parametrize("name", sorted(NEEDLESS))
def test_what_is_about_one_publishing_does_no_harm(shop: Shop, name: str) -> None:
    value = {"retry": False, "retry_policy": {}, "timeout": 5, "confirm_timeout": 5}.get(name)
    assert (
        shop.flow.apply_async((), **{name: value}).refresh().runtime_status
        is RuntimeStatus.COMPLETED
    )


@pytest.mark.parametrize("name", sorted(REFUSED_BY_ORCHESTRATORS))
def test_what_an_orchestrator_cannot_be_declared_with_is_refused(shop: Shop, name: str) -> None:
    from celery_durable import ConfigurationError, orchestrator

    async def other(ctx: Any) -> None: ...

    value = {"typing": False, "autoretry_for": (OSError,)}.get(name, 5)
    for declare in (shop.durable.orchestrator, orchestrator):
        with pytest.raises(ConfigurationError, match=f"takes no {name}=: "):
            declare(other, name="options.other", **{name: value})


# -- ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["leaf", "chain", "group", "chord", "member"])
def test_an_id_that_cannot_be_kept_is_refused(shop: Shop, shape: str) -> None:
    who = shop.who
    canvas = {
        "leaf": who.s(),
        "chain": chain(who.si(), who.si()),
        "group": group(who.si(), who.si()),
        "chord": chord([who.si()], who.si()),
        "member": group(who.si(), who.si().set(task_id="mine")),
    }[shape]
    if shape != "member":
        canvas = canvas.set(task_id="mine")
    run = shop.durable.start(shop.flow.s(canvas))
    assert isinstance(run.refresh().failure, TypeError)
    assert "takes no task_id=: " in str(run.failure) and "idempotency_key" in str(run.failure)
    if shape != "member":
        assert shop.durable.canvas(canvas).apply_async().id == "mine", "it is that of the whole"


# -- models ----------------------------------------------------------------------------------------


class Part(BaseModel):
    name: str
    made: datetime


class Order(BaseModel):
    id: int
    parts: list[Part] = []


def test_a_task_takes_models_from_a_call_as_it_does_from_delay(shop: Shop) -> None:
    got: list[Any] = []

    @shop.app.task(name="options.grow", pydantic=True)
    def grow(order: Order, other: Order | None = None) -> Order:
        got.append((order, other))
        return Order(id=order.id + 1, parts=order.parts)

    order = Order(id=1, parts=[Part(name="bolt", made=datetime(2026, 5, 1, tzinfo=UTC))])

    @shop.durable.orchestrator(name="options.grows")
    async def grows(ctx: Any) -> Any:
        first = await ctx.call(grow.s(order, other=Order(id=7)))
        return await ctx.map(grow, [first, order], concurrency=1)

    run = shop.durable.start(grows.s()).refresh()
    assert got[0] == (order, Order(id=7))
    assert [Order(**each) for each in run.output] == [
        Order(id=3, parts=order.parts),
        Order(id=2, parts=order.parts),
    ]
    scheduled = next(event for event in run.history() if event.kind == "ActivityScheduled")
    assert shop.durable.runtime.codec.decode(scheduled.payload)[0][0] == order.model_dump(
        mode="json"
    )


def test_a_task_that_takes_no_models_gets_their_json(shop: Shop) -> None:
    got: list[Any] = []

    @shop.app.task(name="options.plain")
    def plain(order: Order) -> None:
        got.append(order)

    @shop.durable.orchestrator(name="options.gives", pydantic=True)
    async def gives(ctx: Any) -> Any:
        return await ctx.call(plain.s(Order(id=1)))

    shop.durable.start(gives.s())
    assert got == [{"id": 1, "parts": []}]
    with pytest.raises(PayloadError):
        shop.durable.start(shop.flow.s(object()))


# -- expires ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["apply_async", "set", "start"])
@pytest.mark.parametrize("form", ["seconds", "datetime", "text"])
def test_what_no_one_began_in_time_does_not_run(
    asleep: Shop, monkeypatch: pytest.MonkeyPatch, door: str, form: str
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    expires: Any = {"seconds": 100, "datetime": at, "text": at.isoformat()}[form]
    early, late = (doors(asleep)[door](expires=expires) for _ in range(2))
    runtime = asleep.durable.runtime
    runtime.runner.run(early.id)
    store, load = runtime.store, runtime.store.turns.load

    def later(*args: Any) -> Any:
        snapshot = load(*args)
        return snapshot if snapshot is None else replace(snapshot, now=snapshot.now + 101_000_000)

    monkeypatch.setattr(store.turns, "load", later)
    runtime.runner.run(late.id)
    assert early.refresh().runtime_status is RuntimeStatus.COMPLETED
    assert (late.refresh().runtime_status, late.reason) == (RuntimeStatus.CANCELED, "expired")
    assert asleep.began == [early.id]
    assert late.state == "REVOKED"
    with pytest.raises(OrchestrationRevoked, match="CANCELED: expired"):
        late.get(timeout=10)


def test_one_that_has_expired_already_never_begins(shop: Shop) -> None:
    run = shop.flow.apply_async((), expires=-1)
    assert (run.refresh().runtime_status, run.reason, shop.began) == (
        RuntimeStatus.CANCELED,
        "expired",
        [],
    )


def test_a_declared_expiry_holds_for_all_starts_but_gives_way(shop: Shop) -> None:
    @shop.durable.orchestrator(name="options.brief", expires=-1)
    async def brief(ctx: Any) -> None: ...

    assert brief.delay().refresh().reason == "expired"
    assert brief.apply_async((), expires=60).refresh().runtime_status is RuntimeStatus.COMPLETED


@pytest.mark.parametrize("given", [{"expires": -1}, {}])
def test_a_sub_orchestration_that_was_not_begun_in_time_is_canceled(
    shop: Shop, given: dict[str, Any]
) -> None:
    call = {} if given else {"start_timeout": 0}
    run = shop.durable.start(shop.strict.s(shop.flow.s().set(**given), **call))
    failure = run.refresh().failure
    assert isinstance(failure, OrchestrationFailed) and "expired" in str(failure)
    assert shop.began == []


def test_a_sub_orchestration_has_no_heartbeat(shop: Shop) -> None:
    run = shop.durable.start(shop.strict.s(shop.flow.s(), heartbeat_timeout=5))
    assert "takes no heartbeat_timeout=" in str(run.refresh().failure)


def test_what_a_schedule_starts_may_expire(shop: Shop) -> None:
    made = shop.durable.schedule("s", shop.flow.s().set(expires=60), interval=60)
    assert made.trigger().id.startswith("s@manual-")


# -- stamps, callbacks, results --------------------------------------------------------------------


def test_stamps_reach_all_that_an_orchestration_sends(shop: Shop) -> None:
    inner = shop.flow.s(shop.who.s(), shop.who.s().set(stamped_headers=["own"], own="x"))
    ended: list[Any] = []

    @shop.app.task(name="options.linked", bind=True)
    def linked(self: Any, result: Any) -> None:
        ended.append(self.request.stamps)

    run = shop.flow.s(shop.who.s(), inner).apply_async(
        stamped_headers=["tenant"], tenant="acme", link=linked.s()
    )
    first, (second, third) = run.refresh().output
    assert first["stamps"] == second["stamps"] == {"tenant": ["acme"]}
    assert third["stamps"] == {"tenant": ["acme"], "own": ["x"]}
    assert len(ended) == 1, "and its end is told"


def test_callbacks_of_a_sub_orchestration_are_called(shop: Shop) -> None:
    called: list[Any] = []

    @shop.app.task(name="options.note")
    def note(*args: Any) -> None:
        called.append(args)

    run = shop.durable.start(shop.flow.s(shop.flow.s().set(link=note.s("done"))))
    assert run.refresh().output == [[]]
    assert called == [([], "done")]


# -- routers that look at arguments ----------------------------------------------------------------


def by_first(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    if name == "options.flow":
        return {"queue": f"of-{args[0]}", "priority": 3}
    return None


def test_a_router_that_looks_at_arguments_is_asked_once_with_those_of_the_start(
    new_app: Any,
) -> None:
    from tests.unit.worker.test_fast_publish import received

    shop = Shop(new_app(task_routes=[by_first]))
    received()
    run, other = shop.durable.start(shop.flow.s("a")), shop.flow.apply_async(("b",), queue="mine")
    runtime = shop.durable.runtime
    addresses = {
        address.id: address for address in runtime.store.reads.turn_addresses([run.id, other.id])
    }
    assert {id_: address.queue for id_, address in addresses.items()} == {
        run.id: "of-a",
        other.id: "mine",
    }
    for address in addresses.values():
        assert runtime.publisher.publish_turn(address)
    assert runtime.publisher.publish_turn(replace(addresses[run.id], canvas=None))
    sent = [
        (each["properties"]["delivery_info"]["routing_key"], each["properties"]["priority"])
        for each in received()
    ]
    assert sorted(sent) == sorted(
        2 * [("mine.turns", 3)] + [("of-a.turns", 0)] + 2 * [("of-a.turns", 3)]
    )


def test_what_a_router_raises_comes_out_of_the_start(new_app: Any) -> None:
    shop = Shop(new_app(task_routes=[by_first]))
    for start in (shop.flow.delay, lambda: shop.durable.start(shop.flow.s())):
        with pytest.raises(IndexError):
            start()
    assert shop.durable.count() == 0


def test_a_queue_that_is_not_there_is_refused_at_the_start(new_app: Any) -> None:
    shop = Shop(new_app(task_create_missing_queues=False))
    with pytest.raises(QueueNotFound, match="typo"):
        shop.durable.start(shop.flow.s().set(queue="typo"))
    assert shop.durable.count() == 0


def test_a_sub_orchestration_goes_where_its_own_arguments_say(new_app: Any) -> None:
    shop = Shop(new_app(task_always_eager=True, task_routes=[by_first]))
    run = shop.durable.start(shop.strict.s(shop.flow.s(), **{}))
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    assert "IndexError" in str(run.reason)


def test_every_refusal_says_what_to_do_instead() -> None:
    for table in (REFUSED_BY_ACTIVITIES, REFUSED_BY_ORCHESTRATORS, REFUSED_BY_STARTS):
        assert all(len(words) > 10 for words in table.values())
