"""``ctx.saga()``: what was done is undone when the block is left by an exception, a timeout or a
cancel.
"""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import CompensationFailed, ForbiddenOperation

from .harness import (
    After,
    add,
    cancel,
    child,
    echo,
    fail,
    flaky,
    fresh,
    live,
    never,
    slow,
    slow_fail,
    started,
)

ONCE = RetryPolicy(max_attempts=1)


def calls(life):
    """The activities in the order of their scheduling, with their first arguments."""
    return [(command.task, *command.args[:1]) for command in life.scheduled]


def test_what_was_done_is_undone_last_first_and_the_exception_continues():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(echo.s("flight"), undo=slow.s(2, "no flight"))
            await saga.call(echo.s("hotel"), undo=slow.s(3, "no hotel"))
            await saga.call(echo.s("note"))
            await saga.call(fail.s("no car"), undo=slow.s(9, "no car"))

    life = live(orchestrator)
    assert calls(life)[4:] == [("slow", 3), ("slow", 2)]
    assert life.seconds == pytest.approx(9, abs=4)
    with pytest.raises(ValueError, match="no car"):
        life.value  # noqa: B018


def test_nothing_is_undone_where_nothing_went_wrong():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            return await saga.call(echo.s("flight"), undo=echo.s("no flight"))

    life = live(orchestrator)
    assert (life.value, calls(life)) == ("flight", [("echo", "flight")])


def test_a_cancel_undoes_what_was_done_and_what_may_have_been():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(echo.s("flight"), undo=echo.s("no flight"))
            await saga.call(never.s(), undo=echo.s("no hotel"))

    life = live(orchestrator, inputs=[cancel(at=5)])
    assert life.is_canceled
    assert calls(life)[2:] == [("echo", "no hotel"), ("echo", "no flight")]


def test_a_timeout_undoes_and_an_outer_one_waits_for_it():
    async def orchestrator(ctx):
        try:
            async with asyncio.timeout(20), ctx.saga() as saga:
                async with asyncio.timeout(10):
                    await saga.call(echo.s("flight"), undo=slow.s(30, "no flight"))
                    await saga.call(never.s(), undo=slow.s(5, "no hotel"))
        except TimeoutError:
            return "undone"

    life = live(orchestrator)
    assert life.value == "undone"
    assert life.seconds >= 45
    assert calls(life)[2:] == [("slow", 5), ("slow", 30)]


def test_an_activity_out_of_time_may_have_been_done_and_is_undone():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(child.s("x").set(task_id="c"), undo=echo.s("no child"), timeout=5)
            await ctx.call(fail.s())

    life = live(orchestrator, script={"child": [After(60, None)]})
    assert calls(life)[-1] == ("echo", "no child")


def test_an_undo_may_be_made_of_the_result():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(add.s(1, 2), undo=lambda total: echo.s(["back", total]))
            saga.call(never.s(), undo=lambda unknown: echo.s(["maybe", unknown]))
            raise KeyError("stop")

    life = live(orchestrator)
    assert calls(life)[2:] == [("echo", ["maybe", None]), ("echo", ["back", 3])]


def test_parallel_undos_start_at_once():
    async def orchestrator(ctx):
        async with ctx.saga(parallel=True) as saga:
            await saga.call(echo.s(1), undo=slow.s(5))
            await saga.call(echo.s(2), undo=slow.s(5))
            raise ValueError("stop")

    assert live(orchestrator).seconds < 9


def test_an_undo_is_tried_again_by_the_policy_of_the_saga():
    async def orchestrator(ctx):
        async with ctx.saga(retry=RetryPolicy(first_interval=10, max_attempts=3)) as saga:
            await saga.call(echo.s(1), undo=flaky.s("undo"))
            raise ValueError("stop")

    life = live(orchestrator, script={"flaky": [OSError("one"), OSError("two"), "undone"]})
    assert [task for task, *_ in calls(life)] == ["echo", "flaky", "flaky", "flaky"]
    with pytest.raises(ValueError, match="stop"):
        life.value  # noqa: B018


def test_a_failing_undo_does_not_stop_the_others_and_is_reported():
    async def orchestrator(ctx):
        async with ctx.saga(retry=ONCE) as saga:
            await saga.call(echo.s(1), undo=echo.s("undone"))
            await saga.call(echo.s(2), undo=slow_fail.s(1, "cannot undo"))
            await saga.call(echo.s(3), undo=lambda result: result.no_such_attribute)
            raise ValueError("stop")

    life = live(orchestrator)
    assert calls(life)[-1] == ("echo", "undone")
    error = life.error
    assert isinstance(error, CompensationFailed)
    assert (error.undos, len(error.errors)) == (["an undo", "slow_fail"], 2)
    assert "2 of 3 undos failed after ValueError: stop" in str(error)
    assert "slow_fail: ValueError: cannot undo" in str(error)


def test_an_undo_can_be_added_for_what_an_inner_saga_did():
    async def orchestrator(ctx):
        async with ctx.saga() as outer:
            async with ctx.saga() as inner:
                await inner.call(echo.s("inner"), undo=echo.s("no inner"))
            outer.add_undo(echo.s("no inner"))
            raise ValueError("stop")

    assert calls(live(orchestrator)) == [("echo", "inner"), ("echo", "no inner")]


def test_a_generator_compensates_by_hand():
    def orchestrator(ctx):
        saga = ctx.saga()
        try:
            yield saga.call(echo.s("flight"), undo=echo.s("no flight"))
            yield saga.call(fail.s("no hotel"), undo=echo.s("no hotel"))
        except ValueError as error:
            yield saga.compensate()
            return str(error)

    life = live(orchestrator)
    assert life.value == "no hotel"
    assert calls(life)[-1] == ("echo", "no flight")


def test_continue_as_new_is_refused_inside_a_saga():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(echo.s("flight"), undo=echo.s("no flight"))
            ctx.continue_as_new()

    life = live(orchestrator)
    assert isinstance(life.error, ForbiddenOperation)
    assert calls(life)[-1] == ("echo", "no flight")


def test_a_dropped_execution_undoes_nothing():
    async def orchestrator(ctx):
        async with ctx.saga() as saga:
            await saga.call(never.s(), undo=echo.s("undo"))

    execution = fresh(orchestrator)
    execution.take([started()])
    asked = execution.last_number
    execution.abandon()
    assert execution.last_number == asked
