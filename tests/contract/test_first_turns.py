"""A start that takes its first turn itself leaves what a start and a turn by a worker leave."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.clock import StoreClock
from celery_durable.errors import InstanceExists, StoreError
from celery_durable.store import Store

from .builders import everything
from .world import World, sig

TAKES_BOTH_WAYS = True


def one_activity(world: World) -> None:
    @world.orchestrator
    async def steps(ctx: Any, number: int) -> int:
        ctx.set_status({"number": number})
        return await ctx.call(sig("double", number))


def two_activities(world: World) -> None:
    @world.orchestrator
    async def steps(ctx: Any, number: int) -> int:
        first = asyncio.create_task(ctx.call(sig("double", number)))
        second = asyncio.create_task(ctx.call(sig("double", 0)))
        return await first + await second


def wait_for_all(world: World) -> None:
    @world.orchestrator
    async def steps(ctx: Any, number: int) -> int:
        return sum(await asyncio.gather(*(ctx.call(sig("double", n)) for n in (number, 0, 0))))


def timer_and_event(world: World) -> None:
    @world.orchestrator
    async def steps(ctx: Any, number: int) -> int:
        try:
            await ctx.wait_event("never", timeout=0.01)
        except TimeoutError:
            return 2 * number
        raise AssertionError


def child(world: World) -> None:
    @world.orchestrator
    async def grandchild(ctx: Any, number: int) -> int:
        return 2 * number

    @world.orchestrator
    async def steps(ctx: Any, number: int) -> int:
        return await ctx.call(sig("grandchild", number))


def at_once(world: World) -> None:
    @world.orchestrator
    def steps(ctx: Any, number: int) -> int:
        return 2 * number


def renewed(world: World) -> None:
    @world.orchestrator
    async def steps(ctx: Any, number: int, is_over: bool = False) -> int:
        if not is_over:
            ctx.continue_as_new(number, True)
        return 2 * number


PROGRAMS = [one_activity, two_activities, wait_for_all, timer_and_event, child, at_once, renewed]


def shape(store: Store) -> dict[str, Any]:
    """Return all rows without what differs between two runs: times, random ids and row numbers."""
    kept = {
        "instances": (
            "id",
            "name",
            "version",
            "status",
            "sequence",
            "input",
            "parent_id",
            "root_id",
            "tags",
            "canvas",
            "queue",
            "crashes",
            "output",
            "failure",
            "custom_status",
            "reason",
        ),
        "history": ("instance", "sequence"),
        "inbox": ("instance", "kind", "command", "attempt", "name", "payload", "sends"),
        "outbox": (
            "command",
            "attempt",
            "instance",
            "kind",
            "name",
            "message",
            "queue",
            "join_command",
            "window_command",
            "is_held",
            "is_delegated",
            "sends",
            "holder",
            "beat_timeout",
        ),
    }
    return {
        table: sorted(repr([row[column] for column in columns]) for row in everything(store)[table])
        for table, columns in kept.items()
    }


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("canvas", [None, {"finish": {}}])
def test_the_same_rows_are_left_as_by_a_start_and_a_turn(
    store: Store, program: Any, canvas: Any
) -> None:
    shapes = []
    for is_inline in (False, True):
        world = World(store, start_inline=is_inline)
        program(world)
        world.tasks["double"] = lambda number: 2 * number
        id_ = "i"
        world.start("steps", 21, id_=id_, tags={"a": "b"}, queue="q", canvas=canvas)
        if not is_inline:
            assert world.status() is RuntimeStatus.PENDING
            address, _, _ = world.publisher.turns.popleft()
            world.runner.run(address.id)
        assert world.status() is not RuntimeStatus.PENDING
        left = shape(store)
        sent = (
            [(row.ticket[1:], row.name) for row in world.publisher.activities],
            len(world.publisher.turns),
        )
        world.pump_to_end()
        assert world.output() == 42
        shapes.append((left, sent))
        world.client.store.cleanup.purge("i", world.client.fetch("i").execution)
        for other in world.client.children("i"):
            world.client.store.cleanup.purge(other.id, other.execution)
        for row in world.publisher.finished:
            assert row[1] is RuntimeStatus.COMPLETED
    usual, inline = shapes
    strip = lambda rows: [row.replace("\\", "") for row in rows]  # noqa: E731
    for table, expected in usual[0].items():
        if program in (child, renewed) and table in ("instances", "inbox"):
            # a child's id holds its parent's random execution
            assert len(inline[0][table]) == len(expected)
        else:
            assert strip(inline[0][table]) == strip(expected), table
    assert inline[1] == usual[1]


def test_an_id_that_is_taken_is_met_as_ever(store: Store) -> None:
    world = World(store, start_inline=True)
    one_activity(world)
    world.start("steps", 1)
    before = everything(store)
    assert world.start("steps", 1) == "i"
    with pytest.raises(InstanceExists):
        world.start("steps", 1, if_exists="raise")
    assert everything(store) == before
    assert len(world.publisher.activities) == 1


def test_an_orchestrator_that_is_unknown_here_or_starts_later_is_left_to_a_worker(
    store: Store,
) -> None:
    world = World(store, start_inline=True)
    one_activity(world)
    world.start("unknown", 1, id_="a")
    world.start("steps", 1, id_="b", start_at=store.now() + 60_000_000)
    assert world.status("a") is world.status("b") is RuntimeStatus.PENDING
    assert [address.id for address, _, _ in world.publisher.turns][:1] == ["a"]


def test_many_commands_are_left_to_a_worker(store: Store) -> None:
    world = World(store, start_inline=True)

    @world.orchestrator
    async def wide(ctx: Any, width: int) -> list[int]:
        return await asyncio.gather(*(ctx.call(sig("double", n)) for n in range(width)))

    world.tasks["double"] = lambda number: 2 * number
    world.start("wide", 20, id_="narrow")
    world.start("wide", 21, id_="wide")
    assert world.status("narrow") is RuntimeStatus.RUNNING
    assert world.status("wide") is RuntimeStatus.PENDING
    world.pump_to_end("narrow", "wide")
    assert len(world.output("wide")) == 21


def test_an_orchestrator_that_cannot_be_run_is_left_to_a_worker(store: Store) -> None:
    world = World(store, start_inline=True)

    @world.orchestrator
    async def bad(ctx: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(None, print)

    world.start("bad")
    world.pump()
    assert world.status().is_terminal or world.status() is RuntimeStatus.SUSPENDED


def test_a_start_fails_when_the_store_does(store: Store) -> None:
    world = World(store, start_inline=True)
    one_activity(world)
    world.runner.clock.now()

    def fail() -> None:
        raise StoreError("gone")

    world.interpose("insert_with_turn", before=fail)
    with pytest.raises(StoreError, match="gone"):
        world.start("steps", 1)
    assert world.status() is None
    assert not world.publisher.activities


def test_what_was_not_sent_is_sent_by_recovery(store: Store) -> None:
    world = World(store, start_inline=True, resend_after=0.05)
    one_activity(world)
    world.tasks["double"] = lambda number: 2 * number
    world.publisher.is_broken = True
    world.start("steps", 21)
    world.publisher.is_broken = False
    recovery = world.recovery()

    def goes_on() -> bool:
        recovery.repair_activities()
        return world.status().is_terminal

    world.pump_until(goes_on)
    assert world.output() == 42


# -- the clock -------------------------------------------------------------------------------------


def test_time_is_the_stores_and_continues_between_looks() -> None:
    asked = []

    def ask() -> int:
        asked.append(1)
        return 1_000_000_000

    clock = StoreClock(ask)
    first = clock.now()
    time.sleep(0.01)
    second = clock.now()
    assert 1_000_000_000 <= first < second < 1_000_000_000 + 10_000_000
    assert second - first >= 10_000
    assert len(asked) == 1


def test_time_is_never_early_however_long_the_answer_takes() -> None:
    """What is due by this clock is due in the store."""
    asked = time.monotonic_ns()

    def ask() -> int:
        now = (time.monotonic_ns() - asked) // 1000
        time.sleep(0.05)
        return now

    clock = StoreClock(ask)
    for _ in range(3):
        assert clock.now() <= (time.monotonic_ns() - asked) // 1000


def test_time_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([5_000_000, 9_000_000])
    clock = StoreClock(lambda: next(moments))
    assert clock.now() // 1_000_000 == 5
    real = time.monotonic_ns
    monkeypatch.setattr(time, "monotonic_ns", lambda: real() + 11_000_000_000)
    assert clock.now() // 1_000_000 == 9
