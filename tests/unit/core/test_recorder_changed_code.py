"""Code that no longer fits its history is always told so, with both sides named."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import NonDeterminismError

from .harness import add, child, echo, fail, flaky, live, raised, slow


def draw():
    return 4


async def recorded(ctx):
    first = await ctx.call(echo.s(1))
    drawn = await ctx.run(draw)
    await ctx.sleep(10)
    ctx.signal_event("other", "paid")
    return [first, drawn, await ctx.call(add.s(1, 2))]


async def other_task(ctx):
    await ctx.call(slow.s(1))


async def other_kind(ctx):
    await ctx.sleep(1)


async def child_instead(ctx):
    await ctx.call(child.s(1))


async def reordered(ctx):
    await ctx.run(draw)
    await ctx.call(echo.s(1))


async def added_before(ctx):
    ctx.call(add.s(0))
    await recorded(ctx)


async def added_after_in_the_same_turn(ctx):
    call = ctx.call(echo.s(1))
    ctx.call(slow.s(1))
    await call


async def removed_first(ctx):
    await ctx.run(draw)
    await ctx.sleep(10)
    await ctx.call(add.s(1, 2))


async def run_missing(ctx):
    await ctx.call(echo.s(1))
    await ctx.sleep(10)


async def run_renamed(ctx):
    await ctx.call(echo.s(1))
    await ctx.run(len, [])


async def run_added(ctx):
    await ctx.run(draw)
    await ctx.run(draw)


async def timer_missing(ctx):
    await ctx.call(echo.s(1))
    await ctx.run(draw)
    ctx.signal_event("other", "paid")


async def other_signal(ctx):
    await ctx.call(echo.s(1))
    await ctx.run(draw)
    await ctx.sleep(10)
    ctx.signal_event("other", "refunded")


async def returns_early(ctx):
    await ctx.call(echo.s(1))
    return "early"


async def returns_at_once(ctx):
    return "at once"


async def waits_instead(ctx):
    await ctx.wait_event("never")


async def never_ends(ctx):
    await recorded(ctx)
    await ctx.wait_event("never")


async def fails_at_the_end(ctx):
    await recorded(ctx)
    raise ValueError


async def one_more_at_the_end(ctx):
    await recorded(ctx)
    await ctx.call(echo.s("more"))


@pytest.mark.parametrize(
    ("changed", "expected", "actual"),
    [
        (other_task, "ActivityScheduled 'echo'", "ScheduleActivity 'slow'"),
        (other_kind, "ActivityScheduled 'echo'", "CreateTimer"),
        (child_instead, "ActivityScheduled 'echo'", "StartChild 'child'"),
        (reordered, "ActivityScheduled 'echo'", "RecordRun 'draw'"),
        (added_before, "ActivityScheduled 'echo'", "ScheduleActivity 'add'"),
        (added_after_in_the_same_turn, "nothing more at this point", "ScheduleActivity 'slow'"),
        (removed_first, "ActivityScheduled 'echo'", "RecordRun 'draw'"),
        (run_missing, "RunRecorded 'draw'", "CreateTimer"),
        (run_renamed, "RunRecorded 'draw'", "RecordRun 'len'"),
        (run_added, "ActivityScheduled 'echo'", "RecordRun 'draw'"),
        (timer_missing, "TimerCreated", "SendEvent 'paid'"),
        (other_signal, "EventSent 'paid'", "SendEvent 'refunded'"),
        (returns_early, "RunRecorded 'draw'", "CompleteExecution"),
        (returns_at_once, "ActivityScheduled 'echo'", "CompleteExecution"),
        (waits_instead, "ActivityScheduled 'echo'", "nothing"),
        (never_ends, "ExecutionCompleted", "nothing"),
        (fails_at_the_end, "ExecutionCompleted", "FailExecution"),
        (one_more_at_the_end, "ExecutionCompleted", "ScheduleActivity 'echo'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_changed_code_is_told_what_history_has_and_what_it_asks_for(changed, expected, actual):
    life = live(recorded)
    with pytest.raises(NonDeterminismError) as caught:
        life.replayed(changed)
    error = caught.value
    assert f"history has {expected}, the code now asks for {actual}" in str(error)
    assert "'order-42' (shop.fulfil_order v3)" in str(error)
    assert (error.expected, error.actual, error.instance_id) == (expected, actual, "order-42")
    event = life.history[error.event - 1]
    assert expected in (event.describe(), "nothing more at this point")
    assert pickle.loads(pickle.dumps(error)).facts == error.facts


def test_the_same_code_with_other_arguments_and_pauses_still_fits():
    async def same_shape(ctx):
        first = await ctx.call(echo.s("other argument").set(queue="other"))
        drawn = await ctx.run(draw)
        await ctx.sleep(99)
        ctx.signal_event("someone else", "paid")
        return [first, drawn, await ctx.call(add.s(5), timeout=3)]

    assert live(recorded).replayed(same_shape).final is not None


def test_a_call_at_the_end_of_a_row_that_history_does_not_have_is_trailing():
    async def one(ctx):
        await ctx.call(echo.s(1))
        await ctx.wait_event("never")

    async def two(ctx):
        await ctx.call(echo.s(1))
        ctx.call(add.s(1))
        await ctx.wait_event("never")

    with pytest.raises(NonDeterminismError) as caught:
        live(one).replayed(two)
    assert caught.value.expected == "nothing more at this point"
    assert caught.value.actual == "ScheduleActivity 'add'"


def test_a_changed_retry_policy_that_matters_is_noticed():
    def retrying(policy):
        async def orchestrator(ctx):
            return await ctx.call(flaky.s(), retry=policy)

        return orchestrator

    life = live(retrying(RetryPolicy(max_attempts=3)), script={"flaky": [ValueError(), "ok"]})
    life.replayed(retrying(RetryPolicy(max_attempts=9)))
    for policy in (None, RetryPolicy(first_interval=0), RetryPolicy(give_up_on=ValueError)):
        with pytest.raises(NonDeterminismError, match="history has TimerCreated"):
            life.replayed(retrying(policy))


def test_a_call_that_is_no_longer_taken_back_is_noticed():
    async def takes_back(ctx):
        return await ctx.any([ctx.call(slow.s(9)), ctx.wait_event("go")])

    async def leaves(ctx):
        return await ctx.any([ctx.call(slow.s(9)), ctx.wait_event("go")], cancel_losers=False)

    with pytest.raises(NonDeterminismError, match="history has ActivityCanceled"):
        live(takes_back, inputs=[raised("go")]).replayed(leaves)
    with pytest.raises(NonDeterminismError, match="the code now asks for CancelActivity"):
        live(leaves, inputs=[raised("go")]).replayed(takes_back)


def test_fewer_members_of_a_gather_are_noticed():
    def gathering(count):
        async def orchestrator(ctx):
            await asyncio.gather(*(ctx.call(echo.s(n)) for n in range(count)))

        return orchestrator

    life = live(gathering(3))
    for count in (0, 2, 4):
        with pytest.raises(NonDeterminismError):
            life.replayed(gathering(count))


def test_an_unversioned_orchestrator_is_named_without_a_version():
    life = live(recorded, facts=ExecutionInfo("i", "e", "shop.pay"))
    with pytest.raises(NonDeterminismError, match=r"'i' \(shop\.pay\), event 2"):
        life.replayed(other_task)


def test_code_that_depends_on_the_outside_world_is_caught():
    flips = iter([True, False])

    async def orchestrator(ctx):
        return await ctx.call(echo.s(1) if next(flips) else add.s(1))

    life = live(orchestrator, check=False)
    with pytest.raises(
        NonDeterminismError, match="history has ActivityScheduled 'echo'.*ScheduleActivity 'add'"
    ):
        life.replayed()


def test_an_exception_class_that_is_gone_is_named_and_nothing_continues_with_another_type():
    class Rebuilt(Exception):
        pass

    async def orchestrator(ctx):
        try:
            await ctx.call(fail.s("typed"))
        except ValueError:
            return "as a ValueError"

    life = live(orchestrator)
    gone = [
        row.replace('\\"type\\": \\"ValueError\\"', '\\"type\\": \\"GoneError\\"')
        for row in life.rows
    ]
    assert gone != life.rows
    life.rows = gone
    with pytest.raises(
        NonDeterminismError,
        match=r"cannot import the exception that history holds: builtins\.GoneError",
    ):
        life.replayed()
    assert Rebuilt.__name__ == "Rebuilt"
