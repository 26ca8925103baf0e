"""An exception from a signal handler or another thread, at any place of a transaction."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from celery_durable.errors import StoreError
from celery_durable.store import Store, database, fork_gate, runner
from celery_durable.store.database import Database, Statement
from tests.blows import places, struck_at

SET = Statement("UPDATE durable_meta SET value = :value WHERE name = 'struck'")
GET = Statement("SELECT value FROM durable_meta WHERE name = 'struck'")


class StruckError(Exception):
    """Raised by nobody's fault."""


def strike() -> None:
    """Raise it."""
    raise StruckError


@pytest.fixture
def other(store: Store) -> Iterator[Database]:
    """Another process's view of the store, which waits for no lock."""
    given: dict[str, object] = {
        "sqlite": {"timeout": 0},
        "postgresql": {"options": "-c lock_timeout=50"},
    }
    options = given.get(store.database.family, {})
    database = Database(
        store.database.url.render_as_string(hide_password=False), {"connect_args": options}
    )
    yield database
    database.dispose()


@pytest.mark.parametrize("begin", [True, False], ids=["transaction", "statement"])
def test_a_connection_that_was_struck_holds_nothing(
    store: Store, other: Database, begin: bool
) -> None:
    written = iter(range(10**6))

    def write() -> object:
        return store.database.transact(
            lambda cursor: store.database.run(cursor, SET, value=str(next(written))).rowcount,
            begin=begin,
        )

    with store.database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM durable_meta WHERE name = 'struck'"))
        connection.execute(sa.text("INSERT INTO durable_meta (name, value) VALUES ('struck', '')"))
    write()
    files = {database.__file__, fork_gate.__file__, runner.__file__}
    number = places(write, files)
    assert number > 20
    for place in range(1, number + 1):
        error = struck_at(place, write, strike, files)
        assert isinstance(error, (StruckError, StoreError, type(None)))
        del error
        assert _is_free(other), f"place {place} of {number} left a lock behind"
        assert write() == 1
        assert store.database.fetch_one(GET) == (str(next(written) - 1),)
    gc.collect()
    gate = store.database._fork_gate
    assert gate is None or not gate.uses


def _is_free(other: Database) -> bool:
    """Tell whether another process can write the row at once."""
    try:
        with other.engine.connect() as connection:
            connection.exec_driver_sql(
                "UPDATE durable_meta SET value = 'other' WHERE name = 'struck'"
            )
    except sa.exc.OperationalError:
        return False
    return True


def test_a_pool_closes_what_comes_back_in_doubt(store: Store) -> None:
    def interrupted(cursor: object) -> None:
        raise StruckError

    before: Callable[[], object] = lambda: store.database.engine.pool.checkedin()  # type: ignore[attr-defined]  # noqa: E731
    store.now()
    kept = before()
    with pytest.raises(StruckError):
        store.database.transact(interrupted)
    gc.collect()
    assert store.now()
    assert before() == kept
