"""Orchestrators and activities that would take the system down are stopped, with a reason, and
nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown

from celery_durable.core.history import EventKind
from celery_durable.core.machine import Machine
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.explain import explain
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.registry import Definition
from celery_durable.engine.watchdog import Watchdog
from celery_durable.errors import StoreError, TurnLimitExceeded
from celery_durable.store import Store
from celery_durable.store.database import Statement
from tests.conftest import wait_until
from tests.storeparts import WrappedStore

from .builders import activity, begin, hold, rows, take
from .filling import fill
from .world import World, sig

_ALL_DUE = Statement("UPDATE durable_inbox SET check_at = 1 WHERE check_at IS NOT NULL")


class Killed(WorkerShutdown):
    """What a process does not survive."""


def die() -> None:
    raise Killed


# -- turns without an end --------------------------------------------------------------------------


def endless() -> None:
    while True:
        sum(range(100))


def catching() -> None:
    """Loop on, whatever is thrown in, a few times."""
    for _ in range(3):
        try:
            endless()
        except BaseException:  # noqa: S112
            continue


async def _in_a_callback(ctx: Any) -> None:
    asyncio.get_running_loop().call_soon(endless)
    await ctx.wait_event("never")


async def _in_callbacks_of_callbacks(ctx: Any) -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    await ctx.wait_event("never")


async def _in_tasks_that_catch_everything(ctx: Any) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0)
            except BaseException:  # noqa: S112
                continue

    await asyncio.gather(stubborn(), stubborn())


async def _in_a_generator_that_is_left(ctx: Any) -> None:
    async def pages() -> Any:
        try:
            yield 1
        finally:
            endless()

    async for _ in pages():
        break


def assert_suspended_until_it_is_mended(store: Store, body: Any) -> None:
    world = World(store, turn_timeout=0.2)

    @world.orchestrator
    async def loops(ctx: Any) -> str:
        if is_broken:
            await body(ctx)
        return "mended"

    is_broken = True
    world.start("loops")
    world.pump()
    record = world.client.fetch("i")
    assert record.status is RuntimeStatus.SUSPENDED
    assert "durable_turn_timeout" in (record.reason or "")
    is_broken = False
    world.client.resume("i", None)
    world.pump_to_end()
    assert world.output() == "mended"


@pytest.mark.parametrize(
    "body",
    [
        _in_a_callback,
        _in_callbacks_of_callbacks,
        _in_tasks_that_catch_everything,
        _in_a_generator_that_is_left,
    ],
)
def test_a_turn_that_does_not_come_to_rest_is_suspended_however_it_continues(
    store: Store, body: Any
) -> None:
    assert_suspended_until_it_is_mended(store, body)


@pytest.mark.parametrize("loop", [endless, catching])
def test_a_turn_without_an_end_is_interrupted_and_its_instance_suspended(
    store: Store, loop: Any
) -> None:
    async def body(ctx: Any) -> None:
        loop()

    assert_suspended_until_it_is_mended(store, body)


def test_an_outcome_is_kept_though_the_turn_after_it_has_no_end(store: Store) -> None:
    world = World(store, turn_timeout=0.2)
    world.tasks["charge"] = lambda: "paid"

    @world.orchestrator
    async def loops(ctx: Any) -> str:
        result = await ctx.call(sig("charge"))
        if is_broken:
            endless()
        return result

    is_broken = True
    world.start("loops")
    world.pump()
    assert world.status() is RuntimeStatus.SUSPENDED
    is_broken = False
    world.client.resume("i", None)
    world.pump_to_end()
    assert (world.output(), world.runs["charge"]) == ("paid", 1)


def test_a_replay_without_an_end_is_interrupted_too(store: Store) -> None:
    world = World(store, turn_timeout=0.2, cache_size=0)
    world.tasks["charge"] = lambda: "paid"

    @world.orchestrator
    async def loops(ctx: Any) -> str:
        if is_broken:
            endless()
        return await ctx.call(sig("charge"))

    is_broken = False
    world.start("loops")
    world.step()
    is_broken = True
    world.pump()
    assert world.status() is RuntimeStatus.SUSPENDED


def test_a_turn_that_waits_is_left_alone(store: Store) -> None:
    """A frozen process, or a slow disk, is no endless loop."""
    world = World(store, turn_timeout=0.1)

    @world.orchestrator
    async def slow(ctx: Any) -> str:
        time.sleep(0.5)  # noqa: ASYNC251
        return "there"

    world.start("slow")
    world.pump()
    assert world.output() == "there"


def test_an_interruption_reaches_only_the_turn_that_is_late() -> None:
    watchdog = Watchdog(0.3)
    with pytest.raises(TurnLimitExceeded, match="'late'"):
        watchdog.watch("late", endless)
    for _ in range(100):
        assert watchdog.watch("short", lambda: sum(range(1000))) == 499_500


def test_an_error_of_a_turn_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Watchdog(10).watch("i", lambda: 1 // 0)


# -- turns that wait for nothing -------------------------------------------------------------------


def test_an_orchestration_that_waits_for_nothing_is_suspended_with_the_line_and_continues_once_that_is_repaired(
    store: Store,
) -> None:
    world = World(store)
    world.tasks["charge"] = lambda: "paid"

    @world.orchestrator
    async def waits(ctx: Any) -> str:
        result: str = await ctx.call(sig("charge"))
        if is_broken:
            await asyncio.Event().wait()
        return str(await ctx.call(sig("charge"))) + result

    is_broken = True
    world.start("waits")
    world.pump()
    record = world.client.fetch("i")
    assert record.status is RuntimeStatus.SUSPENDED
    assert re.search(
        r"can never continue: it waits at \S+test_limits.py:\d+ in", record.reason or ""
    )
    assert "can never continue" in str(explain(world.store, world.runner, record))

    is_broken = False
    world.client.resume("i", None)
    world.pump_to_end()
    assert (world.output(), world.runs["charge"]) == ("paidpaid", 2)


def test_a_thread_that_an_orchestration_waits_for_is_named_in_its_reason(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def waits(ctx: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        loop, told = future.get_loop(), threading.Event()

        def work() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(future.set_result, 1)
            told.set()

        threading.Thread(target=work).start()
        told.wait()
        await asyncio.wait([future, ctx.sleep(1000)])

    world.start("waits")
    world.pump()
    record = world.client.fetch("i")
    assert record.status is RuntimeStatus.SUSPENDED
    assert re.search(
        r"another thread.*call_soon_threadsafe\(\).*test_limits.py:\d+ in", record.reason or ""
    )


def test_one_that_waits_for_nothing_since_before_this_was_noticed_is_explained_and_can_be_canceled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store)
    world.tasks["charge"] = lambda: "paid"

    @world.orchestrator
    async def waits(ctx: Any) -> None:
        await ctx.call(sig("charge"))
        await asyncio.Event().wait()

    with monkeypatch.context() as before:
        before.setattr(Machine, "stall", None)
        world.start("waits")
        world.pump()
    told = explain(world.store, world.runner, world.client.fetch("i"))
    assert re.search(
        r"can never continue: it waits at \S+test_limits.py:\d+ in .*Cancel or terminate it",
        told.advice,
    )
    world.client.cancel("i", None)
    world.pump_to_end()
    assert world.status() is RuntimeStatus.CANCELED


# -- turns that ask for too much -------------------------------------------------------------------


def many(world: World, count: int, *, first: str) -> None:
    @world.orchestrator
    async def wide(ctx: Any) -> int:
        if first == "calls":
            futures = [ctx.call(sig("one")) for _ in range(count)]
            return len(await asyncio.gather(*futures))
        if first == "map":
            return len(await ctx.map(sig("one"), range(count), concurrency=2))
        while True:
            try:
                ctx.call(sig("one"))
            except Exception:  # noqa: S112
                continue

    world.tasks["one"] = lambda *_: 1


@pytest.mark.parametrize("first", ["calls", "map", "loop"])
def test_a_turn_that_asks_for_too_much_suspends_its_instance(store: Store, first: str) -> None:
    world = World(store, max_turn_commands=500)
    many(world, 501, first=first)
    world.start("wide")
    world.pump()
    record = world.client.fetch("i")
    assert record.status is RuntimeStatus.SUSPENDED
    assert "durable_max_turn_commands" in (record.reason or "")
    assert rows(store, "outbox") == []


def test_what_is_just_allowed_is_done_and_more_after_the_limit_was_raised(store: Store) -> None:
    world = World(store, max_turn_commands=50)
    many(world, 50, first="calls")
    world.start("wide")
    world.pump_to_end()
    assert world.output() == 50

    many(world, 51, first="calls")
    world.start("wide", id_="more")
    world.pump()
    assert world.status("more") is RuntimeStatus.SUSPENDED
    raised = World(store, registry=world.registry, max_turn_commands=100)
    raised.tasks = world.tasks
    raised.client.resume("more", None)
    raised.pump_to_end("more")
    assert raised.output("more") == 51


def test_a_hundred_thousand_commands_at_once_are_refused_quickly(store: Store) -> None:
    world = World(store)
    many(world, 100_000, first="calls")
    world.start("wide")
    began = time.process_time()
    world.pump()
    assert world.status() is RuntimeStatus.SUSPENDED
    assert time.process_time() - began < 20


# -- turns that kill their process -----------------------------------------------------------------


def crash_until_quiet(store: Store, make: Any, **settings: Any) -> tuple[World, int]:
    """Let process after process die in the turn, with recovery sending it again.

    Return the last one.
    """
    deaths = 0
    while True:
        world = World(store, resend_after=0.01, **settings)
        make(world)
        recovery = world.recovery()
        for _ in range(200):
            world.store.database.change_one(_ALL_DUE)
            recovery.repair_wakes()
            recovery.repair_activities()
            try:
                world.pump()
            except Killed:
                deaths += 1
                break
            if world.status() is not RuntimeStatus.PENDING:
                return world, deaths
        assert deaths < 50


@pytest.mark.parametrize("where", ["in the code", "when the whole history is read"])
def test_a_turn_that_kills_its_process_again_and_again_suspends_its_instance(
    store: Store, where: str
) -> None:
    is_broken = True

    def make(world: World) -> None:
        def reading(name: str, method: Any) -> Any:
            """The whole history is more than a process can hold."""

            def load(instance_id: str, known: Any) -> Any:
                if is_broken and where != "in the code" and (known is None or known.sequence == 0):
                    die()
                return method(instance_id, known)

            return load if name == "load" else method

        world.runner.store = WrappedStore(store, reading)  # type: ignore[assignment]

        @world.orchestrator
        async def poison(ctx: Any) -> str:
            if is_broken and where == "in the code":
                die()
            return "mended"

    first = World(store, resend_after=0.01)
    make(first)
    first.start("poison")

    world, deaths = crash_until_quiet(store, make, max_turn_crashes=3)

    assert world.status() is RuntimeStatus.SUSPENDED
    assert deaths == 3
    assert "crash" in (world.client.fetch("i").reason or "")
    is_broken = False
    world.client.resume("i", None)
    world.pump_to_end()
    assert world.output() == "mended"


def test_a_turn_that_commits_starts_the_count_afresh(store: Store) -> None:
    deaths_left = 2

    def make(world: World) -> None:
        @world.orchestrator
        async def shaky(ctx: Any) -> str:
            nonlocal deaths_left
            if deaths_left:
                deaths_left -= 1
                die()
            await ctx.wait_event("go")
            return "done"

    first = World(store, resend_after=0.01)
    make(first)
    first.start("shaky")
    world, deaths = crash_until_quiet(store, make, max_turn_crashes=3)
    assert (world.status(), deaths) == (RuntimeStatus.RUNNING, 2)
    assert store.turns.load("i", None).instance.crashes == 0


def test_a_store_that_is_down_now_and_then_is_no_crash(store: Store) -> None:
    world = World(store, max_turn_crashes=1, resend_after=0.01)

    @world.orchestrator
    async def steps(ctx: Any) -> str:
        return "done"

    def fail() -> None:
        raise StoreError("down")

    world.start("steps")
    for _ in range(5):
        world.store.database.change_one(_ALL_DUE)
        world.recovery().repair_wakes()
        world.interpose("commit", before=fail)
        with pytest.raises(StoreError):
            world.step()
        world.runner.store = store
        world.publisher.turns.clear()
    world.store.database.change_one(_ALL_DUE)
    world.recovery().repair_wakes()
    world.pump_to_end()
    assert world.output() == "done"


# -- activities that kill their workers ------------------------------------------------------------


def test_an_activity_that_takes_worker_after_worker_with_it_fails(store: Store) -> None:
    world = World(store, max_activity_crashes=3, resend_after=0.01)
    world.tasks["poison"] = die

    @world.orchestrator
    async def steps(ctx: Any) -> str:
        try:
            return await ctx.call(sig("poison"))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    world.start("steps")
    world.step()
    recovery = world.recovery()
    deaths = 0
    while not world.status().is_terminal:
        assert deaths <= 3
        if world.publisher.activities:
            row = world.publisher.activities.popleft()
            store.workers.heartbeat(f"w{deaths}", "host")
            hold(store, f"w{deaths}", [row.ticket])
            with pytest.raises(Killed):
                world.perform(row.ticket, row)
            deaths += 1
            world.live._start_empty()
            assert store.workers.free_abandoned(0) == 1
        recovery.repair_activities()
        while world.publisher.turns:
            world.runner.run(world.publisher.turns.popleft()[0].id)
    assert deaths == 3
    assert "WorkerLostError" in world.output()
    assert "durable_max_activity_crashes" in world.output()


def test_an_activity_whose_process_died_in_the_turn_after_it_runs_again_as_a_copy(
    store: Store,
) -> None:
    execution = begin(store, activities=[activity()])
    ticket = ActivityAttemptId(execution, 1, 1)
    store.workers.heartbeat("a", "host")
    assert take(store, ticket, "a", 60_000_000)
    row = store.attempts.interrupt(ticket)
    assert row is not None
    assert (row.instance, row.name, row.sends) == ("i", "task", 1)
    (kept,) = rows(store, "outbox")
    assert (kept["holder"], kept["sends"], kept["crashes"]) == (None, 1, 1)
    assert kept["check_at"] > store.now() - 1_000_000
    assert store.attempts.interrupt(ActivityAttemptId("unknown", 1, 1)) is None


def test_a_first_try_is_not_counted(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def waits(ctx: Any) -> str:
        return await ctx.wait_event("go")

    counted: list[int] = []
    world.start("waits")
    world.interpose("count_crash", before=lambda: counted.append(1), times=100)
    world.pump()
    world.raise_event("i", "go", "there")
    world.pump_to_end()
    assert world.output() == "there"
    assert counted == []
    assert world.events(kind=EventKind.EVENT_RAISED)


# -- activities under way at a time ----------------------------------------------------------------


def capped(store: Store, most: int, **settings: Any) -> World:
    """Return a world whose orchestrators may have only so many activities under way."""
    world = World(store, max_instance_activities=most, **settings)
    world.tasks["double"] = lambda number: 2 * number

    @world.orchestrator
    async def wide(ctx: Any, width: int) -> list[int]:
        return await asyncio.gather(*(ctx.call(sig("double", number)) for number in range(width)))

    @world.orchestrator
    async def mixed(ctx: Any) -> list[Any]:
        async def chain(number: int) -> int:
            for _ in range(3):
                number = await ctx.call(sig("double", number))
            return number

        async def stumble(number: int) -> str:
            try:
                await ctx.call(sig("fail", number))
            except ValueError as error:
                return str(error)
            return "?"

        beside = asyncio.create_task(chain(100))
        winner = await ctx.any(
            [ctx.call(sig("double", 1)), ctx.call(sig("double", 1)), ctx.call(sig("double", 1))]
        )
        results = await asyncio.gather(
            *(chain(n) for n in range(4)), *(stumble(n) for n in range(3))
        )
        return [winner, await beside, *results]

    def fail(number: int) -> None:
        raise ValueError(f"no {number}")

    world.tasks["fail"] = fail
    return world


def under_way(store: Store) -> int:
    return sum(not row["is_held"] for row in rows(store, "outbox") if row["kind"] == "activity")


@pytest.mark.parametrize("most", [1, 3, 100])
def test_only_so_many_activities_of_an_instance_are_under_way(store: Store, most: int) -> None:
    world = capped(store, most)
    world.start("wide", 20)
    seen = []
    while world.step():
        seen.append(under_way(store))
        assert len(world.publisher.activities) <= most
    assert max(seen) == min(most, 20)
    assert world.output() == [2 * number for number in range(20)]
    assert world.runs["double"] == 20


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("order", ["first", "last"])
def test_a_cap_holds_for_chains_races_and_failures_too(store: Store, most: int, order: str) -> None:
    world = capped(store, most)
    world.start("mixed")
    while True:
        if order == "last":
            world.publisher.activities.rotate(1)
        if not world.step():
            break
        assert under_way(store) <= most
    assert world.output() == [2, 800, 0, 8, 16, 24, "no 0", "no 1", "no 2"]


def test_an_orchestrators_own_cap_comes_first(store: Store) -> None:
    world = capped(store, 2)
    world.registry.add(replace(world.registry.get("wide", None), max_activities=7))
    world.start("wide", 20)
    world.step()
    assert under_way(store) == 7
    world.pump()
    assert len(world.output()) == 20


def test_time_limits_count_from_the_moment_an_activity_is_let_go(store: Store) -> None:
    world = World(store, max_instance_activities=1)
    world.tasks["double"] = lambda number: 2 * number

    @world.orchestrator
    async def timed(ctx: Any) -> list[int]:
        calls = [ctx.call(sig("double", n), timeout=60, start_timeout=30) for n in (1, 2)]
        return await asyncio.gather(*calls)

    world.start("timed")
    world.step()
    before = {
        row["command"]: (row["deadline_at"], row["start_by"], row["check_at"])
        for row in rows(store, "outbox")
    }
    first, second = sorted(before)
    assert before[first][0] - before[first][1] == 30_000_000
    assert before[second] == (60_000_000, 30_000_000, None)
    world.recovery().repair_activities()
    world.step()
    (row,) = rows(store, "outbox")
    assert row["deadline_at"] - row["start_by"] == 30_000_000
    assert row["deadline_at"] > store.now() + 50_000_000
    assert row["check_at"] <= row["start_by"]
    world.pump()
    assert world.output() == [2, 4]


def test_activities_of_a_capped_instance_end_in_parallel(postgres_store: Store) -> None:
    """Recorders that do not see each other leave no member held for ever."""
    world = capped(postgres_store, 4)
    for number in range(6):
        world.start("wide", 30, id_=f"i{number}")
    threads = [threading.Thread(target=world.pump) for _ in range(6)]
    recovery = world.recovery()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def goes_on() -> bool:
        recovery.repair_wakes()
        recovery.repair_activities()
        return all(world.status(f"i{number}").is_terminal for number in range(6))

    world.pump_until(goes_on)
    assert world.runs["double"] == 180
    for number in range(6):
        assert world.output(f"i{number}") == [2 * n for n in range(30)]


# -- bursts ----------------------------------------------------------------------------------------


def test_a_burst_of_due_timers_is_fed_in_bounded_batches(
    empty_postgres: str, open_url: Any
) -> None:
    store = open_url(empty_postgres)
    fill(store, 10, 5_000)
    with store.database.cursor() as cursor:
        cursor.execute("UPDATE durable_inbox SET visible_at = 1, wake_at = 1, check_at = 1")
    world = World(store)
    world.registry.add(Definition("shop.order", None, lambda ctx: None))
    recovery = world.recovery()
    recovery.tick(list, lambda _: None)
    assert len(world.publisher.turns) == 2_000
    assert len({address.id for address, _, _ in world.publisher.turns}) == 2_000


def test_a_try_is_counted_once_however_often_it_looks_again(postgres_store: Store) -> None:
    """Another process that holds the row for a moment is no crash of this one."""
    world = World(postgres_store, max_turn_crashes=1, resend_after=0.01)

    @world.orchestrator
    async def waits(ctx: Any) -> str:
        return await ctx.wait_event("go")

    world.start("waits")
    postgres_store.database.change_one(_ALL_DUE)
    world.recovery().repair_wakes()
    counted: list[int] = []
    world.interpose("count_crash", before=lambda: counted.append(1), times=100)
    with postgres_store.database.engine.connect() as other:
        holder = other.connection.driver_connection
        holder.autocommit = False
        holder.execute("SELECT 1 FROM durable_instances FOR UPDATE")
        thread = threading.Thread(target=world.step)
        thread.start()
        wait_until(lambda: counted, 20, "the first try")
        time.sleep(0.2)
        holder.rollback()
        holder.autocommit = True
        thread.join()
    world.pump()
    # counted, and taken back as it came to an end
    assert (world.status(), len(counted)) == (RuntimeStatus.RUNNING, 2)
