"""Plain tasks where the stubs of Celery say what they return, as those of ``celery-types`` do.

A line whose comment expects a text must be an error that holds it; no other may be one.
"""

from __future__ import annotations

from typing import Any, assert_type

from celery import group, shared_task

from celery_durable import Durable, Orchestration, OrchestrationContext

durable = Durable()


@shared_task
def charge(order: str) -> int:
    return len(order)


@durable.orchestrator
async def fulfil(ctx: OrchestrationContext, order: str) -> int:
    assert_type(await ctx.call(charge.s(order), timeout=60), int)
    assert_type(await ctx.call(charge.s(order).set(queue="slow")), int)
    assert_type(await ctx.call(charge.s(order), type=float), float)
    assert_type(await ctx.call(group(charge.s(order))), Any)
    assert_type(await ctx.map(charge, [order]), list[int])
    assert_type(await ctx.map(charge.s(), [order], concurrency=3), list[int])
    async with ctx.saga() as saga:
        assert_type(await saga.call(charge.s(order), undo=charge.s(order)), int)
    number = await ctx.call(charge.s(order))
    number.numbr  # expect: has no attribute "numbr"
    ctx.call(charge.si(3))  # expect: incompatible type "int"
    ctx.call(charge.s(order), retries=3)  # expect: No overload variant of "call"
    return f"{number}"  # expect: Incompatible return value type


assert_type(durable.start(charge.s("a")), Orchestration[int])
assert_type(durable.start_many([charge.s("a")]), list[Orchestration[int]])
durable.start(charge.s("a")).wait().numbr  # expect: has no attribute "numbr"
