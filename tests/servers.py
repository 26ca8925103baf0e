"""The servers that tests talk to, and a database or virtual host of their own on these.

They are found by environment variable or on their default local ports. An absent one skips its
tests with one loud line; under ``CI=true`` it fails the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa

from tests.leftovers import delete_keys, noted

POSTGRES = os.environ.get(
    "DURABLE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
MARIADB = os.environ.get("DURABLE_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/")
REDIS = os.environ.get("DURABLE_TEST_REDIS", "redis://127.0.0.1:6379/0")
RABBITMQ = os.environ.get("DURABLE_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")
IS_CI = os.environ.get("CI") == "true"


def absent(name: str, error: object) -> None:
    """Skip, or fail where every server has to be there."""
    message = f"{name.upper()} IS NOT THERE, its tests do not run: {error}"
    if IS_CI:
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def own_database(
    url: str, options: str = "", *, prepare: Callable[[sa.Connection, str], object] | None = None
) -> Iterator[str]:
    """Make an empty database on a PostgreSQL or MariaDB server, give its URL, and drop it.

    Args:
        url: any database on the server.
        options: the rest of the statement that creates it.
        prepare: called with a connection to the server and the new database's name.
    """
    name = f"durable_{uuid.uuid4().hex[:12]}"
    parsed = sa.make_url(url)
    engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT")
    with noted("database", url=url, name=name):
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
                if prepare is not None:
                    prepare(connection, name)
        except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            engine.dispose()
            absent(parsed.get_backend_name(), error)
        try:
            yield parsed.set(database=name).render_as_string(hide_password=False)
        finally:
            force = " WITH (FORCE)" if parsed.get_backend_name() == "postgresql" else ""
            with engine.connect() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
            engine.dispose()


@contextmanager
def own_vhost(url: str) -> Iterator[str]:
    """Make a virtual host on a RabbitMQ server, give its URL, and delete it.

    The URL as it is where that cannot be done.
    """
    name, ctl = f"durable-{uuid.uuid4().hex[:8]}", shutil.which("rabbitmqctl")
    user = sa.make_url(url).username or "guest"
    with noted("vhost", name=name):
        if ctl is None or subprocess.run([ctl, "add_vhost", name], capture_output=True).returncode:
            yield url
            return
        subprocess.run(
            [ctl, "set_permissions", "-p", name, user, ".*", ".*", ".*"],
            capture_output=True,
            check=True,
        )
        try:
            yield f"{url.rstrip('/').removesuffix('/%2F')}/{name}"
        finally:
            subprocess.run([ctl, "delete_vhost", name], capture_output=True)


@contextmanager
def own_keys(url: str, name: str) -> Iterator[None]:
    """Delete the keys of Redis that have a name in them, when they are not needed any more."""
    with noted("keys", url=url, prefix=name):
        try:
            yield
        finally:
            with suppress(Exception):  # a server of a test's own may be gone
                delete_keys(url, name)
