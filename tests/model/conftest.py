"""Random programs and walks are quiet."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of lives log much."""
    caplog.set_level(logging.CRITICAL, "celery_durable")
