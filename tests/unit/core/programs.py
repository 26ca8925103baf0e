"""Orchestrators whose recorded histories have to be the same in every process, whatever its hash
seed.

Run as a script, it prints each one's history as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio import as_completed  # before the package is imported, as an application may do

from celery import chain, chord, group

from celery_durable.core.retry import RetryPolicy
from tests.unit.core.harness import (
    add,
    cancel,
    child,
    echo,
    endless_child,
    flaky,
    live,
    never,
    raised,
    slow,
    slow_fail,
    total,
)


async def _one(ctx, name, *seconds):
    for second in seconds:
        await ctx.call(slow.s(second, name))
    return name


async def gathers(ctx):
    await asyncio.gather(*(_one(ctx, name, 1, 2, 1) for name in "abcdefgh"))
    await asyncio.gather(*(ctx.call(echo.s(n)) for n in range(20)))


async def waits(ctx):
    pending = {asyncio.create_task(_one(ctx, f"t{n}", 1 + n % 3, 1)) for n in range(24)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await ctx.call(echo.s(task.result()))


async def waits_and_gives_up(ctx):
    calls = {ctx.call(slow.s(n % 7, n)) for n in range(40)}
    done, pending = await asyncio.wait(calls, timeout=3.5)
    for call in pending:
        call.cancel()
    for call in done:
        await ctx.call(echo.s(call.result()))


async def completes(ctx):
    for earliest in asyncio.as_completed([ctx.call(slow.s(n % 4, n)) for n in range(30)]):
        await ctx.call(echo.s(await earliest))


async def completes_coroutines(ctx):
    for earliest in asyncio.as_completed([_one(ctx, f"c{n}", 1) for n in range(30)]):
        await earliest


async def completes_coroutines_by_its_own_name(ctx):
    for earliest in as_completed([_one(ctx, f"c{n}", 1) for n in range(30)]):
        await earliest


async def waits_for_gathers(ctx):
    batches = [asyncio.gather(ctx.call(echo.s(n)), ctx.call(echo.s(n))) for n in range(20)]
    done, _ = await asyncio.wait(batches)
    for batch in done:
        await ctx.call(echo.s(batch.result()))


async def task_groups(ctx):
    try:
        async with asyncio.TaskGroup() as tasks:
            for n in range(20):
                tasks.create_task(_one(ctx, n, 9, 9))
            tasks.create_task(ctx_fail(ctx))
    except* ValueError:
        await ctx.call(echo.s("aborted"))


async def ctx_fail(ctx):
    await ctx.call(slow_fail.s(3))


async def timeouts(ctx):
    async def limited(seconds):
        try:
            async with asyncio.timeout(seconds):
                await ctx.call(never.s())
        except TimeoutError:
            return await ctx.call(echo.s(seconds))

    await asyncio.gather(*(limited(1 + n % 5) for n in range(20)))
    await asyncio.gather(
        *(asyncio.wait_for(asyncio.shield(ctx.call(slow.s(1))), 2) for _ in range(5))
    )


async def primitives(ctx):
    queue, slots, lock, gate = (
        asyncio.Queue(3),
        asyncio.Semaphore(2),
        asyncio.Lock(),
        asyncio.Event(),
    )

    async def worker(number):
        await gate.wait()
        while (item := await queue.get()) is not None:
            async with slots:
                await ctx.call(slow.s(1 + item % 3, number))
            async with lock:
                await ctx.sleep(0.5)

    workers = [asyncio.create_task(worker(number)) for number in range(5)]
    gate.set()
    for item in range(20):
        await queue.put(item)
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)


async def composites(ctx):
    await ctx.any(
        [ctx.all([ctx.call(never.s(n)) for n in range(9)]), ctx.sleep(5), ctx.wait_event("never")]
    )
    await ctx.map(flaky, range(12), concurrency=3, tolerate=0.5)
    await ctx.all([ctx.call(child.s(n)) for n in range(9)])


async def canvases(ctx):
    await ctx.call(chain(echo.s(1), group(add.s(n) for n in range(5)), total.s()))
    await ctx.call(chord([chain(echo.s(n), add.s(1)) for n in range(5)], total.s()))


async def chance(ctx):
    for _ in range(5):
        await ctx.call(echo.s([str(ctx.uuid4()), ctx.random.random()]))
        await ctx.run(ctx.random.randrange, 1000)
    policy = RetryPolicy(first_interval=10, jitter=0.9, max_attempts=5)
    await ctx.call(flaky.s(), retry=policy)


async def canceled(ctx):
    tasks = [asyncio.create_task(_one(ctx, n, 50)) for n in range(12)]
    try:
        await ctx.all([ctx.call(never.s()), ctx.call(endless_child.s()), ctx.sleep(90), *tasks])
    finally:
        await ctx.call(echo.s("undo"))


def generator(ctx):
    results = yield ctx.all([ctx.call(echo.s(n)) for n in range(5)])
    for result in results:
        yield ctx.any([ctx.call(slow.s(9)), ctx.call(echo.s(result))])


BROKEN = [ValueError(f"attempt {n}") for n in range(4)]
PROGRAMS = {
    "gathers": (gathers, {}),
    "waits": (waits, {}),
    "waits_and_gives_up": (waits_and_gives_up, {}),
    "completes": (completes, {}),
    "completes_coroutines": (completes_coroutines, {}),
    "completes_coroutines_by_its_own_name": (completes_coroutines_by_its_own_name, {}),
    "waits_for_gathers": (waits_for_gathers, {}),
    "task_groups": (task_groups, {}),
    "timeouts": (timeouts, {}),
    "primitives": (primitives, {}),
    "composites": (composites, {"script": {"flaky": [*BROKEN, *range(8)]}}),
    "canvases": (canvases, {}),
    "chance": (chance, {"script": {"flaky": [*BROKEN, "ok"]}}),
    "canceled": (canceled, {"inputs": [raised("never", 1, at=1), cancel(at=3)]}),
    "generator": (generator, {}),
}


def histories() -> dict[str, list[list[str]]]:
    """Return the rows of every program's life, for several orders of simultaneous outcomes."""
    return {
        name: [
            live(program, order=order, check=False, **world).rows for order in ("first", "last", 5)
        ]
        for name, (program, world) in PROGRAMS.items()
    }


def _scatter(seed: int) -> list[bytes]:
    """Leave holes all over the heap, so that addresses come in another order in every process."""
    dice = random.Random(seed)
    ballast = [bytes(dice.randrange(16, 500)) for _ in range(60_000)]
    dice.shuffle(ballast)
    return ballast[::2]


if __name__ == "__main__":
    ballast = _scatter(int(sys.argv[1]))
    json.dump(histories(), sys.stdout)
