"""Making and upgrading the tables, by Alembic; and telling when they are behind.

Alembic is imported only when something is to be done: importing it costs more than a turn.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .._errors import ConfigurationError
from .database import Database, Runner, Statement

__all__ = [
    "HEAD",
    "check_schema",
    "completion_key",
    "downgrade",
    "found_revision",
    "make_revision",
    "migrate",
    "migration_sql",
    "mismatch_in",
    "mismatch_of",
    "store_id",
    "unmake_revision",
]

#: The revision that this release works with.
HEAD = "0014"
#: The revision of the oldest release that can work with tables at HEAD, as later ones only add to
#: them: during an upgrade, its processes go on. What such a release must not meet raises this to
#: HEAD.
WORKS_SINCE = "0005"
_REVISION = Statement("SELECT version_num FROM durable_alembic_version")
_STORE_ID = Statement("SELECT value FROM durable_meta WHERE name = 'store_id'")
_NEW_STORE_ID = "INSERT INTO durable_meta (name, value) VALUES ('store_id', :value)"
_WORKS_SINCE = Statement("SELECT value FROM durable_meta WHERE name = 'works_since'")
_NOTE_WORKS_SINCE = (
    f"INSERT INTO durable_meta (name, value) VALUES ('works_since', '{HEAD}:{WORKS_SINCE}')"
)
_FORGET_WORKS_SINCE = "DELETE FROM durable_meta WHERE name = 'works_since'"
_NAME_STORE = (
    "INSERT INTO durable_meta (name, value) SELECT 'store_id', '{}' FROM (SELECT 1 AS one) AS"
    " one_row WHERE NOT EXISTS (SELECT 1 FROM durable_meta WHERE name = 'store_id');"
)
# a script that makes the tables has no secret in it: there the key is made at its first use
_KEY = Statement("SELECT value FROM durable_meta WHERE name = 'completion_key'")
_NEW_KEY = Statement(
    "INSERT INTO durable_meta (name, value) VALUES ('completion_key', :value) {if_new}"
)
_SCRIPTS = str(Path(__file__).parent / "alembic")


_alembic = threading.Lock()  # it keeps what it works on in globals of the process


def _renew_lock() -> None:
    global _alembic  # noqa: PLW0603
    _alembic = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def migrate(database: Database) -> None:
    """Make the tables, or bring them to this release; safe to run from several processes at once.

    Raises:
        ConfigurationError: they are of a later release, and this one cannot work with them.
    """
    with _looking_at(database) as connection:
        found = revision_in(connection)
        if found is not None and found > HEAD:
            if (mismatch := mismatch_of(connection)) is not None:
                raise ConfigurationError(
                    f"the store {database} {mismatch}", found=found, needed=HEAD
                )
            return
    _run(database, "upgrade", HEAD)


def migration_sql(database: Database, since: str | None = None) -> str:
    """Return the SQL that brings the tables to this release, for those who may change a schema.

    Empty if they are there.

    Args:
        database: whose tables, and in whose dialect.
        since: the revision to begin at, "base" for no tables at all; then the database is not
            asked.

    Raises:
        ValueError: there is no such revision.
    """
    if since is not None:
        return _sql_since(database, None, since)
    with _looking_at(database) as connection:
        found = revision_in(connection) or "base"
        return "" if found >= HEAD and found != "base" else _sql_since(database, connection, found)


def _sql_since(database: Database, connection: sa.Connection | None, since: str) -> str:
    written = io.StringIO()
    with _alembic, _quiet_log():
        from alembic import command  # tells of its plugins when it is imported
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config(output_buffer=written)
        config.set_main_option("script_location", _SCRIPTS)
        config.attributes.update(connection=connection, dialect=database.engine.dialect.name)
        try:
            command.upgrade(config, f"{since}:{HEAD}", sql=True)
        except CommandError as error:
            raise ValueError(f"{since!r} is no revision of this release's: {error}") from error
    noted = f"{_FORGET_WORKS_SINCE};\n{_NOTE_WORKS_SINCE};"
    return f"{written.getvalue().rstrip()}\n\n{_NAME_STORE.format(uuid.uuid4().hex)}\n{noted}\n"


def downgrade(database: Database) -> None:
    """Drop all tables of the store, with everything in them."""
    _run(database, "downgrade", "base")


def make_revision(connection: sa.Connection, revision: str) -> None:
    """Bring the tables up to a revision, within the transaction that is open on a connection.

    Never down.
    """
    found = revision_in(connection)
    if found is None or found < revision:
        _step(connection, "upgrade", revision)


def unmake_revision(connection: sa.Connection, revision: str, before: str | None) -> None:
    """Take a revision back, and those after it, within the transaction that is open on a
    connection.
    """
    found = revision_in(connection)
    if found is not None and found >= revision:
        _step(connection, "downgrade", before or "base")


def check_schema(database: Database) -> None:
    """Migrate SQLite by itself; tell of any other database that is behind.

    Raises:
        ConfigurationError: the tables are missing, or of another release.
    """
    with _looking_at(database) as connection:
        found, mismatch = revision_in(connection), mismatch_of(connection)
    if mismatch is None:
        return
    is_behind = found is None or found < HEAD
    if database.family == "sqlite" and is_behind:
        migrate(database)
        return
    if not is_behind:
        raise ConfigurationError(f"the store {database} {mismatch}", found=found, needed=HEAD)
    advice = (
        'Run durable.migrate() once, for example: python -c "from your_app import durable;'
        ' durable.migrate()"'
        if database.address.name is None
        else "Run manage.py migrate"
    )
    raise ConfigurationError(f"the store {database} {mismatch}. {advice}", found=found, needed=HEAD)


def mismatch_of(connection: sa.Connection) -> str | None:
    """Tell why this release cannot work with the tables that a connection sees; None if it can.

    Those of a later release say since which one they can be worked with.
    """
    found = revision_in(connection)
    if found == HEAD:
        return None
    if found is None:
        return "has no tables of celery-durable"
    if found < HEAD:
        return f"is at revision {found}, this release needs {HEAD}"
    noted = connection.execute(sa.text(_WORKS_SINCE.sql)).scalar()
    revision, _, since = ("" if noted is None else str(noted)).partition(":")
    if revision == found and since <= HEAD:
        return None
    return (
        f"is at revision {found}, of a later release that this one ({HEAD}) cannot work with:"
        " upgrade this process too"
    )


def store_id(database: Runner) -> str:
    """Return the id of this very store, which messages carry."""
    (value,) = database.fetch_one(_STORE_ID)
    return str(value)


def completion_key(database: Runner, *, makes: bool = False) -> str | None:
    """Return the secret of this very store that tokens of completion are made with.

    None if it has none; with ``makes`` it is made then, once.
    """
    row = database.fetch_one(_KEY)
    if row is None and makes:
        values = {"value": secrets.token_hex(32)}
        database.transact(lambda cursor: database.run(cursor, _NEW_KEY, **values))
        row = database.fetch_one(_KEY)
    return None if row is None else str(row[0])


def found_revision(database: Runner) -> str | None:
    """Return the revision that the tables are at; None if there are none."""
    with _looking_at(database) as connection:
        return revision_in(connection)


def mismatch_in(database: Runner) -> str | None:
    """Tell why this release cannot work with the tables of a store; None if it can."""
    with _looking_at(database) as connection:
        return mismatch_of(connection)


@contextmanager
def _looking_at(database: Runner) -> Iterator[sa.Connection]:
    try:
        with database.using() as engine, engine.connect() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise database.store_error(error) from error


def revision_in(connection: sa.Connection) -> str | None:
    """Return the revision of the tables that a connection sees; None if there are none."""
    if not sa.inspect(connection).has_table("durable_alembic_version"):
        return None
    revision = connection.execute(sa.text(_REVISION.sql)).scalar()
    return None if revision is None else str(revision)


def _run(database: Database, direction: str, revision: str) -> None:
    engine = database.schema_engine()
    try:
        with engine.connect() as connection:
            _one_at_a_time(connection)
            _step(connection, direction, revision)
            connection.commit()
    except sa.exc.DBAPIError as error:
        raise database.store_error(error) from error
    finally:
        engine.dispose()


def _step(connection: sa.Connection, direction: str, revision: str) -> None:
    with _alembic, _quiet_log():
        from alembic import command  # tells of its plugins when it is imported
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", _SCRIPTS)
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)
    if direction == "upgrade":
        _name_store(connection)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep Alembic's own account of its steps out of an application's log."""
    logger = logging.getLogger("alembic")
    level = logger.level
    if level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _name_store(connection: sa.Connection) -> None:
    """Give the store its id, if it has none, and note which releases can work with it."""
    connection.execute(sa.text(_FORGET_WORKS_SINCE))
    connection.execute(sa.text(_NOTE_WORKS_SINCE))
    if connection.execute(sa.text(_STORE_ID.sql)).first() is None:
        connection.execute(sa.text(_NEW_STORE_ID), {"value": uuid.uuid4().hex})
    if connection.execute(sa.text(_KEY.sql)).first() is None:
        new_key = _NEW_KEY.sql.replace("{if_new}", "")
        connection.execute(sa.text(new_key), {"value": secrets.token_hex(32)})


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
