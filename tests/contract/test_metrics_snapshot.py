"""What waits, by cause, and that a look at it reads nothing that has finished."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.limits import Limit
from celery_durable.core.retry import RetryPolicy
from celery_durable.engine.admission_policy import declared_policy
from celery_durable.store import Store, causes, metrics_snapshot
from celery_durable.store.schema import instances, outbox
from celery_durable.store.upkeep import listed_until
from celery_durable.telemetry.names import CAUSES

from .builders import SECOND
from .filling import fill
from .world import World, sig

LEASE = 10 * SECOND


def waits(store: Store) -> dict[str, int]:
    found = metrics_snapshot.take_snapshot(store, LEASE).waits
    assert set(found) <= set(CAUSES)
    return {cause: count for cause, count in found.items() if count}


def test_each_cause_is_counted(store: Store) -> None:
    world = World(store)

    @world.task
    def flaky() -> None:
        raise OSError

    @world.orchestrator
    async def order(ctx: Any, what: str) -> Any:
        match what:
            case "timer":
                await ctx.sleep(3600)
            case "retry":
                again = RetryPolicy(max_attempts=9, first_interval=3600)
                await ctx.call(sig("flaky"), retry=again)
            case "event":
                await ctx.wait_event("go", timeout=3600)
            case "request":
                await ctx.wait_request("ask", timeout=3600)
            case "message":
                await ctx.wait_event("go")
            case "child":
                await ctx.call(sig("order", "message", task_id="own"))

    for what in ("timer", "retry", "event", "request", "message", "child"):
        world.start("order", what, id_=what)
    world.start("order", "timer", id_="later", start_at=store.now() + 3600 * SECOND)
    world.start("order", "message", id_="over")
    world.pump()
    world.raise_event("over", "go")
    world.pump()
    assert waits(store) == {
        "timer": 2,
        "event": 1,
        "request": 1,
        "message": 2,  # the child waits for one, too
        "child": 1,
        "start": 1,
    }


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"gate": "limit"}, "limit"),
        ({"gate": "paused"}, "pause"),
        ({"is_held": True}, "throttled"),
        ({"deferred_at": 1}, "completion"),
        ({"is_delegated": True}, "replacement"),
        ({}, "worker"),
    ],
)
def test_the_states_of_activities(store: Store, values: dict[str, Any], cause: str) -> None:
    world = World(store)

    @world.orchestrator
    async def order(ctx: Any) -> None:
        await ctx.call(sig("charge"))

    world.start("order")
    world.runner.run("i")
    if values:
        with store.database.using() as engine, engine.begin() as connection:
            connection.execute(sa.update(outbox).values(**values))
    assert waits(store) == {cause: 1}
    found = metrics_snapshot.take_snapshot(store, LEASE)
    assert len(found.queues) == (1 if cause == "worker" else 0)
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(
            sa.update(outbox).values(
                gate=None, is_held=False, deferred_at=None, is_delegated=False, holder="w"
            )
        )
    found = metrics_snapshot.take_snapshot(store, LEASE)
    assert (found.running_activities, {k: v for k, v in found.waits.items() if v}) == (1, {})


def test_what_lacks_its_code_and_what_waits_for_admission(store: Store) -> None:
    world = World(store)

    async def order(ctx: Any) -> None:
        await ctx.wait_event("go")

    world.orchestrator(order, flow=declared_policy(order, {"limit": Limit(1)}))
    for id_ in ("a", "b", "c"):
        world.start("order", id_=id_)
    world.pump()
    assert waits(store) == {"message": 1, "admission": 2}
    store.turns.note_waiting("a", f"{causes.LACKS_CODE} the orchestrator 'order'")
    assert waits(store)["code"] == 1


def test_what_a_pause_holds(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def order(ctx: Any) -> None:
        await ctx.wait_event("go")

    store.switches.set("orchestrator", "order", None, None)
    world.runner.switches.refresh()
    world.start("order")
    world.pump()
    assert waits(store)["pause"] == 1


def test_a_suspended_one_waits_for_nothing_but_its_resumption(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def order(ctx: Any) -> None:
        await ctx.sleep(3600)

    world.start("order")
    world.pump()
    assert waits(store) == {"timer": 1}
    world.client.suspend("i", None)
    assert waits(store) == {}


def test_counts_end_at_their_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(store)

    @world.orchestrator
    async def order(ctx: Any) -> None:
        await ctx.wait_event("go")

    for number in range(5):
        world.start("order", id_=f"i{number}")
    world.pump()
    assert waits(store) == {"message": 5}
    monkeypatch.setattr(metrics_snapshot, "MOST", 3)
    assert waits(store) == {"message": 3}


@pytest.mark.full
def test_a_look_reads_nothing_that_has_finished(empty_postgres: str, open_url: Any) -> None:
    store = open_url(empty_postgres)
    store.now()
    fill(store, finished=30_000, waiting=300)
    statement = causes.waits_statement(store.now(), listed_until(store.database), 1000)
    with store.database.using() as engine, engine.connect() as connection:
        compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})
        rows = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON, ANALYZE) {str(compiled).replace('%', '%%')}"
        ).fetchall()
        total = connection.execute(sa.select(sa.func.count()).select_from(instances)).scalar()
    assert total > 30_000
    read = list(
        rows_read(rows[0][0] if not isinstance(rows[0][0], str) else json.loads(rows[0][0]))
    )
    assert sum(count for table, count in read if table == "durable_instances") < 3_000, read
    assert not [table for table, _ in read if table == "durable_history"]


def rows_read(plan: Any) -> Any:
    """Yield the tables that a plan reads, with how many rows of each, also those it leaves out."""
    if isinstance(plan, list):
        for each in plan:
            yield from rows_read(each.get("Plan", each))
        return
    if (table := plan.get("Relation Name")) is not None:
        loops = plan.get("Actual Loops", 1)
        left = plan.get("Rows Removed by Filter", 0)
        yield table, (plan.get("Actual Rows", 0) + left) * loops
    yield from rows_read(plan.get("Plans", []))
