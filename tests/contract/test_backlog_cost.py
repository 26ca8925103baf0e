"""A backlog costs recovery nothing: activities that merely wait in a queue are neither read nor
written, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.engine.due import Lost
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.recovery import Recovery
from celery_durable.engine.registry import Definition
from celery_durable.store import Store, checks
from celery_durable.store.schema import inbox, instances, metadata, outbox
from celery_durable.store.statements import Statement

from .builders import SECOND, activity, begin, event
from .counting import Clock, ticks
from .world import RecordingPublisher, World

LEASE = 10 * SECOND
MINUTE = 60 * SECOND


def queue_up(store: Store, number: int, **values: Any) -> None:
    """Let that many activities wait that were sent long ago, and taken by nobody."""
    now = store.now()
    row: dict[str, Any] = {
        "execution": "backlog",
        "attempt": 1,
        "instance": "i",
        "kind": "activity",
        "name": "task",
        "queue": "celery",
        "is_held": False,
        "is_delegated": False,
        "sends": 0,
        "sent_at": now - 10 * MINUTE,
        "deadline_at": now + 60 * MINUTE,
        "start_by": now + 30 * MINUTE,
        **values,
    }
    look = now - 9 * MINUTE
    rows = [
        {**row, "command": command, "check_at": look + command} for command in range(1, number + 1)
    ]
    with store.database.engine.begin() as connection:
        connection.execute(outbox.insert(), rows)


def has_partial_indexes(store: Store) -> bool:
    return store.database.family != "mysql"


# -- the same rows, by whatever index --------------------------------------------------------------


OF_ACTIVITIES = ("is_delegated", "holder", "crashes", "deadline_at", "start_by")


def every_row(now: int) -> list[dict[str, Any]]:
    """Return a row for each combination of what decides whether recovery looks at it."""
    choices: dict[str, list[Any]] = {
        "kind": ["activity", "finish"],
        "queue": [None, "a", "b", "c"],
        "gate": [None, "limit"],
        "is_delegated": [False, True],
        "sent_at": [None, now - MINUTE],
        "holder": [None, "w"],
        "check_at": [None, now - 3 * MINUTE, now - 30 * SECOND, now - SECOND, now + MINUTE],
        "crashes": [None, 1],
        "deadline_at": [None, now - 5, now + MINUTE],
        "start_by": [None, now - 4, now + MINUTE],
    }
    # a last message is only sent
    plain = {name: values[0] for name, values in choices.items() if name in OF_ACTIVITIES}
    rows = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    return [
        {
            **row,
            "execution": "e",
            "command": command,
            "attempt": 1,
            "instance": "i",
            "name": "task",
            "is_held": False,
            "sends": 0,
        }
        for command, row in enumerate(rows, 1)
        if row["kind"] == "activity" or row == row | plain
    ]


@pytest.fixture
def all_kinds(store: Store) -> list[dict[str, Any]]:
    """The rows that lie in the store's outbox, in their order: of equals PostgreSQL gives first what
    lies first, which is anywhere once pages of deleted rows are used again.
    """
    rows = every_row(store.now())
    with store.database.engine.begin() as connection:
        if store.database.family == "postgresql":
            connection.exec_driver_sql("TRUNCATE durable_outbox")
        connection.execute(outbox.insert(), rows)
    return rows


def found(store: Store, statement: Statement, limit: int, **bounds: Any) -> list[tuple[Any, ...]]:
    rows = store.database.read(
        lambda cursor: store.database.run(cursor, statement, limit=limit, **bounds).fetchall()
    )
    return [tuple(row[:-1]) for row in rows]


def test_what_is_due_is_the_same_by_whatever_index_it_is_found(
    store: Store, all_kinds: list[dict[str, Any]]
) -> None:
    now, many = store.now(), len(all_kinds) + 1
    for rest, *moments in product([0, now - MINUTE, now - 10 * SECOND], repeat=3):
        bounds: dict[str, Any] = {"rest": rest}
        for number, (queue, moment) in enumerate(zip("ab", moments, strict=True)):
            bounds |= {f"queue{number}": queue, f"bound{number}": moment}
        by_one = found(store, checks.due_by_one_index(2), many, **bounds)
        assert len(by_one) > 500
        assert found(store, checks.due_if_lost(2), many, **bounds) == by_one
        assert found(store, checks.due_if_lost(2), 70, **bounds) == by_one[:70]
    for_all = found(store, checks.due_by_one_index(None), many, rest=0)
    assert found(store, checks.DUE_ACTIVITIES, many) == for_all


def test_a_row_that_is_looked_at_is_in_one_index_of_two(
    store: Store, all_kinds: list[dict[str, Any]]
) -> None:
    """So writing it costs what it cost when there was one for all."""
    looked_at = {
        row["command"] for row in all_kinds if row["check_at"] is not None and row["gate"] is None
    }

    def commands(condition: str) -> list[int]:
        sql = f"SELECT command FROM durable_outbox WHERE {condition}"
        with store.database.engine.connect() as connection:
            return list(connection.scalars(sa.text(sql)))

    queued, others = commands(checks.QUEUED), commands(checks.CHECKED)
    assert queued and others and not set(queued) & set(others)
    assert {*queued, *others} == looked_at


@pytest.mark.parametrize("queue", [None, "a", "z"])
@pytest.mark.parametrize(
    ("due", "is_another"),
    [
        ({"check_at": -1}, False),
        ({"check_at": -1, "deadline_at": 1}, False),
        ({"check_at": -1, "deadline_at": -1}, True),
        ({"check_at": -1, "start_by": -1}, True),
        ({"check_at": -1, "sent_at": None}, True),
        ({"check_at": -1, "holder": "w"}, True),
        ({"check_at": 1}, None),
        ({"check_at": 1, "holder": "w"}, None),
        ({"check_at": None, "holder": "w"}, None),
    ],
)
def test_a_look_tells_what_merely_waits_from_what_does_not(
    store: Store, queue: str | None, due: dict[str, Any], is_another: bool | None
) -> None:
    # what comes later in other queues hides nothing
    for number, other in enumerate(["b", "m", None]):
        queue_up(store, 1, queue=other, execution=f"other {number}")
    with store.database.engine.begin() as connection:
        connection.execute(outbox.update().values(check_at=store.now() + 60 * MINUTE))
    assert not store.recovery.read_backlog(LEASE).has_activities
    queue_up(store, 1, queue=queue, deadline_at=None, start_by=None)
    now = store.now()
    moments = {
        name: now + moment * MINUTE if isinstance(moment, int) else moment
        for name, moment in due.items()
    }
    with store.database.engine.begin() as connection:
        connection.execute(outbox.update().where(outbox.c.execution == "backlog").values(**moments))
    backlog = store.recovery.read_backlog(LEASE)
    assert backlog.has_activities is (is_another is not None)
    if has_partial_indexes(store):
        assert backlog.has_others is bool(is_another)
    else:
        assert backlog.has_others is None


# -- what is read ----------------------------------------------------------------------------------


def explained(store: Store, statement: Statement, **values: Any) -> dict[str, Any]:
    """Return the plan by which PostgreSQL has run a statement."""
    sql, _ = statement.compiled(store.database)
    with store.database.cursor() as cursor:
        cursor.execute(sql, values)
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, values)
        (plan,) = cursor.fetchone()
    root: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return root


def rows_read(plan: dict[str, Any]) -> float:
    """Return how many rows of the outbox were read, those that were then left out as well."""
    own = 0.0
    if plan.get("Relation Name") == "durable_outbox":
        rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = rows * plan["Actual Loops"]
    return own + sum(rows_read(part) for part in plan.get("Plans", ()))


@pytest.fixture
def postgres(empty_postgres: str, open_url: Any) -> Store:
    """A PostgreSQL store, whose plans tell how many rows were read."""
    opened: Store = open_url(empty_postgres)
    return opened


def settle(store: Store) -> None:
    """Free all tables of the rows that tests before this one have left dead."""
    with store.database.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {', '.join(metadata.tables)}")


def test_rows_that_merely_wait_are_not_read(postgres: Store) -> None:
    queue_up(postgres, 3_000)
    queue_up(postgres, 1_000, execution="elsewhere", queue="other")
    queue_up(postgres, 1_000, execution="nowhere", queue=None)
    settle(postgres)
    look = explained(postgres, checks.LOOK, worker="w")
    # of each queue, and of each limit, the first, and each queue's name
    assert rows_read(look) <= 8
    assert look["Shared Hit Blocks"] + look["Shared Read Blocks"] <= 60
    # other queues were found empty just now, this one was not since the first was to be looked at
    before = postgres.now() - 20 * MINUTE
    bounds = {"queue0": "celery", "bound0": before, "queue1": "celery.turns"}
    bounds |= {"bound1": postgres.now(), "rest": before}
    due = explained(postgres, checks.due_if_lost(2), limit=500, **bounds)
    assert rows_read(due) == 0
    assert due["Shared Hit Blocks"] + due["Shared Read Blocks"] <= 30


def test_the_count_of_rows_read_sees_those_that_wait(postgres: Store) -> None:
    queue_up(postgres, 3_000)
    settle(postgres)
    bounds = {"queue0": "celery", "bound0": 1, "rest": 0, "limit": 500}
    assert rows_read(explained(postgres, checks.due_by_one_index(1), **bounds)) == 3_000
    bounds["bound0"] = postgres.now()
    # those that are lost: once to find them, once to read them
    assert rows_read(explained(postgres, checks.due_if_lost(1), **bounds)) >= 500


def test_sqlite_finds_each_reason_by_its_index(empty_sqlite: str, open_url: Any) -> None:
    store: Store = open_url(empty_sqlite)
    queue_up(store, 10)

    def plan(statement: Statement, **values: Any) -> list[str]:
        sql, order = statement.compiled(store.database)
        given = [values[name] for name in order or ()]
        with store.database.cursor() as cursor:
            rows = cursor.execute(f"EXPLAIN QUERY PLAN {sql}", given).fetchall()
        return [row[-1] for row in rows]

    bounds = {"queue0": "celery", "bound0": 1, "rest": 0, "limit": 500}
    for lines in (plan(checks.due_if_lost(1), **bounds), plan(checks.LOOK, worker="w")):
        used = [line for line in lines if " o " in line or "durable_outbox" in line]
        assert all(" INDEX " in line for line in used), used
        for name in ("checked", "queued", "deadline", "start_by"):
            assert any(f"durable_outbox_{name} " in line for line in used), (name, used)


def test_sqlite_takes_as_many_steps_however_much_waits(empty_sqlite: str, open_url: Any) -> None:
    store: Store = open_url(empty_sqlite)
    taken: dict[int, list[int]] = {}
    for number in (500, 5_000):
        queue_up(store, number, execution=f"{number}")
        queue_up(store, number, execution=f"other {number}", queue="other")
        before = store.now() - 20 * MINUTE
        lost = Lost({"celery": before, "celery.turns": store.now()}, before)
        taken[number] = [
            steps(store, lambda: store.recovery.read_backlog(LEASE)),
            steps(store, lambda lost=lost: store.recovery.due_activities(500, lost)),
        ]
        assert steps(store, lambda: store.recovery.due_activities(500)) > 5_000
    for few, many in zip(*taken.values(), strict=True):
        assert 0 < many <= few + 50


def steps(store: Store, work: Callable[[], object]) -> int:
    """Return how many steps of its machine SQLite takes for something."""
    taken = [0]
    with store.database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection

    def step() -> None:
        taken[0] += 1

    driver.set_progress_handler(step, 1)
    work()
    driver.set_progress_handler(None, 0)
    return taken[0]


# -- a worker beside a backlog ---------------------------------------------------------------------


def beside(store: Store, depths: Any, clock: Clock, seconds: int) -> Recovery:
    """Let recovery of a worker run beside a backlog, for as long as it takes to calm down."""
    recovery = World(store).recovery()
    recovery.inquiry.witness.depths = depths
    ticks(recovery, clock, seconds)
    return recovery


@pytest.mark.parametrize("number", [10, 3_000])
def test_a_backlog_costs_two_statements_a_second_at_most(
    store: Store, statements: list[str], clock: Clock, number: int
) -> None:
    queue_up(store, number)
    recovery = beside(store, lambda: {"celery": number, "celery.turns": 0}, clock, 20)
    statements.clear()

    ticks(recovery, clock, 600)

    about_others = ("durable_workers", "durable_meta", "durable_instances")
    assert len(statements) <= 2 * 600, statements[-10:]
    changes = [sql for sql in statements if "UPDATE" in sql or "INSERT" in sql or "DELETE" in sql]
    assert not [sql for sql in changes if not any(name in sql for name in about_others)]
    with store.database.engine.connect() as connection:
        sent = connection.execute(sa.select(sa.func.sum(outbox.c.sends))).scalar_one()
    assert sent == 0


def test_what_does_not_merely_wait_is_met_at_once_beside_a_backlog(
    store: Store, clock: Clock
) -> None:
    queue_up(store, 50)
    recovery = beside(store, lambda: {"celery": 50}, clock, 20)
    assert isinstance(recovery.publisher, RecordingPublisher)
    for number in range(8):
        ticks(recovery, clock, number)
        execution = begin(store, f"i{number}", activities=[activity(is_sent=False)])
        # where all rows are in one index, a worker looks the more rarely, the more there are
        ticks(recovery, clock, 2 if has_partial_indexes(store) else 8)
        (row,) = recovery.publisher.activities
        assert row.ticket.execution == execution
        recovery.publisher.activities.clear()


def test_a_long_queue_that_is_suddenly_empty_is_looked_at_at_once(
    store: Store, clock: Clock
) -> None:
    queue_up(store, 50)
    depths = {"celery": 50, "celery.turns": 3}
    recovery = beside(store, lambda: depths, clock, 20)
    assert isinstance(recovery.publisher, RecordingPublisher)
    for number in range(6):
        ticks(recovery, clock, number)
        assert not recovery.publisher.activities
        depths["celery"] = 0
        ticks(recovery, clock, 4)
        assert len(recovery.publisher.activities) == 50
        recovery.publisher.activities.clear()
        depths["celery"] = 50
        with store.database.engine.begin() as connection:
            connection.execute(outbox.update().values(check_at=store.now() - 1))
        ticks(recovery, clock, 20)


def test_a_turn_that_is_lost_beside_a_backlog_is_sent_again_without_a_rest(
    store: Store, clock: Clock
) -> None:
    queue_up(store, 50)
    recovery = beside(store, lambda: {"celery": 50, "celery.turns": 0}, clock, 20)
    publisher = recovery.publisher
    assert isinstance(publisher, RecordingPublisher)
    publisher.turn_queue_of = lambda queue: f"{queue}.turns"  # type: ignore[method-assign]
    recovery.registry.add(Definition("orchestrator", None, lambda: None))
    for number in range(6):
        ticks(recovery, clock, number)
        begin(store, f"i{number}")
        with store.database.engine.begin() as connection:
            connection.execute(instances.update().values(queue="celery"))
        store.inbox.put([event(f"i{number}", check_after=0)])
        ticks(recovery, clock, 4)
        assert [address.id for address, *_ in publisher.turns] == [f"i{number}"]
        publisher.turns.clear()
        with store.database.engine.begin() as connection:
            connection.execute(inbox.delete())
        ticks(recovery, clock, 20)


def test_what_a_worker_has_is_said_in_a_statement_for_all(
    store: Store, statements: list[str]
) -> None:
    queue_up(store, 60)
    hands = [ActivityAttemptId("backlog", number, 1) for number in range(1, 48)]
    instances_of_turns = [f"i{number}" for number in range(7)]
    before = store.now()
    statements.clear()
    store.workers.keep(hands, instances_of_turns, MINUTE)
    assert len([sql for sql in statements if "UPDATE" in sql]) == 2
    with store.database.engine.connect() as connection:
        kept = connection.scalars(sa.select(outbox.c.command).where(outbox.c.check_at > before))
        assert sorted(kept) == list(range(1, 48))
