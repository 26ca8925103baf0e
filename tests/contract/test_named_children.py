"""A sub-orchestration with a name of its own, over all that begins a new life of its parent, and in
whatever state it was left.

What an earlier life has left blocks no later one if it is over or was asked to end; what may go on
keeps its id.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.status import RuntimeStatus
from celery_durable.store import Store

from .builders import TABLES, begin, commit, everything, new_instance, next_turn, rows
from .test_turns import child
from .world import World, sig

OPEN = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED)


@dataclass
class Family:
    """A parent ``i``, perhaps one more below it, and the child ``kid`` that it names."""

    world: World

    def begin(self, depth: int) -> None:
        """Let a first life start the child, which waits."""
        self.world.start("parent" if depth == 1 else "grandparent")
        self.world.pump()

    @property
    def execution(self) -> str:
        return self.world.client.fetch("kid").execution

    def bring_kid_to(self, status: RuntimeStatus) -> None:
        world = self.world
        if status is RuntimeStatus.PENDING:  # its first turn was never taken
            table = TABLES["instances"]
            with world.store.database.engine.begin() as connection:
                connection.execute(
                    sa.update(table).where(table.c.id == "kid").values(status="PENDING")
                )
        elif status is RuntimeStatus.SUSPENDED:
            world.client.suspend("kid", None)
        elif status is RuntimeStatus.CANCELED:
            world.client.cancel("kid", None)
        elif status is RuntimeStatus.TERMINATED:
            world.client.terminate("kid", None, None)
        elif status.is_terminal:
            world.raise_event("kid", "end", "fail" if status is RuntimeStatus.FAILED else "first")
        world.pump()
        assert world.status("kid") is status

    def end(self) -> None:
        """Let the life end, and leave the child as it is."""
        self.world.raise_event("i", "go", "leave")
        self.world.pump()
        assert self.world.output() == "left"


@pytest.fixture
def family(store: Store) -> Family:
    world = World(store)

    @world.orchestrator
    async def kid(ctx: Any) -> Any:
        how = await ctx.wait_event("end")
        if how == "fail":
            raise ValueError(how)
        return how

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        named = ctx.call(sig("kid", task_id="kid"))
        match await ctx.wait_event("go"):
            case "leave":
                return "left"
            case "renew":
                ctx.continue_as_new()
        return await named

    @world.orchestrator
    async def grandparent(ctx: Any) -> Any:
        below = ctx.call(sig("between"))
        match await ctx.wait_event("go"):
            case "leave":
                return "left"
            case "renew":
                ctx.continue_as_new()
        return await below

    @world.orchestrator
    async def between(ctx: Any) -> Any:
        return await ctx.call(sig("kid", task_id="kid"))

    return Family(world)


def renew(family: Family) -> None:
    family.world.raise_event("i", "go", "renew")


def restart(family: Family) -> None:
    family.end()
    family.world.client.restart("i", None)


def start_again(family: Family) -> None:
    family.end()
    family.world.start(family.world.client.fetch("i").name, if_exists="restart")


def replace(family: Family) -> None:
    family.world.start(family.world.client.fetch("i").name, if_exists="replace")


def purge_and_start(family: Family) -> None:
    name = family.world.client.fetch("i").name
    family.end()
    family.world.client.purge("i", recursive=False)
    family.world.start(name)


#: What begins a new life of the parent, and whether it asks the children of the one before to end.
BEGINNINGS: dict[Callable[[Family], None], bool] = {
    restart: True,
    start_again: True,
    replace: True,
    purge_and_start: False,
    renew: False,
}


@pytest.mark.sparse(2)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("begin_anew", "left"),
    list(itertools.product(BEGINNINGS, RuntimeStatus)),
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_a_named_child_starts_again_in_each_life(
    family: Family, begin_anew: Callable[[Family], None], left: RuntimeStatus, depth: int
) -> None:
    world = family.world
    family.begin(depth)
    before = family.execution
    family.bring_kid_to(left)
    begin_anew(family)
    world.pump()
    is_blocked = left in OPEN and not BEGINNINGS[begin_anew]
    world.raise_event("i", "go", "wait")
    world.pump()
    if is_blocked:
        assert world.status() is RuntimeStatus.FAILED
        assert "in use" in str(world.client.fetch("i").reason)
        assert (family.execution, world.status("kid")) == (before, left)
        return
    assert world.status() is RuntimeStatus.RUNNING, world.client.fetch("i").reason
    assert family.execution != before
    world.raise_event("kid", "end", "second")
    world.pump()
    assert world.output() == "second"
    assert rows(world.store, "inbox") == []


def test_a_name_is_used_once_in_a_life(family: Family) -> None:
    world = family.world

    @world.orchestrator
    async def twice(ctx: Any) -> Any:
        first = ctx.call(sig("kid", task_id="kid"))
        await ctx.wait_event("go")
        try:
            return await ctx.call(sig("kid", task_id="kid"))
        except Exception as error:
            return [type(error).__name__, await first]

    world.start("twice")
    world.pump()
    family.bring_kid_to(RuntimeStatus.COMPLETED)
    world.raise_event("i", "go")
    world.pump()
    assert world.output() == ["InstanceExists", "first"]


@pytest.mark.parametrize("left", RuntimeStatus)
def test_what_belongs_to_others_keeps_its_id(family: Family, left: RuntimeStatus) -> None:
    family.world.start("kid", id_="kid")
    family.world.pump()
    family.bring_kid_to(left)
    before = family.execution
    family.begin(1)
    family.world.raise_event("i", "go", "wait")
    family.world.pump()
    assert family.world.status() is RuntimeStatus.FAILED
    assert family.execution == before


def test_a_commit_that_finds_held_what_it_is_to_replace_is_made_again(
    postgres_store: Store,
) -> None:
    """It changes nothing.

    On MariaDB, which has the insertion wait for the row, there is nothing to see of that.
    """
    store = postgres_store
    old = begin(store)
    commit(store, children=[child("c", old, 1)])
    commit(store, "c", status=RuntimeStatus.COMPLETED)
    new = new_instance()
    assert store.starts.replace(new) == []
    turn = next_turn(store, children=[child("c", new.execution, 1)])
    before = everything(store)
    with store.database.engine.connect() as other:
        other.exec_driver_sql("BEGIN")
        other.exec_driver_sql("SELECT 1 FROM durable_instances WHERE id = 'c' FOR UPDATE")
        assert store.turns.commit(turn) is None
        assert everything(store) == before
        other.exec_driver_sql("ROLLBACK")
    committed = store.turns.commit(turn)
    assert committed is not None and [started.id for started in committed.started_children] == ["c"]
