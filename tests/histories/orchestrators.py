"""The orchestrators whose histories are recorded.

Never change one that a release has recorded: add another.

All run in ``tests.contract.world.World``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery_durable import PayloadError, RetryPolicy
from celery_durable.core.entity import declare, orchestrator_of, run_by
from celery_durable.engine.registry import Definition
from tests.contract.world import World, sig

DAY = 86_400
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__] = function
    return function


@recorded
async def typed(ctx: Any) -> Any:
    """Events as a type: one that fits, one that does not."""
    when = await ctx.wait_event("due", type=timedelta)
    try:
        await ctx.wait_event("due", type=timedelta)
    except PayloadError:
        return when.total_seconds()


@recorded
async def encodes(ctx: Any) -> Any:
    """An activity whose outcome comes by its token, and one that fails so first."""
    policy = RetryPolicy(first_interval=0.001, max_attempts=2)
    return [await ctx.call(sig("encode", n), retry=policy) for n in range(2)]


@recorded
async def order(ctx: Any, parts: list[str], *, limit: int) -> Any:
    """Fan-out, retry, time-out, race, inline function, dice, custom status, patch."""
    reserved = await asyncio.gather(*(ctx.call(sig("reserve", part)) for part in parts))
    charged = await ctx.call(
        sig("charge", limit), retry=RetryPolicy(first_interval=0.001, max_attempts=3, jitter=0.5)
    )
    drawn = await ctx.run(max, 3, 5)
    ctx.set_status({"drawn": drawn, "id": str(ctx.uuid4()), "dice": ctx.random.random()})
    if ctx.patched("ask-twice"):
        await ctx.call(sig("reserve", "patched"))
    try:
        async with asyncio.timeout(DAY):
            told = await ctx.wait_event("approved")
    except TimeoutError:
        told = None
    await ctx.any([ctx.call(sig("reserve", "winner")), ctx.sleep(DAY), ctx.call(sig("never"))])
    ctx.signal_event("nobody", "shipped", {"parts": parts})
    return [
        reserved,
        charged,
        told,
        (await ctx.map(sig("reserve"), ["x", "y", "z"], concurrency=2)),
    ]


@recorded
def generator(ctx: Any, first: int) -> Any:
    """A generator, a chain, a chord, a sub-orchestration."""
    value = yield ctx.call(sig("add", first, 1))
    found = yield ctx.all([ctx.call(sig("add", value, number)) for number in range(3)])
    chord = {
        "task": "celery.chord",
        "subtask_type": "chord",
        "args": (),
        "options": {},
        "kwargs": {
            "header": [sig("add", 1, 1), sig("add", 2, 2)],
            "body": sig("total"),
            "kwargs": {},
        },
    }
    summed = yield ctx.call(chord)
    child = yield ctx.call(sig("order", ["c"], limit=1) | {"kwargs": {"limit": 1}})
    return [value, found, summed, child]


@recorded
async def trip(ctx: Any) -> Any:
    """A saga that undoes, a handled failure, and a sub-orchestration that is canceled."""
    try:
        await ctx.call(sig("refuse", "handled"))
    except KeyError:
        ctx.set_status("handled")
    aside = ctx.call(sig("waiter"))
    async with ctx.saga() as saga:
        await saga.call(sig("reserve", "hotel"), undo=sig("reserve", "no hotel"))
        aside.cancel()
        await saga.call(sig("flaky", "flight"), undo=sig("reserve", "no flight"))
    return "there"


@recorded
async def waiter(ctx: Any) -> Any:
    """Wait for an event or a cancel."""
    try:
        return await ctx.wait_event("go", timeout=DAY)
    except asyncio.CancelledError:
        await ctx.call(sig("reserve", "nothing"))
        raise


@recorded
async def parent(ctx: Any) -> Any:
    """Fail by a child, to be rewound."""
    return [await ctx.call(sig("trip")), await ctx.call(sig("reserve", "after"))]


@recorded
async def abandons(ctx: Any) -> Any:
    """Fail while an activity that runs at most once is under way."""
    ctx.call(sig("never"))
    await ctx.call(sig("refuse", "while another runs"))


@recorded
async def exhausted(ctx: Any) -> Any:
    """Be suspended by a call that has used up its attempts."""
    return await ctx.call(sig("flaky", "exhausted"), on_exhausted="suspend")


@recorded
async def clerk(ctx: Any) -> Any:
    """Requests: one that is answered, one that is rejected, one that does not fit its type."""
    ctx.state.moved = 0
    for _ in range(2):
        request = await ctx.wait_request("move", timeout=DAY)
        if request.data == "nowhere":
            request.reject("there is no such place")
        else:
            ctx.state.moved += await ctx.call(sig("add", 1, 0))
            request.reply({"moved": ctx.state.moved})
    try:
        await ctx.wait_request("due", type=timedelta)
    except PayloadError:
        return ctx.state.moved


class Till:
    """An entity that is called, signalled and locked."""

    total: int = 0

    def add(self, amount: int) -> int:
        """Add to the total, and return it."""
        self.total += amount
        return self.total


@recorded
async def cashier(ctx: Any) -> Any:
    """Calls, signals and the lock of an entity."""
    till = ctx.entity(Till, "1")
    first = await till.add(1)
    till.signal.add(2)
    async with ctx.lock(till, lease=60):
        return [first, await till.add(3)]


def make_world(store: Any) -> World:
    """Return a world in which they run."""
    world, failed = World(store), set[str]()

    def flaky(what: str) -> str:
        """Fail once for each thing."""
        if what not in failed:
            failed.add(what)
            raise KeyError(what)
        return what

    def refuse(what: str) -> None:
        raise KeyError(what)

    world.tasks.update(
        reserve=lambda what: what,
        add=lambda x, y: x + y,
        total=sum,
        charge=lambda amount: flaky("charge") and amount,
        flaky=flaky,
        refuse=refuse,
        never=lambda: None,
    )
    world.registry.add(Definition(orchestrator_of("Till"), None, run_by(declare(Till))))
    for function in FUNCTIONS.values():
        world.orchestrator(function)
    return world
