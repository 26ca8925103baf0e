"""Activities: what is asked, recorded, answered, withdrawn, and shown of it."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CancelActivity, ScheduleActivity
from celery_durable.errors import ActivityTimeout, NonDeterminismError
from tests.unit.core.harness import CODEC, cancel, echo, fail, live, moment, never

from .looks import failed, kinds_of, lanes, open_in, take, unheard, words


async def calls(ctx):
    return await ctx.call(echo.s(5), label="the echo")


async def waits(ctx):
    return await ctx.call(never.s())


def completed(command=1, attempt=1, value="done", at=1, **facts):
    payload = CODEC.encode(value)
    return Event(
        EventKind.ACTIVITY_COMPLETED, moment(at), command, attempt, "", payload, facts or None
    )


def test_an_activity_is_scheduled_recorded_and_completed():
    life = live(calls)
    [asked] = life.scheduled
    assert isinstance(asked, ScheduleActivity)
    assert (asked.command, asked.attempt, asked.task, asked.args) == (1, 1, "echo", (5,))
    assert kinds_of(life) == ["ActivityScheduled", "ActivityCompleted"]
    assert life.history[1].name == "echo"
    assert life.value == 5
    assert lanes(life) == [("activity", "the echo", "completed")]
    assert open_in(life) == []


def test_a_failure_reaches_the_code_and_the_timeline():
    async def orchestrator(ctx):
        await ctx.call(fail.s("no card"))

    life = live(orchestrator)
    assert kinds_of(life) == ["ActivityScheduled", "ActivityFailed"]
    assert life.history[2].facts["rebuilt"] is True
    assert (type(life.error), str(life.error)) == (ValueError, "no card")
    assert lanes(life) == [("activity", "fail", "failed")]


def test_what_is_under_way_is_open_and_not_said_by_the_code():
    life = live(waits)
    assert life.is_waiting
    assert open_in(life) == ["ActivityScheduled"]
    assert lanes(life) == [("activity", "never", "live")]
    assert words(life) == []  # the rows of the store say it


def test_a_time_out_is_a_failure_that_the_store_sends():
    taken = take(waits, failed(EventKind.ACTIVITY_FAILED, 1, 1, ActivityTimeout("too late")))
    error, _ = CODEC.decode_failure(taken.machine.final.failure)
    assert isinstance(error, ActivityTimeout)


def test_one_that_is_given_up_is_withdrawn():
    async def orchestrator(ctx):
        task = asyncio.create_task(waits(ctx))
        await ctx.sleep(1)
        task.cancel()

    life = live(orchestrator)
    assert CancelActivity(2, 1, None) in life.commands
    assert "ActivityCanceled" in kinds_of(life)
    assert open_in(life) == []
    assert ("activity", "never", "canceled") in lanes(life)


def test_a_cancel_of_the_execution_reaches_it():
    life = live(waits, inputs=[cancel()])
    assert life.is_canceled
    assert kinds_of(life) == ["ActivityScheduled", "CancelRequested", "ActivityCanceled"]


def test_outcomes_that_are_late_doubled_or_of_no_call_leave_no_trace():
    assert unheard(waits, [completed(attempt=2), completed(command=7)])

    async def goes_on(ctx):
        return [await ctx.call(echo.s()), await ctx.sleep(9)]

    taken = take(goes_on, completed())
    assert taken.take(completed(value="again")) == []
    assert taken.take(failed(EventKind.ACTIVITY_FAILED, 1, 1, ValueError())) == []
    taken.machine.abandon()


def test_a_deferred_one_waits_on_and_one_that_is_injected_counts_at_any_attempt():
    taken = take(waits)
    assert taken.take(Event(EventKind.ACTIVITY_DEFERRED, moment(1), 1, 1)) == ["ActivityDeferred"]
    assert taken.take(completed(attempt=9, injected=True))[0] == "ActivityCompleted"
    assert taken.value == "done"


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.call(fail.s())

    with pytest.raises(NonDeterminismError, match="ActivityScheduled 'echo'.*'fail'"):
        live(calls).replayed(another)
