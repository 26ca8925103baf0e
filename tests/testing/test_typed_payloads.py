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
from pydantic import BaseModel, ConfigDict, ValidationInfo, computed_field, field_validator

from celery_durable import Durable, PayloadError, RetryPolicy, RuntimeStatus
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


class Receipt(BaseModel):
    item: Item

    @computed_field
    @property
    def doubled(self) -> Decimal:
        return self.item.price * 2


class Closed(Receipt):
    model_config = ConfigDict(extra="forbid")


@app.task(name="typed.models", pydantic=True)
def models(item: Item, also: Item | None = None) -> Receipt:
    assert isinstance(item, Item)
    return Receipt(item=item)


@app.task(name="typed.closed", pydantic=True, bind=True)
def closed(self, item: Item) -> Closed:
    return Closed(item=item)


@app.task(name="typed.wrong", pydantic=True)
async def wrong(item: Item) -> Receipt:
    assert isinstance(item, Item)
    return {"no": "item"}


@app.task(name="typed.partly", pydantic=True, pydantic_dump_kwargs={"exclude": {"item"}})
def partly(item: Item) -> Receipt:
    return Receipt(item=item)


class Known(BaseModel):
    sku: str

    @field_validator("sku")
    @classmethod
    def known(cls, sku: str, info: ValidationInfo) -> str:
        assert sku in info.context["known"]
        return sku


@app.task(name="typed.in_context", pydantic=True, pydantic_context={"known": ["tea"]})
def in_context(item: Known) -> Known:
    return item


@durable.orchestrator(name="typed.calls")
async def calls(ctx, item: Item):
    policy = RetryPolicy(max_attempts=3, first_interval=1)
    try:
        await ctx.call(wrong.s(item), retry=policy)
    except PayloadError as error:
        refused = str(error)
    assert await ctx.call(models.s(item), type=Receipt) == Receipt(item=item)
    assert await ctx.call(closed.s(item), type=Closed) == Closed(item=item)
    return [await ctx.call(each.s(item)) for each in (models, closed, partly)], refused


def test_tasks_with_models_get_and_give_what_celery_says(env):
    found, refused = env.run(calls.s(ITEM))
    as_json = {"item": AS_JSON["items"][0], "doubled": "19.80"}
    assert found == [as_json, as_json, {"doubled": "19.80"}]
    assert refused == "activity typed.wrong: its result does not fit: item: Field required"
    assert len(env.calls(wrong)) == 3


def test_a_start_of_a_task_with_models_refuses_what_does_not_fit(env):
    for odd in (models.s({"sku": "tea"}), models.s(ITEM, also={"sku": 1}), closed.s("tea")):
        with pytest.raises(PayloadError, match=r"cannot start: argument '(item|also)' does not"):
            durable.start(odd)
    assert durable.count() == 0
    assert env.run(models.s(ITEM, also=None))["doubled"] == "19.80"
    assert env.run(in_context.s({"sku": "tea"})) == {"sku": "tea"}
    env.replace(wrong, returns="a stand-in may return anything")
    assert env.run(wrong.s(ITEM)) == "a stand-in may return anything"


@durable.orchestrator(name="typed.anything")
async def anything(ctx, what: str, wanted: str):
    wanted = {"many": list[Order], "maybe": Order | None, "deep": dict[str, list[Item]]}[wanted]
    try:
        match what:
            case "event":
                return str(await ctx.wait_event("e", type=wanted))
            case "request":
                request = await ctx.wait_request("e", type=wanted)
                request.reply(request.data)
                return str(request.data)
            case _:
                return str(await ctx.call(echo.s(what), type=wanted))
    except PayloadError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("what", ["event", "request"])
@pytest.mark.parametrize(
    ("wanted", "value", "complaint"),
    [
        ("many", [ORDER, AS_JSON], None),
        ("many", [AS_JSON, {"id": "o", "colour": "no"}], "1.colour: "),
        ("maybe", None, None),
        ("maybe", AS_JSON, None),
        ("deep", {"a": [ITEM]}, None),
        ("deep", {"a": [{"sku": "tea"}]}, "a.0.price: Field required"),
    ],
)
def test_type_takes_any_annotation_wherever_it_is_named(env, what, wanted, value, complaint):
    run = env.start(anything.s(what, wanted))
    if what == "event":
        run.raise_event("e", value)
        env.run_until_idle()
    else:
        try:
            answer = run.ask("e", value)
            assert complaint is None
            assert isinstance(answer, (list, dict, type(None)))
        except PayloadError as error:
            assert complaint is not None and complaint in str(error)
    output = run.refresh().output
    if complaint is None:
        assert ("Item(" in output) is (value is not None)
    else:
        assert output.startswith(f"refused: the {what} 'e' does not fit: ") and complaint in output
    assert durable.replay(run.export_history())


def test_a_result_that_does_not_fit_is_refused_at_the_await(env):
    run = env.start(anything.s("a text", "maybe"))
    assert run.refresh().output.startswith("refused: the result of typed.echo does not fit: ")
    assert durable.replay(run.export_history())


@durable.orchestrator(name="typed.shapes", pydantic=True)
def shapes(ctx, first: Item, *more: Item, **named: Item) -> list[Item]:
    assert all(isinstance(each, Item) for each in (first, *more, *named.values()))
    echoed = yield ctx.call(echo.s(first), type=Item)
    return [echoed, *more, *named.values()]


def test_annotations_count_in_generators_and_of_any_number_of_arguments(env):
    as_json = AS_JSON["items"][0]
    run = env.start(shapes.s(ITEM, as_json, last=as_json))
    assert run.refresh().output == durable.get(run.id).get() == [ITEM] * 3
    for args, kwargs in [((ITEM, {}), {}), ((ITEM,), {"last": {}})]:
        for start in (shapes.delay, lambda *a, **k: durable.start(shapes.s(*a, **k))):
            with pytest.raises(PayloadError, match="does not fit: sku: "):
                start(*args, **kwargs)
    with pytest.raises(PayloadError, match="does not fit: sku: "):
        durable.schedule("s", shapes.s({}), cron="0 3 * * *")


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
