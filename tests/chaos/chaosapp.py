"""The application of the chaos tests, for workers and for clients.

One JSON text in ``CHAOS`` configures a worker's.

Every activity writes a line when its body begins: when, which message, whose, and in which process.
Every orchestration has a result that follows from its input alone, whatever happens to the
processes and servers meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from celery_durable import Durable, RetryPolicy, durable_context

TRANSPORT_ALIASES["reckless"] = "tests.chaos.reckless:Transport"
MODULUS = 1_000_003
# a pool child that is killed is a failed attempt: the policy decides, and this one does not give up
STUBBORN = RetryPolicy(first_interval=0.05, max_attempts=100, backoff=1.5, max_interval=1)


def true_time() -> float:
    """The machine's clock, also in a process whose own clock goes wrong."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def next_of(x: int, k: int) -> int:
    return (x * 31 + k) % MODULUS


def build(config: Mapping[str, Any]) -> Celery:
    """Make one application; several of them may live in one process."""
    app = Celery("chaos", broker=config["broker"])
    app.conf.update(
        task_default_queue=config["queue"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options=config.get("broker_options", {}),
        durable_backend_url=config["store"],
        durable_cache_size=int(os.environ.get("DURABLE_TEST_CACHE", "500")),
        **config.get("conf", {}),
    )
    durable = Durable(app)
    _declare(
        app, durable, Path(config["notes"]), Path(config["markers"]), float(config.get("pace", 1))
    )
    app.finalize()
    return app


def _declare(app: Celery, durable: Durable, notes: Path, markers: Path, pace: float) -> None:
    worker = os.environ.get("CHAOS_WORKER", "")

    def note(task: Any, what: str) -> None:
        context = durable_context()
        assert context is not None
        line = (
            json.dumps(
                [true_time(), task.request.id, context.instance_id, what, worker, os.getpid()]
            )
            + "\n"
        )
        file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def work(x: int, k: int = 0) -> None:
        time.sleep(pace * ((x * 7919 + k * 104_729) % 97) / 500)

    def activity(function: Any) -> Any:
        return app.task(bind=True, shared=False, name=f"chaos.{function.__name__}")(function)

    def orchestrator(function: Any) -> Any:
        return durable.orchestrator(function, shared=False, name=f"chaos.{function.__name__}")

    @activity
    def step(self, x, k):
        note(self, "step")
        work(x, k)
        return next_of(x, k)

    @activity
    def square(self, x):
        note(self, "square")
        work(x)
        return x * x

    @activity
    def flaky(self, x, failures):
        note(self, "flaky")
        work(x, failures)
        if durable_context().attempt <= failures:
            raise ValueError(f"attempt {durable_context().attempt} of {x}")
        return x + 1

    @activity
    def hold(self, key):
        """Run until the test sets the marker."""
        note(self, "hold")
        end = time.monotonic() + 120
        while not (markers / key).exists():
            if time.monotonic() > end:
                raise TimeoutError(f"nobody set the marker {key}")
            time.sleep(0.02)
        return key

    def call(ctx, task, *args):
        return ctx.call(task.s(*args), retry=STUBBORN)

    @orchestrator
    async def chained(ctx, length, x):
        for k in range(length):
            x = await call(ctx, step, x, k)
        return x

    @orchestrator
    async def spread(ctx, width, x):
        return sum(await asyncio.gather(*(call(ctx, square, x + n) for n in range(width))))

    @orchestrator
    async def timed(ctx, naps):
        """Timers that fire, none of them early by the history's clock, and one that is beaten by
        its time-out.
        """
        for nap in naps:
            before = ctx.now()
            await ctx.sleep(nap)
            assert ctx.now() - before >= timedelta(seconds=nap), (before, ctx.now(), nap)
            await call(ctx, square, round(nap * 100))
        try:
            await ctx.wait_event("never", timeout=0.2)
        except TimeoutError:
            return sum(naps)

    @orchestrator
    async def told(ctx, count):
        return sorted([await ctx.wait_event("item") for _ in range(count)])

    @orchestrator
    async def later(ctx, x):
        await ctx.wait_event("item")
        return await call(ctx, square, x)

    @orchestrator
    async def telling(ctx, receiver, items):
        for item in items:
            await call(ctx, square, item)
            ctx.signal_event(receiver, "item", item)
        return len(items)

    @orchestrator
    async def family(ctx, children, length, x):
        return await asyncio.gather(*(ctx.call(chained.s(length, x + n)) for n in range(children)))

    @orchestrator
    async def stubborn(ctx, width, failures):
        return await asyncio.gather(
            *(call(ctx, flaky, n, n % (failures + 1)) for n in range(width))
        )

    @orchestrator
    async def windowed(ctx, size, concurrency):
        """A map has no retry policy: what was lost with its process is mapped again."""
        results = dict.fromkeys(range(size))
        while missing := [n for n, result in results.items() if not isinstance(result, int)]:
            results.update(
                zip(
                    missing,
                    await ctx.map(square, missing, concurrency=concurrency, tolerate=size),
                    strict=True,
                )
            )
        return sum(results.values())

    @orchestrator
    async def renewed(ctx, left, x):
        x = await call(ctx, step, x, left)
        if left:
            ctx.continue_as_new(left - 1, x)
        return x

    @orchestrator
    async def held(ctx, keys):
        return await asyncio.gather(*(ctx.call(hold.s(key)) for key in keys))

    @orchestrator
    async def held_in_turn(ctx, key):
        """A turn that lasts until the test sets the marker, the first time it is tried."""

        def block():
            try:
                os.close(os.open(markers / f"{key}-began", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return key
            end = time.monotonic() + 120
            while not (markers / key).exists() and time.monotonic() < end:
                time.sleep(0.02)
            return key

        await ctx.run(block)
        return await call(ctx, step, 1, 2)


app = build(json.loads(os.environ["CHAOS"])) if "CHAOS" in os.environ else None
