"""Values of the application's types, from door to door: arguments, results, events, children."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from celery import Celery
from pydantic import BaseModel

from celery_durable import Durable, PayloadError, RuntimeStatus
from celery_durable.testing import durable_environment

app = Celery("typed", set_as_current=False)
durable = Durable(app)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int


class Item(BaseModel):
    sku: str
    price: Decimal
    wanted: datetime | None = None


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list)
    colour: Colour = Colour.RED
    within: timedelta = timedelta(0)
    at: Point = Point(0, 0)
    label: Path = Path()
    tags: frozenset[str] = frozenset()


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


durable.add_converter(
    Money, encode=lambda money: {"cents": money.cents}, decode=lambda v: Money(v["cents"])
)

ITEM = Item(sku="tea", price=Decimal("9.90"), wanted=datetime(2026, 5, 1, tzinfo=UTC))
ORDER = Order(
    "o-1", [ITEM], Colour.BLUE, timedelta(days=2), Point(3, 4), Path("a/b"), frozenset("zyx")
)
AS_JSON = {
    "id": "o-1",
    "items": [{"sku": "tea", "price": "9.90", "wanted": "2026-05-01T00:00:00Z"}],
    "colour": "blue",
    "within": 172800.0,
    "at": [3, 4],
    "label": "a/b",
    "tags": ["x", "y", "z"],
}


@app.task(name="typed.echo")
def echo(value):
    return value


@app.task(name="typed.pack")
def pack(order):
    assert order == AS_JSON  # a body gets JSON
    return ORDER


@durable.orchestrator(name="typed.flow")
async def flow(ctx, order: Order, colours: list[Colour] = (), *, key: UUID | None = None) -> Order:
    assert order == ORDER
    packed = await ctx.call(pack.s(order), type=Order)
    assert packed == ORDER
    assert await ctx.call(pack.s(order)) == AS_JSON
    return packed


@durable.orchestrator(name="typed.waits")
async def waits(ctx, name: str = "approved"):
    try:
        order = await ctx.wait_event(name, type=Order)
    except PayloadError as error:
        return f"refused: {error}"
    return order.colour is Colour.BLUE


@durable.orchestrator(name="typed.parent")
async def parent(ctx, order):
    try:
        return (await ctx.call(flow.s(order), type=Order)).id
    except PayloadError as error:
        return f"refused: {error}"


@durable.orchestrator(name="typed.pays")
async def pays(ctx, prices: list[Money]) -> Money:
    return Money(sum(price.cents for price in prices))


@pytest.fixture
def env():
    with durable_environment(durable) as env:
        yield env


def test_a_dataclass_goes_in_and_comes_out_through_every_door(env):
    run = env.start(flow.s(ORDER))
    assert run.refresh().output == ORDER
    assert run.input["args"] == [AS_JSON]
    assert env.calls(pack)[0].args == (AS_JSON,)


def test_what_a_client_sends_as_json_becomes_the_type(env):
    assert env.run(flow.s(AS_JSON, ["red"], key="12345678123456781234567812345678")) == ORDER


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((AS_JSON | {"colour": "green"},), {}, "argument 'order' does not fit: colour: "),
        (("o-1",), {}, "argument 'order' does not fit"),
        ((ORDER, ["red", "pink"]), {}, "argument 'colours' does not fit: 1: "),
        ((ORDER,), {"key": "no uuid"}, "argument 'key' does not fit"),
        ((AS_JSON | {"items": [{"sku": "tea"}]},), {}, "items.0.price: Field required"),
    ],
)
def test_a_start_refuses_what_does_not_fit_at_once(env, args, kwargs, complaint):
    with pytest.raises(PayloadError, match=complaint):
        durable.start(flow.s(*args, **kwargs))
    assert durable.count() == 0


def test_an_event_is_decoded_and_one_that_does_not_fit_is_used_up(env):
    good, bad = env.start(waits.s()), env.start(waits.s())
    good.raise_event("approved", ORDER)
    bad.raise_event("approved", {"id": 1, "colour": "green"})
    env.run_until_idle()
    assert good.refresh().output is True
    assert bad.refresh().output.startswith("refused: the event 'approved' does not fit: ")
    for run in (good, bad):
        assert durable.replay(run.export_history())
    assert [e.kind for e in bad.history()].count("PayloadRefused") == 1
    assert "PayloadRefused" not in [e.kind for e in good.history()]


def test_a_child_is_checked_where_it_is_called(env):
    assert env.run(parent.s(ORDER)) == "o-1"
    run = env.start(parent.s("nothing"))
    assert run.refresh().output.startswith("refused: argument 'order' does not fit")
    assert not run.children()
    assert durable.replay(run.export_history())


def test_a_converter_holds_inside_of_everything(env):
    run = env.start(pays.s([Money(3), {"cents": 4}]))
    assert run.refresh().output == Money(7)
    assert run.input["args"] == [[{"cents": 3}, {"cents": 4}]]
    assert env.run(echo_back.s({"deep": [Money(1)]})) == {"deep": [{"cents": 1}]}


@durable.orchestrator(name="typed.echo_back")
async def echo_back(ctx, value):
    return await ctx.call(echo.s(value))


class Newer(BaseModel):
    surname: str


async def changed(ctx, name: Newer):
    return name.surname


def test_a_class_that_changed_suspends_what_does_not_fit_any_more(env):
    run = env.start(waits.s("approved"))
    old = durable.registry.get("typed.waits", None)
    durable.registry.add(replace(old, function=changed))
    try:
        durable.runtime.live.clear()
        run.raise_event("other", 1)
        env.run_until_idle()
        assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
        assert "argument 'name' does not fit" in run.reason
        [problem] = durable.verify(live=True).problems
        assert problem.instance_id == run.id
    finally:
        durable.registry.add(old)
    run.resume()
    run.raise_event("approved", ORDER)
    env.run_until_idle()
    assert run.refresh().output is True


def test_an_event_that_fitted_and_does_not_any_more_suspends(env, monkeypatch):
    run = env.start(waits_long.s())
    run.raise_event("approved", {"surname": "Lovelace"})
    env.run_until_idle()
    monkeypatch.setitem(globals(), "Newer", Item)
    durable.runtime.live.clear()
    run.raise_event("go", None)
    env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    assert "the event 'approved' does not fit: sku: Field required" in run.reason
    monkeypatch.undo()
    run.resume()
    env.run_until_idle()
    assert run.refresh().output == "Lovelace"


@durable.orchestrator(name="typed.waits_long")
async def waits_long(ctx):
    found = await ctx.wait_event("approved", type=Newer)
    await ctx.wait_event("go")
    return found.surname


def test_killed_workers_change_nothing(env):
    def scenario(env):
        run = env.start(waits.s(), instance_id="w")
        run.raise_event("approved", {"no": "order"})
        env.run_until_idle()
        return run.refresh().output, env.run(parent.s(ORDER))

    assert env.crash_everywhere(scenario) > 10


def test_a_converter_for_no_class_is_refused():
    for odd in ("Money", None, list[int]):
        with pytest.raises(TypeError, match="a converter is for a class"):
            durable.add_converter(odd, encode=str, decode=str)
    with pytest.raises(TypeError, match="two functions"):
        durable.add_converter(Money, encode=None, decode=str)
