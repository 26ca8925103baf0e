"""How an execution begins, is canceled, resumed, asked again, and ends."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import (
    CancelExecution,
    CompleteExecution,
    ContinueAsNew,
    FailExecution,
)
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.rewind import rewind
from celery_durable.core.run_limit import RunLimit
from celery_durable.errors import NonDeterminismError, OrchestrationTimeout
from tests.unit.core.harness import (
    SECOND,
    cancel,
    fail,
    fresh,
    live,
    moment,
    never,
    raised,
    resume,
    started,
)

from .looks import kinds_of, take


async def returns(ctx, value):
    return value


async def waits(ctx):
    await ctx.wait_event("go")


def all_kinds(life):
    return [str(event.kind) for event in life.history]


def test_an_execution_starts_once_and_completes():
    life = live(returns, 7)
    assert isinstance(life.final, CompleteExecution)
    assert all_kinds(life) == ["ExecutionStarted", "ExecutionCompleted"]
    assert (life.value, life.history[-1].payload) == (7, "7")
    taken = take(waits)
    assert taken.take(started()) == []
    taken.machine.abandon()


def test_an_exception_is_its_failure():
    async def raises(ctx):
        raise ValueError("broken")

    life = live(raises)
    assert isinstance(life.final, FailExecution)
    assert all_kinds(life) == ["ExecutionStarted", "ExecutionFailed"]
    assert life.final.text.startswith("ValueError")


def test_a_cancel_is_heard_once_and_ends_it_with_its_reason():
    life = live(waits, inputs=[cancel()])
    assert life.final == CancelExecution(life.final.command, "a test")
    assert all_kinds(life) == ["ExecutionStarted", "CancelRequested", "ExecutionCanceled"]

    async def cleans_up(ctx):
        try:
            await ctx.wait_event("go")
        finally:
            await ctx.sleep(9)

    taken = take(cleans_up, cancel())
    assert taken.take(cancel(at=2)) == []
    taken.machine.abandon()


def test_a_run_that_takes_too_long_has_failed():
    facts = RunLimit(3 * SECOND, moment(3)).facts
    life = live(waits, start_facts=facts)
    assert isinstance(life.error, OrchestrationTimeout)
    assert life.seconds == 3


def test_it_continues_as_new_with_what_was_not_taken():
    async def loops(ctx, count):
        await ctx.sleep(2)
        ctx.continue_as_new(count + 1)

    life = live(loops, 1, inputs=[raised("kept", at=1)])
    assert isinstance(life.final, ContinueAsNew)
    assert all_kinds(life)[-1] == "ContinuedAsNew"
    assert life.next_input == [[2], {}]
    assert [event.name for event in life.final.events] == ["kept"]


def test_a_resume_tries_again_what_had_suspended_it():
    async def orchestrator(ctx):
        policy = RetryPolicy(first_interval=0, max_attempts=1)
        return await ctx.call(fail.s(), retry=policy, on_exhausted="suspend")

    life = live(orchestrator, inputs=[resume(at=5)], check=False)
    assert "ExecutionResumed" in all_kinds(life)
    assert kinds_of(life).count("ActivityScheduled") == 2


def test_a_rewind_asks_for_everything_again():
    async def orchestrator(ctx):
        call = ctx.call(never.s())
        await ctx.sleep(1)
        if is_broken:
            raise ValueError("broken")
        return await call

    is_broken = True
    life = live(orchestrator, check=False)
    is_broken = False
    request = Event(EventKind.EXECUTION_REWOUND, moment(9))
    again, decision = rewind(lambda: fresh(orchestrator), life.history, request)
    kinds = [str(event.kind) for event in decision.events]
    assert kinds[0] == "HistoryRewritten"
    assert "WorkRenewed" in kinds
    assert [command.kind for command in decision.commands] == ["ScheduleActivity"]
    again.abandon()


def test_work_is_not_renewed_before_the_start():
    machine = fresh(waits)
    assert machine.take([Event(EventKind.WORK_RENEWED, moment(1))]).events == []
    machine.abandon()


def test_a_cancellation_of_its_own_making_is_a_failure():
    async def orchestrator(ctx):
        raise asyncio.CancelledError

    life = live(orchestrator)
    assert isinstance(life.final, FailExecution)


def test_other_code_is_told_where_it_disagrees():
    async def waits_more(ctx, value):
        await ctx.sleep(1)

    with pytest.raises(NonDeterminismError, match="ExecutionCompleted"):
        live(returns, 7).replayed(waits_more)
