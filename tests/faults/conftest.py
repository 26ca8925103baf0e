"""The laboratory of the crash matrix: fresh copies of one empty SQLite store."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest

from celery_durable.store.database import Database
from celery_durable.store.migrate import migrate

from .matrix import Laboratory


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """Where the programs run."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    with database.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    gc.collect()
    gc.freeze()  # what is there stays: do not look through it again and again
    yield Laboratory(path, tmp_path_factory.mktemp("stores"))
    gc.unfreeze()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of faults are logged as they should be; here that only takes time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
