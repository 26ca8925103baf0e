"""An SQLite file with the tables, made once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from .cluster import make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the tables, to be copied."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of lives log much."""
    caplog.set_level(logging.CRITICAL, "celery_durable")
