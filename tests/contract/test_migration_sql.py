"""``celery durable migrate --sql``: what it prints makes the tables that ``migrate`` makes."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.store import Store
from celery_durable.store.database import Database
from celery_durable.store.migrate import (
    HEAD,
    check_schema,
    found_revision,
    migrate,
    migration_sql,
    store_id,
)
from celery_durable.store.schema import metadata


def run_script(database: Database, sql: str) -> None:
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if database.family == "sqlite":
            driver.executescript(sql)
            return
        with driver.cursor() as cursor:
            lines = [line for line in sql.splitlines() if not line.startswith("--")]
            for statement in "\n".join(lines).split(";\n"):
                if statement.strip():
                    cursor.execute(statement)
        driver.commit()


def shape(database: Database) -> dict[str, Any]:
    found = sa.inspect(database.engine)
    return {
        name: (
            [
                (column["name"], str(column["type"]), column["nullable"])
                for column in found.get_columns(name)
            ],
            sorted(
                (str(index["name"]), tuple(index["column_names"]))
                for index in found.get_indexes(name)
            ),
        )
        for name in metadata.tables
    }


@pytest.fixture
def database(store_url: str) -> Any:
    made = Database(store_url)
    yield made
    made.dispose()


def test_the_script_makes_the_same_tables(database: Database) -> None:
    script = migration_sql(database)
    assert found_revision(database) is None, "printing changes nothing"
    run_script(database, script)
    assert found_revision(database) == HEAD
    assert len(store_id(database)) == 32
    check_schema(database)
    by_script = shape(database)
    assert migration_sql(database) == ""
    with database.engine.begin() as connection:
        for table in [*metadata.tables, "durable_alembic_version"]:
            connection.execute(sa.text(f"DROP TABLE {table}"))
    migrate(database)
    assert shape(database) == by_script


def test_a_script_continues_from_where_the_tables_are(database: Database) -> None:
    run_script(database, migration_sql(database).split("-- Running upgrade 0002")[0])
    assert found_revision(database) == "0002"
    rest = migration_sql(database)
    assert "-- Running upgrade 0002 -> 0003" in rest
    assert "CREATE TABLE durable_instances" not in rest
    run_script(database, rest)
    assert found_revision(database) == HEAD
    assert Store(database).now() > 0


def test_an_unknown_revision_is_refused(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with pytest.raises(ValueError, match="'7777' is no revision"):
        migration_sql(database, "7777")
    database.dispose()
