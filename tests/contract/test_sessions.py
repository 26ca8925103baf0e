"""Starts and events in a transaction of the caller's: visible with it, gone with it, sent
after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable.app.session import join_transaction
from celery_durable.errors import ConfigurationError
from celery_durable.store import Store

from .builders import begin, event, kinds, new_instance


@pytest.fixture
def engine(store: Store) -> Iterator[sa.Engine]:
    """The caller's own engine, on the store's database."""
    engine = sa.create_engine(store.database.url)
    if store.database.family == "sqlite":  # as SQLAlchemy's manual says, for savepoints that hold

        @sa.event.listens_for(engine, "connect")
        def leave_transactions_alone(connection: object, _record: object) -> None:
            connection.isolation_level = None

        @sa.event.listens_for(engine, "begin")
        def begin_at_once(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS orders")
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    yield engine
    engine.dispose()


@pytest.fixture
def nudged() -> list[str]:
    """The instances whose first turn was sent."""
    return []


@pytest.fixture
def start(store: Store, nudged: list[str]) -> Callable[..., bool]:
    """Start an orchestration in somebody's transaction."""

    def start(session: Session | sa.Connection, id_: str = "i") -> bool:
        with join_transaction(session, store) as (cursor, on_commit):
            is_new = store.starts.insert_within(cursor, new_instance(id_))
            assert store.reads.fetch(id_) is None or not is_new
            on_commit(lambda: nudged.append(id_))
        return is_new

    return start


def order(session: Session | sa.Connection, number: int = 1) -> None:
    session.execute(sa.text("INSERT INTO orders (id) VALUES (:id)"), {"id": number})


def orders(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT COUNT(*) FROM orders"))


def is_there(store: Store, id_: str = "i") -> bool:
    return store.reads.fetch(id_) is not None and kinds(store, id_) == ["ExecutionStarted"]


def test_a_start_commits_with_its_session_and_is_sent_after_it(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str]
) -> None:
    with Session(engine) as session:
        order(session)
        assert start(session)
        assert store.reads.fetch("i") is None
        assert nudged == []
        session.commit()
        assert nudged == ["i"]
        order(session, 2)
        session.commit()
    assert is_there(store)
    assert nudged == ["i"]
    assert orders(engine) == 2


@pytest.mark.parametrize("how", ["rollback", "close", "error"])
def test_a_start_is_gone_with_its_session(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str], how: str
) -> None:
    with Session(engine) as session:
        order(session)
        start(session)
        if how == "error":
            order(session, 2)
            with pytest.raises(sa.exc.IntegrityError):
                order(session, 2)
            session.rollback()
        else:
            getattr(session, how)()
        order(session, 3)
        session.commit()
    assert store.reads.fetch("i") is None
    assert nudged == []
    assert orders(engine) == 1


def test_a_start_in_a_savepoint_is_gone_with_the_savepoint(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str]
) -> None:
    with Session(engine) as session:
        start(session, "kept before")
        savepoint = session.begin_nested()
        start(session, "dropped")
        savepoint.rollback()
        with session.begin_nested():
            start(session, "kept")
        assert nudged == []
        session.commit()
    assert (
        is_there(store, "kept before"),
        is_there(store, "kept"),
        store.reads.fetch("dropped"),
    ) == (True, True, None)
    assert sorted(nudged) == ["kept", "kept before"]


@pytest.mark.parametrize("how", ["rollback", "close"])
def test_a_released_savepoint_is_no_commit(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str], how: str
) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            start(session)
        assert nudged == []
        getattr(session, how)()
    assert store.reads.fetch("i") is None
    assert nudged == []


def test_a_start_is_gone_with_a_savepoint_further_out(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str]
) -> None:
    with Session(engine) as session:
        order(session)
        outer = session.begin_nested()
        with session.begin_nested():
            start(session)
        outer.rollback()
        session.commit()
    assert store.reads.fetch("i") is None
    assert nudged == []


def test_a_start_on_a_connection_commits_with_it_and_is_left_to_recovery(
    store: Store, engine: sa.Engine, start: Callable[..., bool], nudged: list[str]
) -> None:
    with engine.connect() as connection:
        order(connection)
        start(connection, "dropped")
        connection.rollback()
        start(connection, "kept")
        connection.commit()
    assert (store.reads.fetch("dropped"), is_there(store, "kept")) == (None, True)
    assert nudged == []


def test_an_id_that_is_taken_does_not_spoil_the_callers_transaction(
    store: Store, engine: sa.Engine, start: Callable[..., bool]
) -> None:
    begin(store)
    with Session(engine) as session:
        assert not start(session)
        order(session)
        session.commit()
    assert orders(engine) == 1


def test_an_event_commits_with_its_session(
    store: Store, engine: sa.Engine, nudged: list[str]
) -> None:
    begin(store)
    for end in ("rollback", "commit"):
        with Session(engine) as session:
            with join_transaction(session, store) as (cursor, on_commit):
                assert store.inbox.put_within(cursor, [event(name=end)]) == 1
                on_commit(lambda end=end: nudged.append(end))
            getattr(session, end)()
    assert [row.name for row in store.turns.load("i", None).inbox] == ["commit"]
    assert nudged == ["commit"]


def test_a_failure_to_send_is_no_failure_of_the_commit(store: Store, engine: sa.Engine) -> None:
    def fail() -> None:
        raise OSError("no broker")

    with Session(engine) as session:
        with join_transaction(session, store) as (cursor, on_commit):
            store.starts.insert_within(cursor, new_instance())
            on_commit(fail)
        session.commit()
    assert is_there(store)


def test_another_database_is_refused_without_telling_passwords(store: Store) -> None:
    elsewhere = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with Session(elsewhere) as session, pytest.raises(ConfigurationError, match="session="):
        with join_transaction(session, store):
            pass
    elsewhere.dispose()
    with (
        pytest.raises(ConfigurationError, match="Session or Connection"),
        join_transaction(object(), store),
    ):
        pass


def test_the_same_database_is_recognised_however_it_is_spelled(store: Store) -> None:
    url = store.database.url
    if store.database.family == "sqlite":
        url = url.set(database=url.database.replace("/own.db", "/./own.db"))
    else:
        url = (
            url.set(port=None)
            if url.port in (5432, 3306)
            else pytest.skip("the server has a port of its own")
        )
    engine = sa.create_engine(url)
    with Session(engine) as session, join_transaction(session, store) as (cursor, _):
        assert store.starts.insert_within(cursor, new_instance())
    engine.dispose()
