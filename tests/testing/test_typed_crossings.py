"""Typed values where they cross with replay, cancels, versions and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any, NewType
from uuid import UUID

import pytest
from celery import Celery
from pydantic import BaseModel, ConfigDict, Field

from celery_durable import Durable, PayloadError, RuntimeStatus
from celery_durable.inspection.views import instance_view
from celery_durable.testing import durable_environment

HOUR = timedelta(hours=1)


class Colour(Enum):
    RED = "red"


@dataclass
class Node:
    v: int


@dataclass
class Wider:
    v: int
    w: int


class Aliased(BaseModel):
    order_id: str = Field(alias="orderId")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    colour: Colour


Nodes = NewType("Nodes", list[Node])
ODD_KEYS = {Colour.RED: 1, UUID(int=3): 2}


@pytest.fixture
def durable():
    return Durable(Celery("crossings", set_as_current=False))


@pytest.fixture
def env(durable):
    with durable_environment(durable) as env:
        yield env


def test_operators_see_what_is_stored(durable, env):
    @durable.orchestrator(name="x.out")
    async def out(ctx, node: Node) -> Node:
        return node

    run = env.start(out.s(Node(1))).refresh()
    assert run.output == run.get() == Node(1)
    assert instance_view(run, payloads=True)["output"] == {"v": 1}


def test_a_child_that_changed_does_not_touch_parents_that_have_called_it(durable, env):
    @durable.orchestrator(name="x.child")
    async def child(ctx, node: Node):
        return node.v

    @durable.orchestrator(name="x.parent")
    async def parent(ctx):
        found = await ctx.call(child.s({"v": 1}))
        await ctx.wait_event("go")
        return found

    run = env.start(parent.s())

    @durable.orchestrator(name="x.child", version="2")
    async def wider(ctx, node: Wider):
        return node.w

    durable.runtime.live.clear()
    run.raise_event("go")
    env.run_until_idle()
    assert run.refresh().output == 1


def test_what_is_cancelled_before_it_began_takes_nothing_along(durable, env):
    @durable.app.task(name="x.send")
    def send(what):
        return what

    @durable.orchestrator(name="x.cancels")
    async def cancels(ctx):
        ctx.wait_event("a", type=Node).cancel()
        ctx.call(send.s("unwanted"), type=Node).cancel()
        return await ctx.wait_event("a")

    run = env.start(cancels.s())
    run.raise_event("a", {"v": 1})
    env.run_until_idle()
    assert run.refresh().output == {"v": 1}
    assert not env.calls(send)


def test_a_default_of_none_may_be_given(durable, env):
    @durable.orchestrator(name="x.cursor")
    async def cursor(ctx, since: datetime = None, day: date = None, count=0):  # noqa: RUF013
        if count == 2:
            return [since, day]
        ctx.continue_as_new(since, datetime(2026, 1, 1, 12), count + 1)

    assert env.run(cursor.s()) == [None, datetime(2026, 1, 1, 12)]


def test_a_start_of_a_version_is_checked_by_that_version(durable, env):
    @durable.orchestrator(name="x.versions", version="1")
    async def first(ctx, a: Node):
        return a.v

    @durable.orchestrator(name="x.versions", version="2")
    async def second(ctx, a: Node, b: int):
        return b

    assert env.run(first.s({"v": 5}), version="1") == 5
    with pytest.raises(TypeError, match="too many positional"):
        durable.start(first.s({"v": 5}, 6), version="1")


def test_the_next_execution_is_checked_in_the_code_that_asks_for_it(durable, env):
    @durable.orchestrator(name="x.again")
    async def again(ctx, node: Node):
        try:
            ctx.continue_as_new("nonsense")
        except PayloadError as error:
            return str(error)

    run = env.start(again.s(Node(1)))
    assert run.refresh().output.startswith("argument 'node' does not fit: ")
    assert durable.replay(run.export_history())


def test_arguments_that_do_not_fit_the_next_version_suspend_before_the_change(durable, env):
    @durable.orchestrator(name="x.up", version="1")
    async def first(ctx, node: Node):
        ctx.continue_as_new(node, upgrade="2")

    @durable.orchestrator(name="x.up", version="2")
    async def second(ctx, node: Wider):
        return node.w

    run = env.start(first.s(Node(1)), version="1").refresh()
    assert (run.runtime_status, run.version) == (RuntimeStatus.SUSPENDED, "1")
    assert "which does not take its arguments: argument 'node' does not fit: w: " in run.reason


def test_models_with_aliases_and_strict_ones_come_back(durable, env):
    got: list[Any] = []

    @durable.orchestrator(name="x.models")
    async def models(ctx, one: Aliased, other: Strict, many: Nodes, keys: dict[str, int]):
        got.extend([one, other, many, keys])

    strict = Strict(at=datetime(2026, 1, 1), colour=Colour.RED)
    env.run(models.s(Aliased(orderId="7"), strict, [Node(1)], ODD_KEYS))
    assert got[:3] == [Aliased(orderId="7"), strict, [Node(1)]]
    assert got[3] == {"red": 1, str(UUID(int=3)): 2}


def test_what_a_time_out_has_undone_is_done_again_by_a_rewind(durable, env):
    done: list[str] = []

    @durable.app.task(name="x.do")
    def do(what):
        done.append(what)

    @durable.orchestrator(name="x.timed", timeout=HOUR)
    async def timed(ctx):
        async with ctx.saga() as saga:
            await saga.call(do.s("book"), undo=do.s("undo"))
            await ctx.wait_event("go")
        return "done"

    run = env.start(timed.s())
    for _ in range(2):
        env.advance(minutes=61)
        assert run.refresh().runtime_status is RuntimeStatus.FAILED
        run.rewind()
        env.run_until_idle()
    assert done == ["book", "undo", "book", "undo", "book"]
    run.raise_event("go")
    env.run_until_idle()
    assert run.refresh().output == "done"
    assert done == ["book", "undo", "book", "undo", "book"]
