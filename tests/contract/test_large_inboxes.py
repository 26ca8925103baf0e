"""However much has arrived, a look reads a bounded part of it, and nothing is lost, doubled or
overtaken.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.explain import explain
from celery_durable.engine.records import InboxKind
from celery_durable.engine.writes import NewInbox
from celery_durable.store import Store, inbox_reads

from .builders import rows
from .world import World, sig


def event(number: int, *, size: int = 0, wakes: bool = True) -> NewInbox:
    payload = f'[{number}, "{"x" * size}"]'
    return NewInbox(
        "i", EventKind.EVENT_RAISED, f"event:{number:05}", name="go", payload=payload, wakes=wakes
    )


def collecting(store: Store, many: int) -> World:
    """An orchestrator that waits for many events, and tells in which order they came."""
    world = World(store)

    @world.orchestrator
    async def collect(ctx: Any) -> list[int]:
        return [(await ctx.wait_event("go"))[0] for _ in range(many)]

    world.start("collect")
    world.pump()
    return world


@pytest.fixture(params=[(3, 4_000_000), (2_500, 3_000)], ids=["few_rows", "few_bytes"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Small bounds, so that little is much."""
    most_rows, most_bytes = request.param
    monkeypatch.setattr(inbox_reads, "LOOK_ROWS", most_rows)
    monkeypatch.setattr(inbox_reads, "LOOK_BYTES", most_bytes)
    return most_rows, most_bytes


def test_all_is_taken_in_order_by_looks_of_bounded_size(
    store: Store, bounds: tuple[int, int]
) -> None:
    world = collecting(store, 20)
    world.client.suspend("i", None)
    dice = random.Random(7)
    store.inbox.put([event(number, size=dice.choice([0, 500, 2_500])) for number in range(20)])
    look = store.turns.load("i", None)
    assert look is not None and look.has_more and look.is_due_later
    assert 1 <= len(look.inbox) <= bounds[0]
    assert sum(len(row.payload or "") for row in look.inbox[:-1]) <= bounds[1]
    for verb in (world.client.suspend, world.client.resume, world.client.suspend):
        verb("i", None)
    assert explain(store, world.runner, world.client.fetch("i")).status is RuntimeStatus.SUSPENDED
    world.client.resume("i", None)
    world.pump_to_end()
    assert world.output() == list(range(20)) and not rows(store, "inbox")


def test_what_wakes_is_seen_behind_much_that_does_not(
    store: Store, bounds: tuple[int, int]
) -> None:
    world = collecting(store, 9)
    store.inbox.put([event(number, size=900, wakes=False) for number in range(8)])
    world.runner.run("i")
    assert world.status() is RuntimeStatus.RUNNING and len(rows(store, "inbox")) == 8
    store.inbox.put([event(8)])
    world.runner.run("i")
    assert world.output() == list(range(9))


def test_a_wish_to_terminate_is_seen_behind_all_else(store: Store, bounds: tuple[int, int]) -> None:
    world = collecting(store, 100)
    store.inbox.put([event(number, size=900) for number in range(12)])
    store.inbox.put([NewInbox("i", InboxKind.TERMINATE, "terminate", facts={"reason": "enough"})])
    world.runner.run("i")
    assert world.status() is RuntimeStatus.TERMINATED and not rows(store, "inbox")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_fresh_execution_keeps_or_drops_also_what_was_not_looked_at(
    store: Store, bounds: tuple[int, int], keeps: bool
) -> None:
    world = World(store)

    @world.orchestrator
    async def again(ctx: Any, first: int | None = None) -> list[Any]:
        if first is None:
            number, _ = await ctx.wait_event("go")
            ctx.continue_as_new(number, keep_events=keeps)
        await ctx.wait_event("last")
        found = [first]
        while True:
            try:
                found.append((await ctx.wait_event("go", timeout=0))[0])
            except TimeoutError:
                return found

    world.start("again")
    world.pump()
    store.inbox.put([event(number, size=900) for number in range(12)])
    world.runner.run("i")
    world.raise_event("i", "last")
    world.pump_to_end()
    assert world.output() == (list(range(12)) if keeps else [0])
    assert not rows(store, "inbox")


@pytest.mark.parametrize("fails", [True, False])
def test_an_end_leaves_nothing_that_was_not_looked_at(
    store: Store, bounds: tuple[int, int], fails: bool
) -> None:
    world = World(store)

    @world.orchestrator
    async def first(ctx: Any) -> None:
        await ctx.wait_event("go")
        if fails:
            raise KeyError("first")

    world.start("first")
    world.pump()
    store.inbox.put([event(number, size=900) for number in range(12)])
    world.runner.run("i")
    assert world.status() is (RuntimeStatus.FAILED if fails else RuntimeStatus.COMPLETED)
    assert len(rows(store, "inbox")) == (11 if fails else 0), (
        "one that has failed hears the rest when it is rewound"
    )


def test_a_join_of_many_outcomes_is_worked_off(store: Store, bounds: tuple[int, int]) -> None:
    world = World(store)
    world.tasks["double"] = lambda n: [2 * n, "x" * 700]

    @world.orchestrator
    async def fan(ctx: Any) -> int:
        found = await ctx.all([ctx.call(sig("double", n)) for n in range(15)])
        return sum(n for n, _ in found)

    world.start("fan")
    world.pump_to_end()
    assert world.output() == 210


def test_the_true_bound_holds(sqlite_store: Store) -> None:
    many = inbox_reads.LOOK_ROWS + 100
    world = collecting(sqlite_store, many)
    sqlite_store.inbox.put([event(number) for number in range(many)])
    look = sqlite_store.turns.load("i", None)
    assert look is not None and len(look.inbox) == inbox_reads.LOOK_ROWS and look.has_more
    world.runner.run("i")
    assert world.output() == list(range(many))
