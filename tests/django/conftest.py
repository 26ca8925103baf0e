"""The shared Django project over each database: in this process, and in processes of its own that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.conf import Settings
from celery_durable.store import Store, open_store
from tests.conftest import MARIADB, POSTGRES, own_database

ROOT = Path(__file__).parents[2]
MANAGE = [sys.executable, "-m", "tests.django.project.manage"]


class Project:
    """One database, migrated, and the processes of a Django project over it."""

    def __init__(self, directory: Path, database: dict[str, Any], **env: str) -> None:
        self.database = database
        self._opened: list[Store] = []
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DURABLE_DJANGO")},
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
        done = subprocess.run(
            [*MANAGE, *arguments], cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run(self, source: str, *, code: int = 0, **env: str) -> str:
        """Run a piece of Python within the project, and return what it printed; -9 is the code of one that killed itself."""
        text = f"import django; django.setup()\n{PRELUDE}\n{source}"
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def store(self) -> Store:
        """Return the project's store, as it is seen from outside."""
        database = self.database
        if "sqlite" in database["ENGINE"]:
            url = f"sqlite:///{database['NAME']}"
        else:
            url = sa.URL.create(
                "mysql+pymysql" if "mysql" in database["ENGINE"] else "postgresql+psycopg",
                database["USER"], database["PASSWORD"] or None, database["HOST"],
                int(database["PORT"]) if database["PORT"] else None, database["NAME"],
            ).render_as_string(hide_password=False)  # fmt: skip
        store = open_store(Settings(backend_url=url))
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Give back what was opened."""
        for store in self._opened:
            store.database.dispose()

    def worker(self, log: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.django.project", "worker", "-P", "solo", "-l", "INFO",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"],
                cwd=ROOT, env={**self.env, "PYTHONWARNINGS": "", **env}, stdout=stream, stderr=stream,
            )  # fmt: skip


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
        "ENGINE": f"django.db.backends.{parsed.get_backend_name()}", "NAME": parsed.database, "USER": parsed.username or "",
        "PASSWORD": parsed.password or "", "HOST": parsed.host or "", "PORT": str(parsed.port or ""),
    }  # fmt: skip


def sqlite_settings(directory: Path) -> dict[str, Any]:
    """Return an entry of ``DATABASES`` for a file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "app.db"), "OPTIONS": {"timeout": 20}}


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that manage.py has migrated; tests take copies."""
    directory = tmp_path_factory.mktemp("django")
    Project(directory, sqlite_settings(directory)).manage("migrate", "-v0")
    return directory / "app.db"


@pytest.fixture(scope="session")
def migrated_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A PostgreSQL database that manage.py has migrated; tests take copies."""
    with own_database(POSTGRES) as made:
        url = sa.make_url(made)
        Project(tmp_path_factory.mktemp("django"), server_settings(url)).manage("migrate", "-v0")
        yield url


@pytest.fixture(scope="session")
def migrated_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A MariaDB database that manage.py has migrated; tests take copies."""
    with own_database(MARIADB) as made:
        url = sa.make_url(made)
        Project(tmp_path_factory.mktemp("django"), server_settings(url)).manage("migrate", "-v0")
        yield url


def own_copy(migrated: sa.URL) -> AbstractContextManager[str]:
    """Make a copy of a migrated database, and drop it afterwards; MariaDB's is without its foreign keys."""
    if migrated.get_backend_name() == "postgresql":
        return own_database(POSTGRES, f"TEMPLATE {migrated.database}")
    return own_database(MARIADB, prepare=partial(_copy_tables, str(migrated.database)))


def _copy_tables(source: str, connection: sa.Connection, name: str) -> None:
    for table in sa.inspect(connection).get_table_names(schema=source):
        connection.exec_driver_sql(f"CREATE TABLE {name}.{table} LIKE {source}.{table}")
        connection.exec_driver_sql(f"INSERT INTO {name}.{table} SELECT * FROM {source}.{table}")


#: What a database may do its own way runs on MariaDB too.
on_mariadb_too = pytest.mark.parametrize("project", ["sqlite", "postgres", "mariadb"], indirect=True)


@pytest.fixture(params=["sqlite", "postgres"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """The project over a database, migrated by manage.py."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            with sqlite3.connect(request.getfixturevalue("migrated_file")) as source:
                source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            source.close()
            shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "app.db")
            made = Project(tmp_path, sqlite_settings(tmp_path))
        else:
            url = stack.enter_context(own_copy(request.getfixturevalue(f"migrated_{request.param}")))
            made = Project(tmp_path, server_settings(sa.make_url(url)))
        stack.callback(made.close)
        yield made


@pytest.fixture
def start_worker(project: Project, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start workers of the project, which are gone after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**env: str) -> subprocess.Popen[bytes]:
        running.append(project.worker(tmp_path / "worker.log", **env))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(30)
