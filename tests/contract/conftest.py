"""One database per backend and run, empty for every test; SQLite gets a fresh file."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.store import Store
from celery_durable.store.database import Database
from celery_durable.store.migrate import migrate
from celery_durable.store.schema import metadata
from tests.conftest import MARIADB, POSTGRES, own_database
from tests.tiers import is_long

from .counting import Clock, count_statements
from .shop import Shop
from .world import World

RESEND_AFTER = 200_000


@contextmanager
def _tables(url: str) -> Iterator[str]:
    with own_database(url) as own:
        if own.startswith("postgresql"):  # nobody pulls the plug here
            engine = sa.create_engine(own, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql(
                    f"ALTER DATABASE {sa.make_url(own).database} SET synchronous_commit = off"
                )
            engine.dispose()
        database = Database(own)
        migrate(database)
        database.dispose()
        yield own


@pytest.fixture(scope="session")
def postgres_tables() -> Iterator[str]:
    """A PostgreSQL database with the tables, for the whole run."""
    with _tables(POSTGRES) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_tables() -> Iterator[str]:
    """A MariaDB database with the tables, for the whole run."""
    with _tables(MARIADB) as url:
        yield url


@pytest.fixture
def empty_sqlite(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of an SQLite store with nothing in it."""
    shutil.copy(sqlite_template, tmp_path / "own.db")
    return f"sqlite:///{tmp_path / 'own.db'}"


@pytest.fixture(scope="session")
def empty() -> Iterator[Callable[[str], str]]:
    """Empty the tables of a database."""
    engines: dict[str, sa.Engine] = {}

    def empty(url: str) -> str:
        engine = engines.setdefault(url, sa.create_engine(url, pool_pre_ping=True))
        with engine.begin() as connection:
            for table in metadata.sorted_tables:
                if table.name != "durable_meta":
                    connection.execute(sa.delete(table))
            connection.exec_driver_sql(
                "UPDATE durable_meta SET value = '0' WHERE name = 'listed_until'"
            )
        return url

    yield empty
    for engine in engines.values():
        engine.dispose()


@pytest.fixture
def empty_postgres(postgres_tables: str, empty: Callable[[str], str]) -> str:
    """The URL of a PostgreSQL store with nothing in it."""
    return empty(postgres_tables)


@pytest.fixture
def empty_mariadb(mariadb_tables: str, empty: Callable[[str], str]) -> str:
    """The URL of a MariaDB store with nothing in it."""
    return empty(mariadb_tables)


@pytest.fixture
def open_url() -> Iterator[Callable[..., Store]]:
    """Open stores that are closed after the test."""
    stores: list[Store] = []

    def open_(url: str, **options: Any) -> Store:
        from celery_durable.settings import Settings
        from celery_durable.store import open_store

        resend_after = options.pop("resend_after", RESEND_AFTER / 1_000_000)
        store = open_store(
            Settings(backend_url=url, backend_options=options or None, resend_after=resend_after)
        )
        stores.append(store)
        return store

    yield open_
    for store in stores:
        store.database.dispose()


@pytest.fixture
def statements(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that goes to the database, transactions' own included."""
    seen: list[str] = []
    count_statements(store, monkeypatch, seen.append)
    return seen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The monotonic clock of recovery."""
    clock = Clock()
    monkeypatch.setattr("celery_durable.engine.recovery.time", clock)
    return clock


#: What these test depends on how a database locks, isolates and fails: each case runs on every one.
#: Cases of all other modules run on SQLite, a quarter of them on a server too, and in the long tier all
#: on both.
BY_THE_DATABASE = {
    "test_archive",
    "test_audit",
    "test_metrics_snapshot",
    "test_backlog_cost",
    "test_broadcast",
    "test_completions",
    "test_idle_cost",
    "test_inbox_machine",
    "test_interrupted",
    "test_lengths",
    "test_lists",
    "test_lost_connections",
    "test_migration_sql",
    "test_migrations",
    "test_outcomes",
    "test_protocol",
    "test_sessions",
    "test_start_many",
    "test_stress",
    "test_switches",
    "test_tags",
    "test_turns",
    "test_waits",
}


#: PostgreSQL takes the way of all others too in these; in the long tier also in those that say so.
LONG_WAY_IN_FULL = {"test_outcomes", "test_turns"}
_MEETS = {0: "postgres", 1: "mariadb"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every fourth case that is above the store meet one server, beside SQLite, which all meet.

    A case that there is for one server only stays.
    """
    if is_long():
        return
    cases: dict[tuple[Path, str], dict[str, pytest.Item]] = {}
    for item in items:
        words = getattr(getattr(item, "callspec", None), "id", "").split("-")
        if item.path.parent == Path(__file__).parent and item.path.stem not in BY_THE_DATABASE:
            for server in {"postgres", "mariadb"} & set(words):
                rest = "-".join(word for word in words if word != server)
                cases.setdefault((item.path, f"{item.name.partition('[')[0]}[{rest}]"), {})[
                    server
                ] = item
    out: set[pytest.Item] = set()
    for (_, case), both in cases.items():
        if len(both) == 2:
            chosen = zlib.crc32(case.encode()) % 8
            out |= {item for server, item in both.items() if server != _MEETS.get(chosen)}
    if out:
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``store`` each database in turn, and the long way too where the ways of moving instances
    are tested.
    """
    if "store" in metafunc.fixturenames:
        long_way = []
        if getattr(metafunc.module, "TAKES_BOTH_WAYS", False):
            is_in_full = metafunc.module.__name__.rpartition(".")[2] in LONG_WAY_IN_FULL
            marks = [] if is_in_full else [pytest.mark.long]
            long_way = [pytest.param("postgres-long-way", marks=marks)]
        metafunc.parametrize("store", ["sqlite", "postgres", *long_way, "mariadb"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, open_url: Callable[..., Store]) -> Store:
    """An empty store on each database in turn; recovery looks at things after 0.2 s.

    PostgreSQL has a faster way for the common steps; the long way must do the same.
    """
    server, _, is_long_way = request.param.partition("-")
    store = open_url(request.getfixturevalue(f"empty_{server}"))
    if is_long_way:
        store = store.through(store.database)
    return store


@pytest.fixture
def postgres_store(empty_postgres: str, open_url: Callable[..., Store]) -> Store:
    """An empty store on PostgreSQL."""
    return open_url(empty_postgres)


@pytest.fixture
def mariadb_store(empty_mariadb: str, open_url: Callable[..., Store]) -> Store:
    """An empty store on MariaDB."""
    return open_url(empty_mariadb)


@pytest.fixture
def sqlite_store(empty_sqlite: str, open_url: Callable[..., Store]) -> Store:
    """An empty store on SQLite."""
    return open_url(empty_sqlite)


@pytest.fixture
def runner(store: Store) -> World:
    """A process that runs orchestrations over the store, deterministically."""
    return World(store, resend_after=RESEND_AFTER / 1_000_000)


@pytest.fixture(params=[100, 0], ids=["live", "replay"])
def shop(store: Store, request: pytest.FixtureRequest) -> Shop:
    """A world to rewind, with and without a cache."""
    return Shop(store, request.param)
