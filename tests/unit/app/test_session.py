"""What ``session=`` may be: it joins, or it refuses in words before the caller's transaction is
touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from celery_durable.errors import ConfigurationError

Base: Any = type("Base", (DeclarativeBase,), {})


class Order(Base):  # type: ignore[misc]
    """A row of the caller's own."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class SessionOfSomebody(Session):
    """A class of somebody's own, as SQLModel has one."""


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app()

    @app.durable.orchestrator(name="one", shared=False)
    async def one(ctx: Any) -> Any:
        return await ctx.wait_event("e")

    return app


@pytest.fixture
def engine(app: Any) -> Iterator[sa.Engine]:
    engine = sa.create_engine(app.conf.durable_backend_url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


JOINS: dict[str, Callable[[sa.Engine], Any]] = {
    "Session": Session,
    "a subclass": SessionOfSomebody,
    "of a sessionmaker": lambda engine: sessionmaker(engine)(),
    "scoped_session": lambda engine: scoped_session(sessionmaker(engine)),
    "scoped_session in use": lambda engine: (
        scoped := scoped_session(sessionmaker(engine)),
        scoped.add(Order(id=2)),
    )[0],
    "of a connection": lambda engine: Session(engine.connect()),
    "Connection": lambda engine: engine.connect(),
}
AWAITED: dict[str, Callable[[Any, Any], Any]] = {
    "astart": lambda durable, session: durable.astart(
        durable.app.tasks["one"].s(), instance_id="new", session=session
    ),
    "astart_many": lambda durable, session: durable.astart_many(
        [durable.app.tasks["one"].s()], instance_ids=["new"], session=session
    ),
    "araise_event": lambda durable, session: durable.araise_event("old", "e", 1, session=session),
    "asignal": (
        lambda durable, session: durable.entity("Counter", "a").asignal(session=session).add(1)
    ),
}
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "start": lambda durable, session: durable.start(
        durable.app.tasks["one"].s(), instance_id="new", session=session
    ),
    "raise_event": lambda durable, session: durable.raise_event("old", "e", 1, session=session),
    "signal": (
        lambda durable, session: durable.entity("Counter", "a").signal(session=session).add(1)
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("kind", JOINS)
def test_a_session_is_joined(
    app: Any, engine: sa.Engine, kind: str, commits: bool, call: str
) -> None:
    durable = app.durable
    durable.start(app.tasks["one"].s(), instance_id="old")
    database = durable.runtime.store.database

    def rows() -> int:
        with database.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM durable_inbox")
            return int(cursor.fetchone()[0])

    before, session = rows(), JOINS[kind](engine)
    session.execute(sa.insert(Order).values(id=1))
    CALLS[call](durable, session)
    assert rows() == before
    session.commit() if commits else session.rollback()
    session.close()
    assert rows() > before if commits else rows() == before


@pytest.mark.parametrize("call", AWAITED)
@pytest.mark.parametrize(
    "kind", ["Session", "scoped_session", "Connection", "async", "async scoped"]
)
def test_twins_join_the_session_of_the_thread_that_awaits(
    app: Any, engine: sa.Engine, kind: str, call: str
) -> None:
    app.durable.start(app.tasks["one"].s(), instance_id="old")

    def rows() -> int:
        with app.durable.runtime.store.database.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM durable_inbox")
            return int(cursor.fetchone()[0])

    async def life() -> None:
        before = rows()
        url = engine.url.set(drivername="sqlite+aiosqlite")
        asynchronous = create_async_engine(url)
        if kind == "async":
            session: Any = AsyncSession(asynchronous)
        elif kind == "async scoped":
            maker = async_sessionmaker(asynchronous)
            session = async_scoped_session(maker, asyncio.current_task)
        else:
            session = JOINS[kind](engine)
        for ends in ("rollback", "commit"):
            await AWAITED[call](app.durable, session)
            assert rows() == before, "it has not joined"
            done = getattr(session, ends)()
            await done if asyncio.iscoroutine(done) else None
        assert rows() > before
        closed = session.close()
        await closed if asyncio.iscoroutine(closed) else None
        await asynchronous.dispose()

    asyncio.run(life())


def of_driver(name: str, **facts: Any) -> Callable[[sa.Engine], Any]:
    """Return how to make a session of an engine that seems to be of another driver."""

    def make(engine: sa.Engine) -> Session:
        engine.dialect.driver = name
        for each, value in facts.items():
            setattr(engine.dialect, each, value)
        return Session(engine)

    return make


def elsewhere(engine: sa.Engine) -> Session:
    return Session(sa.create_engine("sqlite:////somewhere/else.db"))


REFUSED: dict[str, tuple[Callable[[sa.Engine], Any], str]] = {
    "AsyncSession": (lambda engine: AsyncSession(), "run_sync"),
    "async_scoped_session": (
        lambda engine: async_scoped_session(async_sessionmaker(), lambda: 1),
        "run_sync",
    ),
    "async_sessionmaker": (lambda engine: async_sessionmaker(), "run_sync"),
    "AsyncConnection": (lambda engine: AsyncConnection.__new__(AsyncConnection), "run_sync"),
    "AsyncEngine": (lambda engine: AsyncEngine.__new__(AsyncEngine), "run_sync"),
    "sessionmaker": (sessionmaker, "call it"),
    "Engine": (lambda engine: engine, "the connection, or the session"),
    "SQLAlchemy": (lambda engine: type("SQLAlchemy", (), {})(), r"\.session"),
    "True": (lambda engine: True, "not bool"),
    "of another database": (elsewhere, "the store's own database"),
    "of several engines": (lambda engine: Session(binds={Order: engine}), "bind_arguments"),
    "aiomysql": (of_driver("aiomysql", is_async=True), "'aiomysql', which"),
    "pg8000": (of_driver("pg8000", paramstyle="format"), "'pg8000', which"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_joined_is_refused_before_it_is_touched(
    app: Any, engine: sa.Engine, kind: str, call: str
) -> None:
    make, words = REFUSED[kind]
    app.durable.start(app.tasks["one"].s(), instance_id="old")
    session = make(engine)
    with pytest.raises(ConfigurationError, match=words):
        CALLS[call](app.durable, session)
    if isinstance(session, Session):
        assert not session.in_transaction()
    assert engine.pool.status().endswith("Current Checked out connections: 0")
