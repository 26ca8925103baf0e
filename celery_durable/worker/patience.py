"""Waiting for a store that is down for a moment."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreError
from .runtime import Runtime

__all__ = ["with_patience"]

log: logging.Logger = logging.getLogger("celery_durable.activity")
T = TypeVar("T")


def with_patience(runtime: Runtime, work: Callable[[], T], patience: float | None = None) -> T:
    """Do something with the store, again and again while it is down.

    Args:
        runtime: of this process.
        work: what to do; must be safe to repeat.
        patience: for how many seconds; ``durable_store_patience`` if left out.

    Raises:
        StoreError: patience has run out.
    """
    end = time.monotonic() + (runtime.settings.store_patience if patience is None else patience)
    pause = 0.05
    while True:
        try:
            return work()
        except StoreError as error:
            if time.monotonic() + pause > end:
                raise
            log.warning("the store is down, trying again in %.1f s: %s", pause, error)
        time.sleep(pause * (1 + random.random()))  # noqa: S311
        pause = min(pause * 2, 1.0)
