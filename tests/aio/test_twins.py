"""Each method that uses the store has a twin for event loops, with the same arguments and errors."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from celery_durable import (
    ConfigurationError,
    Durable,
    InstanceNotFound,
    InvalidState,
    Orchestration,
    OrchestrationRevoked,
    RuntimeStatus,
    Schedule,
    WaitTimeout,
)
from celery_durable.app import compose
from celery_durable.handles.canvas import DurableCanvas
from celery_durable.handles.entity import EntityReference
from celery_durable.handles.fields import StatusFields
from celery_durable.testing import DurableEnv, durable_environment

#: Those that use no store, that Celery names, or that a twin of another name stands for.
WITHOUT = {
    Durable: {
        "actor", "add_converter", "canvas", "debugger", "entity", "init_app", "migrate", "orchestrator", "propagate",
        "replay", "running_on", "schema", "start", "start_many", "transactional", "verify",
    },
    Orchestration: {"get", "refresh", "wait"},
    Schedule: set(),
    EntityReference: set(),
    DurableCanvas: {"delay"},
}  # fmt: skip

app = Celery("twins", broker="memory://", set_as_current=False)
durable = Durable(app)


@app.task
def double(n: int) -> int:
    return 2 * n


@durable.orchestrator
async def waits(ctx: Any, n: int) -> Any:
    return [n, await ctx.wait_event("go")]


@durable.orchestrator
async def asks(ctx: Any) -> Any:
    return await durable.astart(waits.s(1))


@durable.entity(name="tests.aio.Counter")
class Counter:
    value: int = 0

    def add(self, n: int) -> None:
        self.value += n


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    with durable_environment(durable) as env:
        yield env


@pytest.mark.parametrize("cls", WITHOUT, ids=lambda cls: cls.__name__)
def test_every_method_has_a_twin_with_its_arguments(cls: type) -> None:
    methods = {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and member.__module__.startswith("celery_durable")
    }
    plain = {name for name, each in methods.items() if not inspect.iscoroutinefunction(each)}
    assert plain
    for name in plain - WITHOUT[cls]:
        twin = methods[f"a{name}"]
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(methods[name])
        assert f"``{name}``" in (twin.__doc__ or "") and twin.__name__ == f"a{name}"
    assert {f"a{name}" for name in WITHOUT[cls]} & methods.keys() <= {
        "aget",
        "arefresh",
        "astart",
        "astart_many",
    }


def test_a_life(env: DurableEnv) -> None:
    async def life() -> None:
        run = await durable.astart(waits.s(1), instance_id="i", tags={"customer": "ada"})
        assert run.runtime_status is RuntimeStatus.PENDING
        env.run_until_idle()
        assert [found.id for found in (await durable.afind(tags={"customer": "ada"})).items] == [
            "i"
        ]
        assert await durable.acount() == 1
        await run.asuspend("lunch")
        assert (await run.arefresh()).reason == "lunch"
        await durable.aresume("i")
        await run.araise_event("go", 7)
        env.run_until_idle()
        assert await run == [1, 7] == await run.aget(timeout=1)
        assert len(await run.ahistory()) > 3
        assert await run.aexplain()
        with pytest.raises(InvalidState):
            await run.araise_event("late")
        again = await run.arestart(new_id="j")
        env.run_until_idle()
        await again.acancel("no")
        env.run_until_idle()
        with pytest.raises(OrchestrationRevoked, match="no"):
            await again
        assert isinstance(await again.aget(propagate=False), OrchestrationRevoked)
        with pytest.raises(InstanceNotFound):
            await durable.aget("nobody")
        schedule = await durable.aschedule("s", waits.s(1), interval=60)
        await schedule.apause(reason="x")
        assert (await durable.aget_schedule("s")).is_paused
        await schedule.adelete()
        assert await durable.aschedules() == []
        counter = durable.entity(Counter, "n")
        await counter.asignal.add(5)
        env.run_until_idle()
        assert await counter.astate() == {"value": 5}
        canvas = await durable.canvas(double.s(4)).aapply_async()
        env.run_until_idle()
        assert await canvas == 8

    asyncio.run(life())


def test_what_they_return_touches_no_store(
    env: DurableEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life() -> list[Orchestration]:
        first = await durable.astart(waits.s(1), instance_id="i")
        env.run_until_idle()
        return [first, await durable.aget("i"), await first.arefresh()]

    runs = asyncio.run(life())
    monkeypatch.setattr(Orchestration, "refresh", lambda self: pytest.fail("the store was asked"))
    database = durable.runtime.store.database
    monkeypatch.setattr(database, "read", lambda *_: pytest.fail("the store was asked"))
    names = [
        name
        for name, member in inspect.getmembers(StatusFields)
        if isinstance(member, property) and not name.startswith("_")
    ]
    assert {"name", "input", "output", "failure", "deadline", "context"} <= set(names)
    for run in runs:
        for name in names:
            getattr(run, name)


def test_a_loop_is_never_kept_waiting(env: DurableEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = durable.runtime.store.reads
    fetch = reads.fetch

    def slowly(*args: Any) -> Any:
        time.sleep(0.3)
        return fetch(*args)

    async def life() -> float:
        await durable.astart(waits.s(1), instance_id="i")
        monkeypatch.setattr(reads, "fetch", slowly)
        steps = 0

        async def tick() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0.01)
                steps += 1

        ticking = asyncio.create_task(tick())
        await durable.aget("i")
        ticking.cancel()
        return steps

    assert asyncio.run(life()) >= 5


def test_a_thousand_wait_in_no_thread(env: DurableEnv) -> None:
    before = threading.active_count()

    async def life() -> None:
        runs = [await durable.astart(waits.s(n), instance_id=f"i{n}") for n in range(20)]
        env.run_until_idle()
        waiting = [asyncio.create_task(runs[n % 20].aget()) for n in range(1000)]
        given_up = asyncio.create_task(runs[0].aget())
        await asyncio.sleep(0.3)
        assert threading.active_count() < before + 35, "more than the loop's own threads"
        given_up.cancel()
        for run in runs:
            await run.araise_event("go", run.id)
        env.run_until_idle()
        found = await asyncio.gather(*waiting)
        assert found == [[n % 20, f"i{n % 20}"] for n in range(1000)]
        assert given_up.cancelled()

    asyncio.run(life())


def test_the_first_wait_of_a_process_makes_the_engine_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Celery("cold", broker="memory://", set_as_current=False)
    own.conf.durable_backend_url = f"sqlite:///{tmp_path}/store.db"
    Durable(own)
    makers: list[threading.Thread] = []

    def slowly(*args: Any, **options: Any) -> Any:
        makers.append(threading.current_thread())
        return composed(*args, **options)

    composed = compose.compose
    monkeypatch.setattr(compose, "compose", slowly)
    with pytest.raises(InstanceNotFound):
        asyncio.run(Orchestration("nobody", app=own).aget(timeout=30))
    assert len(makers) == 1 and makers[0] is not threading.current_thread()
    own.durable.runtime.store.dispose()


def test_no_end_in_time(env: DurableEnv) -> None:
    async def life() -> None:
        run = await durable.astart(waits.s(1), instance_id="i")
        with pytest.raises(WaitTimeout, match="'i' is RUNNING after 0"):
            await run.aget(timeout=0.2)
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(None) as limit:
                asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
                await run
                limit.reschedule(None)
        env.run_until_idle()
        assert (await run.arefresh()).runtime_status is RuntimeStatus.RUNNING

    asyncio.run(life())


def test_inside_an_orchestrator_they_are_refused(env: DurableEnv) -> None:
    with pytest.raises(Exception, match=r"astart\(\)"):
        env.run(asks.s())


@pytest.mark.full
def test_a_start_joins_the_transaction_of_an_async_session(postgres_url: str) -> None:
    own = Celery("own", broker="memory://", set_as_current=False)
    own.conf.durable_backend_url = postgres_url
    mine = Durable(own)

    @mine.orchestrator(name="tests.joined")
    async def joined(ctx: Any) -> None: ...

    mine.migrate()

    async def life() -> None:
        engine = create_async_engine(postgres_url)
        async with AsyncSession(engine) as session:
            with pytest.raises(ConfigurationError, match="astart"):
                mine.start(joined.s(), session=session)
            await mine.astart(joined.s(), instance_id="undone", session=session)
            await session.rollback()
            await mine.astart(joined.s(), instance_id="kept", session=session)
            await session.execute(sa.text("SELECT 1"))
            with pytest.raises(InstanceNotFound):
                await mine.aget("kept")
            await session.commit()
        assert (await mine.aget("kept")).runtime_status is RuntimeStatus.PENDING
        with pytest.raises(InstanceNotFound):
            await mine.aget("undone")
        await engine.dispose()

    asyncio.run(life())
    mine.runtime.store.dispose()


def test_who_acts_is_known_in_the_threads_of_twins(env: DurableEnv) -> None:
    async def life() -> None:
        with durable.actor("ann"):
            run = await durable.astart(waits.s(1))
            await run.asuspend("stocktaking")
        await run.aresume()
        found = await run.aaudit()
        assert [(each.verb, each.actor) for each in found] == [("suspend", "ann"), ("start", "ann")]

    asyncio.run(life())
