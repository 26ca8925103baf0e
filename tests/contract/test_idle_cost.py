"""Recovery costs next to nothing while there is nothing to recover, however much lies in
the store.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pytest
import sqlalchemy as sa

import celery_durable.store
from celery_durable.core.permits import Permit
from celery_durable.engine.admission_policy import declared_policy
from celery_durable.engine.due import ScheduleRow
from celery_durable.engine.schedules import tick_id
from celery_durable.store import Store, checks, postgres_statements
from celery_durable.store.database import Statement
from celery_durable.store.runner import ManyRows
from tests.conftest import wait_until

from .builders import SECOND, activity, begin, commit, event, record, succeeded
from .counting import Clock, ticks
from .filling import fill
from .world import World


def test_an_idle_second_costs_one_statement(
    store: Store, statements: list[str], clock: Clock
) -> None:
    begin(store, "waits for an event")
    begin(
        store,
        "waits for a day",
        own_inbox=[event("waits for a day", visible_at=store.now() + 86_400 * SECOND)],
    )
    recovery = World(store).recovery()
    ticks(recovery, clock, 40)
    statements.clear()

    ticks(recovery, clock, 300)

    # and one a minute: whether lists are to be kept short; a few more where that waits for
    # transactions of others on the same server
    assert 200 <= len(statements) <= 300 + 10, statements[-10:]
    beats = sum("UPDATE durable_workers" in sql for sql in statements)
    assert 100 <= beats <= 150
    looks = len(statements) - beats
    assert looks >= 100


def test_what_comes_up_is_seen_at_the_third_tick_at_the_latest(store: Store, clock: Clock) -> None:
    runner = World(store, resend_after=0.001)
    recovery = runner.recovery()
    for number in range(12):
        ticks(recovery, clock, number + 20)
        execution = begin(store, f"i{number}", activities=[activity(is_sent=False)])
        ticks(recovery, clock, 3)
        assert runner.publisher.activities.popleft().ticket.execution == execution


def test_slots_that_are_taken_and_a_far_start_cost_next_to_nothing(
    store: Store, statements: list[str], clock: Clock
) -> None:
    world = World(store)

    async def limited(ctx: Any) -> None:
        await ctx.wait_event("never")

    world.orchestrator(limited, flow=declared_policy(limited, {"limit": 1}))
    world.start("limited", id_="runs")
    world.start("limited", id_="later", start_at=store.now() + 86_400 * SECOND)
    world.pump()
    recovery = world.recovery()
    ticks(recovery, clock, 40)
    statements.clear()
    ticks(recovery, clock, 300)
    assert len(statements) <= 330, statements[-10:]


def test_activities_without_limits_pay_nothing_for_those_that_have_some(
    store: Store, statements: list[str]
) -> None:
    execution = begin(store, activities=[activity(1), activity(2, window_command=2)])
    assert store.outcomes.record(succeeded(execution, 2), release=True) is not None
    assert record(store, succeeded(execution, 1)) is not None
    commit(store, activities=[activity(3)])
    assert not [sql for sql in statements if "durable_activity_" in sql or "durable_limits" in sql]
    permit = Permit("crm", None, 2, None, "crm")
    commit(store, activities=[activity(4, permits=(permit,))])
    assert any("durable_activity_waiting" in sql for sql in statements)


def declare(store: Store, next_in: float) -> None:
    """Make a schedule whose next tick comes so many seconds from now, and after that every hour."""
    now = store.now()
    next_at = now + int(next_in * SECOND)
    assert store.schedules.insert(
        ScheduleRow(
            "s",
            "orchestrator",
            "[[], {}]",
            None,
            None,
            None,
            3600 * SECOND,
            "UTC",
            next_at,
            "skip",
            60 * SECOND,
            0,
            False,
            None,
            next_at,
            None,
            None,
            None,
            0,
            next_at,
            now,
            now,
            now,
        )
    )


def test_a_schedule_costs_nothing_until_it_is_due(
    store: Store, statements: list[str], clock: Clock
) -> None:
    recovery = World(store).recovery()
    declare(store, 3600)
    ticks(recovery, clock, 40)
    statements.clear()
    ticks(recovery, clock, 300)
    assert len(statements) <= 300 + 5, statements[-10:]


def test_a_schedule_that_is_known_is_met_in_the_tick_after_its_time(
    store: Store, clock: Clock
) -> None:
    world = World(store)

    @world.orchestrator
    async def orchestrator(ctx: Any) -> None: ...

    recovery = world.recovery()
    declare(store, 0.3)
    ticks(recovery, clock, 1)
    assert store.reads.status_of(tick_id("s", store.schedules.get("s").anchor_at)) is None
    wait_until(
        lambda: store.recovery.read_backlog(SECOND).has_due_schedule, 5, "the schedule's time"
    )
    ticks(recovery, clock, 1)
    (turn,) = world.publisher.turns
    assert turn[0].id == tick_id("s", store.schedules.get("s").anchor_at)


# -- plans -----------------------------------------------------------------------------------------

FINISHED, WAITING = 60_000, 6_000
# what is due is found by an index on its time
MUST_RANGE = (
    "inbox.DUE_WAKES",
    "checks.DUE_ACTIVITIES",
    "answers.OLD_ANSWERS",
    "audit.OLD_AUDIT",
    "postgres_statements.LOAD",
)
# a few rows: reading all of them is the quickest way
SMALL = (
    "durable_workers",
    "durable_schedules",
    "durable_switches",
    "durable_archiving",  # of what the archive has refused
    "durable_objects",  # empty without a payload store
    "durable_meta",
    "durable_alembic_version",
    "durable_activity_places",  # of what runs
)
# asked by people, not by the engine
RARE = (
    "admission.ALL_TAKEN",
    "admission.PARTITIONS",
    "activity_limits.PARTITIONS",
    "activity_limits.PARTITIONS_BEFORE",
    "activity_limits.BY_TASK",
    "activity_limits.HEADS",  # PostgreSQL takes HEADS_BY_STEPS
    "checks.LOOK_BY_ONE_INDEX",  # PostgreSQL takes LOOK
)


def hot_statements() -> dict[str, Statement]:
    """Return every statement of the store's modules that names one of the big tables."""
    found: dict[str, Statement] = {}
    for info in pkgutil.iter_modules(celery_durable.store.__path__):
        module = importlib.import_module(f"celery_durable.store.{info.name}")
        for name, value in vars(module).items():
            is_many = isinstance(value, (list, dict))
            many = (
                value if isinstance(value, dict) else dict(enumerate(value if is_many else [value]))
            )
            for key, statement in many.items():
                if isinstance(statement, ManyRows):
                    statement = statement.about(10)
                if isinstance(statement, Statement) and "durable_" in statement.sql:
                    place = f"[{key}]" if is_many else ""
                    found[f"{info.name}.{name}{place}"] = statement
    return found


class Plans:
    """Explains statements as they are run with ordinary values."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.values = {
            "id": "w7",
            "instance": "w7",
            "execution": "",
            "known_execution": "",
            "known_sequence": 0,
            "sequence": 2,
            "dedup": "timer:7",
            "same": "timer:7",
            "command": 2,
            "attempt": 1,
            "worker": "worker3",
            "holder": "worker3",
            "limit": 500,
            "join": 1,
            "window": 1,
            "row": 1,
            "lease": 10 * SECOND,
            "now": 1,
            "check_at": 1,
            "delay": 1,
            "resend_after": 1,
            "seen": 1,
            "next": 2,
            "far": 1,
            "horizon": 1,
            "reason": "r",
            "is_again": 0,
            "sends": 0,
            "taken": [1, 2],
            "name": "limited 7",
            "lane": "lane",
            "partition": "lane",
            "last": "",
            "every": 1,
            "debounce": "d",
            "scope": "s",
            "precedence": 0,
            "ready_at": 1,
            "slot": 7,
            "sum": 3,
            "begin": 1,
            "end": 2,
            "after": 0,
            "moment": 1,
            "silence": 1,
            "later": 2,
            "ahead": 1,
            "sent_at": 1,
            "since": 1,
            "until": 2,
            "text": "2:2:0",
            "known_text": "1:2:0",
            "request": "r",
            "outcome": 0,
            "payload": "x",
            "kept": 3_600 * SECOND,
        }

    def explain(self, statement: Statement) -> str:
        sql, _ = statement.compiled(self.store.database)
        names = sa.text(statement.sql).compile().params
        values = {
            name: self.values.get(name, self.values.get(name.rstrip("0123456789")))
            for name in names
        }
        if "durable_inbox WHERE id = :id" in statement.sql or (
            "durable_inbox SET check_at = :next" in statement.sql
            or ("(id = :id0" in statement.sql and "durable_instances" not in statement.sql)
        ):
            values |= {name: 7 for name in names if name.startswith("id")}
        if "UNNEST" in statement.sql:
            values.update({name: [] for name in postgres_statements.COLUMNS})
        with self.store.database.cursor() as cursor:
            (execution,) = cursor.execute("SELECT md5('w7')").fetchone()
            for name in ("execution", "known_execution"):
                if name in values:
                    values[name] = execution
            connection = cursor.connection
            quoted = {name: _literal(value) for name, value in values.items()}
            assert connection is not None
            cursor.execute("EXPLAIN (FORMAT JSON) " + _inline(sql, quoted))
            (plan,) = cursor.fetchone()
        return json.dumps(plan)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "'{" + ",".join(map(str, value)) + "}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


def _inline(sql: str, values: dict[str, str]) -> str:
    for name in sorted(values, key=len, reverse=True):
        sql = sql.replace(f"%({name})s", values[name])
    return sql.replace("%%", "%")


def filters(plan: Any) -> list[str]:
    """Return the conditions on times that no index serves."""
    found = []
    if isinstance(plan, list):
        for part in plan:
            found += filters(part)
    elif isinstance(plan, dict):
        if plan.get("Relation Name") not in SMALL and "_at <=" in plan.get("Filter", ""):
            found.append(plan["Filter"])
        for value in plan.values():
            if isinstance(value, (dict, list)):
                found += filters(value)
    return found


def scans(plan: Any) -> list[tuple[str, str]]:
    """Return how each table of a plan is read."""
    found = []
    if isinstance(plan, list):
        for part in plan:
            found += scans(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan and "Scan" in plan.get("Node Type", ""):
            found.append((plan["Node Type"], plan["Relation Name"]))
        for value in plan.values():
            if isinstance(value, (dict, list)):
                found += scans(value)
    return found


@pytest.fixture
def filled(empty_postgres: str, open_url: Any) -> Store:
    """A PostgreSQL store with many finished and waiting orchestrations."""
    store = open_url(empty_postgres)
    fill(store, FINISHED, WAITING)
    return store


def test_no_hot_statement_reads_a_whole_table(filled: Store) -> None:
    plans, whole, seen = Plans(filled), {}, 0
    for name, statement in hot_statements().items():
        if name in RARE:
            continue
        plan = json.loads(plans.explain(statement))
        found = scans(plan)
        seen += len(found)
        bad = filters(plan) if name in MUST_RANGE else []
        bad += [table for node, table in found if node == "Seq Scan" and table not in SMALL]
        if bad:
            whole[name] = bad
    assert seen > 40
    assert not whole


def test_the_search_for_whole_tables_finds_one(filled: Store) -> None:
    statement = Statement("SELECT 1 FROM durable_outbox WHERE name = 'no index has this'")
    assert scans(json.loads(Plans(filled).explain(statement))) == [("Seq Scan", "durable_outbox")]


def test_an_idle_look_reads_a_handful_of_pages(filled: Store) -> None:
    sql, _ = checks.LOOK.compiled(filled.database)
    with filled.database.cursor() as cursor:
        cursor.execute(sql, {"worker": "w"})
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, {"worker": "w"})
        (plan,) = cursor.fetchone()
    root = plan[0]["Plan"]
    looks = checks.LOOK.sql.count("(SELECT")
    # of each index the root, at most one page below it, and a leaf
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= 3 * looks, root


def test_what_is_lost_is_sent_again_by_a_statement_for_many(
    store: Store, statements: list[str], clock: Clock
) -> None:
    world = World(store, resend_after=0.001)

    @world.orchestrator
    async def orchestrator(ctx: Any) -> None: ...

    begin(store, "lost", activities=[activity(number, queue="q") for number in range(1, 251)])
    store.inbox.put([event("lost", f"e{number}", check_after=0) for number in range(250)])
    for number in range(50):
        begin(store, f"also lost {number}")
        store.inbox.put([event(f"also lost {number}", check_after=0)])
    recovery = world.recovery()
    wait_until(lambda: store.recovery.read_backlog(10 * SECOND).has_activities)
    statements.clear()
    assert recovery.repair_wakes() == 300
    assert recovery.repair_activities() == 250
    changes = [sql for sql in statements if "UPDATE" in sql]
    assert 0 < len(changes) <= 20
    assert len(statements) <= 60
    assert {row.ticket.command for row in world.publisher.activities} == set(range(1, 251))
    woken = [address.id for address, *_ in world.publisher.turns]
    assert sorted(woken) == sorted({"lost", *(f"also lost {number}" for number in range(50))})


def test_a_long_backlog_takes_a_small_part_of_a_worker(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that only wait in their queue are read the more rarely, the longer that takes."""
    begin(store, "backlog", activities=[activity(number, queue="q") for number in range(1, 40)])
    world = World(store, resend_after=0.001)
    recovery, depth = world.recovery(), {"q": 39}
    monkeypatch.setattr(recovery.inquiry.witness, "depths", lambda: depth)
    wait_until(lambda: store.recovery.read_backlog(10 * SECOND).has_activities)
    spent, read = [], store.recovery.due_activities

    def slowly(*args: Any) -> Any:
        clock.seconds += 0.4
        spent.append(0.4)
        return read(*args)

    monkeypatch.setattr(store.recovery, "due_activities", slowly)
    began = clock.seconds
    ticks(recovery, clock, 300)
    assert 5 <= len(spent) and sum(spent) <= (clock.seconds - began) / 10
    assert not world.publisher.activities
    # a queue that is found empty may have lost them: from then on they are looked at each time
    depth["q"] = 0
    ticks(recovery, clock, 8)
    assert len(world.publisher.activities) == 39
