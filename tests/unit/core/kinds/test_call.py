"""The book of open calls, which activities and sub-orchestrations share."""

from __future__ import annotations

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CALLS_ASKED, Calls, ScheduleActivity
from celery_durable.core.retry import RetryPolicy
from tests.unit.core.harness import CODEC, child, echo, fail, fresh, live, moment, slow, started

from .looks import kinds_of, take


async def both(ctx):
    return await ctx.all([ctx.call(echo.s(1)), ctx.call(child.s(2))])


async def many(ctx):
    return await ctx.all([ctx.call(slow.s(n, n)) for n in (1, 2, 3)])


def test_calls_of_both_kinds_share_one_order_of_numbers():
    life = live(both)
    asked = [event.command for event in life.history if event.kind in CALLS_ASKED]
    assert (asked, life.value) == ([1, 2], [1, 2])


def test_a_batch_that_is_waited_for_as_a_whole_is_a_join_until_its_members_have_ended():
    kinds = [kind for kind in kinds_of(live(many)) if kind.startswith("Join")]
    assert kinds == ["JoinFormed", "JoinDissolved", "JoinDissolved", "JoinDissolved"]


def test_an_attempt_is_tried_again_under_its_number_after_a_timer():
    async def orchestrator(ctx):
        return await ctx.call(fail.s(), retry=RetryPolicy(first_interval=2, max_attempts=2))

    life = live(orchestrator)
    asked = [(each.command, each.attempt) for each in life.scheduled]
    assert asked == [(1, 1), (1, 2)]
    assert kinds_of(life) == [
        "ActivityScheduled",
        "ActivityFailed",
        "TimerCreated",
        "TimerFired",
        "ActivityScheduled",
        "ActivityFailed",
    ]


def test_one_that_has_used_up_its_attempts_may_suspend_the_instance():
    async def orchestrator(ctx):
        await ctx.call(fail.s("no card"), on_exhausted="suspend")

    life = live(orchestrator, check=False)
    assert life.is_waiting
    assert "fail has used up its attempts" in (life.suspend_reason or "")


def test_a_window_lets_the_next_member_in_when_one_has_failed():
    async def orchestrator(ctx):
        return await ctx.map(fail, range(3), concurrency=1, tolerate=3)

    machine = fresh(orchestrator)
    first = machine.take([started()])
    held = [each.is_held for each in first.commands if isinstance(each, ScheduleActivity)]
    assert held == [False, True, True]
    failure = CODEC.encode_failure(ValueError())
    failed = Event(EventKind.ACTIVITY_FAILED, moment(1), 1, 1, payload=failure)
    assert machine.take([failed]).released_slots == {1: 1}
    machine.abandon()


def test_a_call_is_open_until_its_outcome():
    taken = take(both)
    calls = taken.machine.of(Calls)
    assert sorted(calls.open) == [1, 2]
    payload = CODEC.encode(1)
    taken.take(Event(EventKind.ACTIVITY_COMPLETED, moment(1), 1, 1, payload=payload))
    assert sorted(calls.open) == [2]
    assert calls.is_waiting()
    taken.machine.abandon()
