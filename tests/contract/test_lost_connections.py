"""A connection that ends at the worst moment: after the commit, before the answer.

And databases that go away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.writes import TurnCommit
from celery_durable.errors import StoreError
from celery_durable.store import Store
from tests.conftest import wait_until

from .builders import (
    MOVING,
    SECOND,
    activity,
    begin,
    begin_join,
    event,
    kinds,
    new_instance,
    next_turn,
    note,
    record,
    rows,
    succeeded,
    take,
)
from .proxy import Wire
from .world import World, sig


@pytest.fixture(params=["postgres", "mariadb"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A wire to an empty store."""
    wire = Wire(request.getfixturevalue(f"empty_{request.param}"))
    yield wire
    wire.close()


@pytest.fixture
def wired(wire: Wire, open_url: Callable[..., Store]) -> Store:
    """A store at the end of that wire."""
    return open_url(wire.url)


# -- a commit whose answer is lost -----------------------------------------------------------------


def cut(wire: Wire, call: Callable[[], Any]) -> Any:
    """Call something, and lose the answer to its first commit."""
    wire.cut_after_commit()
    result = call()
    assert wire.cuts == 1
    return result


def test_a_start_whose_answer_is_lost_is_recognised_as_ours(wire: Wire, wired: Store) -> None:
    wired.now()
    assert cut(wire, lambda: wired.starts.insert(new_instance()))
    assert kinds(wired) == ["ExecutionStarted"]


def test_a_delayed_start_whose_answer_is_lost_is_recognised_as_ours(
    wire: Wire, wired: Store
) -> None:
    start_at = wired.now() + SECOND
    assert cut(wire, lambda: wired.starts.insert(new_instance(start_at=start_at)))


@pytest.mark.parametrize("messages", [0, 1])
def test_a_start_with_its_first_turn_whose_answer_is_lost_is_recognised_as_ours(
    wire: Wire, wired: Store, messages: int
) -> None:
    new = new_instance()
    turn = TurnCommit(
        new.id,
        new.execution,
        0,
        MOVING,
        note(),
        status=RuntimeStatus.RUNNING,
        activities=[activity()],
        own_inbox=[event(visible_at=wired.now() + SECOND)] * messages,
    )
    assert cut(wire, lambda: wired.starts.insert_with_turn(new, turn)) is not None
    assert (len(rows(wired, "history")), len(rows(wired, "outbox")), len(kinds(wired))) == (
        1,
        1,
        messages,
    )


@pytest.mark.parametrize("release", [False, True])
def test_an_outcome_whose_answer_is_lost_is_recognised_as_ours(
    wire: Wire, wired: Store, release: bool
) -> None:
    execution = begin(wired, activities=[activity()])
    assert cut(wire, lambda: wired.outcomes.record(succeeded(execution), release=release)) is None
    assert wired.outcomes.was_recorded(ActivityAttemptId(execution, 1, 1), "i")
    assert kinds(wired) == ["ActivityCompleted"]


@pytest.mark.parametrize("events", [0, 1])
def test_a_turn_whose_answer_is_lost_is_in_history_once(
    wire: Wire, wired: Store, events: int
) -> None:
    begin(wired)
    turn = next_turn(wired, own_inbox=[event()] * events, activities=[activity(5)])
    assert cut(wire, lambda: wired.turns.commit(turn)) is None
    assert wired.reads.fetch("i").sequence == 2
    assert [row["sequence"] for row in rows(wired, "history")] == [1, 2]
    assert len(rows(wired, "outbox")) == 1


def test_messages_whose_answer_is_lost_are_there_once(wire: Wire, wired: Store) -> None:
    begin(wired)
    cut(wire, lambda: wired.inbox.put([event(dedup="a"), event(dedup="b")]))
    assert len(kinds(wired)) == 2


def test_a_claim_whose_answer_is_lost_is_still_this_workers(wire: Wire, wired: Store) -> None:
    execution = begin(wired, activities=[activity()])
    wired.workers.heartbeat("a", "host")
    is_mine = cut(wire, lambda: take(wired, ActivityAttemptId(execution, 1, 1), "a", 60 * SECOND))
    (row,) = rows(wired, "outbox")
    assert (row["holder"], is_mine) == ("a", True), (
        "held by a worker that was told it does not hold it"
    )


def test_a_join_whose_answer_is_lost_is_found_by_recovery(wire: Wire, wired: Store) -> None:
    execution = begin_join(wired, 1)
    record(wired, succeeded(execution))
    cut(wire, lambda: wired.outcomes.finish_join(execution, "i", 1))
    wait_until(
        lambda: (
            [due.kind for due in wired.recovery.due_wakes(10) if due.wake_at is not None]
            == ["Join"]
        ),
        10,
    )


def test_orchestrations_survive_the_loss_of_an_answer_at_any_commit(
    wire: Wire, wired: Store
) -> None:
    runner = World(wired, resend_after=0.05)

    @runner.orchestrator
    async def steps(ctx: Any) -> int:
        total = await ctx.call(sig("double", 1))
        total += sum(await ctx.all([ctx.call(sig("double", 1)), ctx.call(sig("double", 2))]))
        await ctx.sleep(0.01)
        return total + await ctx.wait_event("e")

    runner.tasks["double"] = lambda number: 2 * number
    recovery = runner.recovery()

    def goes_on(id_: str) -> bool:
        recovery.repair_wakes()
        recovery.repair_activities()
        return bool(wired.reads.status_of(id_).is_terminal)

    for number in range(12):
        id_ = f"i{number}"
        runner.start("steps", id_=id_)
        runner.raise_event(id_, "e", number)
        for _ in range(number):
            runner.step()
        wire.cut_after_commit()
        runner.pump_until(lambda id_=id_: goes_on(id_), f"the end of {id_}")
        assert runner.output(id_) == 8 + number
    assert runner.runs["double"] == 12 * 3
    assert wire.cuts >= 10


# -- a database that goes away ---------------------------------------------------------------------


def test_a_store_that_cannot_be_reached_says_so(wire: Wire, wired: Store) -> None:
    begin(wired)
    wire.go_down()
    for call in (
        wired.now,
        lambda: wired.turns.load("i", None),
        lambda: wired.reads.fetch("i"),
        lambda: wired.inbox.put([event()]),
    ):
        with pytest.raises(StoreError):
            call()
    wire.come_up()
    assert wired.turns.load("i", None) is not None


def test_a_store_that_cannot_be_reached_at_first_says_so(wire: Wire, wired: Store) -> None:
    wire.go_down()
    with pytest.raises(StoreError):
        wired.now()
    wire.come_up()
    assert wired.now() > 0


@pytest.mark.parametrize("call", ["now", "fetch", "put"])
def test_connections_that_the_server_closed_while_idle_are_replaced_unnoticed(
    wire: Wire, wired: Store, call: str
) -> None:
    begin(wired)
    barrier = Barrier(2)

    def fill_pool() -> None:
        with wired.database.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
            barrier.wait(10)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(fill_pool) for _ in range(2)]:
            future.result(20)
    wire.go_down()
    wire.come_up()
    {
        "now": wired.now,
        "fetch": lambda: wired.reads.fetch("i"),
        "put": lambda: wired.inbox.put([event()]),
    }[call]()


def test_a_transaction_that_is_killed_leaves_nothing_and_is_repeated(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("SQLite has no connections to kill")
    begin(store)
    admin = sa.create_engine(
        store.database.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    ids = {"postgresql": "pg_backend_pid()", "mysql": "CONNECTION_ID()"}[store.database.family]
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}[
        store.database.family
    ]
    tries = []

    def insert_and_die(cursor: Any) -> None:
        store.inbox.put_within(cursor, [event(dedup=f"try {len(tries)}")])
        cursor.execute(f"SELECT {ids}")
        tries.append(cursor.fetchone()[0])
        if len(tries) == 1:
            with admin.connect() as connection:
                connection.exec_driver_sql(kill.format(tries[0]))

    store.database.transact(insert_and_die)
    assert len(tries) == 2
    assert [row["dedup"] for row in rows(store, "inbox")] == ["try 1"]
