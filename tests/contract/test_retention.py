"""Finished orchestrations go when their time has come: by status, with their children, and never
before Celery knows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from celery_durable import ConfigurationError, Durable
from celery_durable.core.limits import read_retention
from celery_durable.core.status import RuntimeStatus
from celery_durable.settings import Settings
from celery_durable.store import Store
from celery_durable.store.database import Statement
from celery_durable.store.schema import instances

from .builders import SECOND, activity, at_once, begin, commit, everything, rows
from .counting import Clock, ticks
from .world import World, sig

TAKES_BOTH_WAYS = True
ENDED = ("COMPLETED", "FAILED", "CANCELED", "TERMINATED")
SOON = Statement(
    "UPDATE durable_instances SET purge_at = 1 WHERE id = :id AND purge_at IS NOT NULL"
)


async def sale(ctx: Any, child: str | None = None) -> Any:
    if child is not None:
        return await ctx.call(sig("sale", task_id=child))
    answer = await ctx.wait_event("go")
    if answer == "fail":
        raise ValueError("as asked")
    return answer


def make_world(store: Store, declared: Any = "undeclared", default: Any = None) -> World:
    world = World(store, retention=default)
    world.orchestrator(
        sale, retention=None if declared == "undeclared" else read_retention(declared)
    )
    return world


def finish(world: World, status: str, id_: str = "i") -> None:
    world.start("sale", id_=id_)
    world.pump()
    match status:
        case "COMPLETED":
            world.raise_event(id_, "go", "done")
        case "FAILED":
            world.raise_event(id_, "go", "fail")
        case "CANCELED":
            world.client.cancel(id_, "enough")
        case "TERMINATED":
            # by a process that does not know the orchestrator
            World(world.store).client.terminate(id_, "enough", None)
    world.pump()
    assert world.status(id_) == status


def kept_for(store: Store, id_: str = "i") -> int | None:
    """Return how many seconds after its end an instance is kept."""
    (row,) = rows(store, "instances", instances.c.id == id_)
    return None if row["purge_at"] is None else (row["purge_at"] - row["completed_at"]) // SECOND


def make_due(store: Store, *ids: str) -> None:
    for id_ in ids:
        assert store.database.change_one(SOON, id=id_), id_


def purge(store: Store, limit: int = 300) -> None:
    while store.cleanup.purge_due(limit):
        pass


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ENDED)
def test_every_end_sets_the_time(store: Store, status: str) -> None:
    world = make_world(store, timedelta(days=7))
    finish(world, status)
    assert kept_for(store) == 7 * 86_400


@pytest.mark.parametrize("status", ENDED)
def test_each_status_has_its_own(store: Store, status: str) -> None:
    world = make_world(
        store, {"COMPLETED": 60, RuntimeStatus.CANCELED: timedelta(hours=1), "FAILED": None}
    )
    finish(world, status)
    assert kept_for(store) == {"COMPLETED": 60, "CANCELED": 3600}.get(status)


@pytest.mark.parametrize(
    ("declared", "expected"), [("undeclared", 100), (None, None), (5, 5), ({}, None)]
)
def test_what_is_declared_comes_before_the_setting(
    store: Store, declared: Any, expected: int | None
) -> None:
    world = make_world(store, declared, 100)
    finish(world, "COMPLETED")
    assert kept_for(store) == expected


def test_one_that_is_over_in_its_first_turn_is_kept_as_long(store: Store) -> None:
    world = World(store, start_inline=True, retention={"COMPLETED": 50})

    @world.orchestrator
    async def quick(ctx: Any) -> None: ...

    world.start("quick")
    assert kept_for(store) == 50


def test_without_a_retention_nothing_is_written_and_nothing_goes(store: Store) -> None:
    world = make_world(store)
    finish(world, "COMPLETED")
    (row,) = rows(store, "instances")
    assert row["policy"] is row["purge_at"] is None
    purge(store)
    assert world.status("i") == "COMPLETED"


def test_children_have_their_own_time(store: Store) -> None:
    world = make_world(store, 9)
    world.start("sale", "child", id_="parent")
    world.pump()
    world.raise_event("child", "go", "done")
    world.pump()
    assert kept_for(store, "child") == kept_for(store, "parent") == 9


@pytest.mark.parametrize("if_exists", ["restart", "replace"])
def test_a_new_life_is_not_purged_by_the_time_of_the_old_one(store: Store, if_exists: str) -> None:
    world = make_world(store, 60)
    finish(world, "FAILED")
    make_due(store, "i")
    world.start("sale", if_exists=if_exists)
    world.pump()
    purge(store)
    assert world.status("i") is RuntimeStatus.RUNNING
    (row,) = rows(store, "instances")
    assert row["purge_at"] is None


def test_one_that_moves_again_has_no_time_until_it_ends_again(store: Store) -> None:
    begin(store, "i")
    commit(store, "i", status=RuntimeStatus.FAILED, keeps_for=5 * SECOND)
    assert kept_for(store) == 5
    store.database.change_one(
        Statement("UPDATE durable_instances SET status = 'RUNNING' WHERE id = :id"), id="i"
    )
    make_due(store, "i")
    purge(store)
    commit(store, "i")
    (row,) = rows(store, "instances")
    assert row["purge_at"] is None
    commit(store, "i", status=RuntimeStatus.COMPLETED)
    assert kept_for(store) is None


# -- what goes -------------------------------------------------------------------------------------


def test_what_is_due_goes_with_all_its_rows_and_nothing_else(store: Store) -> None:
    world = make_world(store, 60)
    for id_ in ("a", "b", "c"):
        finish(world, "COMPLETED", id_)
    world.start("sale", id_="live")
    world.pump()
    make_due(store, "a", "b")
    purge(store)
    left = {
        table: {row.get("instance") or row.get("id") for row in found}
        for table, found in everything(store).items()
    }
    assert left["instances"] == left["history"] == {"c", "live"}


def test_children_go_with_their_parent_however_deep(store: Store) -> None:
    world = make_world(store, {"COMPLETED": None})
    parents = World(store)

    async def parent(ctx: Any, *rest: str) -> Any:
        if rest:
            return await ctx.call(sig("parent", *rest[1:], task_id=rest[0]))
        return await ctx.call(sig("sale", task_id="leaf"))

    world.orchestrator(parent, retention=None)
    parents.orchestrator(parent, retention=read_retention(60))
    parents.start("parent", "p1", "p2", id_="root")
    parents.publisher.forget()
    for row in ("root", "p1", "p2", "leaf"):
        world.runner.run(row)
    world.pump()
    world.raise_event("leaf", "go", "done")
    world.pump()
    assert world.status("root") == "COMPLETED"
    assert kept_for(store, "p1") is None
    make_due(store, "root")
    purge(store)
    assert rows(store, "instances") == []


def test_a_child_that_still_runs_stays(store: Store) -> None:
    world = make_world(store, 60)
    world.start("sale", "child", id_="parent")
    world.pump()
    world.client.terminate("parent", None, None, recursive=False)
    make_due(store, "parent")
    purge(store)
    assert world.status("parent") is None
    assert world.status("child") is RuntimeStatus.RUNNING


def test_one_of_which_celery_was_not_told_stays_and_so_does_its_parent(store: Store) -> None:
    world = make_world(store, 60)
    world.start("sale", "child", id_="parent")
    world.pump()
    world.raise_event("child", "go", "done")
    world.pump()
    execution = begin(store, "other")
    commit(
        store,
        "other",
        status=RuntimeStatus.COMPLETED,
        keeps_for=1,
        activities=[activity(0, 0, kind="finish")],
    )
    child = store.reads.fetch("child").execution
    store.database.change_one(
        Statement(
            "UPDATE durable_outbox SET execution = :child, instance = 'child' WHERE execution ="
            " :execution"
        ),
        child=child,
        execution=execution,
    )
    make_due(store, "parent", "child")
    purge(store)
    assert world.status("parent") == world.status("child") == "COMPLETED"
    assert store.recovery.drop_finish("child", child)
    purge(store)
    assert world.status("parent") is world.status("child") is None


def test_workers_share_and_none_waits_for_another(store: Store) -> None:
    for number in range(40):
        begin(store, f"i{number}")
        commit(store, f"i{number}", status=RuntimeStatus.COMPLETED, keeps_for=0)
    at_once([lambda: purge(store, 7)] * 3)
    purge(store)
    assert everything(store)["instances"] == everything(store)["history"] == []


def test_what_another_transaction_has_is_skipped(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    world = make_world(store, 60)
    for id_ in ("a", "b"):
        finish(world, "COMPLETED", id_)
    make_due(store, "a", "b")
    with store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM durable_instances WHERE id = 'a' FOR UPDATE")
        store.cleanup.purge_due(300)
        assert (world.status("a"), world.status("b")) == ("COMPLETED", None)
        cursor.execute("ROLLBACK")


# -- recovery --------------------------------------------------------------------------------------


def test_recovery_purges_once_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("celery_durable.engine.recovery.time", clock)
    world = make_world(store, 60)
    recovery = world.recovery()
    finish(world, "COMPLETED", "a")
    make_due(store, "a")
    ticks(recovery, clock, 3)
    assert world.status("a") is None
    finish(world, "COMPLETED", "b")
    make_due(store, "b")
    ticks(recovery, clock, 30)
    assert world.status("b") == "COMPLETED"
    ticks(recovery, clock, 40)
    assert world.status("b") is None


# -- declaring -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["7 days", -1, True, {"DONE": 1}, {"RUNNING": 1}, {"FAILED": "x"}, [1], float("nan"), 1e30],
)
def test_what_cannot_be_used_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(ConfigurationError):
        read_retention(value)
    with pytest.raises(ConfigurationError, match="durable_retention"):
        Settings(retention=value)


def test_the_decorator_takes_it(sqlite_url: str) -> None:
    from celery import Celery

    app = Celery("retention", broker="memory://", set_as_current=False)
    app.conf.update(durable_backend_url=sqlite_url, durable_retention=timedelta(days=30))
    durable = Durable(app)

    @durable.orchestrator(
        name="retention.o", retention={"COMPLETED": timedelta(days=1), "FAILED": None}
    )
    async def o(ctx: Any) -> None: ...

    assert durable.registry.newest("retention.o").retention == {"COMPLETED": 86_400 * SECOND}
    assert set(durable.settings.kept.values()) == {30 * 86_400 * SECOND}
    with pytest.raises(ConfigurationError, match="retention"):
        durable.orchestrator(lambda ctx: None, retention="a week")
