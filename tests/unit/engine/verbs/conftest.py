"""A store with an orchestration in each status, made once and copied for every test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .scene import Scene, opened


@pytest.fixture(scope="session")
def every_status(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file in which each status has an orchestration of its name."""
    path = tmp_path_factory.mktemp("verbs") / "store.db"
    shutil.copy(sqlite_template, path)
    with opened(path) as scene:
        scene.bring_one_to_each_status()
        with scene.store.database.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def scene(every_status: Path, tmp_path: Path) -> Iterator[Scene]:
    """Every status, and a process that runs what is in the store."""
    shutil.copy(every_status, tmp_path / "own.db")
    with opened(tmp_path / "own.db") as scene:
        yield scene
