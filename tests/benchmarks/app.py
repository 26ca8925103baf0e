"""The tasks of the benchmark: the same ones for plain Celery and for orchestrations."""

from __future__ import annotations

import asyncio
import os
import time

from celery import Celery

from celery_durable import Durable

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BROKER"])
app.conf.update(
    durable_backend_url=os.environ["BENCH_STORE"],
    durable_cache_size=int(os.environ.get("BENCH_CACHE", "500")),
    task_default_queue=os.environ.get("BENCH_QUEUE", "durable-bench"),
    broker_transport_options={"global_keyprefix": "durable-bench:"},
    result_backend_transport_options={"global_keyprefix": "durable-bench:"},
    worker_send_task_events=False,
)
durable = Durable(app)


@app.task
def noop(*_: object) -> None:
    """Do nothing."""


@app.task
def one(number: int) -> int:
    return number


@app.task
def count(numbers: list[int]) -> int:
    return len(numbers)


@app.task
def mark(previous: list[float] | None = None, number: int = 0, keep: tuple[int, ...] = ()) -> list[float]:
    return [*(previous or []), time.time()] if number in keep else (previous or [])


@app.task
def clock() -> float:
    return time.time()


@durable.orchestrator
async def sequence(ctx, steps: int) -> int:
    for _ in range(steps):
        await ctx.call(noop.s())
    return steps


@durable.orchestrator
async def fan_out(ctx, width: int) -> int:
    return len(await asyncio.gather(*(ctx.call(one.s(number)) for number in range(width))))


@durable.orchestrator
async def marks(ctx, steps: int, keep: list[int]) -> list[float]:
    found = []
    for number in range(steps):
        moment = await ctx.call(clock.s())
        if number in keep:
            found.append(moment)
    return found


@durable.orchestrator
async def timer(ctx, seconds: float) -> float:
    due = ctx.now().timestamp() + seconds
    await ctx.sleep(seconds)
    return await ctx.call(clock.s()) - due
