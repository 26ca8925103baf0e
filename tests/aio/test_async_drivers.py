"""A start, an event, a request, a signal and a completion join the transaction of a session over
each asynchronous driver: whatever they write, and with whatever options.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from celery_durable import Durable, InstanceExists, InstanceNotFound, Limit, durable_context
from celery_durable.app.callers_driver import _typed
from celery_durable.payload_store import PayloadStore

#: Entities have a name for each application: Celery keeps what is shared for all that follow.
numbers = itertools.count()
DRIVERS = ["aiosqlite", "asyncpg", "psycopg", "asyncmy"]
FIXTURES = {
    "aiosqlite": "sqlite_url",
    "asyncpg": "postgres_url",
    "psycopg": "postgres_url",
    "asyncmy": "mariadb_url",
}


@pytest.fixture(
    params=[
        pytest.param(driver, marks=[] if driver == "aiosqlite" else [pytest.mark.full])
        for driver in DRIVERS
    ]
)
def urls(request: pytest.FixtureRequest) -> tuple[str, sa.URL]:
    """The store's URL, and that of the caller's engine on the same database."""
    url = request.getfixturevalue(FIXTURES[request.param])
    backend = sa.make_url(url).get_backend_name()
    return url, sa.make_url(url).set(drivername=f"{backend}+{request.param}")


@pytest.fixture
def durable(urls: tuple[str, sa.URL]) -> Iterator[Durable]:
    app = Celery("drivers", broker="memory://", set_as_current=False)
    app.conf.durable_backend_url = urls[0]
    durable = Durable(app)

    @app.task(name="tests.defers")
    def defers() -> None:
        tokens.append(durable_context().defer())

    @durable.orchestrator(
        name="tests.drivers", shared=False, limit=[Limit(2, key="key"), Limit(50)]
    )
    async def drivers(ctx: Any, key: Any = None) -> Any:
        token = ctx.call(defers.s())
        return [key, await ctx.wait_event("paid"), await token]

    counter_name = f"tests.drivers.{next(numbers)}"

    @durable.entity(name=counter_name)
    class Counter:
        value: int = 0

        def add(self, by: int) -> int:
            self.value += by
            return self.value

    app.finalize()
    tokens: list[str] = []
    durable.tokens, durable.counter = tokens, counter_name  # type: ignore[attr-defined]
    yield durable
    durable.runtime.store.dispose()


def opened(engine: AsyncEngine, kind: type) -> Any:
    return AsyncSession(engine) if kind is AsyncSession else engine.connect()


def starts(durable: Durable) -> list[dict[str, Any]]:
    """Ways to start, which write different columns and rows."""
    signature = durable.app.tasks["tests.drivers"].s
    later = datetime.now(UTC) + timedelta(days=1)
    return [
        {"signature": signature("a"), "instance_id": "plain"},
        {
            "signature": signature("ü"),
            "instance_id": "tagged",
            "tags": {"shop": "Zürich", "n": "1"},
        },
        {"signature": signature(), "instance_id": "later", "start_at": later, "timeout": 60},
        {"signature": signature("a").set(queue="q", priority=3), "instance_id": "queued"},
        {"signature": signature("x" * 3_000)},
        {"signature": durable.app.tasks["tests.defers"].s(), "instance_id": "task"},
    ]


@pytest.mark.parametrize("kind", [AsyncSession, AsyncConnection])
@pytest.mark.parametrize("commits", [True, False])
def test_starts_join(durable: Durable, urls: Any, commits: bool, kind: type) -> None:
    durable.migrate()

    async def life() -> None:
        engine = create_async_engine(urls[1])
        runs = []
        async with opened(engine, kind) as session:
            await session.execute(sa.text("SELECT 1"))
            for options in starts(durable):
                signature = options.pop("signature")
                runs.append(await durable.astart(signature, session=session, **options))
            again = await durable.astart(
                durable.app.tasks["tests.drivers"].s("a"), instance_id="plain", session=session
            )
            assert again.id == "plain"
            runs += await durable.astart_many(
                [each.pop("signature") for each in starts(durable)],
                instance_ids=["many-1", "plain", None, "many-2", "many-3", "many-1"],
                tags=[{"shop": "Zürich"}, None, {}, None, None, None],
                session=session,
            )
            with pytest.raises(InstanceExists):
                await durable.astart_many(
                    [durable.app.tasks["tests.drivers"].s()] * 2,
                    instance_ids=["not-there", "plain"],
                    if_exists="raise",
                    session=session,
                )
            await (session.commit() if commits else session.rollback())
        for run in runs:
            if commits:
                assert (await durable.aget(run.id)).id == run.id
            else:
                with pytest.raises(InstanceNotFound):
                    await durable.aget(run.id)
        await engine.dispose()

    asyncio.run(life())
    with pytest.raises(InstanceNotFound):
        durable.get("not-there")
    if commits:
        assert durable.get("many-1").tags == {"shop": "Zürich"}
        assert durable.get("tagged").tags == {"shop": "Zürich", "n": "1"}


@pytest.mark.parametrize("commits", [True, False])
def test_events_signals_and_completions_join(durable: Durable, urls: Any, commits: bool) -> None:
    durable.migrate()
    durable.app.conf.task_always_eager = True  # the first activity runs within the start
    run = durable.start(durable.app.tasks["tests.drivers"].s("k"), instance_id="run")
    (token,) = durable.tokens  # type: ignore[attr-defined]
    counter = durable.entity(durable.counter, "c")  # type: ignore[attr-defined]
    durable.app.conf.task_always_eager = False

    async def life() -> None:
        engine = create_async_engine(urls[1])
        async with AsyncSession(engine) as session:
            await session.execute(sa.text("SELECT 1"))
            await run.araise_event("paid", {"by": "ada"}, session=session)
            await durable.araise_event("run", "other", session=session)
            done = await durable.araise_event_many("all", id_prefix="r", session=session)
            assert done.done == 1
            await counter.asignal(session=session).add(2)
            assert await durable.acomplete(token, [1, None], session=session)
            await (session.commit() if commits else session.rollback())
        await engine.dispose()

    before = rows(durable)
    asyncio.run(life())
    # three events, an outcome, a signal, and the start of the entity that it is for
    assert rows(durable) == (before + 6 if commits else before)
    assert durable.complete(token, 2) is not commits


def rows(durable: Durable) -> int:
    """Return how many messages are known: what waits for a turn, but for timers."""
    with durable.runtime.store.database.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM durable_inbox")
        return int(cursor.fetchone()[0])


def test_types_are_given_and_none_takes_that_of_its_place() -> None:
    sql, values = _typed("SELECT $1, $2, $1, $3, $4", [1, None, b"x", True])
    assert sql == (
        "SELECT CAST($1 AS BIGINT), NULL, CAST($1 AS BIGINT), CAST($2 AS BYTEA), CAST($3 AS"
        " BOOLEAN)"
    )
    assert values == (1, b"x", True)


class SlowStore(PayloadStore):
    """A payload store that takes its time."""

    def write(self, key: str, data: bytes) -> None:
        time.sleep(1.0)
        super().write(key, data)


def test_a_slow_payload_store_does_not_block_the_loop(
    durable: Durable, urls: Any, tmp_path: Path
) -> None:
    durable.app.conf.durable_payload_store = SlowStore(str(tmp_path / "large"), above=1_000)
    durable.migrate()
    turns = 0

    async def turn_over() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    async def life() -> None:
        engine = create_async_engine(urls[1])
        over = asyncio.create_task(turn_over())
        async with AsyncSession(engine) as session:
            await session.execute(sa.text("SELECT 1"))
            signature = durable.app.tasks["tests.drivers"].s("x" * 3_000)
            before = turns
            await durable.astart(signature, instance_id="large", session=session)
            assert turns - before > 10
            await session.commit()
        over.cancel()
        assert (await durable.aget("large")).input["args"] == ["x" * 3_000]
        await engine.dispose()

    asyncio.run(life())
