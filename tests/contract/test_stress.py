"""The protocol under load: everything ends, nothing is left, nobody sees a deadlock."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, deque
from typing import Any

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import InboxKind
from celery_durable.errors import InvalidState
from celery_durable.store import Store

from .builders import at_once, begin_join, event, next_turn, record, rows, succeeded
from .world import World, sig

TAKES_BOTH_WAYS = True

# -- joins, by the store alone ---------------------------------------------------------------------


class Fan:
    """Takes turns of one instance as a worker does: looks, compares, commits, and looks again."""

    def __init__(self, store: Store, id_: str, execution: str) -> None:
        self.store, self.id, self.execution = store, id_, execution

    def take_turns(self) -> None:
        while True:
            snapshot = self.store.turns.load(self.id, None)
            if snapshot is None or not any(row.wake_at is not None for row in snapshot.inbox):
                return
            is_complete = any(
                row.kind == InboxKind.JOIN and row.wake_at is not None for row in snapshot.inbox
            )
            taken = [
                row.id
                for row in snapshot.inbox
                if row.kind != InboxKind.JOIN or row.wake_at is not None
            ]
            turn = next_turn(self.store, self.id, taken=taken)
            turn.sequence = snapshot.instance.sequence
            turn.custom_status = '"complete"' if is_complete else None
            if self.store.turns.commit(turn) is None:
                continue


def test_fan_ins_under_load_wake_once_and_leave_nothing(store: Store) -> None:
    is_small = store.database.family == "sqlite"
    joins, members, events, threads = (12, 20, 4, 6) if is_small else (60, 40, 6, 10)
    fans = [Fan(store, f"i{n}", begin_join(store, members, f"i{n}")) for n in range(joins)]
    dice = random.Random(1)
    outcomes = [(fan, command) for fan in fans for command in range(1, members + 1)]
    work: list[tuple[Fan, int]] = outcomes + dice.sample(outcomes, len(outcomes) // 8)
    work += [(fan, 0) for fan in fans for _ in range(events)]
    dice.shuffle(work)
    todo, wakes, recorded = deque(work), Counter(), Counter()

    def run() -> None:
        while True:
            try:
                fan, command = todo.popleft()
            except IndexError:
                return
            if not command:
                assert store.inbox.put([event(fan.id)]) == 1
                fan.take_turns()
            elif record(store, succeeded(fan.execution, command)) is not None:
                recorded[fan.id, command] += 1
                if store.outcomes.finish_join(fan.execution, fan.id, 1):
                    wakes[fan.id] += 1
                    fan.take_turns()

    at_once([run] * threads)

    assert set(recorded.values()) == {1}
    assert len(recorded) == joins * members
    assert wakes == Counter({fan.id: 1 for fan in fans})
    assert [row for row in rows(store, "inbox") if row["kind"] != "EventRaised"] == []
    assert (rows(store, "inbox"), rows(store, "outbox")) == ([], [])
    assert {store.reads.fetch(fan.id).custom_status for fan in fans} == {'"complete"'}


# -- whole orchestrations, by several workers ------------------------------------------------------


def several(runner: World, count: int = 2) -> list[World]:
    """Return workers over one store, each with its own cache, sharing what is sent."""
    worlds = [runner]
    for _ in range(count - 1):
        world = World(runner.store, registry=runner.registry)
        world.tasks, world.runs = runner.tasks, runner.runs
        world.publisher.activities, world.publisher.turns = (
            runner.publisher.activities,
            runner.publisher.turns,
        )
        worlds.append(world)
    return worlds


def assert_whole(runner: World, *ids: str) -> None:
    """Every instance has ended, and its history is one unbroken line in which nothing happens
    twice.
    """
    for id_ in ids:
        assert runner.status(id_) in (RuntimeStatus.COMPLETED, RuntimeStatus.TERMINATED), (
            runner.client.fetch(id_)
        )
        sequences = [
            row["sequence"] for row in rows(runner.store, "history") if row["instance"] == id_
        ]
        assert sequences == list(range(1, len(sequences) + 1))
        assert runner.client.fetch(id_).sequence == len(sequences)
        resolved = Counter(
            (e.command, e.attempt)
            for e in runner.events(id_)
            if e.kind in (EventKind.ACTIVITY_COMPLETED, EventKind.TIMER_FIRED)
        )
        assert not resolved or max(resolved.values()) == 1


def drain(worlds: list[World], *ids: str) -> None:
    """Let every worker deal with messages at the same time, until the instances are over."""
    at_once([lambda world=world: world.pump_to_end(*ids) for world in worlds])


def test_two_workers_race_the_same_turn_and_one_commits(runner: World) -> None:
    @runner.orchestrator
    async def counting(ctx: Any) -> list[Any]:
        return [await ctx.wait_event("e") for _ in range(12)]

    worlds = several(runner)
    runner.start("counting")
    runner.pump()
    for number in range(12):
        before = runner.client.fetch("i").sequence
        runner.store.inbox.put([event("i", payload=f"{number}")])
        at_once([lambda world=world: world.runner.run("i") for world in worlds])
        assert runner.client.fetch("i").sequence == before + 1
    assert runner.output() == list(range(12))
    assert_whole(runner, "i")


def test_an_outcome_with_its_turn_races_turns_by_message(runner: World) -> None:
    @runner.orchestrator
    async def mixed(ctx: Any, steps: int) -> list[Any]:
        results = []
        for step in range(steps):
            call = ctx.call(sig("double", step))
            told = await ctx.wait_event("e")
            results.append([await call, told])
        return results

    runner.task(lambda_named("double", lambda number: 2 * number))
    worlds, ids = several(runner, 3), [f"i{n}" for n in range(4)]
    steps = 6
    for id_ in ids:
        runner.start("mixed", steps, id_=id_)

    def tell() -> None:
        for step in range(steps):
            for id_ in ids:
                runner.raise_event(id_, "e", step)

    at_once([tell, *[lambda world=world: world.pump_to_end(*ids) for world in worlds]])
    for id_ in ids:
        assert runner.output(id_) == [[2 * step, step] for step in range(steps)]
    assert runner.runs == {"double": steps * len(ids)}
    assert_whole(runner, *ids)


def lambda_named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


def test_fan_outs_timers_and_events_on_many_workers_all_end(runner: World) -> None:
    @runner.orchestrator
    async def busy(ctx: Any) -> list[Any]:
        first = await ctx.all([ctx.call(sig("double", n)) for n in range(5)])
        winner = await ctx.any([ctx.sleep(0.02), ctx.wait_event("e")])
        second = await ctx.map(sig("double"), range(6), concurrency=2)
        third = await asyncio.gather(*[ctx.call(sig("double", n)) for n in first[:3]])
        return [sum(first), winner, sum(second), sum(third)]

    runner.task(lambda_named("double", lambda number: 2 * number))
    worlds, ids = several(runner, 3), [f"i{n}" for n in range(6)]
    for id_ in ids:
        runner.start("busy", id_=id_)

    def disturb() -> None:
        for id_ in ids[::2]:
            try:
                runner.raise_event(id_, "e", None)
            except InvalidState:  # the timer was faster, and all the rest too
                assert runner.status(id_) is RuntimeStatus.COMPLETED

    at_once([disturb, *[lambda world=world: world.pump_to_end(*ids) for world in worlds]])
    for id_ in ids:
        assert runner.output(id_) == [20, None, 30, 12]
    assert rows(runner.store, "outbox") == []
    assert runner.runs == {"double": len(ids) * 14}
    assert_whole(runner, *ids)


def test_suspending_and_resuming_all_the_time_loses_nothing(runner: World) -> None:
    @runner.orchestrator
    async def steady(ctx: Any) -> int:
        total = 0
        for number in range(6):
            total += await ctx.call(sig("double", number))
            await ctx.sleep(0.002)
            total += sum(await ctx.all([ctx.call(sig("double", 1)), ctx.call(sig("double", 2))]))
        return total

    runner.task(lambda_named("double", lambda number: 2 * number))
    worlds, ids = several(runner), ["i0", "i1"]
    for id_ in ids:
        runner.start("steady", id_=id_)
    is_over = threading.Event()

    def disturb(id_: str) -> None:
        try:
            while not is_over.is_set():
                runner.client.suspend(id_, "a moment")
                runner.client.resume(id_, None)
                is_over.wait(0.005)
        except InvalidState:
            assert runner.status(id_) is RuntimeStatus.COMPLETED

    def work(world: World) -> None:
        try:
            world.pump_to_end(*ids)
        finally:
            is_over.set()

    at_once(
        [
            *[lambda id_=id_: disturb(id_) for id_ in ids],
            *[lambda world=world: work(world) for world in worlds],
        ]
    )
    for id_ in ids:
        if runner.status(id_) is RuntimeStatus.SUSPENDED:
            runner.client.resume(id_, None)
    drain(worlds, *ids)
    for id_ in ids:
        assert runner.output(id_) == 66
    assert_whole(runner, *ids)


def test_terminating_in_the_middle_ends_once_and_leaves_nothing(runner: World) -> None:
    @runner.orchestrator
    async def endless(ctx: Any) -> None:
        while True:
            await ctx.all([ctx.call(sig("double", n)) for n in range(3)])
            await ctx.call(sig("double", 1))

    runner.task(lambda_named("double", lambda number: 2 * number))
    worlds, ids = several(runner), [f"i{n}" for n in range(6)]
    for id_ in ids:
        runner.start("endless", id_=id_)

    def end() -> None:
        for id_ in ids:
            while runner.client.fetch(id_).sequence < 3:
                runner.step()
            runner.client.terminate(id_, "enough", None)

    at_once([end, *[lambda world=world: world.pump_to_end(*ids) for world in worlds]])
    runner.pump()
    assert rows(runner.store, "outbox") == []
    assert_whole(runner, *ids)
    for id_ in ids:
        runner.runner.run(id_)
        assert [e.kind for e in runner.events(id_)].count(EventKind.EXECUTION_TERMINATED) == 1
    assert rows(runner.store, "inbox") == []


def test_parents_and_children_that_message_each_other_all_end(runner: World) -> None:
    @runner.orchestrator
    async def parent(ctx: Any) -> int:
        calls = [ctx.call(sig("child", ctx.instance_id, n)) for n in range(4)]
        pings = [await ctx.wait_event("ping") for _ in calls]
        for id_ in pings:
            ctx.signal_event(id_, "pong")
        return sum(await ctx.all(calls))

    @runner.orchestrator
    async def child(ctx: Any, parent_id: str, number: int) -> int:
        ctx.signal_event(parent_id, "ping", ctx.instance_id)
        await ctx.wait_event("pong")
        return await ctx.call(sig("double", number))

    runner.task(lambda_named("double", lambda number: 2 * number))
    worlds, ids = several(runner, 3), [f"p{n}" for n in range(4)]
    for id_ in ids:
        runner.start("parent", id_=id_)
    drain(worlds, *ids)
    for id_ in ids:
        assert runner.output(id_) == 12
    assert_whole(runner, *ids)


@pytest.mark.parametrize("cache_size", [0, 100])
def test_a_cold_and_a_warm_cache_come_to_the_same_end(store: Store, cache_size: int) -> None:
    runner = World(store, cache_size=cache_size)

    @runner.orchestrator
    async def steps(ctx: Any) -> list[Any]:
        results = [await ctx.call(sig("double", n)) for n in range(5)]
        results += await ctx.all([ctx.call(sig("double", n)) for n in range(5)])
        return [*results, ctx.random.random() < 2, await ctx.wait_event("e")]

    runner.task(lambda_named("double", lambda number: 2 * number))
    runner.start("steps")
    runner.raise_event("i", "e", "end")
    runner.pump_to_end()
    assert runner.output() == [0, 2, 4, 6, 8, 0, 2, 4, 6, 8, True, "end"]
