"""The documented forms, as a user writes them; each must pass ``mypy --strict``.

A line whose comment expects a text must be an error that holds it; no other may be one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, assert_type

from celery_durable import Durable, Limit, Orchestration, OrchestrationContext, Request, RetryPolicy

durable = Durable()


@durable.orchestrator
async def fulfil(ctx: OrchestrationContext, order: str, amount: int = 1) -> list[str]:
    return [order] * amount


@fulfil.query
def amount(state: SimpleNamespace) -> int:
    return len(state.orders)


@fulfil.query(name="first")
def _first(state: Any, default: str) -> str:
    return state.orders[0] if state.orders else default


assert_type(amount(SimpleNamespace()), int)


@durable.orchestrator(version="2", max_activities=5, limit=Limit(3), queue="slow")
async def ship(ctx: OrchestrationContext, order: str) -> float:
    return 1.5


@durable.orchestrator
def stepwise(ctx: OrchestrationContext, count: int) -> Generator[Any, Any, bytes]:
    yield ctx.sleep(count)
    return b"done"


@durable.orchestrator(retention=timedelta(days=3))
def plain(ctx: OrchestrationContext) -> bool:
    return True


def price(article: str, count: int) -> float:
    return 2.0 * count


@durable.orchestrator
async def parent(ctx: OrchestrationContext) -> None:
    assert_type(await ctx.call(fulfil.s("a", amount=2), retry=RetryPolicy()), list[str])
    assert_type(await ctx.call(stepwise.s(1)), bytes)
    assert_type(await ctx.call({"task": "shop.unknown", "args": []}), Any)
    assert_type(await ctx.run(price, "tea", count=3), float)
    assert_type(await ctx.all([ctx.call(ship.s("a")), ctx.call(ship.s("b"))]), list[float])
    assert_type(await ctx.any([ctx.call(plain.s())]), bool)
    request = await ctx.wait_request("change", timeout=60, type=dict[str, int])
    assert_type(request, Request[dict[str, int]])
    request.reply({"ok": True})
    request.reject(ValueError("no"))
    request.reject(404)  # expect: incompatible type "int"
    ctx.state.orders = [request.data]
    await asyncio.gather(ctx.call(ship.s("c")), ctx.sleep(1))
    ctx.call(fulfil.s(1))  # expect: incompatible type "int"
    ctx.call(fulfil.s())  # expect: Missing positional argument "order"
    ctx.call(ship.s("a", colour="red"))  # expect: Unexpected keyword argument "colour"
    ctx.call(ship.s("a"), timeuot=3)  # expect: No overload variant of "call"
    ctx.run(price, "tea", "many")  # expect: incompatible type "str"
    ctx.run(price)  # expect: Missing positional arguments


def view() -> None:
    run = durable.start(fulfil.s("a"), instance_id="order-1")
    assert_type(run, Orchestration[list[str]])
    assert_type(run.wait(timeout=3), list[str])
    assert_type(fulfil.delay("a"), Orchestration[list[str]])
    assert_type(durable.start(ship.s("a").set(queue="fast")).wait(), float)
    many = durable.start_many([fulfil.s("a"), fulfil.s("b")], tags=[None, {"n": "2"}])
    assert_type(many, list[Orchestration[list[str]]])
    durable.start_many(fulfil.s("a"), ids=["x"])  # expect: No overload variant of "start_many"
    handle: Orchestration = durable.get("order-1")
    handle.suspend(reason="why")
    durable.find(status="FAILED", tags={"customer": "7"}, limit=10)
    durable.find(stauts="FAILED")  # expect: Unexpected keyword argument "stauts"
    durable.count(roots="yes")  # expect: incompatible type "str"
    durable.start(fulfil.s("a"), instanceid="x")  # expect: No overload variant of "start"
    fulfil.delay("a", 2, 3)  # expect: Too many arguments


@durable.orchestrator(verson="2")  # expect: No overload variant
async def misspelt(ctx: OrchestrationContext) -> None: ...


@durable.orchestrator(max_activities="five")  # expect: No overload variant
async def mistyped(ctx: OrchestrationContext) -> None: ...
