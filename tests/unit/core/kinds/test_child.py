"""Sub-orchestrations: what is asked, recorded, answered, withdrawn, and shown of it."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CancelChild, ReattachChild, StartChild
from celery_durable.core.rewind import rewind
from celery_durable.errors import ActivityTimeout, NonDeterminismError
from tests.unit.core.harness import (
    CODEC,
    cancel,
    child,
    endless_child,
    failing_child,
    fresh,
    live,
    moment,
)

from .looks import failed, kinds_of, lanes, open_in, take, unheard, words


async def calls(ctx):
    return await ctx.call(child.s(5).set(task_id="child-1"))


async def waits(ctx):
    return await ctx.call(endless_child.s())


def completed(command=1, attempt=1, value="done"):
    return Event(
        EventKind.CHILD_COMPLETED, moment(1), command, attempt, payload=CODEC.encode(value)
    )


def test_a_child_is_started_recorded_and_completed():
    life = live(calls)
    [asked] = life.children
    assert isinstance(asked, StartChild)
    assert (asked.name, asked.child_id, CODEC.decode(asked.input)) == (
        "child",
        "child-1",
        [[5], {}],
    )
    assert kinds_of(life) == ["ChildStarted", "ChildCompleted"]
    assert life.history[1].facts["id"] == "child-1"
    assert life.value == 5
    assert lanes(life) == [("child", "child", "completed")]
    assert open_in(life) == []


@pytest.mark.parametrize(
    ("given", "kept"), [(42, "42"), (UUID(int=7), "00000000-0000-0000-0000-000000000007")]
)
def test_keys_of_databases_are_ids_of_children(given, kept):
    async def orchestrator(ctx):
        await ctx.call(child.s(5).set(task_id=given))

    life = live(orchestrator)
    assert [asked.child_id for asked in life.children] == [kept]


def test_a_failure_reaches_the_code_and_the_timeline():
    async def orchestrator(ctx):
        await ctx.call(failing_child.s())

    life = live(orchestrator)
    assert kinds_of(life) == ["ChildStarted", "ChildFailed"]
    assert isinstance(life.error, KeyError)
    assert lanes(life) == [("child", "child.fail", "failed")]


def test_one_that_runs_is_open():
    life = live(waits)
    assert (open_in(life), lanes(life)) == (["ChildStarted"], [("child", "child.never", "live")])
    assert words(life) == []


def test_a_time_out_is_a_timer_that_cancels_it():
    async def orchestrator(ctx):
        await ctx.call(endless_child.s(), timeout=3)

    life = live(orchestrator)
    assert isinstance(life.error, ActivityTimeout)
    assert kinds_of(life) == ["TimerCreated", "ChildStarted", "TimerFired", "ChildCanceled"]
    assert life.timers == [3]
    assert open_in(life) == []


def test_one_that_is_given_up_is_asked_to_cancel():
    async def orchestrator(ctx):
        task = asyncio.create_task(waits(ctx))
        await ctx.sleep(1)
        task.cancel()

    life = live(orchestrator)
    [withdrawal] = [each for each in life.commands if isinstance(each, CancelChild)]
    assert withdrawal.child_id == life.children[0].child_id
    assert ("child", "child.never", "canceled") in lanes(life)


def test_a_cancel_of_the_execution_reaches_it():
    life = live(waits, inputs=[cancel()])
    assert life.is_canceled
    assert kinds_of(life) == ["ChildStarted", "CancelRequested", "ChildCanceled"]


def test_outcomes_that_are_late_doubled_or_of_no_call_leave_no_trace():
    assert unheard(waits, [completed(attempt=2), completed(command=7)])

    async def goes_on(ctx):
        return [await calls(ctx), await ctx.sleep(9)]

    taken = take(goes_on, completed())
    assert taken.take(completed(value="again")) == []
    assert taken.take(failed(EventKind.CHILD_FAILED, 1, 1, KeyError())) == []
    taken.machine.abandon()


def test_a_rewind_asks_one_that_runs_for_its_outcome_again():
    async def orchestrator(ctx):
        task = asyncio.create_task(waits(ctx))
        await ctx.sleep(1)
        if is_broken:
            raise ValueError("broken")
        return await task

    is_broken = True
    life = live(orchestrator, check=False)
    is_broken = False
    request = Event(EventKind.EXECUTION_REWOUND, moment(9))
    again, decision = rewind(lambda: fresh(orchestrator), life.history, request)
    [asked] = [each for each in decision.commands if isinstance(each, ReattachChild)]
    assert (asked.command, asked.child_id) == (2, life.children[0].child_id)
    assert "ChildRevived" in [str(event.kind) for event in decision.events]
    again.abandon()


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.call(endless_child.s())

    with pytest.raises(NonDeterminismError, match="ChildStarted 'child'.*'child.never'"):
        live(calls).replayed(another)
