"""The shared Django project over each database: in this process, and in processes of its own that
can be killed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.settings import Settings
from celery_durable.store import Store, open_store
from tests.conftest import MARIADB, POSTGRES, own_database
from tests.preloaded import PATIENCE, Preloaded, Process, shared

ROOT = Path(__file__).parents[2]
MANAGE = ["-m", "tests.django.project.manage"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "changes_tables: has a copy of the database, where others empty a shared one"
    )


class Project:
    """One database, and the processes of a Django project over it."""

    def __init__(
        self, python: Preloaded, directory: Path, database: dict[str, Any], **env: str
    ) -> None:
        self.database = database
        self.python = python
        self._opened: list[Store] = []
        self.env = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith("DURABLE_DJANGO")
            },
            "DJANGO_SETTINGS_MODULE": "tests.django.project.settings",
            "DURABLE_DJANGO_DIR": str(directory),
            "DURABLE_DJANGO_DATABASE": json.dumps(database),
            "DURABLE_DJANGO_BROKER": f"durable:///{directory}/broker.db",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            **env,
        }

    def manage(self, *arguments: str, code: int = 0, **env: str) -> str:
        """Run a command of manage.py, and return what it printed."""
        done = self.python.run([*MANAGE, *arguments], {**self.env, **env}, ROOT)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def run(self, source: str, *, code: int = 0, **env: str) -> str:
        """Run a piece of Python within the project, and return what it printed.

        -9 is the code of one that killed itself.
        """
        text = f"import django; django.setup()\n{PRELUDE}\n{source}"
        done = self.python.run(["-c", text], {**self.env, **env}, ROOT)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, log: Path, *arguments: str, **env: str) -> Process:
        """Start a process that goes on, and writes to a file."""
        with log.open("ab") as stream:
            return self.python.start(
                [*arguments], {**self.env, "PYTHONWARNINGS": "", **env}, ROOT, stream, stream
            )

    def worker(self, log: Path, **env: str) -> Process:
        """Start a worker."""
        return self.start(
            log,
            "-m",
            "celery",
            "-A",
            "tests.django.project",
            "worker",
            "-P",
            "solo",
            "-l",
            "INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            **env,
        )

    def store(self) -> Store:
        """Return the project's store, as it is seen from outside."""
        database = self.database
        if "sqlite" in database["ENGINE"]:
            url = f"sqlite:///{database['NAME']}"
        else:
            url = sa.URL.create(
                "mysql+pymysql" if "mysql" in database["ENGINE"] else "postgresql+psycopg",
                database["USER"],
                database["PASSWORD"] or None,
                database["HOST"],
                int(database["PORT"]) if database["PORT"] else None,
                database["NAME"],
            ).render_as_string(hide_password=False)
        store = open_store(Settings(backend_url=url))
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Give back what was opened."""
        for store in self._opened:
            store.database.dispose()


PRELUDE = """
import os, signal
from django.db import transaction, connection
from tests.django.project.celery import app, durable
from tests.django.project.orders.models import *
from tests.django.project.orders.tasks import *
from celery_durable.errors import *
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
"""


def server_settings(parsed: sa.URL) -> dict[str, Any]:
    """Return an entry of ``DATABASES`` for a URL of PostgreSQL or MariaDB."""
    return {
        "ENGINE": f"django.db.backends.{parsed.get_backend_name()}",
        "NAME": parsed.database,
        "USER": parsed.username or "",
        "PASSWORD": parsed.password or "",
        "HOST": parsed.host or "",
        "PORT": str(parsed.port or ""),
    }


def sqlite_settings(directory: Path) -> dict[str, Any]:
    """Return an entry of ``DATABASES`` for a file."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(directory / "app.db"),
        "OPTIONS": {"timeout": 20},
    }


@pytest.fixture(scope="session")
def python() -> Preloaded:
    """What starts processes that have everything imported already."""
    return shared()


@pytest.fixture(scope="session")
def migrated_file(python: Preloaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that manage.py has migrated, as an ordinary process; tests take copies."""
    directory = tmp_path_factory.mktemp("django")
    project = Project(python, directory, sqlite_settings(directory))
    done = subprocess.run(
        [sys.executable, *MANAGE, "migrate", "-v0"],
        cwd=ROOT,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(sqlite3.connect(directory / "app.db")) as made:
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory / "app.db"


@contextmanager
def _migrated(url: str, python: Preloaded, factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    with own_database(url) as made:
        Project(python, factory.mktemp("django"), server_settings(sa.make_url(made))).manage(
            "migrate", "-v0"
        )
        yield sa.make_url(made)


@pytest.fixture(scope="session")
def migrated_postgres(
    python: Preloaded, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.URL]:
    """A PostgreSQL database that manage.py has migrated; tests empty it, or take copies."""
    with _migrated(POSTGRES, python, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_mariadb(
    python: Preloaded, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.URL]:
    """A MariaDB database that manage.py has migrated; tests empty it, or take copies."""
    with _migrated(MARIADB, python, tmp_path_factory) as url:
        yield url


@contextmanager
def _emptied(migrated: sa.URL) -> Iterator[sa.URL]:
    """Give a migrated database, and delete afterwards what has come into tables that were empty."""
    engine = sa.create_engine(migrated, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        tables = [
            name
            for name in sa.inspect(connection).get_table_names()
            if connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").first() is None
        ]
    try:
        yield migrated
    finally:
        with engine.connect() as connection:
            if engine.name == "postgresql":
                connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)}")
            else:
                connection.exec_driver_sql("SET foreign_key_checks = 0")
                for name in tables:
                    connection.exec_driver_sql(f"DELETE FROM {name}")
        engine.dispose()


@contextmanager
def _copied(migrated: sa.URL) -> Iterator[sa.URL]:
    """Make a copy of a migrated database; MariaDB's is without its foreign keys."""
    if migrated.get_backend_name() == "postgresql":
        made = own_database(POSTGRES, f"TEMPLATE {migrated.database}")
    else:
        made = own_database(MARIADB, prepare=partial(_copy_tables, str(migrated.database)))
    with made as url:
        yield sa.make_url(url)


def _copy_tables(source: str, connection: sa.Connection, name: str) -> None:
    for table in sa.inspect(connection).get_table_names(schema=source):
        connection.exec_driver_sql(f"CREATE TABLE {name}.{table} LIKE {source}.{table}")
        connection.exec_driver_sql(f"INSERT INTO {name}.{table} SELECT * FROM {source}.{table}")


#: What a database may do its own way runs on MariaDB too.
on_mariadb_too = pytest.mark.parametrize(
    "project", ["sqlite", "postgres", "mariadb"], indirect=True
)


@pytest.fixture(params=["sqlite", "postgres"])
def project(request: pytest.FixtureRequest, python: Preloaded, tmp_path: Path) -> Iterator[Project]:
    """The project over a migrated database.

    One that changes the tables is marked so, and has a copy.
    """
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "app.db")
        with closing(Project(python, tmp_path, sqlite_settings(tmp_path))) as made:
            yield made
        return
    migrated = request.getfixturevalue(f"migrated_{request.param}")
    taken = _copied if request.node.get_closest_marker("changes_tables") else _emptied
    with taken(migrated) as url, closing(Project(python, tmp_path, server_settings(url))) as made:
        yield made


@pytest.fixture
def start_worker(project: Project, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start workers of the project, which are gone after the test."""
    running: list[Process] = []

    def start(**env: str) -> Process:
        running.append(project.worker(tmp_path / "worker.log", **env))
        return running[-1]

    yield start
    for process in running:
        process.kill()
