"""The time-out of a whole run: it goes as with a cancel, and ends as a failure."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.kinds import CancelActivity
from celery_durable.core.run_limit import RunLimit
from celery_durable.errors import OrchestrationTimeout

from .harness import SECOND, START, cancel, echo, endless_child, live, moment, never, raised, slow


def limited(function, seconds=10, **options):
    """Run an orchestrator that has so many seconds."""
    limit = RunLimit(seconds * SECOND, moment(seconds))
    return live(function, start_facts=limit.facts, **options)


def test_a_run_that_is_over_in_time_knows_nothing_of_it():
    async def orchestrator(ctx):
        return await ctx.call(slow.s(9, "done"))

    life = limited(orchestrator)
    assert life.value == "done"
    assert life.timers == [10]


def test_it_fails_when_its_time_is_over_and_takes_back_what_is_open():
    async def orchestrator(ctx):
        await ctx.all([ctx.call(never.s()), ctx.call(endless_child.s()), ctx.sleep(60)])

    life = limited(orchestrator)
    with pytest.raises(OrchestrationTimeout, match="was not over within its time-out of 10 sec"):
        life.value
    assert isinstance(life.error, TimeoutError)
    assert (life.error.instance_id, life.error.timeout) == ("order-42", 10)
    assert life.seconds == 10
    assert any(isinstance(each, CancelActivity) for each in life.commands)


def test_a_saga_is_undone_and_may_take_its_time():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(echo.s("reserve"), undo=slow.s(100, "release"))
            await ctx.call(never.s())

    life = limited(orchestrator)
    assert isinstance(life.error, OrchestrationTimeout)
    assert life.seconds == 110


def test_code_that_catches_it_and_returns_is_completed():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            await ctx.call(echo.s("clean up"))
            return "caught"

    assert limited(orchestrator).value == "caught"


def test_code_that_raises_something_else_fails_with_that():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            raise KeyError("mine") from None

    with pytest.raises(KeyError, match="mine"):
        limited(orchestrator).value


def test_a_cancel_that_came_first_stays_a_cancel():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        finally:
            await ctx.call(slow.s(30))

    assert limited(orchestrator, inputs=[cancel(at=5)]).is_canceled


def test_a_cancel_that_comes_later_does_not_change_how_it_ends():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        finally:
            await ctx.call(slow.s(30))

    life = limited(orchestrator, inputs=[cancel(at=15)])
    assert isinstance(life.error, OrchestrationTimeout)
    assert life.seconds == 40


def test_the_next_execution_has_the_same_deadline():
    async def orchestrator(ctx):
        await ctx.call(slow.s(4))
        ctx.continue_as_new()

    life = limited(orchestrator)
    assert life.final.limit == RunLimit(10 * SECOND, START + 10 * SECOND)


def test_code_that_waits_for_nothing_is_found_out_though_its_time_runs():
    async def orchestrator(ctx):
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Exception, match="can never continue"):
        limited(orchestrator)


def test_what_comes_at_the_same_moment_is_heard_first():
    async def orchestrator(ctx):
        return await ctx.wait_event("go")

    assert limited(orchestrator, inputs=[raised("go", "just in time", at=10)]).value == (
        "just in time"
    )


def test_history_says_which_timer_it_is():
    async def orchestrator(ctx):
        await ctx.sleep(3)

    timers = [e for e in limited(orchestrator).history if e.kind == EventKind.TIMER_CREATED]
    assert [bool((e.facts or {}).get("deadline")) for e in timers] == [True, False]


@pytest.mark.parametrize("facts", [None, {}, {"limit": None}, {"limit": [1]}, {"limit": "soon"}])
def test_a_start_without_limit_has_none(facts):
    assert RunLimit.read(facts) is None
