"""A duration that no calendar holds is refused where it is given.

One that it holds is a timer that people can be told of.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from datetime import datetime, timedelta

import pytest

from celery_durable.core.context import OrchestrationContext
from celery_durable.core.retry import LONGEST, RetryPolicy, in_microseconds
from celery_durable.core.times import EPOCH

from .harness import child, echo, fresh, live, never, started

DOORS = {
    "sleep": lambda ctx, far: ctx.sleep(far),
    "wait_event": lambda ctx, far: ctx.wait_event("never", timeout=far),
    "call: timeout": lambda ctx, far: ctx.call(never.s(), timeout=far),
    "call: start_timeout": lambda ctx, far: ctx.call(never.s(), start_timeout=far),
    "call: heartbeat_timeout": lambda ctx, far: ctx.call(never.s(), heartbeat_timeout=far),
    "call of a child: timeout": lambda ctx, far: ctx.call(child.s(), timeout=far),
    "countdown": lambda ctx, far: ctx.call(echo.s().set(countdown=far)),
    "expires": lambda ctx, far: ctx.call(echo.s().set(expires=far)),
    "retry: first_interval": lambda ctx, far: ctx.call(
        never.s(), retry=RetryPolicy(first_interval=far)
    ),
    "retry: max_interval": lambda ctx, far: ctx.call(
        never.s(), retry=RetryPolicy(max_interval=far)
    ),
    "retry: total_timeout": lambda ctx, far: ctx.call(
        never.s(), retry=RetryPolicy(total_timeout=far)
    ),
    "signal: delay": lambda ctx, far: ctx.entity("Counter", "a").signal(delay=far).add(1),
    "lock: lease": lambda ctx, far: ctx.lock(ctx.entity("Counter", "a"), lease=far),
}
LOOPS = {
    "asyncio.sleep": lambda ctx, far: asyncio.sleep(far),
    "asyncio.timeout": lambda ctx, far: asyncio.timeout(far).__aenter__(),
    "asyncio.wait_for": lambda ctx, far: asyncio.wait_for(ctx.call(never.s()), far),
    "asyncio.wait": lambda ctx, far: asyncio.wait([ctx.call(never.s())], timeout=far),
    "call_later": lambda ctx, far: asyncio.get_running_loop().call_later(far, print),
}
FAR = [10**12, 10**15, 10**18, 10**30, 1e15, 1e300, LONGEST / 1_000_000 + 1]


async def _far(ctx, door, far):
    try:
        awaitable = {**DOORS, **LOOPS}[door](ctx, far)
        if inspect.isawaitable(awaitable):
            await awaitable
    except ValueError as error:
        return str(error)
    return "taken"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("far", FAR, ids=str)
@pytest.mark.parametrize("door", [*DOORS, *LOOPS])
def test_a_duration_beyond_the_calendar_is_refused_at_the_call(door, far):
    async def orchestrator(ctx):
        return await _far(ctx, door, far)

    assert "at most 1,000,000 days" in live(orchestrator).value


@pytest.mark.parametrize("far", [timedelta.max, math.inf, -math.inf, math.nan, -1], ids=str)
@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("countdown", "expires")])
def test_what_is_no_duration_is_refused_at_the_call(door, far):
    async def orchestrator(ctx):
        return await _far(ctx, door, far)

    assert live(orchestrator).value != "taken"


@pytest.mark.parametrize("far", [LONGEST / 1_000_000, 10**10, timedelta(days=1_000_000), 0.5])
@pytest.mark.parametrize("door", [door for door in (*DOORS, *LOOPS) if "retry" not in door])
def test_a_duration_within_it_is_taken_and_is_a_moment_of_the_calendar(door, far):
    if isinstance(far, timedelta) and (door in LOOPS or door in ("countdown", "expires")):
        far = far.total_seconds()

    async def orchestrator(ctx):
        await _far(ctx, door, far)
        await ctx.call(never.s())

    execution = fresh(orchestrator)
    decision = execution.take([started()])
    for command in decision.commands:
        if (due := getattr(command, "due", None)) is not None:
            assert EPOCH + timedelta(microseconds=due) < datetime.max.replace(tzinfo=EPOCH.tzinfo)
    execution.abandon()


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_an_interval_that_grows_and_grows_stays_within_the_calendar(jitter):
    policy = RetryPolicy(first_interval=10**9, max_attempts=10**6, backoff=10.0, jitter=jitter)
    for attempt in (1, 5, 50, 1_000, 100_000):
        assert policy.delay(attempt, ValueError(), 0, lambda: 0.999) <= 2 * LONGEST


def test_what_takes_a_duration_takes_the_longest_one():
    assert in_microseconds(timedelta(days=1_000_000)) == LONGEST
    assert EPOCH + timedelta(microseconds=2 * LONGEST)
    assert "1,000,000 days" in (OrchestrationContext.sleep.__doc__ or "")
