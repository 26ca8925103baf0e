"""What a life that another one replaces owes to others: its parent, its monitors, and Celery."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine import replacing
from celery_durable.engine.observers import PropagatedContext
from celery_durable.engine.start import StartRequest
from celery_durable.errors import InvalidState, OrchestrationFailed
from celery_durable.store import Store

from .world import World, sig

CALLBACK = {"finish": {"link": [sig("called")]}}


@pytest.fixture
def world(store: Store, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(replacing, "_PATIENCE", (0.0, 0.0, 0.0))
    world = World(store)

    @world.orchestrator
    async def waiting(ctx: Any, n: int = 0) -> int:
        if n:
            return n
        return await ctx.wait_event("go")

    @world.orchestrator
    async def parent(ctx: Any) -> str:
        try:
            return await ctx.call(sig("waiting", task_id="child"))
        except OrchestrationFailed as error:
            return f"{error.status}: {error.reason}"

    return world


def start(world: World, *args: Any, id_: str = "i", **options: Any) -> None:
    world.client.start(StartRequest("waiting", args, {}, instance_id=id_, **options))
    world.runner.run(id_)


def settle(world: World) -> None:
    while world.publisher.turns:
        world.runner.run(world.publisher.turns.popleft()[0].id)


class Witness:
    is_on, needs_summary = True, True

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None, bool]] = []

    def starting(self, new: Any) -> dict[str, Any]:
        return {}

    def started(self, new: Any) -> None:
        self.told.append((new.id, "started", False))

    def carried(self, instance: Any, summary: Any) -> PropagatedContext:
        return PropagatedContext()

    def committed(self, seen: Any) -> None:
        self.told.append((seen.instance.id, seen.change, seen.summary is not None))


def test_a_parent_hears_that_its_child_was_replaced(world: World) -> None:
    world.start("parent", id_="p")
    settle(world)
    assert world.client.fetch("child").status is RuntimeStatus.RUNNING
    start(world, id_="child", if_exists="replace")
    settle(world)
    assert world.client.fetch("p").output == '"TERMINATED: replaced by another start"'
    assert world.client.fetch("child").status is RuntimeStatus.RUNNING


def test_a_monitor_hears_that_a_life_ended(world: World) -> None:
    world.runner.notifier.observers.append(witness := Witness())
    start(world)
    start(world, 3, if_exists="replace")
    assert [(change, knows) for _, change, knows in witness.told] == [
        ("started", False),
        ("running", True),
        ("terminated", True),
        ("started", False),
        ("completed", True),
    ]


@pytest.mark.parametrize("verb", ["restart", "replace", "start again"])
def test_an_end_that_celery_was_not_told_of_is_not_replaced(world: World, verb: str) -> None:
    start(world, 3, canvas=CALLBACK)
    record = world.client.fetch("i")
    assert (
        record.status is RuntimeStatus.COMPLETED
        and world.store.reads.owed_end(record.execution) is not None
    )

    def again() -> None:
        if verb == "restart":
            world.client.restart("i", None)
        else:
            start(world, 3, if_exists="replace" if verb == "replace" else "restart")

    told = len(world.publisher.finished)
    with pytest.raises(InvalidState, match="last message to Celery is still under way"):
        again()
    assert len(world.publisher.finished) == told + 1, "it was sent once more"
    assert world.client.fetch("i").execution == record.execution
    world.store.recovery.drop_finish("i", record.execution)
    again()
    assert world.client.fetch("i").execution != record.execution


def test_a_living_one_with_callbacks_is_terminated_first(world: World) -> None:
    start(world, canvas=CALLBACK)
    old = world.client.fetch("i")
    with pytest.raises(InvalidState, match="is TERMINATED, but its last message"):
        start(world, 3, if_exists="replace")
    assert ("i", RuntimeStatus.TERMINATED) in world.publisher.finished
    world.store.recovery.drop_finish("i", old.execution)
    start(world, 3, if_exists="replace")
    assert world.client.fetch("i").output == "3"
