"""A clock that moves only when it is told to, put in the place of the product's clocks from
outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from unittest import mock

from celery_durable.engine import clock as engine_clock
from celery_durable.engine import dispatch, records, recovery, replacing, start, turn
from celery_durable.store import connecting, database
from celery_durable.worker import attempt, delivery, mismatch, patience, receive

SECOND = 1_000_000
_BEGIN = 1_800_000_000 * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAITS = (
    recovery,
    turn,
    dispatch,
    start,
    replacing,
    attempt,
    delivery,
    mismatch,
    patience,
    receive,
    database,
)


class VirtualTime:
    """Stands in for the module ``time``.

    Every look at it takes a microsecond, so that no two moments are the same.
    """

    def __init__(self) -> None:
        self.micros = _BEGIN

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.micros += int(seconds * SECOND)

    def now(self) -> int:
        """Return microseconds since the epoch."""
        self.micros += 1
        return self.micros

    def datetime(self) -> datetime:
        """Return the same as an aware ``datetime``."""
        return _EPOCH + timedelta(microseconds=self.now())

    # -- the functions of ``time`` -----------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def monotonic(self) -> float:
        return self.now() / SECOND

    def monotonic_ns(self) -> int:
        return self.now() * 1000

    def time_ns(self) -> int:
        return self.now() * 1000


class ServerTime(VirtualTime):
    """For a store with a clock of its own: only waits are virtual.

    The world moves the store's rows back instead.
    """

    def now(self) -> int:
        return self.micros + time.time_ns() // 1000 - _BEGIN


@contextmanager
def in_place(clock: VirtualTime) -> Iterator[None]:
    """Put a clock in the place of the product's."""
    modules: tuple[ModuleType, ...] = (
        _WAITS if isinstance(clock, ServerTime) else (*_WAITS, engine_clock)
    )
    patches = [mock.patch.object(module, "time", clock) for module in modules]
    if not isinstance(clock, ServerTime):
        patches.append(mock.patch.object(connecting, "_clock", clock.now))
        patches.append(mock.patch.object(records.ActivityStart, "time_now", lambda _: clock.now()))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
