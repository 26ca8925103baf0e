"""The laboratory of the crash matrix: fresh copies of one empty SQLite store."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from .matrix import Laboratory


@pytest.fixture(scope="session")
def laboratory(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    """Where the programs run."""
    gc.collect()
    gc.freeze()  # what is there stays: do not look through it again and again
    yield Laboratory(sqlite_template, tmp_path_factory.mktemp("stores"))
    gc.unfreeze()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of faults are logged as they should be; here that only takes time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
