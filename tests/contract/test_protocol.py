"""Ways in which an engine like this loses, doubles or blocks work, each shown not to happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.history import EventKind
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId, InboxKind
from celery_durable.errors import StoreError
from celery_durable.store import Store
from celery_durable.store.database import Statement
from celery_durable.store.schema import metadata
from tests.conftest import wait_until

from .builders import (
    SECOND,
    activity,
    at_once,
    begin,
    begin_join,
    event,
    everything,
    hold,
    kinds,
    new_instance,
    next_turn,
    record,
    rows,
    succeeded,
)
from .proxy import Wire
from .world import World, sig

TAKES_BOTH_WAYS = True


def while_locked(store: Store, statement: str, call: Callable[[], Any]) -> Any:
    """Call something while another transaction holds the rows that a statement locks."""
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(statement).fetchall()
        try:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(call).result(8)
        finally:
            connection.exec_driver_sql("ROLLBACK")


@pytest.fixture
def server_store(store: Store) -> Store:
    """A store with row locks."""
    if store.database.family == "sqlite":
        pytest.skip("SQLite locks the whole file")
    return store


LOCK_INSTANCE = "SELECT id FROM durable_instances WHERE id = 'i' FOR UPDATE"


# -- F1, F2: nobody waits for an instance ----------------------------------------------------------


def test_an_outcome_does_not_wait_for_a_turn(server_store: Store) -> None:
    execution = begin(server_store, activities=[activity(1), activity(2)])
    assert (
        while_locked(
            server_store, LOCK_INSTANCE, lambda: record(server_store, succeeded(execution, 1))
        )
        is not None
    )
    assert (
        while_locked(
            server_store,
            LOCK_INSTANCE,
            lambda: server_store.outcomes.record(succeeded(execution, 2)),
        )
        is not None
    )


def test_a_message_does_not_wait_for_the_turn_of_its_receiver(server_store: Store) -> None:
    begin(server_store)
    begin(server_store, "sender")
    assert while_locked(server_store, LOCK_INSTANCE, lambda: server_store.inbox.put([event()])) == 1
    turn = next_turn(server_store, "sender", other_inboxes=[event()])
    assert (
        while_locked(server_store, LOCK_INSTANCE, lambda: server_store.turns.commit(turn))
        is not None
    )
    assert len(kinds(server_store)) == 2


def test_a_member_of_a_join_does_not_wait_for_a_turn(server_store: Store) -> None:
    execution = begin_join(server_store, 1)
    record(server_store, succeeded(execution))
    assert while_locked(
        server_store, LOCK_INSTANCE, lambda: server_store.outcomes.finish_join(execution, "i", 1)
    )


def test_sweeps_do_not_wait_for_instances(server_store: Store) -> None:
    execution = begin(server_store, activities=[activity(is_sent=False)])
    server_store.inbox.put([event(check_after=0)])

    def sweep() -> list[Any]:
        hold(server_store, "gone", [ActivityAttemptId(execution, 1, 1)])
        (wake,) = server_store.recovery.due_wakes(10)
        return [
            server_store.workers.free_abandoned(0),
            server_store.recovery.move_wake(wake, SECOND),
            len(server_store.recovery.due_activities(10)),
        ]

    assert while_locked(server_store, LOCK_INSTANCE, sweep) == [1, True, 1]


def test_turns_that_cancel_and_outcomes_do_not_block_each_other(store: Store) -> None:
    commands = range(1, 21)
    execution = begin(store, activities=[activity(n) for n in commands])
    turns = [next_turn(store, canceled_commands=list(commands))]

    def outcomes(order: list[int]) -> list[bool]:
        return [record(store, succeeded(execution, n)) is not None for n in order]

    forward, backward, committed, freed = at_once(
        [
            lambda: outcomes(list(commands)),
            lambda: outcomes(list(commands)[::-1]),
            lambda: store.turns.commit(turns[0]),
            lambda: hold(store, "w", [ActivityAttemptId(execution, n, 1) for n in commands]),
        ]
    )
    assert committed is not None
    assert freed is None
    assert len(kinds(store)) == sum(forward) + sum(backward) <= len(commands)
    assert rows(store, "outbox") == []


def test_parent_and_child_that_message_each_other_at_once_do_not_block_each_other(
    store: Store,
) -> None:
    for id_ in ("p", "c"):
        begin(store, id_)
    for round_ in range(15):
        turns = [
            next_turn(store, "p", other_inboxes=[event("c", dedup=f"{round_}")], taken=[]),
            next_turn(store, "c", other_inboxes=[event("p", dedup=f"{round_}")], taken=[]),
        ]
        assert None not in at_once([lambda turn=turn: store.turns.commit(turn) for turn in turns])
    assert [len(kinds(store, id_)) for id_ in ("p", "c")] == [15, 15]


# -- F3: isolation and rollback --------------------------------------------------------------------


def test_every_transaction_is_read_committed(server_store: Store) -> None:
    def isolation(cursor: Any) -> str:
        question = (
            "SHOW transaction_isolation"
            if server_store.database.family == "postgresql"
            else "SELECT @@tx_isolation"
        )
        cursor.execute(question)
        return cursor.fetchone()[0]

    for run in (server_store.database.transact, server_store.database.read):
        assert run(isolation).lower().replace("-", " ") == "read committed"


def test_a_transaction_sees_what_others_commit_after_its_first_read(server_store: Store) -> None:
    begin(server_store)

    def look(cursor: Any) -> tuple[int, int]:
        counts = []
        for _ in range(2):
            cursor.execute("SELECT COUNT(*) FROM durable_inbox")
            counts.append(cursor.fetchone()[0])
            with ThreadPoolExecutor(1) as pool:
                pool.submit(server_store.inbox.put, [event()]).result(8)
        return tuple(counts)

    assert server_store.database.transact(look) == (0, 1)


def test_a_transaction_that_fails_leaves_nothing_to_the_next(store: Store) -> None:
    begin(store)

    class Stop(BaseException):
        pass

    def insert_and_stop(cursor: Any) -> None:
        store.inbox.put_within(cursor, [event()])
        raise Stop

    for _ in range(3):
        with pytest.raises(Stop):
            store.database.transact(insert_and_stop)
    assert store.now() > 0
    assert rows(store, "inbox") == []


def test_a_statement_that_waits_too_long_takes_its_whole_transaction_back(
    mariadb_store: Store,
) -> None:
    store = mariadb_store
    sa.event.listen(
        store.database.engine,
        "connect",
        lambda dbapi, _: dbapi.cursor().execute("SET SESSION innodb_lock_wait_timeout = 1"),
    )
    execution = begin(store, activities=[activity(1), activity(2)])
    store.database.dispose()
    turn = next_turn(store, canceled_commands=[1], own_inbox=[event(dedup="own")])
    tries = []
    real = store.database.run

    def run(cursor: Any, statement: Any, **parameters: Any) -> Any:
        if parameters.get("sequence") == turn.sequence and "SELECT status" in statement.sql:
            tries.append(statement)
        return real(cursor, statement, **parameters)

    store.database.run = run  # type: ignore[method-assign]
    with store.database.engine.connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(
            "SELECT command FROM durable_outbox WHERE command = 1 FOR UPDATE"
        ).fetchall()
        done = pool.submit(store.turns.commit, turn)
        wait_until(lambda: len(tries) > 1 or done.done(), 10)
        connection.exec_driver_sql("ROLLBACK")
        assert done.result(10) is not None
    assert len(tries) > 1
    assert [row["command"] for row in rows(store, "outbox")] == [2]
    assert [row["sequence"] for row in rows(store, "history")] == [1, 2]
    assert (kinds(store), execution) == (["EventRaised"], turn.execution)


# -- F6: a join that changes under a recorder ------------------------------------------------------


def test_an_outcome_that_rode_along_is_taken_when_its_join_dissolves(runner: World) -> None:
    @runner.orchestrator
    async def changing(ctx: Any) -> list[Any]:
        calls = [ctx.call(sig("work", n)) for n in range(2)]
        together = asyncio.create_task(collect(ctx, calls))
        await ctx.wait_event("go")
        ctx.set_status(await calls[0])
        return await together

    async def collect(ctx: Any, calls: list[Any]) -> list[Any]:
        return await ctx.all(calls)

    runner.tasks["work"] = lambda number: number
    runner.start("changing")
    runner.runner.run("i")
    first, second = list(runner.publisher.activities)
    assert {row["join_command"] for row in rows(runner.store, "outbox")} == {first.ticket.command}

    def outcome_comes_in() -> None:
        recorded = record(runner.store, runner.outcome_of(first))
        assert not recorded.wakes
        assert not runner.store.outcomes.finish_join(
            first.ticket.execution, "i", recorded.join_command
        )

    runner.raise_event("i", "go")
    runner.interpose("commit", before=outcome_comes_in)
    runner.runner.run("i")

    assert runner.custom_status() == 0
    runner.perform(second.ticket, second)
    assert runner.output() == [0, 1]


def test_a_member_that_is_tried_again_wakes_the_join_when_it_succeeds(runner: World) -> None:
    @runner.orchestrator
    async def patient(ctx: Any) -> list[Any]:
        policy = RetryPolicy(max_attempts=4, first_interval=0.005)
        return await ctx.all([ctx.call(sig("flaky", n), retry=policy) for n in range(3)])

    attempts: dict[int, int] = {}

    def flaky(number: int) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        if attempts[number] <= number:
            raise ValueError(number)
        return number

    runner.tasks["flaky"] = flaky
    runner.start("patient")
    runner.pump_to_end()
    assert runner.output() == [0, 1, 2]
    assert (rows(runner.store, "inbox"), rows(runner.store, "outbox")) == ([], [])


# -- F7: frozen holders ----------------------------------------------------------------------------


def test_a_turn_that_froze_and_commits_late_changes_nothing(store: Store) -> None:
    worlds = [World(store), World(store)]
    frozen, other = worlds
    other.registry = frozen.registry

    @frozen.orchestrator
    async def steps(ctx: Any) -> list[Any]:
        return [await ctx.wait_event("e"), ctx.set_status("one"), await ctx.wait_event("e")]

    other.runner.registry = other.runner.versions.registry = frozen.registry
    frozen.start("steps")
    frozen.pump()
    store.inbox.put([event(payload='"first"')])
    seen: list[Any] = []

    def other_is_faster() -> None:
        other.runner.run("i")
        seen.append(everything(store))

    frozen.interpose("commit", before=other_is_faster)
    frozen.runner.run("i")
    assert everything(store) == seen[0]
    assert frozen.client.fetch("i").sequence == 2
    frozen.raise_event("i", "e", "second")
    frozen.pump()
    assert frozen.output() == ["first", None, "second"]


def test_the_database_ends_a_transaction_whose_holder_froze(server_store: Store) -> None:
    names = {
        "postgresql": ["current_setting('idle_in_transaction_session_timeout')"],
        "mysql": ["@@idle_transaction_timeout", "@@idle_write_transaction_timeout"],
    }[server_store.database.family]

    def limits(cursor: Any) -> list[str]:
        cursor.execute(f"SELECT {', '.join(names)}")
        return [str(value) for value in cursor.fetchone()]

    assert set(server_store.database.transact(limits)) != {"0"}, (
        "a frozen holder would keep its rows for ever"
    )


def test_the_clock_is_not_read_in_local_time_of_which_an_hour_comes_twice_a_year(
    mariadb_store: Store,
) -> None:
    statement, database = Statement("SELECT {now}, {once}"), mariadb_store.database
    assert "UNIX_TIMESTAMP" not in statement.compiled(database)[0], (
        "the zone is the server's on a connection of others"
    )
    with database.cursor() as cursor:
        cursor.execute("SET time_zone = '-05:00'")
        now, once = database.run(cursor, statement).fetchone()
        cursor.execute("SET time_zone = '+00:00'")
    assert 0 <= now - once < SECOND and abs(now - time.time_ns() // 1000) < 60 * SECOND


# -- F9: poison ------------------------------------------------------------------------------------


def test_an_outcome_survives_a_turn_that_raises(runner: World) -> None:
    async def right(ctx: Any) -> list[Any]:
        return [await ctx.call(sig("charge")), await ctx.call(sig("ship"))]

    async def wrong(ctx: Any) -> list[Any]:
        return [await ctx.call(sig("ship")), await ctx.call(sig("charge"))]

    right.__name__ = wrong.__name__ = "order"
    runner.tasks.update(charge=lambda: "charged", ship=lambda: "shipped")
    runner.orchestrator(right)
    runner.start("order")
    runner.runner.run("i")
    runner.live.take_instance("i")
    runner.orchestrator(wrong)
    runner.pump()
    assert runner.status() is RuntimeStatus.SUSPENDED
    assert "NonDeterminismError" in (runner.client.fetch("i").reason or "")
    assert kinds(runner.store) == ["ActivityCompleted"]

    runner.orchestrator(right)
    runner.client.resume("i", "fixed")
    runner.pump()

    assert runner.output() == ["charged", "shipped"]
    assert runner.runs == {"charge": 1, "ship": 1}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("x" * 100_000, id="long"),
        pytest.param("nul \x00 inside", id="NUL"),
        pytest.param("half a \ud800 character", id="surrogate"),
    ],
)
def test_an_orchestrator_may_fail_with_any_message(runner: World, message: str) -> None:
    @runner.orchestrator
    async def failing(ctx: Any) -> None:
        raise ValueError(message)

    runner.start("failing")
    runner.pump()
    assert runner.status() is RuntimeStatus.FAILED


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(
            lambda ctx: ctx.signal_event("other", "n\x00"), id="an event with NUL in its name"
        ),
        pytest.param(
            lambda ctx: ctx.signal_event("o\x00", "e"), id="a receiver with NUL in its id"
        ),
        pytest.param(
            lambda ctx: ctx.call(sig("child", task_id="c" * 151)), id="a child with too long an id"
        ),
        pytest.param(
            lambda ctx: ctx.call(sig("child", task_id="c\x00")), id="a child with NUL in its id"
        ),
        pytest.param(
            lambda ctx: ctx.call(sig("work", queue="q" * 300)), id="a queue with a long name"
        ),
        pytest.param(lambda ctx: ctx.call(sig("t" * 300)), id="a task with a long name"),
    ],
)
def test_what_no_database_can_keep_stops_visibly_and_not_for_ever(
    runner: World, ask: Callable[[Any], Any]
) -> None:
    @runner.orchestrator
    async def asking(ctx: Any) -> None:
        ask(ctx)
        await ctx.wait_event("never")

    @runner.orchestrator
    async def child(ctx: Any) -> None:
        await ctx.wait_event("never")

    runner.start("asking")
    runner.pump()
    is_visible = runner.status() in (RuntimeStatus.SUSPENDED, RuntimeStatus.FAILED)
    is_kept = runner.status() is RuntimeStatus.RUNNING and all(
        row["id"] == "i" or row["id"].startswith("c" * 151) or "\x00" in row["id"]
        for row in rows(runner.store, "instances")
    )
    assert is_visible or is_kept, "cut off without a word"


def test_large_outcomes_that_come_in_together_do_not_block_a_turn(runner: World) -> None:
    @runner.orchestrator
    async def collecting(ctx: Any) -> int:
        return sum(len(text) for text in await ctx.all([ctx.call(sig("work")) for _ in range(4)]))

    runner.tasks["work"] = lambda: "x" * 3_000_000
    runner.start("collecting")
    runner.pump()
    assert runner.output() == 12_000_000


# -- F13, F14: what is judged to be lost -----------------------------------------------------------


def test_a_store_outage_is_no_proof_of_dead_workers(
    request: pytest.FixtureRequest, empty_postgres: str, open_url: Callable[..., Store]
) -> None:
    wire = Wire(empty_postgres)
    request.addfinalizer(wire.close)
    store = open_url(wire.url)
    runner = World(store, worker_lease=0.4, heartbeat_interval=0.02, resend_after=0.1)
    execution = begin(store, activities=[activity()])
    store.workers.heartbeat("other", "host")
    hold(store, "other", [ActivityAttemptId(execution, 1, 1)])
    recovery = runner.recovery()

    def tick() -> bool:
        try:
            recovery.tick(list, lambda _: None)
        except StoreError:
            return False
        return True

    def holder() -> str | None:
        return rows(store, "outbox")[0]["holder"]

    start = store.now()
    while store.now() < start + 500_000 and tick():
        store.workers.heartbeat("other", "host")
    assert holder() == "other"

    wire.go_down()
    down_until = time.monotonic() + 0.6
    wait_until(lambda: not tick() and time.monotonic() > down_until)
    wire.come_up()
    wait_until(tick)
    assert holder() == "other", "judged before this worker had spoken for a whole lease"

    wait_until(lambda: tick() and holder() is None, 10)


def test_an_activity_in_celerys_own_retry_is_not_sent_again(runner: World) -> None:
    execution = begin(runner.store, activities=[activity()])
    ticket = ActivityAttemptId(execution, 1, 1)
    hold(runner.store, "w", [ticket])
    runner.store.attempts.postpone(ticket, 7200 * SECOND, "w")
    recovery = runner.recovery()
    recovery.repair_activities()
    runner.store.workers.free_abandoned(0)
    recovery.repair_activities()
    assert not runner.publisher.activities
    assert runner.store.recovery.due_activities(10) == []


def test_an_activity_that_replaced_itself_is_not_sent_again(runner: World) -> None:
    execution = begin(runner.store, activities=[activity(timeout=SECOND // 100)])
    ticket = ActivityAttemptId(execution, 1, 1)
    hold(runner.store, "w", [ticket])
    runner.store.attempts.delegate(ticket)
    recovery = runner.recovery()

    def is_timed_out() -> bool:
        recovery.repair_activities()
        runner.store.workers.free_abandoned(0)
        return kinds(runner.store) == ["ActivityFailed"]

    wait_until(is_timed_out, 10)
    assert not runner.publisher.activities


# -- F4, F18, recovery: what is looked at ----------------------------------------------------------


def test_messages_of_a_suspended_instance_are_not_swept(runner: World) -> None:
    @runner.orchestrator
    async def waiting(ctx: Any) -> Any:
        first = await ctx.any([ctx.sleep(0.3), ctx.wait_event("never")])
        return [first, await ctx.wait_event("e")]

    runner.start("waiting")
    runner.pump()
    runner.client.suspend("i", "later")
    assert {row["check_at"] for row in rows(runner.store, "inbox")} == {None}
    runner.raise_event("i", "e", 1)
    recovery = runner.recovery()
    (late,) = [row for row in rows(runner.store, "inbox") if row["check_at"] is not None]
    with runner.store.database.engine.begin() as connection:
        connection.execute(
            sa.update(metadata.tables["durable_inbox"])
            .where(sa.column("id") == late["id"])
            .values(check_at=1)
        )
    assert recovery.repair_wakes() == 1
    assert recovery.repair_wakes() == 0
    assert runner.store.recovery.read_backlog(60_000_000)[:2] == (False, False)
    runner.publisher.forget()

    runner.client.resume("i", None)
    runner.pump_until(
        lambda: (recovery.repair_wakes(), runner.status() is RuntimeStatus.COMPLETED)[-1]
    )
    assert runner.output() == [None, 1]


def test_a_join_is_still_looked_after_when_its_instance_was_suspended_for_a_while(
    runner: World,
) -> None:
    @runner.orchestrator
    async def fan_in(ctx: Any) -> list[Any]:
        return await ctx.all([ctx.call(sig("work", n)) for n in range(2)])

    runner.tasks["work"] = lambda number: number
    runner.start("fan_in")
    runner.runner.run("i")
    runner.client.suspend("i", "later")
    runner.client.resume("i", None)
    while runner.publisher.turns:
        runner.runner.run(runner.publisher.turns.popleft()[0].id)
    for row in runner.publisher.activities:
        # and dies before it asks whether it was the last
        record(runner.store, runner.outcome_of(row))
    runner.publisher.forget()
    (join,) = [row for row in rows(runner.store, "inbox") if row["kind"] == InboxKind.JOIN]
    assert join["check_at"] is not None, "nobody would ever look at this join again"


def test_a_far_timer_is_not_sent_as_a_message_after_a_suspension(runner: World) -> None:
    @runner.orchestrator
    async def sleeper(ctx: Any) -> None:
        await ctx.sleep(30 * 86_400)

    runner.start("sleeper")
    runner.pump()
    runner.client.suspend("i", "later")
    runner.client.resume("i", None)
    runner.pump()
    runner.publisher.forget()
    recovery = runner.recovery()
    due = rows(runner.store, "inbox")[0]["check_at"]
    if due is not None and due < runner.store.now() + 60 * SECOND:
        wait_until(recovery.repair_wakes, 20)
    horizon = runner.settings.timer_horizon * SECOND
    assert [delay for _, delay, _ in runner.publisher.turns if delay > horizon] == []


def test_a_lost_broker_loses_no_orchestration(store: Store) -> None:
    runner = World(store, resend_after=0.05, heartbeat_interval=0.1, recovery_interval=0.1)

    @runner.orchestrator
    async def everything_(ctx: Any) -> list[Any]:
        one = await ctx.call(sig("work", 1))
        many = await ctx.all([ctx.call(sig("work", n)) for n in range(3)])
        mapped = await ctx.map(sig("work"), range(4), concurrency=2)
        await ctx.sleep(0.02)
        return [one, many, mapped, await ctx.call(sig("child"))]

    @runner.orchestrator
    async def child(ctx: Any) -> int:
        return await ctx.call(sig("work", 7))

    runner.tasks["work"] = lambda number: number
    recovery = runner.recovery()

    def hurry() -> None:
        now = store.now()
        with store.database.engine.begin() as connection:
            for name in ("durable_inbox", "durable_outbox"):
                table = metadata.tables[name]
                connection.execute(
                    sa.update(table).where(table.c.check_at > now).values(check_at=now)
                )

    def goes_on() -> bool:
        runner.publisher.forget()
        hurry()
        recovery.repair_wakes()
        recovery.repair_activities()
        runner.step()
        return runner.status() is RuntimeStatus.COMPLETED

    runner.start("everything_")
    wait_until(goes_on, 40)
    assert runner.output() == [1, [0, 1, 2], [0, 1, 2, 3], 7]


# -- F19: tables that stay small -------------------------------------------------------------------


def test_turns_touch_no_index_of_instances(postgres_store: Store) -> None:
    columns = sa.inspect(postgres_store.database.engine)
    indexed = {
        name for index in columns.get_indexes("durable_instances") for name in index["column_names"]
    }
    assert indexed.isdisjoint(
        {"status", "sequence", "updated_at", "reason", "output", "completed_at", "started_at"}
    )


def test_time_limits_of_activities_are_no_timers(runner: World) -> None:
    @runner.orchestrator
    async def fan_out(ctx: Any) -> None:
        await ctx.all([ctx.call(sig("work", n), timeout=60) for n in range(20)])

    runner.tasks["work"] = lambda number: number
    runner.start("fan_out")
    runner.runner.run("i")
    assert kinds(runner.store) == [InboxKind.JOIN]
    assert None not in {row["deadline_at"] for row in rows(runner.store, "outbox")}
    before = runner.client.fetch("i").sequence
    runner.pump()
    assert runner.status() is RuntimeStatus.COMPLETED
    assert runner.client.fetch("i").sequence == before + 1


# -- F26, F27: events ------------------------------------------------------------------------------


def test_an_event_is_taken_once_also_after_it_was_consumed(runner: World) -> None:
    @runner.orchestrator
    async def counting(ctx: Any) -> list[Any]:
        return [await ctx.wait_event("e") for _ in range(2)]

    runner.start("counting")
    for data in (1, 2, 3):
        runner.raise_event("i", "e", data, event_id="same")
        runner.pump()
    runner.live.take_instance("i")
    runner.raise_event("i", "e", 4, event_id="same")
    runner.raise_event("i", "e", 5, event_id="other")
    runner.pump()
    assert runner.output() == [1, 5]


def test_events_survive_a_continue_as_new_in_order(runner: World) -> None:
    @runner.orchestrator
    async def rounds(ctx: Any, seen: list[Any]) -> list[Any]:
        seen = [*seen, await ctx.wait_event("e")]
        if len(seen) < 5:
            ctx.continue_as_new(seen)
        return seen

    runner.start("rounds", [])
    for number in range(3):
        runner.raise_event("i", "e", number)

    def event_comes_in() -> None:
        runner.store.inbox.put([event(payload="3", name="e")])

    runner.interpose("commit", before=event_comes_in)
    runner.pump()
    runner.raise_event("i", "e", 4)
    runner.pump()
    assert runner.output() == [0, 1, 2, 3, 4]
    assert rows(runner.store, "inbox") == []


def test_a_wish_to_cancel_survives_a_continue_as_new_of_the_same_turn(runner: World) -> None:
    @runner.orchestrator
    async def rounds(ctx: Any) -> None:
        await ctx.wait_event("e")
        ctx.continue_as_new()

    runner.start("rounds")
    runner.pump()
    runner.raise_event("i", "e")
    runner.client.cancel("i", "enough")
    runner.pump()
    assert runner.status() is RuntimeStatus.CANCELED


def test_what_an_execution_waited_for_means_nothing_to_the_next(runner: World) -> None:
    @runner.orchestrator
    async def rounds(ctx: Any, number: int) -> Any:
        call = ctx.call(sig("work", number))
        if number == 0:
            await ctx.wait_event("go")
            ctx.continue_as_new(1)
        return await call

    runner.tasks["work"] = lambda number: number
    runner.start("rounds", 0)
    runner.runner.run("i")
    (old,) = runner.publisher.activities
    runner.publisher.activities.clear()
    runner.raise_event("i", "go")
    runner.pump_until(lambda: runner.status() is RuntimeStatus.COMPLETED)
    assert runner.output() == 1
    assert not runner.perform(old.ticket, old)


# -- F28: whose clock ------------------------------------------------------------------------------


def test_only_the_clock_of_the_database_counts(
    server_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = World(server_store)

    @runner.orchestrator
    async def timed(ctx: Any) -> list[float]:
        began = ctx.now()
        await ctx.call(sig("work"))
        middle = ctx.now()
        await ctx.sleep(0.05)
        return [(middle - began).total_seconds(), (ctx.now() - middle).total_seconds()]

    runner.tasks["work"] = lambda: None
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + 300)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + 300 * 10**9)
    before = server_store.now()
    runner.start("timed")
    runner.runner.run("i")
    monkeypatch.setattr(time, "time", lambda: real() - 300)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - 300 * 10**9)
    runner.pump_to_end()
    first, second = runner.output()
    assert 0 <= first < 5
    assert 0.05 <= second < 5
    found = runner.client.fetch("i")
    assert (
        before <= found.created_at <= found.started_at <= found.completed_at <= server_store.now()
    )
    moments = [event.at for event in runner.events()]
    assert moments == sorted(moments)
    assert all(before <= moment <= server_store.now() for moment in moments)


def test_a_timer_is_never_early(runner: World) -> None:
    @runner.orchestrator
    async def sleeper(ctx: Any) -> float:
        began = ctx.now()
        await ctx.sleep(0.03)
        return (ctx.now() - began).total_seconds()

    runner.start("sleeper")
    runner.runner.run("i")
    (timer,) = [row for row in rows(runner.store, "inbox") if row["kind"] == EventKind.TIMER_FIRED]
    while runner.status() is RuntimeStatus.RUNNING:
        before = runner.store.now()
        runner.runner.run("i")
        if runner.status() is not RuntimeStatus.RUNNING:
            assert runner.client.fetch("i").completed_at >= timer["visible_at"]
        else:
            assert before <= timer["visible_at"] + SECOND
    assert runner.output() == 0.03


# -- F30: order within a batch ---------------------------------------------------------------------


def test_what_happened_first_is_applied_first_after_a_downtime(runner: World) -> None:
    @runner.orchestrator
    async def racing(ctx: Any) -> str:
        call = ctx.call(sig("work"))
        timer = ctx.sleep(3600)
        await ctx.any([call, timer], cancel_losers=False)
        return "in time" if call.done() else "too late"

    runner.tasks["work"] = lambda: None
    for id_, is_late in (("in time", False), ("too late", True)):
        runner.start("racing", id_=id_)
        runner.runner.run(id_)
        row = runner.publisher.activities.pop()
        record(runner.store, runner.outcome_of(row))
        now = runner.store.now()
        table = metadata.tables["durable_inbox"]
        for kind, moment in (
            (EventKind.ACTIVITY_COMPLETED, now - 50),
            (EventKind.TIMER_FIRED, now - (90 if is_late else 10)),
        ):
            with runner.store.database.engine.begin() as connection:
                connection.execute(
                    sa.update(table)
                    .where(table.c.instance == id_, table.c.kind == str(kind))
                    .values(visible_at=moment)
                )
        runner.runner.run(id_)
        assert runner.output(id_) == id_


def test_an_event_at_the_very_moment_of_a_timer_comes_first(runner: World) -> None:
    @runner.orchestrator
    async def racing(ctx: Any) -> Any:
        return await ctx.wait_event("e", timeout=3600)

    runner.start("racing")
    runner.runner.run("i")
    moment = runner.store.now()
    table = metadata.tables["durable_inbox"]
    with runner.store.database.engine.begin() as connection:
        connection.execute(sa.update(table).values(visible_at=moment))
    runner.store.inbox.put([event(payload='"came"', visible_at=moment)])
    runner.runner.run("i")
    assert runner.output() == "came"


# -- F36: ends -------------------------------------------------------------------------------------


def test_terminating_deletes_what_is_outstanding_and_tells_the_children_in_one_commit(
    runner: World,
) -> None:
    @runner.orchestrator
    async def parent(ctx: Any) -> None:
        await asyncio.gather(
            ctx.call(sig("work")), ctx.call(sig("child", task_id="c")), ctx.sleep(3600)
        )

    @runner.orchestrator
    async def child(ctx: Any) -> None:
        await ctx.call(sig("work"))

    runner.tasks["work"] = lambda: None
    runner.start("parent")
    while runner.publisher.turns:
        address, delay, _ = runner.publisher.turns.popleft()
        runner.runner.run(address.id)
    rows_of = {row.instance: row for row in runner.publisher.activities}
    assert sorted(rows_of) == ["c", "i"]
    assert kinds(runner.store, "i") == [EventKind.TIMER_FIRED]

    seen: list[Any] = []
    runner.interpose(
        "commit", after=lambda: seen.append((kinds(runner.store, "c"), kinds(runner.store, "i")))
    )
    snapshot = runner.store.turns.load("i", None)
    assert runner.runner.lifecycle.end(snapshot, "enough", None)
    assert seen == [([InboxKind.TERMINATE], [])]
    assert not runner.perform(rows_of["i"].ticket, rows_of["i"])
    assert record(runner.store, runner.outcome_of(rows_of["i"])) is None
    runner.pump()
    assert (runner.status("i"), runner.status("c")) == (
        RuntimeStatus.TERMINATED,
        RuntimeStatus.TERMINATED,
    )
    assert (rows(runner.store, "inbox"), rows(runner.store, "outbox")) == ([], [])


def test_a_restarted_life_is_not_robbed_by_a_late_look_at_the_old_one(runner: World) -> None:
    """A turn that reads the old, finished life must not delete the start message of the new one."""

    @runner.orchestrator
    async def short(ctx: Any, value: int) -> int:
        return value

    runner.start("short", 1)
    runner.pump()
    real, is_done = runner.store.database.run, []

    def run(cursor: Any, statement: Any, **parameters: Any) -> Any:
        result = real(cursor, statement, **parameters)
        if (
            not is_done
            and "FROM durable_instances i WHERE i.id" in statement.sql
            and parameters.get("id") == "i"
        ):
            is_done.append(True)
            fetched = result.fetchall()
            other = Store(runner.store.database)
            new = new_instance("i", name="short", input="[[2], {}]")
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(other.starts.replace, new).result(10) is not None
            return Fetched(fetched)
        return result

    runner.store.database.run = run  # type: ignore[method-assign]
    runner.runner.run("i")
    runner.store.database.run = real  # type: ignore[method-assign]
    runner.runner.run("i")
    assert is_done
    assert runner.output() == 2


class Fetched:
    """The rows of a query that were read already."""

    def __init__(self, found: list[Any]) -> None:
        self.found = found

    def fetchone(self) -> Any:
        return self.found[0] if self.found else None

    def fetchall(self) -> list[Any]:
        return self.found


def test_a_message_to_an_instance_that_has_just_ended_is_cleared_away(runner: World) -> None:
    @runner.orchestrator
    async def short(ctx: Any) -> None:
        await ctx.wait_event("end")

    runner.start("short")
    runner.pump()
    runner.raise_event("i", "end")
    runner.interpose(
        "commit",
        before=lambda: runner.store.inbox.put(
            [event(check_after=0), event(visible_at=runner.store.now())]
        ),
    )
    runner.pump()
    assert runner.status() is RuntimeStatus.COMPLETED
    runner.runner.run("i")
    runner.recovery().repair_wakes()
    assert rows(runner.store, "inbox") == []


def test_a_purged_instance_can_be_started_again_without_meeting_its_past(runner: World) -> None:
    @runner.orchestrator
    async def working(ctx: Any) -> int:
        return await ctx.call(sig("work"))

    runner.tasks["work"] = lambda: runner.runs["work"]
    runner.start("working")
    runner.runner.run("i")
    (old,) = runner.publisher.activities
    runner.publisher.activities.clear()
    runner.client.terminate("i", None, None)
    runner.client.purge("i")
    assert runner.status() is None
    runner.start("working")
    runner.runner.run("i")
    assert not runner.perform(old.ticket, old)
    assert record(runner.store, succeeded(old.ticket.execution, old.ticket.command)) is None
    runner.pump()
    assert runner.output() == 1


def test_a_publisher_that_fails_after_the_commit_leaves_the_rest_to_recovery(runner: World) -> None:
    @runner.orchestrator
    async def working(ctx: Any) -> int:
        return await ctx.call(sig("work"))

    runner.tasks["work"] = lambda: 5
    runner.publisher.is_broken = True
    runner.start("working")
    runner.runner.run("i")
    assert rows(runner.store, "outbox")[0]["sent_at"] is None
    runner.publisher.is_broken = False
    recovery = runner.recovery()
    wait_until(
        lambda: (
            recovery.repair_activities(),
            runner.pump(),
            runner.status() is RuntimeStatus.COMPLETED,
        )[-1],
        10,
    )
    assert runner.output() == 5


def test_only_so_many_activities_of_one_commit_are_presumed_sent(runner: World) -> None:
    @runner.orchestrator
    async def wide(ctx: Any) -> None:
        await ctx.all([ctx.call(sig("work", n)) for n in range(1_010)])

    runner.start("wide")
    runner.runner.run("i")
    assert len(runner.publisher.activities) == 1_000
    assert sum(row["sent_at"] is None for row in rows(runner.store, "outbox")) == 10
    due = [each for each in runner.store.recovery.due_activities(2_000) if each.sent_at is None]
    assert [each.row.ticket.command for each in due] == list(range(1_001, 1_011))
