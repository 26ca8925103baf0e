"""The tasks of the benchmarks: the same ones for plain Celery and for orchestrations."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.signals import task_received
from celery.worker.control import inspect_command

from celery_durable import Durable

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_RESULTS"])
app.conf.update(
    durable_backend_url=os.environ["BENCH_STORE"],
    durable_cache_size=int(os.environ.get("BENCH_CACHE", "500")),
    task_default_queue=os.environ["BENCH_QUEUE"],
    result_backend_transport_options={"global_keyprefix": f"{os.environ['BENCH_QUEUE']}:"},
    worker_send_task_events=False,
)
if app.conf.broker_url.startswith("redis"):
    app.conf.broker_transport_options = app.conf.result_backend_transport_options


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
def nap(seconds: float) -> None:
    time.sleep(seconds)


@app.task
def clock() -> float:
    return time.time()


received: Counter[str] = Counter()


@task_received.connect(weak=False)
def _count(request, **_: object) -> None:
    received[request.name.rpartition(".")[2]] += 1


@inspect_command()
def bench_received(state) -> dict[str, int]:
    """Return how many messages of each task this worker has received since the last time."""
    found = dict(received)
    received.clear()
    return found


if not os.environ.get("BENCH_PLAIN"):  # a plain worker, to compare memory with
    durable = Durable(app)

    @durable.orchestrator
    async def sequence(ctx, steps: int) -> int:
        for _ in range(steps):
            await ctx.call(noop.s())
        return steps

    @durable.orchestrator
    async def fan_out(ctx, width: int) -> int:
        return len(await asyncio.gather(*(ctx.call(one.s(number)) for number in range(width))))

    @durable.orchestrator
    async def naps(ctx, width: int, seconds: float) -> None:
        await asyncio.gather(*(ctx.call(nap.s(seconds)) for _ in range(width)))

    @durable.orchestrator
    async def effects(ctx, steps: int) -> int:
        for _ in range(steps):
            await ctx.run(time.time)
        return steps

    @durable.orchestrator
    async def late(ctx, due: float) -> float:
        """Return by how many seconds a timer was late."""
        ahead = datetime.fromtimestamp(due, UTC) - ctx.now()
        await ctx.sleep(max(ahead, timedelta(0)))  # a busy machine begins some too late
        return await ctx.run(time.time) - due

    @durable.orchestrator
    async def hears(ctx) -> float:
        """Return how many seconds an event took to be heard."""
        sent = await ctx.wait_event("now")
        return await ctx.run(time.time) - sent
