"""The annotations of entities: their attributes, the arguments of operations, and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import ClassVar

import pytest
from celery import Celery
from pydantic import BaseModel

from celery_durable import Durable, PayloadError, RuntimeStatus
from celery_durable.testing import durable_environment

app = Celery("typed_entities", set_as_current=False)
durable = Durable(app)


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    sku: str
    price: Decimal


@dataclass
class Owner:
    name: str
    since: timedelta = timedelta(0)


@durable.entity(name="typed.Cart")
class Cart:
    kinds: ClassVar[set[str]] = set()
    items: list[Item] = []
    owner: Owner = None
    colours: set[Colour] = set()
    seen: int = 0

    def add(self, item: Item, *, colour: Colour = Colour.RED) -> Decimal:
        assert isinstance(item, Item)
        assert all(isinstance(each, Item) for each in self.items)
        self.items = [*self.items, item]
        self.colours = self.colours | {colour}
        return sum((each.price for each in self.items), Decimal(0))

    def belong_to(self, owner: Owner) -> Owner:
        was, self.owner = self.owner, owner
        assert was is None or isinstance(was, Owner)
        return was or owner

    def wrong(self) -> Owner:
        return 7

    def plain(self):
        return Owner("ada")

    @staticmethod
    def doubled(owner: Owner, by: timedelta) -> Owner:
        return Owner(owner.name, owner.since + by)

    @classmethod
    def made(cls, name: str, colour: Colour) -> Colour:
        assert cls.__name__ == "Cart"
        return Colour(colour)


ADA = Owner("ada", timedelta(1))
TEA = Item(sku="tea", price=Decimal("9.90"))


@durable.orchestrator(name="typed.shops")
async def shops(ctx, name: str = "typed.Cart"):
    cart = ctx.entity(Cart if name == "typed.Cart" else "typed.Cart", "c")
    found = [
        await cart.add({"sku": "tea", "price": "9.90"}),
        await cart.add(TEA, colour=Colour.RED),
        await cart.belong_to(ADA),
        await cart.belong_to({"name": "bob"}),
        await cart.doubled(ADA, timedelta(1)),
        await cart.made("x", "red"),
        await cart.plain(),
    ]
    return [(type(each).__name__, each) for each in found]


@durable.orchestrator(name="typed.errs")
async def errs(ctx, operation: str, *args):
    try:
        return await getattr(ctx.entity(Cart, "c"), operation)(*args)
    except PayloadError as error:
        return f"refused: {error}"


@durable.orchestrator(name="typed.errs_by_name")
async def errs_by_name(ctx, operation: str, *args):
    try:
        return await getattr(ctx.entity("typed.Cart", "c"), operation)(*args)
    except PayloadError as error:
        return f"refused: {error}"


@pytest.fixture
def env():
    with durable_environment(durable) as env:
        yield env


def test_attributes_arguments_and_results_have_their_types(env):
    run = env.start(shops.s())
    assert run.refresh().output == [
        ["Decimal", Decimal("9.90")],
        ["Decimal", Decimal("19.80")],
        ["Owner", {"name": "ada", "since": 86400.0}],
        ["Owner", {"name": "ada", "since": 86400.0}],
        ["Owner", {"name": "ada", "since": 172800.0}],
        ["Colour", "red"],
        ["dict", {"name": "ada", "since": 0.0}],
    ]
    assert durable.replay(run.export_history())
    assert durable.entity(Cart, "c").state() == {
        "items": [{"sku": "tea", "price": "9.90"}] * 2,
        "colours": ["red"],
        "owner": {"name": "bob", "since": 0.0},
    }


def test_who_has_no_class_gets_json(env):
    outputs = env.run(shops.s("by name"))
    assert [kind for kind, _ in outputs] == ["Decimal"] * 2 + ["dict"] * 3 + ["str", "dict"]


def test_a_signal_that_does_not_fit_is_refused_where_it_is_sent(env):
    cart = durable.entity(Cart, "c")
    with pytest.raises(PayloadError, match=r"typed\.Cart\.add\(\): argument 'item' does not fit"):
        cart.signal.add({"sku": "tea"})
    env.run_until_idle()
    assert cart.state() is None
    durable.entity("typed.Cart", "c").signal.add({"sku": "tea"})  # logged by the worker
    cart.signal.add(TEA)
    env.run_until_idle()
    assert cart.state()["items"] == [{"sku": "tea", "price": "9.90"}]


@pytest.mark.parametrize("orchestrator", [errs, errs_by_name])
def test_a_call_that_does_not_fit_is_refused_and_every_replay_agrees(env, orchestrator):
    run = env.start(orchestrator.s("add", {"sku": 1}))
    assert "argument 'item' does not fit: sku: " in run.refresh().output
    assert durable.replay(run.export_history())


def test_a_result_that_does_not_fit_is_refused_at_the_await(env):
    run = env.start(errs.s("wrong"))
    assert run.refresh().output.startswith("refused: its result does not fit: ")
    assert durable.replay(run.export_history())


def test_a_state_that_does_not_fit_a_changed_class_suspends_and_loses_nothing(env, monkeypatch):
    cart = durable.entity(Cart, "c")
    cart.signal.belong_to(ADA)
    env.run_until_idle()

    monkeypatch.setitem(Cart.__annotations__, "owner", "Item")
    durable.runtime.codec._types.clear()
    cart.signal.add(TEA)
    env.run_until_idle()
    run = durable.get(cart.id)
    assert run.runtime_status is RuntimeStatus.SUSPENDED
    assert "attribute 'owner' does not fit: sku: Field required" in run.reason
    monkeypatch.undo()
    durable.runtime.codec._types.clear()
    run.resume()
    env.run_until_idle()
    assert cart.state()["items"] == [{"sku": "tea", "price": "9.90"}]
    assert cart.state()["owner"] == {"name": "ada", "since": 86400.0}
