"""Time that only the test moves: the store's clock, and what the engine reads of the module
``time``.

Execution ids are counted instead of drawn, so that the same steps give the same rows.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from celery_durable.engine import clock as engine_clock
from celery_durable.engine import dispatch, draft, records, recovery, start, turn
from celery_durable.store import connecting

START = 1_750_000_000_000_000
SECOND = 1_000_000


class VirtualTime:
    """Stands in for the module ``time``.

    Each look at the store's clock is a microsecond later than the one before.
    """

    def __init__(self) -> None:
        self.micros = START

    def now(self) -> int:
        self.micros += 1
        return self.micros

    def advance(self, micros: int) -> None:
        self.micros += micros

    def monotonic_ns(self) -> int:
        return self.micros * 1000

    def monotonic(self) -> float:
        return self.micros / SECOND

    def sleep(self, seconds: float) -> None:
        self.micros += 1


class CountedIds:
    """Stands in for the module ``uuid``."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=next(self._numbers) << 96)


@contextmanager
def virtual_time() -> Iterator[VirtualTime]:
    """Let stores that are opened inside, and the engine, live in virtual time."""
    time, ids = VirtualTime(), CountedIds()
    patches = [mock.patch.object(connecting, "_clock", time.now)]
    patches += [
        mock.patch.object(module, "time", time)
        for module in (records, engine_clock, recovery, turn, dispatch)
    ]
    patches += [mock.patch.object(module, "uuid", ids) for module in (draft, start)]
    for patch in patches:
        patch.start()
    try:
        yield time
    finally:
        for patch in patches:
            patch.stop()
