"""Which waits for a batch of activities wake once at the end, and which on every completion."""

from __future__ import annotations

import asyncio

import pytest
from celery import chord, group

from celery_durable.core.history import EventKind

from .harness import add, child, echo, fresh, live, never, raised, slow, started, total


def joins_of(wait):
    """The joins after the first turn of an orchestrator that waits so."""

    async def orchestrator(ctx):
        return await wait(ctx)

    execution = fresh(orchestrator)
    decision = execution.take([started()])
    execution.abandon()
    return decision.joins


def calls(ctx, count=3):
    return [ctx.call(echo.s(n)) for n in range(count)]


async def through(future):
    return await future


async def in_timeout(awaitable, seconds=60):
    async with asyncio.timeout(seconds):
        return await awaitable


async def in_task_group(ctx):
    async with asyncio.TaskGroup() as tasks:
        for n in range(3):
            tasks.create_task(through(ctx.call(echo.s(n))))


async def as_they_complete(ctx):
    for earliest in asyncio.as_completed(calls(ctx)):
        await earliest


async def shared_by_two(ctx):
    shared = ctx.call(echo.s("shared"))
    await asyncio.gather(through(asyncio.gather(shared, *calls(ctx))), through(shared))


async def shared_by_a_callback(ctx):
    batch = calls(ctx)
    batch[1].add_done_callback(lambda done: None)
    await asyncio.gather(*batch)


async def two_batches_with_a_common_member(ctx):
    shared = ctx.call(echo.s("shared"))
    await asyncio.gather(
        through(ctx.all([shared, *calls(ctx)])), through(ctx.all([shared, *calls(ctx)]))
    )


@pytest.mark.parametrize(
    "wait",
    [
        lambda ctx: asyncio.gather(*calls(ctx)),
        lambda ctx: asyncio.gather(*calls(ctx), return_exceptions=True),
        lambda ctx: ctx.all(calls(ctx)),
        lambda ctx: ctx.all(calls(ctx), fail_fast=False),
        lambda ctx: ctx.map(echo, range(3)),
        lambda ctx: ctx.map(echo, range(3), tolerate=1),
        lambda ctx: ctx.map(echo, range(3), concurrency=2),
        lambda ctx: ctx.call(group(echo.s(n) for n in range(3))),
        lambda ctx: ctx.call(chord([echo.s(n) for n in range(3)], total.s())),
    ],
    ids=[
        "gather",
        "gather_exceptions",
        "all",
        "all_slow",
        "map",
        "map_tolerant",
        "map_window",
        "group",
        "chord",
    ],
)
def test_a_wait_for_all_of_a_batch_of_activities_is_a_join(wait):
    assert joins_of(wait) == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize(
    "batch", [lambda ctx: asyncio.gather(*calls(ctx)), lambda ctx: ctx.all(calls(ctx))]
)
def test_a_timeout_around_a_batch_still_joins(batch):
    joins = joins_of(lambda ctx: in_timeout(batch(ctx)))
    assert sorted(joins) in ([1, 2, 3], [2, 3, 4])
    assert len(set(joins.values())) == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda ctx: ctx.call(echo.s()),
        lambda ctx: asyncio.gather(ctx.call(echo.s())),
        lambda ctx: asyncio.gather(*(through(call) for call in calls(ctx))),
        in_task_group,
        lambda ctx: asyncio.wait(calls(ctx)),
        lambda ctx: asyncio.wait(calls(ctx), return_when=asyncio.FIRST_COMPLETED),
        as_they_complete,
        lambda ctx: ctx.any(calls(ctx)),
        lambda ctx: ctx.all([*calls(ctx), ctx.sleep(60)]),
        lambda ctx: ctx.all([*calls(ctx), ctx.wait_event("x")]),
        lambda ctx: ctx.all([ctx.call(child.s(1)), ctx.call(child.s(2))]),
        lambda ctx: ctx.all([*calls(ctx), ctx.call(child.s(1))]),
        lambda ctx: ctx.all([ctx.all(calls(ctx)), ctx.call(echo.s())]),
        lambda ctx: ctx.any([ctx.all(calls(ctx)), ctx.sleep(60)]),
        lambda ctx: asyncio.gather(asyncio.gather(*calls(ctx)), asyncio.gather(*calls(ctx))),
        shared_by_two,
        shared_by_a_callback,
        two_batches_with_a_common_member,
    ],
    ids=[
        "one_call",
        "gather_of_one",
        "gather_of_coroutines",
        "task_group",
        "wait",
        "wait_first",
        "as_completed",
        "any",
        "with_timer",
        "with_event",
        "children",
        "with_child",
        "nested_all",
        "all_in_any",
        "nested_gather",
        "two_waiters",
        "callback",
        "common_member",
    ],
)
def test_what_is_no_plain_wait_for_all_wakes_on_every_completion(wait):
    assert [member for member in joins_of(wait) if member == 1] == []


def test_two_batches_side_by_side_are_two_joins():
    async def wait(ctx):
        await asyncio.gather(through(ctx.all(calls(ctx))), through(asyncio.gather(*calls(ctx))))

    assert joins_of(wait) == {1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 6: 4}


def test_a_join_is_noted_in_history_and_dissolved_as_its_members_end():
    async def orchestrator(ctx):
        return await ctx.all([ctx.call(slow.s(n, n)) for n in (1, 2, 3)])

    life = live(orchestrator)
    formed, *dissolved = [event for event in life.history if "Join" in event.kind]
    assert (formed.kind, formed.command, formed.facts) == (
        EventKind.JOIN_FORMED,
        1,
        {"members": [1, 2, 3]},
    )
    assert [event.facts["members"] for event in dissolved] == [[1], [2], [3]]
    assert [decision.joins for decision in life.decisions] == [
        {1: 1, 2: 1, 3: 1},
        {2: 1, 3: 1},
        {3: 1},
        {},
    ] or (life.decisions[-1].joins == {})


def test_a_batch_of_completions_dissolves_a_join_in_one_turn():
    async def orchestrator(ctx):
        return await ctx.all([ctx.call(echo.s(n)) for n in range(50)])

    life = live(orchestrator, batch=50)
    assert life.value == list(range(50))
    assert len(life.rows) == 2
    assert life.decisions[0].joins_formed == {1}
    assert life.decisions[1].joins_ended == {1}


def test_a_member_that_is_awaited_elsewhere_too_leaves_the_join():
    async def orchestrator(ctx):
        batch = calls(ctx)

        async def other():
            await ctx.wait_event("look")
            await batch[1]

        watcher = asyncio.create_task(other())
        await asyncio.gather(*batch)
        await watcher

    execution = fresh(orchestrator)
    assert execution.take([started()]).joins == {1: 1, 2: 1, 3: 1}
    decision = execution.take([raised("look")])
    execution.abandon()
    assert decision.joins == {}
    assert decision.join_changes == {1: None, 2: None, 3: None}


def test_a_join_survives_a_restart():
    async def orchestrator(ctx):
        await asyncio.gather(ctx.call(never.s()), ctx.call(never.s()))

    life = live(orchestrator, inputs=[raised("x", at=5)])
    assert life.decisions[0].joins_formed == {1}
    assert life.decisions[1].joins_formed == set()
    assert life.decisions[1].join_changes == {}


def test_an_ended_execution_holds_no_join():
    async def orchestrator(ctx):
        asyncio.ensure_future(ctx.all(calls(ctx)))
        await ctx.call(add.s(1))

    life = live(orchestrator)
    assert life.decisions[-1].joins == {}
