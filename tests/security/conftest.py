"""Stores of each kind, with tables and nothing else; and an application without a worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from celery_durable.settings import Settings
from celery_durable.store import Store, open_store
from tests.contract.conftest import (  # noqa: F401
    empty,
    empty_mariadb,
    empty_postgres,
    empty_sqlite,
    mariadb_tables,
    open_url,
    postgres_tables,
)

SERVERS = ("sqlite", "postgres", "mariadb")


@pytest.fixture(params=SERVERS)
def store(request: pytest.FixtureRequest, open_url: Callable[..., Store]) -> Store:  # noqa: F811
    """An empty store on each database in turn."""
    return open_url(request.getfixturevalue(f"empty_{request.param}"))


@pytest.fixture
def sqlite_store(empty_sqlite: str, open_url: Callable[..., Store]) -> Store:  # noqa: F811
    """An empty store on SQLite."""
    return open_url(empty_sqlite)


@pytest.fixture(scope="module", params=SERVERS)
def shared_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One store for all examples of a module's tests; they keep apart by their instance ids."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("shared") / "store.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("empty")(request.getfixturevalue(f"{request.param}_tables"))
    opened = open_store(Settings(backend_url=url))
    yield opened
    opened.database.dispose()
