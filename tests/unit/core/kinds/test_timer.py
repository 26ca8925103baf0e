"""Timers: what is asked, recorded, fired, withdrawn, and shown of it."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CancelTimer, CreateTimer
from celery_durable.core.rewind import rewind
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import cancel, fresh, live, moment

from .looks import kinds_of, lanes, open_in, take, unheard, words


async def sleeps(ctx):
    await ctx.sleep(60)
    return "awake"


def fired(command=1, at=60):
    return Event(EventKind.TIMER_FIRED, moment(at), command)


def test_a_timer_is_created_recorded_and_fires():
    life = live(sleeps)
    assert life.commands[0] == CreateTimer(1, moment(60))
    assert kinds_of(life) == ["TimerCreated", "TimerFired"]
    assert life.history[1].facts == {"due": moment(60)}
    assert (life.value, life.seconds) == ("awake", 60)
    assert lanes(life) == [("timer", "timer", "completed")]
    assert open_in(life) == []


def test_one_that_has_not_fired_is_open():
    taken = take(sleeps)
    assert taken.machine.has_outstanding
    taken.machine.abandon()


def test_one_that_is_not_awaited_any_more_is_withdrawn():
    async def orchestrator(ctx):
        try:
            async with asyncio.timeout(2):
                await ctx.sleep(60)
        except TimeoutError:
            return "late"

    life = live(orchestrator)
    assert life.value == "late"
    [withdrawal] = [each for each in life.commands if isinstance(each, CancelTimer)]
    assert kinds_of(life).count("TimerCanceled") == 1
    assert sorted(outcome for *_, outcome in lanes(life)) == ["canceled", "completed"]
    assert life.commands[withdrawal.command - 1].due in (moment(60), moment(2))


def test_a_cancel_of_the_execution_reaches_it():
    life = live(sleeps, inputs=[cancel()])
    assert life.is_canceled
    assert kinds_of(life) == ["TimerCreated", "CancelRequested", "TimerCanceled"]
    assert (open_in(life), words(life)) == ([], [])


def test_a_timer_fires_once_and_none_fires_that_was_not_created():
    assert unheard(sleeps, [fired(command=7)])

    async def goes_on(ctx):
        await ctx.sleep(60)
        await ctx.wait_event("never")

    taken = take(goes_on, fired())
    assert taken.take(fired(at=61)) == []
    taken.machine.abandon()


def test_a_rewind_creates_again_what_has_not_fired():
    async def orchestrator(ctx):
        long = ctx.sleep(600)
        await ctx.sleep(1)
        if is_broken:
            raise ValueError("broken")
        await long

    is_broken = True
    life = live(orchestrator, check=False)
    is_broken = False
    request = Event(EventKind.EXECUTION_REWOUND, moment(9))
    again, decision = rewind(lambda: fresh(orchestrator), life.history, request)
    assert decision.commands == [CreateTimer(1, moment(600))]
    again.abandon()


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        ctx.patched("instead")

    with pytest.raises(NonDeterminismError, match="TimerCreated"):
        live(sleeps).replayed(another)
