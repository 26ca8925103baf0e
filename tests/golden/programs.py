"""The ten programs whose rows and messages are kept.

They run in the worlds of ``tests.faults``. Nothing in them is left to chance: no jitter, no ids
of their own making, and no two things at one moment.
"""

from __future__ import annotations

import asyncio
from typing import Any

from celery_durable import Limit, OrchestrationContext, RetryPolicy, durable_context
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.asking import ask
from tests.faults.programs import (
    DAY,
    NOWHERE,
    I,
    Program,
    Step,
    add,
    durable,
    ended,
    flaky,
    has_status,
    is_waiting,
    note,
    orchestrator,
    refuse,
    start,
    task,
    tell,
    worlds,
)

#: Recovery has nothing to repair: what a slow machine would add is no part of the programs.
SETTINGS = {"durable_resend_after": 600.0, "durable_worker_lease": 300.0}
SECOND = 1_000_000


# -- activities ------------------------------------------------------------------------------------


@task
def reserve(what: str) -> str:
    return f"{what} is reserved"


@task
def release(what: str) -> None:
    """Undo a reservation."""


@task
def callback(what: str) -> None:
    """Be over by a token only."""
    context = durable_context()
    assert context is not None
    worlds[-1].tokens.append(context.defer())


@task
def mends(number: int) -> int:
    """Fail until the world is repaired."""
    if not worlds[-1].is_repaired:
        raise ValueError(f"broken {number}")
    return number


# -- orchestrators ---------------------------------------------------------------------------------


@orchestrator
async def golden_chain(ctx: OrchestrationContext, number: int) -> int:
    number = await ctx.call(add.s(number))
    ctx.set_status({"at": number})
    number = await ctx.call(add.s(number, more=10), timeout=60)
    seen = await ctx.run(sorted, [number, 1])
    if ctx.patched("golden"):
        seen.append(ctx.now().year > 2000)
    return seen


@orchestrator
async def golden_fan_out(ctx: OrchestrationContext) -> list[Any]:
    windowed = await ctx.map(add, range(5), concurrency=2)
    gathered = await asyncio.gather(*(ctx.call(add.s(number)) for number in windowed[:2]))
    first = await ctx.any([ctx.call(add.s(7)), ctx.call(add.s(1).set(queue=NOWHERE))])
    return [windowed, gathered, first]


@orchestrator
async def golden_retry(ctx: OrchestrationContext) -> None:
    found = await ctx.call(flaky.s(4), retry=RetryPolicy(first_interval=2, max_attempts=3))
    await ctx.call(refuse.s(found), retry=RetryPolicy(first_interval=1, max_attempts=2))


@orchestrator
async def golden_leaf(ctx: OrchestrationContext, listener: str) -> int:
    ctx.signal_event(listener, "told", 8)
    return await ctx.call(add.s(7))


@orchestrator
async def golden_broken_leaf(ctx: OrchestrationContext) -> None:
    await ctx.call(refuse.s(1))


@orchestrator
async def golden_parent(ctx: OrchestrationContext) -> list[Any]:
    found = [await ctx.call(golden_leaf.s(ctx.instance_id).set(task_id="leaf"))]
    found.append(await ctx.wait_event("told"))
    try:
        await ctx.call(golden_broken_leaf.s())
    except KeyError as error:
        found.append(type(error).__name__)
    abandoned = ctx.call(golden_waits.s())
    await ctx.sleep(1)
    abandoned.cancel()
    return found


@orchestrator
async def golden_waits(ctx: OrchestrationContext) -> Any:
    return await ctx.wait_event("never")


@orchestrator
async def golden_race(ctx: OrchestrationContext) -> list[Any]:
    ctx.set_status("waiting")
    found = [await ctx.wait_event("go", timeout=DAY)]
    try:
        await ctx.wait_event("never", timeout=2)
    except TimeoutError:
        found.append("none")
    await ctx.sleep(9)  # beyond the horizon
    return found


@orchestrator
async def golden_saga(ctx: OrchestrationContext) -> None:
    async with ctx.saga() as saga:
        await saga.call(reserve.s("a car"), undo=release.si("a car"))
        await saga.call(reserve.s("a room"), undo=release.si("a room"))
        await ctx.call(refuse.s(2))


@durable.entity
class GoldenAccount:
    """Has a balance."""

    balance: int = 0

    def deposit(self, amount: int) -> int:
        """Add to it."""
        self.balance += amount
        return self.balance

    def withdraw(self, amount: int) -> int:
        """Take from it."""
        if amount > self.balance:
            raise ValueError(f"only {self.balance}")
        self.balance -= amount
        return self.balance


@orchestrator
async def golden_transfer(ctx: OrchestrationContext) -> list[Any]:
    a, b = ctx.entity(GoldenAccount, "a"), ctx.entity(GoldenAccount, "b")
    a.signal.deposit(30)
    found = []
    async with ctx.lock(a, b):
        found.append(await a.withdraw(20))
        await ctx.call(add.s(1))
        found.append(await b.deposit(20))
        try:
            await a.withdraw(50)
        except ValueError as error:
            found.append(str(error))
    return found


@orchestrator
async def golden_deposit(ctx: OrchestrationContext) -> list[Any]:
    account = ctx.entity(GoldenAccount, "a")
    account.signal.deposit(30)
    found = [await account.deposit(1)]
    async with ctx.lock(account):
        found.append(await account.withdraw(20))
        await ctx.call(add.s(1))
        try:
            await account.withdraw(50)
        except ValueError as error:
            found.append(str(error))
    return found


@orchestrator
async def golden_again(ctx: OrchestrationContext, left: int) -> Any:
    if left == 2:
        ctx.set_status("waiting")
        await ctx.wait_event("first")
    await ctx.call(add.s(left))
    if left:
        ctx.continue_as_new(left - 1)
    return await ctx.wait_event("second")


@orchestrator
async def golden_moody(ctx: OrchestrationContext) -> list[Any]:
    return [
        await ctx.call(add.s(1)),
        await ctx.call(golden_leaf.s(ctx.instance_id)),
        await ctx.call(mends.s(3)),
    ]


@orchestrator
async def golden_clerk(ctx: OrchestrationContext) -> list[Any]:
    found = []
    ctx.set_status("waiting")
    for _ in range(2):
        request = await ctx.wait_request("move")
        if request.data == "nowhere":
            request.reject("there is no such place")
        else:
            request.reply(f"moved to {request.data}")
    limit = Limit(1, name="gate")
    found += await asyncio.gather(*(ctx.call(add.s(number), limit=limit) for number in range(3)))
    ctx.set_status("paused")
    found.append(await ctx.call(reserve.s("a table")))
    ctx.set_status("calling")
    found.append(await ctx.call(callback.s("me"), timeout=DAY))
    return found


# -- what clients do -------------------------------------------------------------------------------


def put_request(name: str, data: Any, request_id: str, is_ready: Any) -> Step:
    """Put a request, and do not wait for its answer."""
    return Step(
        lambda world: ask(world.process.runtime.client, I, name, data, request_id),
        lambda world: True,
        is_ready,
    )


def when_custom(status: str) -> Any:
    """Return a condition: the instance says this of itself."""
    return lambda world: world.custom_status() == status


def once(act: Any, is_ready: Any = lambda world: True) -> Step:
    """Return what a client does once."""
    return Step(act, lambda world: True, is_ready)


def repair(world: Any) -> None:
    """Let ``mends`` succeed, and rewind."""
    world.is_repaired = True
    durable.get(I).rewind("repaired")


def program(name: str, *steps: Step, **settings: Any) -> Program:
    return Program(name, steps, {**SETTINGS, **settings})


PAUSED = "faults.reserve"
PROGRAMS = [
    program(
        "activity-chain",
        start(golden_chain.s(1), link=note.s()),
        once(lambda world: durable.get(I).fork(at=1, new_id="fork"), ended),
        once(
            lambda world: durable.get("fork").purge(),
            lambda world: world.status("fork") is RuntimeStatus.COMPLETED,
        ),
    ),
    program("fan-out", start(golden_fan_out.s())),
    program("retry-with-failure", start(golden_retry.s(), link_error=note.si("failed"))),
    program("children", start(golden_parent.s())),
    program("event-and-timer", start(golden_race.s()), tell("go", 3)),
    program("saga", start(golden_saga.s(), ignore_result=True)),
    program("entity", start(golden_deposit.s())),
    program("two-entities", start(golden_transfer.s())),
    program(
        "continue-as-new", start(golden_again.s(2)), tell("second", "kept"), tell("first", None)
    ),
    program(
        "rewind",
        start(golden_moody.s(), ignore_result=True),
        once(repair, has_status(RuntimeStatus.FAILED)),
    ),
    program(
        "request-limit-pause-token",
        once(lambda world: durable.pause(task=PAUSED, reason="maintenance")),
        start(golden_clerk.s()),
        put_request("move", "Rome", "first", is_waiting),
        put_request("move", "nowhere", "second", lambda world: True),
        once(lambda world: durable.unpause(task=PAUSED), lambda world: world.is_held()),
        once(
            lambda world: durable.complete(world.tokens[0], {"size": 3}),
            lambda world: bool(world.tokens) and world.custom_status() == "calling",
        ),
    ),
    program(
        "by-messages",
        start(golden_chain.s(1)),
        once(lambda world: durable.get(I).suspend("wait"), lambda world: world.has_outbox()),
        once(lambda world: durable.get(I).resume("go on"), has_status(RuntimeStatus.SUSPENDED)),
        durable_inline_turns=False,
    ),
]
