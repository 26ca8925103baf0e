"""Many starts in one transaction: by a few statements, all or nothing, each as a start by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable.app.session import CallersTransactions
from celery_durable.core.limits import Debounce
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.admission_policy import declared_policy
from celery_durable.engine.records import Resident, TakenIdsError
from celery_durable.engine.start import StartRequest
from celery_durable.errors import ConfigurationError, InstanceExists
from celery_durable.store import Store, many_starts

from .builders import new_instance, rows
from .counting import count_statements
from .world import World


@pytest.fixture
def statements(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the database, but for the ends of transactions.

    Nor counted is the read of the switches: it comes again after a while, however many start.
    """
    seen: list[str] = []

    def note(sql: str) -> None:
        if "FROM durable_switches" not in sql:
            seen.append(sql)

    count_statements(store, monkeypatch, note)
    return seen


def requests(*ids: str, name: str = "echo", **options: Any) -> list[StartRequest]:
    return [StartRequest(name, [id_], {}, instance_id=id_, **options) for id_ in ids]


@pytest.fixture
def world(runner: World) -> World:
    @runner.orchestrator
    async def echo(ctx: Any, what: str) -> str:
        return what

    return runner


def ids(store: Store) -> list[str]:
    return sorted(row["id"] for row in rows(store, "instances"))


def test_they_start_in_one_commit_and_run_as_others_do(world: World) -> None:
    started = world.client.start_many(
        [*requests("a", "b", tags={"batch": "1"}), StartRequest("echo", ["c"], {})]
    )
    assert [each.id for each in started[:2]] == ["a", "b"] and len(started[2].id) == 36
    assert [address.id for address, *_ in world.publisher.turns] == [each.id for each in started]
    world.pump()
    assert [world.output(each.id) for each in started] == ["a", "b", "c"]
    assert world.client.fetch("a").tags == {"batch": "1"}


def test_five_hundred_take_as_many_statements_as_one(world: World, statements: list[str]) -> None:
    world.client.start_many(requests("first"))
    statements.clear()
    world.client.start_many(requests("one"))
    for_one = len(statements)
    statements.clear()
    world.client.start_many(requests(*map(str, range(500))))
    assert len(statements) == for_one <= 3
    statements.clear()
    world.client.start_many(requests(*(f"next-{n}" for n in range(1001))))
    assert len(statements) == 1 + 3 * (for_one - 1)
    assert len(rows(world.store, "instances")) == 1503
    assert len(rows(world.store, "inbox")) == 1503


def test_large_arguments_are_cut_into_statements_of_a_size(
    world: World, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_starts, "_MOST_BYTES", 2_500)
    large = [StartRequest("echo", ["x" * 1_000], {}, instance_id=str(n)) for n in range(5)]
    world.client.start_many(large)
    assert sum("INTO durable_instances" in sql for sql in statements) == 3
    assert ids(world.store) == list("01234")


def test_ids_that_are_there_are_returned(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.start("echo", "b", id_="b")
    world.start("echo", "another", id_="c")
    world.pump()
    with caplog.at_level(logging.WARNING):
        started = world.client.start_many(requests("a", "b", "c", "d", "a"))
    assert [each.id for each in started] == ["a", "b", "c", "d", "a"]
    assert [each.getMessage().partition(" exists")[0] for each in caplog.records] == [
        "orchestration 'c'"
    ]
    assert sorted(address.id for address, *_ in world.publisher.turns) == ["a", "d"]
    world.pump()
    assert [world.output(id_) for id_ in "abcd"] == ["a", "b", "another", "d"]


def test_all_or_nothing_where_an_id_is_taken(world: World) -> None:
    world.start("echo", "b", id_="b")
    world.publisher.forget()
    many = [str(n) for n in range(600)]
    with pytest.raises(InstanceExists, match="already: 'b'; nothing was started"):
        world.client.start_many(requests(*many, "b", if_exists="raise"))
    with pytest.raises(InstanceExists, match="given twice"):
        world.client.start_many(requests("x", "y", "x", if_exists="raise"))
    assert ids(world.store) == ["b"] and not world.publisher.turns
    world.client.start_many(requests("x", "y", if_exists="raise"))
    assert ids(world.store) == ["b", "x", "y"]


def test_nothing_starts_where_one_cannot(world: World) -> None:
    options = {"debounce": Debounce(1)}
    world.orchestrator(_debounced, flow=declared_policy(_debounced, options))
    for refused in (
        requests("a", if_exists="replace"),
        requests("a") + [StartRequest("_debounced", [], {})],
        requests("a") + [StartRequest("echo", [], {}, instance_id="bad\x00")],
    ):
        with pytest.raises((ConfigurationError, ValueError)):
            world.client.start_many(refused)
    assert ids(world.store) == [] and world.client.start_many([]) == []


async def _debounced(ctx: Any) -> None: ...


def test_limits_hold_for_each(world: World) -> None:
    async def limited(ctx: Any, what: str) -> str:
        await ctx.wait_event("go")
        return what

    world.orchestrator(limited, flow=declared_policy(limited, {"limit": 2}))
    world.client.start_many(requests("a", "b", "c", name="limited"))
    world.pump()
    begun = [id_ for id_ in "abc" if world.status(id_) is RuntimeStatus.RUNNING]
    assert len(begun) == 2
    for id_ in begun:
        world.raise_event(id_, "go")
    world.pump()
    assert [world.status(id_) for id_ in "abc"].count(RuntimeStatus.RUNNING) == 1


def test_a_commit_whose_answer_was_lost_counts_as_done(store: Store) -> None:
    news = [new_instance(id_) for id_ in "abc"]
    assert store.starts.insert_all(news) == {}
    work = many_starts._Work
    with store.database.cursor() as cursor:
        again = work(store.database, cursor, expects_new=True, looks_first=True)
        assert again.insert([*news, new_instance("d")]) == {}
    assert ids(store) == ["a", "b", "c", "d"] and len(rows(store, "inbox")) == 4


def test_the_store_tells_who_has_an_id(store: Store) -> None:
    store.starts.insert(new_instance("b"))
    found = store.starts.insert_all([new_instance(id_) for id_ in "abc"])
    assert found == {"b": Resident("orchestrator", "[[], {}]")}
    assert ids(store) == ["a", "b", "c"] and len(rows(store, "inbox")) == 3
    with pytest.raises(TakenIdsError) as raised:
        store.starts.insert_all([new_instance(id_) for id_ in "cde"], expects_new=True)
    assert raised.value.ids == ["c"] and ids(store) == ["a", "b", "c"]


def test_two_at_once_start_each_once(store: Store) -> None:
    gate = Barrier(2)

    def start(order: int) -> int:
        news = [new_instance(str(n)) for n in range(40)][::order]
        gate.wait()
        return len(store.starts.insert_all(news))

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(start, (1, -1))) == 40
    assert len(rows(store, "instances")) == len(rows(store, "inbox")) == 40


# -- in a transaction of the caller's --------------------------------------------------------------


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    engine = sa.create_engine(store.database.url)
    if store.database.family == "sqlite":  # as SQLAlchemy's manual says, for savepoints that hold
        sa.event.listen(
            engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None)
        )
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def joining(world: World) -> World:
    world.client.runner.starter.transactions = CallersTransactions(world.store)
    world.client.runner.switches.refresh()
    return world


def test_they_commit_with_the_callers_rows_and_are_sent_after_that(
    joining: World, session: Session
) -> None:
    started = joining.client.start_many(requests("a", "b"), session)
    assert ids(joining.store) == [] and not joining.publisher.turns
    session.commit()
    assert sorted(address.id for address, *_ in joining.publisher.turns) == ["a", "b"]
    assert [each.nudge.has_committed for each in started] == [True, True]
    joining.pump()
    assert joining.output("b") == "b"


def test_they_go_with_a_rollback(joining: World, session: Session) -> None:
    joining.client.start_many(requests("a", "b"), session)
    session.rollback()
    assert ids(joining.store) == [] and not joining.publisher.turns


def test_a_refusal_leaves_the_callers_transaction_as_it_was(
    joining: World, session: Session
) -> None:
    joining.start("echo", "b", id_="b")
    joining.publisher.forget()
    joining.client.start_many(requests("before"), session)
    with pytest.raises(InstanceExists):
        joining.client.start_many(requests("a", "b", "c", if_exists="raise"), session)
    session.commit()
    assert ids(joining.store) == ["b", "before"]
    assert [address.id for address, *_ in joining.publisher.turns] == ["before"]
    assert {row["id"] for row in rows(joining.store, "instances") if row["is_lasting"]} == (
        set() if joining.store.database.family == "postgresql" else {"before"}
    )
