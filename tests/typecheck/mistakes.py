"""Mistakes of all kinds at the front door; type checkers must find each, and nothing else.

A line whose comment expects a text must be an error that holds it; no other may be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, assert_type

from sqlalchemy.orm import Session

from celery_durable import (
    Debounce,
    Durable,
    Limit,
    Orchestration,
    OrchestrationContext,
    Request,
    RetryPolicy,
    durable_context,
    entity,
    orchestrator,
)

durable = Durable()


@dataclass
class Receipt:
    number: int


@dataclass
class Approval:
    by: str


@durable.orchestrator
async def fulfil(ctx: OrchestrationContext, order: str, amount: int = 1) -> Receipt:
    return Receipt(amount)


@orchestrator(retention=timedelta(days=3), debounce=Debounce(5))
async def shared(ctx: OrchestrationContext, order: str) -> float:
    return 1.5


@entity
class Visits:
    count: int = 0

    def add(self, more: int) -> int:
        self.count += more
        return self.count


@durable.entity(name="shelf", queue="slow")
class Shelf:
    goods: int = 0


@durable.transactional
def book(session: Session, order: str) -> int:
    return len(order)


@durable.transactional(isolation_level="SERIALIZABLE")
def book_alone(session: Session, order: str) -> int:
    return len(order)


@durable.transactional(using="default")
def book_in_django(order: str) -> int:
    return len(order)


UNKNOWN = {"task": "shop.charge", "args": ["a"]}


# -- what is right ---------------------------------------------------------------------------------


@durable.orchestrator
async def right(ctx: OrchestrationContext) -> None:
    assert_type(await ctx.call(UNKNOWN), Any)
    assert_type(await ctx.call(UNKNOWN, type=Receipt, timeout=60), Receipt)
    assert_type(await ctx.call(UNKNOWN, type=list[Receipt]), list[Receipt])
    assert_type(await ctx.call(shared.s("a")), float)
    assert_type(await ctx.wait_event("approved"), Any)
    assert_type(await ctx.wait_event("approved", type=Approval, timeout=5), Approval)
    assert_type(await ctx.wait_request("move", type=Approval), Request[Approval])
    assert_type((await ctx.wait_request("move", type=Approval)).data.by, str)
    assert_type(await ctx.map(fulfil, ["a"], concurrency=3, limit=Limit(2)), list[Receipt])
    assert_type(await ctx.map(fulfil, ["a"], tolerate=1), list[Any])
    assert_type(await ctx.map("shop.charge", ["a"]), list[Any])
    async with ctx.saga() as saga:
        assert_type(await saga.call(fulfil.s("a"), undo=UNKNOWN, timeout=5), Receipt)
        assert_type(await saga.call(UNKNOWN, undo=lambda done: UNKNOWN, type=Receipt), Receipt)
        saga.add_undo(fulfil.s("a"))
    shelf = ctx.entity(Shelf, "a")
    async with ctx.lock(shelf, lease=60):
        await shelf.take(1)
    print(await ctx.call(UNKNOWN, type=Receipt | None))
    assert_type(await ctx.wait_event("approved", type=Literal["yes", "no"]), Any)
    ctx.continue_as_new()


async def right_outside() -> None:
    run = await durable.astart(fulfil.s("a"), instance_id="order-1", tags={"customer": "ada"})
    assert_type(run, Orchestration[Receipt])
    assert_type(await run, Receipt)
    assert_type(await run.aget(timeout=3), Receipt)
    assert_type(run.get(), Receipt)
    assert_type(run.get(propagate=False), Receipt | BaseException)
    assert_type(await durable.astart_many([fulfil.s("a")]), list[Orchestration[Receipt]])
    assert_type(run.fork(at=3), Orchestration[Receipt])
    assert_type(await run.afork(at=3), Orchestration[Receipt])
    assert_type(Visits().add(3), int)
    assert_type(book("a"), int)
    assert_type(book_alone("a"), int)
    assert_type(book_in_django("a"), int)
    durable.entity(Visits, "home").signal.add(1)
    durable.entity("visits", "home").signal(delay=60).add(1)
    durable.suspend(status=["RUNNING", "PENDING"], tags={"shop": "oslo"}, limit=5)
    durable.raise_event_many("prices_changed", {"list": 7}, name="shop.fulfil")
    durable_context().heartbeat({"percent": 3})
    durable.add_converter(Receipt, encode=lambda each: each.number, decode=Receipt)


# -- in an orchestrator ----------------------------------------------------------------------------


@durable.orchestrator
async def wrong(ctx: OrchestrationContext) -> str:
    number: int = await ctx.call(shared.s("a"))  # expect: expected "SignatureOf[int]"
    receipt: Receipt = await ctx.call(UNKNOWN, type=Approval)  # expect: expected "type[Receipt]"
    text: str = await ctx.wait_event("approved", type=Approval)  # expect: expected "type[str]"
    (await ctx.call(fulfil.s("a"))).numbr  # expect: has no attribute "numbr"
    (await ctx.wait_event("approved", type=Approval)).who  # expect: has no attribute "who"
    (await ctx.wait_request("move", type=Approval)).data.who  # expect: has no attribute "who"
    (await ctx.map(fulfil, ["a"]))[0].numbr  # expect: has no attribute "numbr"
    ctx.call(UNKNOWN, retry=3)  # expect: No overload variant of "call"
    ctx.call(UNKNOWN, on_exhausted="wait")  # expect: No overload variant of "call"
    ctx.call(UNKNOWN, heartbeat=3)  # expect: No overload variant of "call"
    ctx.call(UNKNOWN, limit="three")  # expect: incompatible type "str"
    ctx.call("shop.charge")  # expect: No overload variant of "call"
    ctx.call(fulfil)  # expect: No overload variant of "call"
    ctx.call(fulfil.s("a", amount="two"))  # expect: incompatible type "str"
    ctx.wait_event(3)  # expect: No overload variant of "wait_event"
    ctx.wait_event("approved", timout=3)  # expect: No overload variant of "wait_event"
    ctx.wait_request("move", timeout="soon")  # expect: No overload variant of "wait_request"
    ctx.map(fulfil, ["a"], concurency=3)  # expect: No overload variant of "map"
    ctx.map(fulfil, ["a"], tolerate="most")  # expect: No overload variant of "map"
    ctx.map(fulfil, 3)  # expect: No overload variant of "map"
    ctx.sleep("1 hour")  # expect: incompatible type "str"
    ctx.sleep_until(3)  # expect: incompatible type "int"
    ctx.entity(Shelf)  # expect: No overload variant of "entity"
    ctx.entity(Shelf, 3)  # expect: No overload variant of "entity"
    ctx.lock("shelf")  # expect: incompatible type "str"
    ctx.al([ctx.sleep(1)])  # expect: has no attribute "al"
    ctx.set_tags({"customer": 3})  # expect: incompatible type "str": "int"
    async with ctx.saga(paralel=True) as _:  # expect: Unexpected keyword argument "paralel"
        pass
    async with ctx.saga() as saga:
        total: int = await saga.call(UNKNOWN, type=Receipt)  # expect: expected "type[int]"
        saga.call(UNKNOWN, unod=UNKNOWN)  # expect: No overload variant of "call"
        saga.call(UNKNOWN, undo="shop.refund")  # expect: No overload variant of "call"
        saga.call(UNKNOWN, timeout="soon")  # expect: No overload variant of "call"
    print(number, receipt, text, total)
    return 3  # expect: Incompatible return value type


# -- outside ---------------------------------------------------------------------------------------


async def wrong_outside(run: Orchestration[Receipt]) -> None:
    number: int = durable.start(fulfil.s("a")).wait()  # expect: Incompatible types
    other: Orchestration[str] = durable.start(shared.s("a"))  # expect: expected "SignatureOf[str]"
    run.get().numbr  # expect: has no attribute "numbr"
    (await run).numbr  # expect: has no attribute "numbr"
    run.raise_event("approved", event="3")  # expect: Unexpected keyword argument "event"
    run.suspnd()  # expect: has no attribute "suspnd"
    run.fork(at="3")  # expect: incompatible type "str"
    durable.start(fulfil.s("a"), if_exists="skip")  # expect: No overload variant of "start"
    durable.start(fulfil.s("a"), tags=["x"])  # expect: No overload variant of "start"
    await durable.astart(fulfil.s("a"), instanceid="x")  # expect: No overload variant of "astart"
    await durable.astart_many([shared.s("a")], tag={})  # expect: No overload variant
    durable.find(status=3)  # expect: incompatible type "int"
    durable.find(created_after="yesterday")  # expect: incompatible type "str"
    durable.find(tags=["x"])  # expect: incompatible type "list[str]"
    durable.suspend(stauts="FAILED")  # expect: Unexpected keyword argument "stauts"
    durable.rewind(name=3)  # expect: incompatible type "int"
    durable.purge(older_than=3)  # expect: Unexpected keyword argument "older_than"
    durable.cancel(tags={"n": 3})  # expect: "int"
    await durable.aresume(limt=3)  # expect: Unexpected keyword argument "limt"
    durable.raise_event_many("x", shop="oslo")  # expect: Unexpected keyword argument "shop"
    durable.entity(Visits, 3)  # expect: No overload variant of "entity"
    durable.entity(Visits, "home").sginal  # expect: has no attribute "sginal"
    durable.pause(task="x", reson="y")  # expect: Unexpected keyword argument "reson"
    Visits().add("one")  # expect: incompatible type "str"
    Visits().ad(1)  # expect: has no attribute "ad"
    book("a", "b")  # expect: Too many arguments
    book(3)  # expect: incompatible type "int"
    book_alone()  # expect: Missing positional
    book_in_django(order=3)  # expect: incompatible type "int"
    durable_context().instanceid  # expect: has no attribute "instanceid"
    durable_context().heartbeat({}, 3)  # expect: Too many arguments
    RetryPolicy(attempts=3)  # expect: Unexpected keyword argument "attempts"
    RetryPolicy(max_attempts="3")  # expect: incompatible type "str"
    shared.delay(order=3)  # expect: incompatible type "int"
    shared.deley("a")  # expect: has no attribute "deley"
    print(shared.rate_limit, shared.app, shared.run, shared.__name__)
    durable.add_converter(Receipt, encode=lambda r: r.x, decode=Receipt)  # expect: "x"
    print(number, other)


@durable.orchestrator(retension=3)  # expect: No overload variant
async def misspelt(ctx: OrchestrationContext) -> None: ...


@durable.orchestrator(limit="three")  # expect: incompatible type "str"
async def mistyped(ctx: OrchestrationContext) -> None: ...


@orchestrator(verion="2")  # expect: Unexpected keyword argument "verion"
async def misspelt_shared(ctx: OrchestrationContext) -> None: ...


@durable.entity(nam="x")  # expect: Unexpected keyword argument "nam"
class Misspelt: ...


@durable.transactional(isolation="SERIALIZABLE")  # expect: Unexpected keyword argument
def misspelt_book(session: Session) -> None: ...


@durable.orchestrator  # expect: has incompatible type
async def without_context(order: int) -> None: ...
