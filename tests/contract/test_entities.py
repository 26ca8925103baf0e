"""Entities and their locks, on every store: whole orchestrations, real commits, messages that are
pumped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.entity import MESSAGE, declare, orchestrator_of, run_by
from celery_durable.core.guard import refuse_inside_orchestrator
from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.explain import explain
from celery_durable.engine.records import InboxKind
from celery_durable.engine.registry import Definition
from celery_durable.engine.turn import TurnState
from celery_durable.engine.writes import NewInbox
from celery_durable.errors import (
    DurableError,
    ForbiddenOperation,
    LockLost,
    OrchestrationFailed,
    PayloadError,
)
from celery_durable.handles.entity import EntityReference, entities_of, entity_page
from celery_durable.store import Store
from celery_durable.store.schema import inbox, instances
from tests.storeparts import WrappedStore

from .builders import at_once, everything, rows
from .world import World, sig

TAKES_BOTH_WAYS = True


class Insufficient(Exception):
    """What an account says; kept with its facts."""

    def __init__(self, balance: int) -> None:
        super().__init__(f"only {balance} are there")
        self.balance = balance


class Counter:
    value: int = 0
    _cache = None

    def add(self, n: int) -> int:
        self._cache = n
        self.value += n
        return self.value

    def get(self) -> int:
        return self.value

    def fail(self, n: int) -> None:
        self.value += n
        self.other = [n]
        raise Insufficient(self.value)

    def spoil(self) -> None:
        self.value = object()

    def odd(self) -> object:
        self.value += 1
        return object()

    def leave(self) -> None:
        raise asyncio.CancelledError

    def start(self) -> None:
        refuse_inside_orchestrator("durable.start()")


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> list[str]:
        self.lines.append(line)
        return self.lines


class Client:
    """What a process that is no worker does with entities."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, cls: Any, key: str = "k") -> EntityReference:
        return EntityReference(SimpleNamespace(runtime=self.world), cls, key)

    def clean(self) -> int:
        return entities_of(self.world).clean(None)  # type: ignore[arg-type]

    def listed(self, name: str | None = None, limit: int = 100) -> list[Any]:
        found, cursor = [], None
        while True:
            page = entity_page(self.world, name, limit, cursor)  # type: ignore[arg-type]
            found += page.items
            if (cursor := page.next_cursor) is None:
                return found


def make_world(store: Store, **options: Any) -> World:
    world = World(store, **options)
    for cls in (Counter, Log):
        declaration = declare(cls)
        world.registry.add(Definition(orchestrator_of(declaration.name), None, run_by(declaration)))
    return world


@pytest.fixture
def world(store: Store) -> World:
    return make_world(store)


@pytest.fixture
def client(world: World) -> Client:
    return Client(world)


def run(world: World, function: Callable[..., Any], *args: Any, id_: str = "i") -> Any:
    world.orchestrator(function)
    world.start(function.__name__, *args, id_=id_)
    world.pump_to_end(id_)
    return world.output(id_)


@contextmanager
def counted_commits(world: World) -> Any:
    commits: list[str] = []
    real = world.runner.store

    def count(name: str, method: Any) -> Any:
        if name == "commit":
            return lambda commit: (commits.append(commit.instance_id), method(commit))[1]
        return method

    world.runner.store = WrappedStore(real, count)  # type: ignore[assignment]
    yield commits
    world.runner.store = real


# -- operations ------------------------------------------------------------------------------------


def test_a_call_gives_what_the_operation_returns(world: World, client: Client) -> None:
    async def main(ctx: Any) -> Any:
        counter = ctx.entity(Counter, "k")
        return [
            await counter.add(5),
            await counter.add(n=2),
            await ctx.entity("Counter", "k").get(),
        ]

    assert run(world, main) == [5, 7, 7]
    assert client(Counter).state() == {"value": 7}
    assert client(Counter, "other").state() is None


def test_a_generator_can_call(world: World) -> None:
    def main(ctx: Any) -> Any:
        first = yield ctx.entity(Counter, "k").add(5)
        both = yield ctx.all([ctx.entity(Counter, "k").add(1), ctx.entity(Log, "k").write("a")])
        return [first, both]

    assert run(world, main) == [5, [6, ["a"]]]


def test_signals_are_applied_in_order(world: World, client: Client) -> None:
    async def main(ctx: Any) -> Any:
        for n in range(25):  # more than ten: command numbers are no texts
            await ctx.entity(Log, "k").signal.write(str(n))
        return await ctx.entity(Log, "k").write("end")

    assert run(world, main) == [*map(str, range(25)), "end"]
    client(Log).signal.write("later")
    world.pump()
    assert client(Log).state() == {"lines": [*map(str, range(25)), "end", "later"]}


def test_an_operation_that_fails_changes_nothing(world: World, client: Client) -> None:
    client(Counter).signal.add(1)
    world.pump()

    async def main(ctx: Any) -> Any:
        counter = ctx.entity(Counter, "k")
        seen = []
        for call in (
            counter.fail(5),
            counter.spoil(),
            counter.odd(),
            counter.leave(),
            counter.start(),
        ):
            try:
                await call
            except Insufficient as error:
                seen.append(("Insufficient", error.balance))
            except Exception as error:
                seen.append((type(error).__name__, ""))
        return [seen, await counter.get()]

    world.codec._exception_modules = lambda: {"tests"}
    seen, value = run(world, main)
    assert seen == [
        ["Insufficient", 6],
        ["PayloadError", ""],
        ["PayloadError", ""],
        ["ActivityError", ""],
        ["DurableError", ""],
    ]
    assert value == 1
    assert client(Counter).state() == {"value": 1}


def test_a_signal_that_fails_is_logged(
    world: World, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "celery_durable.entity"):
        client(Counter).signal.fail(5)
        client(Counter).signal.add(1)
        world.pump()
    assert client(Counter).state() == {"value": 1}
    assert "operation fail failed, nothing was changed" in caplog.text


def test_what_is_no_operation_is_refused_where_it_is_called(world: World, client: Client) -> None:
    before = everything(world.store)
    for reference in (client(Counter), client("Counter")):
        with pytest.raises(AttributeError, match="private"):
            reference.signal._cache()
    for name in ("missing", "value"):
        with pytest.raises(AttributeError, match="no operation.*add, fail, get"):
            getattr(client(Counter).signal, name)
    with pytest.raises(TypeError, match=r"Counter\.add\(\): missing"):
        client(Counter).signal.add()
    with pytest.raises(PayloadError):
        client(Counter).signal.add(object())
    with pytest.raises(ValueError, match="not both"):
        client(Counter).signal(delay=1, at=datetime.now(UTC))
    with pytest.raises(ValueError):
        client(Counter).signal(delay=-1)
    with pytest.raises(ValueError, match="naive"):
        client(Counter).signal(at=datetime(2026, 1, 1))
    for odd in (Counter(), int, 3):
        with pytest.raises(TypeError):
            client(odd)
    for key in ("", "x" * 150, "a\x00b", "\ud800"):
        with pytest.raises(ValueError):
            client(Counter, key)
    with pytest.raises(TypeError):
        client(Counter, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        client("no name")
    assert everything(world.store) == before

    async def main(ctx: Any) -> Any:
        seen = []
        for call in (
            lambda: ctx.entity(Counter, "k")._cache(),
            lambda: ctx.entity(Counter, "k").missing(),
            lambda: ctx.entity(Counter, "k").signal.value(),
            lambda: ctx.entity(Counter, "k").add(),
            lambda: ctx.entity(Counter, "k").add(object()),
            lambda: ctx.entity(int, "k"),
            lambda: ctx.entity(Counter, ""),
            lambda: ctx.entity("Counter", "k").signal._cache(),
            lambda: ctx.lock(),
            lambda: ctx.lock("k"),
            lambda: ctx.lock(ctx.entity(Counter, "k"), lease=0),
            lambda: ctx.signal_event("x", MESSAGE, {"op": "add"}),
        ):
            try:
                call()
            except Exception as error:
                seen.append(type(error).__name__)
        for name in ("missing", "value"):  # told by the entity
            with pytest.raises(AttributeError, match="no operation"):
                await getattr(ctx.entity("Counter", "k"), name)()
        return seen

    assert run(world, main) == [
        "AttributeError",
        "AttributeError",
        "AttributeError",
        "TypeError",
        "PayloadError",
        "TypeError",
        "ValueError",
        "AttributeError",
        "ValueError",
        "TypeError",
        "ValueError",
        "ValueError",
    ]
    assert client(Counter).state() is None


def test_a_thousand_signals_are_few_commits(world: World, client: Client) -> None:
    for _ in range(1000):
        client(Counter).signal.add(1)
    with counted_commits(world) as commits:
        world.pump()
    assert client(Counter).state() == {"value": 1000}
    assert len(commits) == 1
    (row,) = rows(world.store, "instances")
    assert row["sequence"] == 0 and not rows(world.store, "history")  # nothing to replay, ever
    assert [each["kind"] for each in rows(world.store, "inbox")] == ["ExecutionStarted"]


def test_one_signal_is_one_commit_and_an_idle_entity_costs_nothing(
    world: World, client: Client
) -> None:
    client(Counter).signal.add(1)
    world.pump()
    with counted_commits(world) as commits:
        client(Counter).signal.add(1)
        world.pump()
        world.runner.run(client(Counter).id)
    assert len(commits) == 1
    assert all(
        row["check_at"] is None and row["wake_at"] is None for row in rows(world.store, "inbox")
    )


def test_more_than_a_turn_holds_is_taken_at_once_all_the_same(
    world: World, client: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr("celery_durable.engine.intake._LARGEST_TURN", 2000)
    for _ in range(50):
        client(Counter).signal.add(1)
    for address, _, _ in list(world.publisher.turns)[1:]:
        world.publisher.turns.pop()
    with counted_commits(world) as commits:
        world.pump()
    assert client(Counter).state() == {"value": 50}
    assert 1 < len(commits) < 20


def test_creators_at_once_make_one_entity(world: World, client: Client) -> None:
    clients = [Client(make_world(world.store)) for _ in range(4)]
    at_once([lambda c=c: [c(Counter).signal.add(1) for _ in range(5)] for c in clients])  # type: ignore[misc]
    world.runner.run(client(Counter).id)
    assert client(Counter).state() == {"value": 20}
    assert len(rows(world.store, "instances")) == 1


def test_workers_at_once_lose_nothing(world: World, client: Client) -> None:
    worlds = [world, *(make_world(world.store) for _ in range(3))]

    def work(own: World) -> None:
        for _ in range(10):
            Client(own)(Counter).signal.add(1)
            own.pump()

    at_once([lambda own=own: work(own) for own in worlds])  # type: ignore[misc]
    world.runner.run(client(Counter).id)
    assert client(Counter).state() == {"value": 40}


def test_a_signal_that_is_sent_again_counts_once(world: World, client: Client) -> None:
    message = entities_of(world).message(client(Counter).id, {"op": "add", "args": [1]}, None)  # type: ignore[arg-type]
    for _ in range(2):
        world.store.inbox.put([message])
        world.runner.run(message.instance)
    assert client(Counter).state() == {"value": 1}


def test_a_delayed_signal(world: World, client: Client) -> None:
    client(Counter).signal(delay=0.3).add(1)
    client(Counter).signal(at=datetime(2020, 1, 1, tzinfo=UTC)).add(10)
    client(Counter).signal(delay=timedelta(days=3)).add(100)
    world.pump()
    assert client(Counter).state() == {"value": 10}
    assert client.clean() == 0  # a message waits for it
    world.pump_until(lambda: client(Counter).state() == {"value": 11})

    async def main(ctx: Any) -> Any:
        await ctx.entity(Counter, "d").signal(delay=0.2).add(1)
        await ctx.entity(Counter, "d").signal(at=ctx.now() + timedelta(hours=5)).add(100)
        ctx.entity(Counter, "d").signal.add(1000)
        return await ctx.entity(Counter, "d").get()

    assert run(world, main) == 1000
    world.pump_until(lambda: client(Counter, "d").state() == {"value": 1001})


def test_a_far_signal_comes_by_recovery(sqlite_store: Store) -> None:
    world = make_world(sqlite_store, timer_horizon=0.05, resend_after=0.1)
    client = Client(world)
    client(Counter).signal(delay=0.4).add(1)
    assert not world.publisher.turns
    recovery = world.recovery()

    def look() -> bool:
        recovery.repair_wakes()
        return client(Counter).state() == {"value": 1}

    world.pump_until(look)


def test_a_lost_message_is_found_by_recovery(world: World, client: Client) -> None:
    world.publisher.is_broken = True
    client(Counter).signal.add(1)
    world.publisher.is_broken = False
    with world.store.database.engine.begin() as connection:
        connection.execute(sa.update(inbox).values(check_at=0).where(inbox.c.kind == "EventRaised"))
    world.recovery().repair_wakes()
    world.pump()
    assert client(Counter).state() == {"value": 1}


def test_a_worker_without_the_class_waits(world: World, client: Client) -> None:
    stranger = World(world.store)
    client(Counter).signal.add(1)
    assert stranger.runner.run(client(Counter).id) is TurnState.UNKNOWN
    world.pump()
    assert client(Counter).state() == {"value": 1}


def test_garbage_is_dropped(world: World, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client(Counter).signal.add(1)
    garbage = [
        None,
        3,
        {},
        {"op": 3},
        {"op": "add", "lock": "x"},
        {"op": "add", "args": 3},
        {"op": "add", "reply": ["x"]},
        {"lock": "x", "lease": -1},
        {"look": "x"},
        {"op": "add", "kwargs": {"a": 1}, "held": 3},
    ]
    for number, content in enumerate(garbage):
        message = entities_of(world).message(client(Counter).id, {}, None)  # type: ignore[arg-type]
        message.payload, message.dedup = world.codec.encode(content), f"g{number}"
        world.store.inbox.put([message])
    client(Counter).signal.add(1)
    world.pump()
    assert client(Counter).state() == {"value": 2}
    with pytest.raises(ValueError, match="reserved"):
        world.raise_event(client(Counter).id, MESSAGE, {"op": "add", "args": [1]})


def test_too_much_is_refused_and_loses_nothing(sqlite_store: Store) -> None:
    world = make_world(sqlite_store)
    client = Client(world)
    client(Log).signal.write("x" * 400)
    world.pump()
    world.codec._limit = 1000
    client(Log).signal.write("y" * 700)  # the operation is refused: its state is too large
    world.pump()
    assert client(Log).state() == {"lines": ["x" * 400]}
    assert world.status(client(Log).id) is RuntimeStatus.RUNNING
    world.codec._limit = 425
    client(Log).signal.write("z")  # what is kept beside the state does not count
    world.pump()
    assert client(Log).state() == {"lines": ["x" * 400, "z"]}
    world.codec._limit = 100
    for _ in range(2):  # a limit that was lowered since holds for what is new
        client(Log).signal.write("z" * 10)
        world.pump()
    assert client(Log).state() == {"lines": ["x" * 400, "z"]}
    assert world.status(client(Log).id) is RuntimeStatus.RUNNING


def test_cancel_does_not_end_an_entity_and_suspend_holds_it(world: World, client: Client) -> None:
    client(Counter).signal.add(1)
    world.pump()
    id_ = client(Counter).id
    world.client.cancel(id_, "why")
    world.pump()
    assert world.status(id_) is RuntimeStatus.RUNNING
    world.client.suspend(id_, "why")
    client(Counter).signal.add(1)
    world.pump()
    assert client(Counter).state() == {"value": 1}
    world.client.resume(id_, "why")
    world.pump()
    assert client(Counter).state() == {"value": 2}


def test_terminate_deletes_an_entity_and_answers_its_callers(world: World, client: Client) -> None:
    id_ = client(Counter).id
    client(Counter).signal.add(1)
    world.pump()
    world.client.suspend(id_, "hold")

    @world.orchestrator
    async def caller(ctx: Any) -> Any:
        try:
            return await ctx.entity(Counter, "k").add(1)
        except OrchestrationFailed as error:
            return [error.status, error.reason]

    world.start("caller")
    world.pump()
    world.client.terminate(id_, "why", None)
    world.pump()
    assert world.output() == ["TERMINATED", "why"]
    assert client(Counter).state() is None
    client(Counter).signal.add(5)
    world.pump()
    assert client(Counter).state() == {"value": 5}


def test_an_entity_is_not_started_by_hand(world: World) -> None:
    world.start(orchestrator_of("Counter"), id_="i")
    world.pump()
    assert world.status("i") is RuntimeStatus.FAILED
    assert "not to be started" in (world.client.fetch("i").reason or "")


# -- looking and cleaning --------------------------------------------------------------------------


def test_listing_and_cleaning(world: World, client: Client) -> None:
    client(Counter, "full").signal.add(1)
    client(Counter, "empty").signal.add(0)
    client(Counter, "read").signal.get()
    client(Counter, "failed").signal.fail(1)
    client(Log, "l").signal.write("x")
    world.orchestrator(plain)
    world.start("plain", id_="@odd")
    world.pump()
    assert {(each.name, each.key) for each in client.listed(limit=2)} == {
        ("Counter", "full"),
        ("Counter", "empty"),
        ("Counter", "read"),
        ("Counter", "failed"),
        ("Log", "l"),
    }
    assert [each.key for each in client.listed("Log")] == ["l"]
    assert {each.key: each.is_empty for each in client.listed("Counter")} == {
        "full": False,
        "empty": True,
        "read": True,
        "failed": True,
    }
    assert client(Counter, "empty").state() == {"value": 0}
    assert client(Counter, "failed").state() is None
    assert client.clean() == 3
    assert {each.key for each in client.listed()} == {"full", "l"}
    assert {row["instance"] for row in rows(world.store, "inbox")} == {"@Counter@full", "@Log@l"}
    client(Counter, "empty").signal.add(2)
    world.pump()
    assert client(Counter, "empty").state() == {"value": 2}


async def plain(ctx: Any) -> None:
    pass


def test_a_message_under_way_while_its_entity_is_cleaned_away_is_not_lost(
    world: World, client: Client
) -> None:
    client(Counter).signal.add(0)
    world.pump()
    client(Counter).signal.add(1)  # as if committed by a transaction that cleaning could not see
    world.publisher.forget()
    with world.store.database.engine.begin() as connection:
        connection.execute(sa.delete(instances))
        connection.execute(sa.delete(inbox).where(inbox.c.kind == "ExecutionStarted"))
        connection.execute(sa.update(inbox).values(check_at=0))
    recovery = world.recovery()
    recovery.repair_wakes()
    world.pump()
    assert client(Counter).state() == {"value": 1}


def test_cleaning_beside_senders_loses_nothing(world: World, client: Client) -> None:
    worlds = [make_world(world.store) for _ in range(3)]

    def send(own: World) -> None:
        for _ in range(15):
            for n in (1, -1):
                Client(own)(Counter).signal.add(n)
                own.pump()
        Client(own)(Counter).signal.add(1)

    cleaned: list[int] = []
    at_once(
        [
            *(lambda own=own: send(own) for own in worlds),
            lambda: cleaned.extend(client.clean() for _ in range(20)),
        ]
    )  # type: ignore[list-item,misc]
    with world.store.database.engine.begin() as connection:
        connection.execute(sa.update(inbox).values(check_at=0).where(inbox.c.kind == "EventRaised"))
    world.recovery().repair_wakes()
    world.runner.run(client(Counter).id)
    assert client(Counter).state() == {"value": 3}


# -- locks -----------------------------------------------------------------------------------------


def holding(world: World, cls: Any = Counter, **options: Any) -> None:
    @world.orchestrator
    async def holder(ctx: Any, *keys: str) -> Any:
        async with ctx.lock(*(ctx.entity(cls, key) for key in keys), **options) as lock:
            ctx.set_status(lock.numbers)
            answer = await ctx.wait_event("go")
            if answer == "fail":
                raise ValueError("as asked")
            return [await ctx.entity(cls, key).add(1) for key in keys]


def locks(world: World) -> dict[str, bool]:
    return {each.key: each.locked_by is not None for each in Client(world).listed()}


def test_a_locked_entity_takes_only_what_its_holder_asks_for(world: World, client: Client) -> None:
    holding(world)

    @world.orchestrator
    async def other(ctx: Any) -> Any:
        return await ctx.entity(Counter, "a").add(10)

    world.start("holder", "a", "b")
    world.pump()
    assert locks(world) == {"a": True, "b": True}
    world.start("other", id_="other")
    client(Counter, "a").signal.add(100)
    world.pump()
    assert client(Counter, "a").state() is None
    assert [(each.locked_by, each.waiting) for each in client.listed() if each.key == "a"] == [
        ("i", 2)
    ]
    told = explain(world.store, world.runner, world.client.fetch("other"))
    assert told.waits_for == ["add() of entity '@Counter@a'"]
    told = explain(world.store, world.runner, world.client.fetch("@Counter@a"))
    assert told.waits_for == ["its next message"]
    world.raise_event("i", "go")
    world.pump()
    assert world.output("i") == [1, 1]
    assert world.output("other") in (11, 111)
    assert client(Counter, "a").state() == {"value": 111}
    assert locks(world) == {"a": False, "b": False}


def test_locks_are_taken_in_one_order(world: World) -> None:
    holding(world)
    world.start("holder", "c", "a", "b", "a")
    world.pump()
    sent = [event.facts for event in world.events("i", EventKind.EVENT_SENT)]
    assert [facts["to"] for facts in sent if facts] == ["@Counter@a", "@Counter@b", "@Counter@c"]
    world.raise_event("i", "go")
    world.pump()
    assert world.output("i") == [1, 1, 1, 2]
    sent = [
        event.facts
        for event in world.events("i", EventKind.EVENT_SENT)
        if "unlocked" in (event.facts or {})
    ]
    assert [facts["to"] for facts in sent if facts] == ["@Counter@c", "@Counter@b", "@Counter@a"]


def test_two_that_lock_the_same_in_other_orders_both_come_to_an_end(
    world: World, client: Client
) -> None:
    async def transfer(ctx: Any, one: str, two: str) -> Any:
        async with ctx.lock(ctx.entity(Counter, one), ctx.entity(Counter, two)):
            value = await ctx.entity(Counter, one).get()
            await ctx.sleep(0.01)
            await ctx.entity(Counter, one).add(-1)
            await ctx.entity(Counter, two).add(1)
            return value - 1 == await ctx.entity(Counter, one).get()

    world.orchestrator(transfer)
    ids = [f"t{n}" for n in range(8)]
    for n, id_ in enumerate(ids):
        world.start("transfer", *(("a", "b") if n % 2 else ("b", "a")), id_=id_)
    world.pump_to_end(*ids)
    assert all(world.output(id_) is True for id_ in ids)
    assert client(Counter, "a").state() == client(Counter, "b").state() == {"value": 0}
    assert locks(world) == {"a": False, "b": False}


@pytest.mark.parametrize(
    "end", ["return", "fail", "cancel", "terminate", "terminate in a worker", "replace"]
)
def test_locks_are_released_however_the_holder_ends(world: World, client: Client, end: str) -> None:
    holding(world)
    world.start("holder", "a", "b")
    world.pump()
    waiting = make_world(world.store)
    client(Counter, "a").signal.add(100)
    world.pump()
    assert locks(world) == {"a": True, "b": True}
    if end in ("return", "fail"):
        world.raise_event("i", "go", end)
    elif end == "cancel":
        world.client.cancel("i", "why")
    elif end == "terminate":
        waiting.client.terminate("i", "why", None)
    elif end == "terminate in a worker":
        world.store.inbox.put(
            [NewInbox("i", InboxKind.TERMINATE, "terminate", facts={"reason": "why"})]
        )
        world.runner.run("i")
    else:
        world.orchestrator(plain)
        waiting.start("plain", if_exists="replace")
    world.pump()
    waiting.pump()
    assert locks(world) == {"a": False, "b": False}
    assert client(Counter, "a").state() == {"value": 101 if end == "return" else 100}


def test_a_holder_that_still_waits_withdraws(world: World, client: Client) -> None:
    holding(world)
    for n, id_ in enumerate(("first", "second", "third", "fourth")):
        world.start("holder", "a", id_=id_)
        world.pump()
    world.client.cancel("second", "why")
    world.client.terminate("third", "why", None)
    world.pump()
    assert [each.waiting for each in client.listed()] == [1]
    for id_ in ("first", "fourth"):
        world.raise_event(id_, "go")
    world.pump()
    assert [world.output("first"), world.output("fourth")] == [[1], [2]]
    assert locks(world) == {"a": False}


def test_waiting_for_a_lock_can_time_out(world: World, client: Client) -> None:
    holding(world)
    world.start("holder", "b")
    world.pump()

    async def impatient(ctx: Any) -> Any:
        try:
            async with asyncio.timeout(0.1):
                async with ctx.lock(ctx.entity(Counter, "a"), ctx.entity(Counter, "b")):
                    return "in"
        except TimeoutError:
            async with ctx.lock(ctx.entity(Counter, "a")):
                return await ctx.entity(Counter, "a").add(1)

    assert run(world, impatient, id_="impatient") == 1
    assert locks(world) == {"a": False, "b": True}
    assert [each.waiting for each in client.listed() if each.key == "b"] == [0]


def test_what_could_block_for_ever_raises_at_once(world: World, client: Client) -> None:
    async def main(ctx: Any) -> Any:
        a, b = ctx.entity(Counter, "a"), ctx.entity(Counter, "b")
        seen = []
        async with ctx.lock(a):
            for call in (
                lambda: b.add(1),
                lambda: ctx.lock(b).acquire(),
                lambda: ctx.continue_as_new(),
            ):
                try:
                    await call()
                except (DurableError, ForbiddenOperation) as error:
                    seen.append(str(error))
            try:
                async with ctx.lock(a):
                    seen.append("in")
            except DurableError as error:
                seen.append(str(error))
            await b.signal.add(5)
            await a.signal.add(1)
            seen.append(await a.get())
        return [*seen, await b.get()]

    first, second, third, fourth, value, other = run(world, main)
    assert (
        "does not hold" in first
        and "already" in second
        and "inside a saga or a lock" in third
        and "already" in fourth
    )
    assert (value, other) == (1, 5)


def test_a_generator_locks_by_hand_and_what_it_forgets_is_released(
    world: World, client: Client
) -> None:
    def careful(ctx: Any) -> Any:
        lock = ctx.lock(ctx.entity(Counter, "a"))
        yield lock.acquire()
        try:
            return (yield ctx.entity(Counter, "a").add(1))
        finally:
            lock.release()
            lock.release()

    def careless(ctx: Any) -> Any:
        yield ctx.lock(ctx.entity(Counter, "a")).acquire()
        return (yield ctx.entity(Counter, "a").add(1))

    assert run(world, careful, id_="careful") == 1
    assert run(world, careless, id_="careless") == 2
    assert run(world, careful, id_="again") == 3
    assert locks(world) == {"a": False}


def test_a_lease_that_is_over_gives_the_lock_to_the_next(world: World, client: Client) -> None:
    async def sleepy(ctx: Any) -> Any:
        async with ctx.lock(ctx.entity(Counter, "a"), lease=0.2) as lock:
            ctx.set_status(lock.numbers["@Counter@a"])
            await ctx.wait_event("go")
            try:
                await ctx.entity(Counter, "a").add(1000)
            except LockLost as error:
                return [error.entity_id, error.number]

    world.orchestrator(sleepy)
    holding(world, lease=timedelta(hours=1))
    world.start("sleepy", id_="sleepy")
    world.pump()
    world.start("holder", "a", id_="next")
    world.pump_until(lambda: world.custom_status("next"))
    first, second = world.custom_status("sleepy"), world.custom_status("next")["@Counter@a"]
    assert second > first
    world.raise_event("sleepy", "go")
    world.pump()
    assert world.output("sleepy") == ["@Counter@a", first]
    # the late release of the first one does not touch the second
    assert locks(world) == {"a": True}
    world.raise_event("next", "go")
    world.pump()
    assert world.output("next") == [1]
    assert locks(world) == {"a": False}


def test_a_lease_ends_also_for_signals_and_not_while_no_one_waits(
    world: World, client: Client
) -> None:
    holding(world, lease=0.1)
    world.start("holder", "a", id_="alone")
    world.pump()
    end = world.store.now() + 150_000
    world.pump_until(lambda: world.store.now() > end)
    world.raise_event("alone", "go")
    world.pump()
    assert world.output("alone") == [1]
    world.start("holder", "a", id_="i")
    world.pump()
    client(Counter, "a").signal.add(10)
    world.pump_until(lambda: client(Counter, "a").state() == {"value": 11})


def test_determinism_of_a_holder_whose_worker_is_replaced_all_the_time(store: Store) -> None:
    def fresh() -> World:
        world = make_world(store, cache_size=0)
        holding(world)
        return world

    world = fresh()
    world.start("holder", "a", "b", "c")
    world.raise_event("i", "go")
    while world.publisher.turns:
        follower = fresh()
        follower.publisher.turns.extend(world.publisher.turns)
        follower.step()
        world = follower
    assert world.output("i") == [1, 1, 1]
    assert locks(world) == {"a": False, "b": False, "c": False}


def test_nothing_depends_on_messages(world: World, client: Client) -> None:
    """All turn messages are lost, all the time; recovery alone brings everything to its end."""
    holding(world)
    ids = [f"h{n}" for n in range(3)]
    for id_ in ids:
        world.start("holder", "a", "b", id_=id_)
        world.raise_event(id_, "go")
    client(Counter, "a").signal.add(10)
    recovery = world.recovery()
    for _ in range(60):
        world.publisher.forget()
        with world.store.database.engine.begin() as connection:
            connection.execute(
                sa.update(inbox).values(check_at=0).where(inbox.c.check_at.is_not(None))
            )
        recovery.repair_wakes()
        world.step()
    assert all(world.status(id_) is RuntimeStatus.COMPLETED for id_ in ids)
    assert client(Counter, "a").state() == {"value": 13}
    assert locks(world) == {"a": False, "b": False}


def test_a_thousand_calls_at_once(world: World) -> None:
    async def main(ctx: Any) -> Any:
        return await asyncio.gather(*(ctx.entity(Counter, "k").add(1) for _ in range(1000)))

    with counted_commits(world) as commits:
        assert run(world, main) == list(range(1, 1001))
    assert len(commits) <= 4


def test_a_saga_and_a_lock(world: World, client: Client) -> None:
    world.tasks["undo"] = lambda: None
    world.tasks["fail"] = lambda: 1 / 0

    async def main(ctx: Any) -> Any:
        try:
            async with ctx.lock(ctx.entity(Counter, "a")), ctx.saga() as saga:
                saga.add_undo(sig("undo"))
                await ctx.call(sig("fail"))
        except ZeroDivisionError:
            return await ctx.entity(Counter, "a").add(1)

    assert run(world, main) == 1
    assert world.runs["undo"] == 1


def test_answers_to_a_life_that_is_over_are_dropped(world: World, client: Client) -> None:
    client(Counter).signal.add(0)
    world.pump()
    world.client.suspend("@Counter@k", None)

    @world.orchestrator
    async def main(ctx: Any, life: int = 1) -> Any:
        call = ctx.entity(Counter, "k").add(life)
        if life == 1:
            ctx.continue_as_new(2)
        first = await ctx.wait_event("go")
        return [first, await call]

    world.start("main")
    world.pump()
    world.client.resume("@Counter@k", None)
    world.pump()
    world.raise_event("i", "go", "went")
    world.pump()
    assert world.output() == ["went", 3]  # not 1, the answer to the first life
