"""The tables: made by migrations, equal to what the code declares, and safe to make from several
processes at once.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.errors import ConfigurationError
from celery_durable.settings import Settings
from celery_durable.store import Store, addresses, open_store
from celery_durable.store.database import Database
from celery_durable.store.migrate import HEAD, downgrade, migrate
from celery_durable.store.migrate import _run as step
from celery_durable.store.schema import metadata
from celery_durable.store.storage import STORAGE
from tests.tiers import is_long

from .builders import at_once, begin, commit, new_instance

VERSION_TABLE = "durable_alembic_version"


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """A database with nothing in it."""
    database = Database(store_url)
    yield database
    database.dispose()


def tables(database: Database) -> set[str]:
    with database.engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


def revisions(database: Database) -> list[str]:
    with database.engine.connect() as connection:
        return list(connection.scalars(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")))


def _belongs(dialect: str, made: Any, name: str, kind: str, *_: Any) -> bool:
    """Tell whether ``metadata`` says that a database of this kind has this."""
    if kind != "index" or name == "durable_instances_tags":  # ``TAG_DDL``
        return kind != "index"
    return dialect in made.info.get("only", [dialect])


def differences(database: Database) -> list[object]:
    """Return what Alembic would change; expressions are for `describe`.

    Of a derived column, old versions of Alembic compare the texts, and warn.
    """
    with warnings.catch_warnings(), database.engine.connect() as connection:
        warnings.filterwarnings("ignore", "Computed default on durable_instances.listed_as")
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": partial(_belongs, connection.dialect.name),
                "version_table": VERSION_TABLE,
                "include_name": (
                    lambda name, kind, parents: kind != "table" or name != VERSION_TABLE
                ),
            },
        )
        return list(compare_metadata(context, metadata))


def test_migrations_make_the_tables_that_the_code_declares(database: Database) -> None:
    migrate(database)
    assert differences(database) == []
    assert revisions(database) == [HEAD]


def test_the_declared_tables_can_be_made_without_migrations_and_are_the_same(
    database: Database,
) -> None:
    migrate(database)
    by_migrations = describe(database)
    downgrade(database)
    metadata.create_all(database.engine)
    assert describe(database) == by_migrations
    metadata.drop_all(database.engine)


def describe(database: Database) -> dict[str, object]:
    """Return all that the database tells of our tables."""
    with database.engine.connect() as connection:
        inspector, storage = sa.inspect(connection), storage_of(connection)
        return {
            name: {
                "columns": [
                    {**column, "type": repr(column["type"])}
                    for column in inspector.get_columns(name)
                ],
                "indexes": sorted(map(_index_text, inspector.get_indexes(name))),
                "key": inspector.get_pk_constraint(name)["constrained_columns"],
                "storage": storage.get(name),
            }
            for name in sorted(metadata.tables)
        }


def storage_of(connection: sa.Connection) -> dict[str, str]:
    """Return the storage parameters of the tables; only PostgreSQL has any."""
    if connection.dialect.name != "postgresql":
        return {}
    rows = connection.exec_driver_sql(
        "SELECT relname, array_to_string(reloptions, ', ') FROM pg_class WHERE relkind = 'r' AND"
        " reloptions IS NOT NULL"
    )
    return {name: parameters for name, parameters in rows if name in metadata.tables}


def test_postgresql_keeps_tables_as_declared(postgres_url: str) -> None:
    database = Database(postgres_url)
    migrate(database)
    with database.engine.connect() as connection:
        assert storage_of(connection) == STORAGE
    database.dispose()


def _index_text(index: Any) -> str:
    options = {option: str(value) for option, value in index.get("dialect_options", {}).items()}
    return f"{index['name']} {index['column_names']} {index['unique']} {options}"


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    store = Store(database)
    store.starts.insert(new_instance())
    before = store.id
    migrate(database)
    assert Store(database).id == before
    assert store.reads.fetch("i") is not None
    assert revisions(database) == [HEAD]


def test_an_orchestration_of_the_release_before_continues_after_the_migration(
    store_url: str, database: Database, open_url: Callable[..., Store]
) -> None:
    step(database, "upgrade", "0003")
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO durable_instances (id, execution, name, status, sequence, crashes,"
            " created_at, updated_at) VALUES ('i', 'e', 'orchestrator', 'RUNNING', 0, 0, 1, 1)"
        )
    migrate(database)
    store = open_url(store_url)
    commit(store, "i", status=RuntimeStatus.COMPLETED)
    record = store.reads.fetch("i")
    assert record is not None and record.status is RuntimeStatus.COMPLETED
    assert not store.cleanup.purge_due(10)
    step(database, "downgrade", "0003")
    assert "durable_waiting" not in tables(database)


def test_downgrading_leaves_nothing_and_can_be_taken_back(database: Database) -> None:
    migrate(database)
    downgrade(database)
    assert tables(database) <= {VERSION_TABLE}
    migrate(database)
    assert differences(database) == []


def test_several_processes_migrate_at_once(store_url: str, database: Database) -> None:
    code = (
        "import sys\n"
        "from celery_durable.store.database import Database\n"
        "from celery_durable.store.migrate import migrate\n"
        "import alembic.command\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "migrate(Database(sys.argv[1]))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, store_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4 if is_long() else 2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert differences(database) == []
    assert revisions(database) == [HEAD]
    assert len(Store(database).id) == 32


@pytest.mark.parametrize("step", ["migrate(database)", "migration_sql(database)"])
def test_alembics_own_account_stays_out_of_the_log(sqlite_url: str, step: str) -> None:
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "from celery_durable.store.database import Database\n"
        "from celery_durable.store.migrate import migrate, migration_sql\n"
        "database = Database(sys.argv[1])\n"
        f"{step}\n"
        "logging.getLogger('alembic').info('what an application itself does with Alembic')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sqlite_url], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "alembic" in line] == [
        "INFO:alembic:what an application itself does with Alembic"
    ]


# -- a store without tables, or with others --------------------------------------------------------


def test_sqlite_makes_its_tables_by_itself(sqlite_url: str, open_url: Callable[..., Store]) -> None:
    store = open_url(sqlite_url)
    assert store.starts.insert(new_instance())
    assert store.reads.fetch("i") is not None
    assert revisions(store.database) == [HEAD]


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
@pytest.mark.parametrize("call", ["now", "fetch", "find"])
def test_other_databases_say_what_to_do(
    request: pytest.FixtureRequest, server: str, call: str, open_url: Callable[..., Store]
) -> None:
    store = open_url(request.getfixturevalue(f"{server}_url"))
    calls = {
        "now": store.now,
        "fetch": lambda: store.reads.fetch("i"),
        "find": lambda: store.reads.find(Filters(), 1, None),
    }
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"durable\.migrate\(\)"):
            calls[call]()
    migrate(store.database)
    calls[call]()


def test_tables_that_vanish_under_a_running_process_are_named_too(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("a file that is replaced is another matter")
    begin(store)
    with store.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE durable_history RENAME TO durable_gone")
    try:
        store.now()
        with pytest.raises(ConfigurationError, match=r"durable\.migrate\(\)"):
            store.turns.load("i", None)
    finally:
        with store.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE durable_gone RENAME TO durable_history")


def test_tables_of_a_later_release_are_refused(
    store_url: str, database: Database, open_url: Callable[..., Store]
) -> None:
    migrate(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="9999"):
        open_url(store_url).now()


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory.*Let durable_backend_url name a file"):
        open_store(Settings(backend_url=url)).now()


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="oracle"):
        open_store(Settings(backend_url="oracle://scott:tiger@host/db"))


def test_a_name_whose_package_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(addresses._RESOLVERS, "flask", "not_installed.database:address_of")
    with pytest.raises(
        ConfigurationError,
        match=r"not_installed is not installed: pip install 'celery-durable\[flask\]'",
    ):
        open_store(Settings(backend_url="flask://default")).now()


SECRET = "s3cr3t-Pa55"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql+psycopg://nobody:{SECRET}@127.0.0.1:5432/no_such_database",
        f"mysql+pymysql://user:{SECRET}@127.0.0.1:1/db",
        f"mysql+pymysql://nobody:{SECRET}@127.0.0.1:3306/no_such_database",
        f"oracle://scott:{SECRET}@host/db",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(Exception) as caught:  # which one is said elsewhere
        open_store(Settings(backend_url=url)).now()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__
    if not url.startswith("oracle"):
        assert SECRET not in str(Database(url))


def test_threads_of_one_process_may_migrate_different_databases(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    urls = [f"sqlite:///{tmp_path_factory.mktemp('stores') / 'store.db'}" for _ in range(5)]
    databases = [Database(postgres_url), *map(Database, urls)]
    at_once([partial(migrate, database) for database in databases])
    assert [revisions(database) for database in databases] == [[HEAD]] * 6
    for database in databases:
        database.dispose()
