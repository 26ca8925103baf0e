"""``cancel()``: ``CancelledError`` once, at the current await."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.retry import RetryPolicy

from .harness import (
    START,
    After,
    cancel,
    echo,
    endless_child,
    fail,
    flaky,
    fresh,
    live,
    never,
    raised,
    slow,
    started,
)


def test_an_uncaught_cancel_ends_as_canceled_and_takes_everything_back():
    async def orchestrator(ctx):
        await asyncio.gather(ctx.call(never.s()), ctx.call(endless_child.s()), ctx.sleep(60))

    life = live(orchestrator, inputs=[cancel()])
    assert life.is_canceled
    assert life.seconds == 1
    assert sorted(life.asked[3:]) == ["CancelActivity", "CancelChild", "CancelTimer"]


def test_compensation_in_finally_runs_with_activities():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        finally:
            await ctx.call(echo.s("undo one"))
            await ctx.sleep(5)
            await ctx.call(echo.s("undo two"))

    life = live(orchestrator, inputs=[cancel()])
    assert life.is_canceled
    assert life.seconds == 8
    assert [command.args for command in life.scheduled][1:] == [("undo one",), ("undo two",)]


def test_a_caught_cancel_lets_the_code_continue_to_completion():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            pass
        return await ctx.call(slow.s(5, "went on"))

    assert live(orchestrator, inputs=[cancel()]).value == "went on"


def test_a_caught_cancel_that_raises_something_else_fails():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            raise ValueError("not now") from None

    with pytest.raises(ValueError, match="not now"):
        live(orchestrator, inputs=[cancel()]).value


def test_cancel_is_delivered_once():
    async def orchestrator(ctx):
        seen = 0
        for _ in range(3):
            try:
                await ctx.sleep(10)
            except asyncio.CancelledError:
                seen += 1
        return seen

    life = live(orchestrator, inputs=[cancel(at=1), cancel(at=2), cancel(at=3)])
    assert life.value == 1
    assert sum(event.kind is EventKind.CANCEL_REQUESTED for event in life.history) == 1


def test_timeouts_still_work_in_the_compensation():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(5):
                    await ctx.call(never.s())
            except TimeoutError:
                return "compensation ran out of time"

    assert live(orchestrator, inputs=[cancel()]).value == "compensation ran out of time"


def test_cancel_reaches_an_await_on_an_event_a_timer_and_a_composite():
    def waiting_for(wait):
        async def orchestrator(ctx):
            try:
                await wait(ctx)
            except asyncio.CancelledError:
                return "canceled"

        return orchestrator

    for wait in (
        lambda ctx: ctx.wait_event("never"),
        lambda ctx: ctx.sleep(60),
        lambda ctx: ctx.all([ctx.call(never.s()), ctx.sleep(60)]),
        lambda ctx: ctx.any([ctx.call(never.s()), ctx.wait_event("never")]),
        lambda ctx: ctx.map(never, range(3), concurrency=1),
        lambda ctx: asyncio.wait([ctx.call(never.s())]),
    ):
        assert live(waiting_for(wait), inputs=[cancel()]).value == "canceled"


def test_cancel_of_a_composite_is_not_lost_when_a_member_swallows_it():
    async def stubborn(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            return "stubborn"

    async def orchestrator(ctx):
        await ctx.all([stubborn(ctx)])

    assert live(orchestrator, inputs=[cancel()]).is_canceled


def test_cancel_while_a_retry_waits():
    async def orchestrator(ctx):
        await ctx.call(flaky.s(), retry=RetryPolicy(first_interval=60))

    life = live(orchestrator, inputs=[cancel(at=10)], script={"flaky": [ValueError()]})
    assert life.is_canceled
    assert life.asked == ["ScheduleActivity 'flaky'", "CreateTimer", "CancelTimer"]


def test_children_and_activities_in_the_background_are_taken_back_at_once():
    async def orchestrator(ctx):
        ctx.call(never.s())
        ctx.call(endless_child.s())
        try:
            await ctx.wait_event("never")
        finally:
            await ctx.call(slow.s(50, "compensate"))

    life = live(orchestrator, inputs=[cancel(at=2)])
    taken_back = [
        event.at for event in life.history if event.kind in ("ActivityCanceled", "ChildCanceled")
    ]
    assert taken_back == [START + 2_000_000] * 2


def test_the_outcome_of_a_canceled_call_is_dropped():
    async def orchestrator(ctx):
        try:
            await ctx.call(slow.s(5, "dropped"))
        except asyncio.CancelledError:
            await ctx.sleep(20)

    life = live(orchestrator, inputs=[cancel()])
    assert EventKind.ACTIVITY_COMPLETED not in {event.kind for event in life.history}
    execution = fresh(orchestrator)
    execution.take([started()])
    execution.take([cancel()])
    late = Event(EventKind.ACTIVITY_COMPLETED, START + 9, 1, 1, payload="1")
    assert execution.take([late]).events == []
    execution.abandon()


def test_cancel_before_the_start_never_runs_the_code():
    async def orchestrator(ctx):
        raise AssertionError("must not run")

    execution = fresh(orchestrator)
    decision = execution.take([cancel(), started()])
    assert [event.kind for event in decision.events] == ["CancelRequested", "ExecutionCanceled"]
    execution.abandon()


def test_an_event_after_cancel_reaches_the_compensation():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        except asyncio.CancelledError:
            return await ctx.wait_event("reason")

    assert live(orchestrator, inputs=[cancel(at=1), raised("reason", "late", at=9)]).value == "late"


def test_a_failure_in_the_compensation_is_what_the_orchestration_fails_with():
    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        finally:
            await ctx.call(fail.s("cannot undo"))

    with pytest.raises(ValueError, match="cannot undo"):
        live(orchestrator, inputs=[cancel()]).value


def test_cancel_and_outcome_in_one_batch_are_applied_in_order():
    async def orchestrator(ctx):
        return await ctx.call(flaky.s())

    assert (
        live(
            orchestrator, inputs=[cancel(at=2)], script={"flaky": [After(1, "first")]}, batch=9
        ).value
        == "first"
    )
    assert live(
        orchestrator, inputs=[cancel(at=2)], script={"flaky": [After(3, "late")]}, batch=9
    ).is_canceled
