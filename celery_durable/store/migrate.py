"""Making and upgrading the tables, by Alembic; and telling when they are behind.

Alembic is imported only when something is to be done: importing it costs more than a turn.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import ConfigurationError
from .database import Database, Statement

__all__ = ["HEAD", "check_schema", "downgrade", "found_revision", "migrate", "store_id"]

#: The revision that this release works with.
HEAD = "0004"
_REVISION = Statement("SELECT version_num FROM durable_alembic_version")
_STORE_ID = Statement("SELECT value FROM durable_meta WHERE name = 'store_id'")
_NEW_STORE_ID = Statement("{insert_new} durable_meta (name, value) VALUES ('store_id', :value) {if_new}")


_alembic = threading.Lock()  # it keeps what it works on in globals of the process


def _renew_lock() -> None:
    global _alembic  # noqa: PLW0603
    _alembic = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def migrate(database: Database) -> None:
    """Make the tables, or bring them to this release; safe to run from several processes at once."""
    _run(database, "upgrade", HEAD)
    database.read(lambda cursor: database.run(cursor, _NEW_STORE_ID, value=uuid.uuid4().hex))


def downgrade(database: Database) -> None:
    """Drop all tables of the store, with everything in them."""
    _run(database, "downgrade", "base")


def check_schema(database: Database) -> None:
    """Migrate SQLite by itself; tell of any other database that is behind.

    Raises:
        ConfigurationError: the tables are missing, or of another release.
    """
    found = found_revision(database)
    if found == HEAD:
        return
    if database.family == "sqlite" and (found is None or found < HEAD):
        migrate(database)
        return
    state = "has no tables of celery-durable" if found is None else f"is at revision {found}, this release needs {HEAD}"
    raise ConfigurationError(
        f"the store {database} {state}. Run durable.migrate() once, for example: "
        'python -c "from your_app import durable; durable.migrate()"',
        found=found, needed=HEAD,
    )  # fmt: skip


def store_id(database: Database) -> str:
    """Return the id of this very store, which messages carry."""
    return str(database.read(lambda cursor: database.run(cursor, _STORE_ID).fetchone())[0])


def found_revision(database: Database) -> str | None:
    """Return the revision that the tables are at; None if there are none."""
    with database.engine.connect() as connection:
        if not sa.inspect(connection).has_table("durable_alembic_version"):
            return None
        row = connection.execute(sa.text(_REVISION.sql)).first()
    return None if row is None else str(row[0])


def _run(database: Database, direction: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    with _alembic:
        _run_alembic(command, Config(), database, direction, revision)


def _run_alembic(command: Any, config: Any, database: Database, direction: str, revision: str) -> None:
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    engine = sa.create_engine(database.engine.url, poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            _one_at_a_time(connection)
            config.attributes["connection"] = connection
            getattr(command, direction)(config, revision)
            connection.commit()
    except sa.exc.DBAPIError as error:
        raise database.store_error(error) from error
    finally:
        engine.dispose()


def _one_at_a_time(connection: Any) -> None:
    """Let migrations queue up; the lock falls with the transaction or the connection."""
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.isolation_level = None
        connection.connection.driver_connection.execute("PRAGMA busy_timeout=20000")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(729310)"))
    else:
        connection.execute(sa.text("SELECT GET_LOCK('durable_migrate', 60)"))
