"""Where a test's orchestrations live: a store of its own, with a clock of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ..settings import Settings
from ..store import Store
from ..store.database import Database
from ..store.migrate import migrate
from ..store.runner import Runner
from .crash_points import CrashingRunner, CrashPoints

__all__ = ["Clock", "OwnFile", "Place", "Places"]


class Clock(Protocol):
    """A clock that the test moves; microseconds since the epoch."""

    def now(self) -> int:
        """Return the time."""

    def jump(self, moment: int) -> None:
        """Let it be that moment, unless it is later."""


class Place(Protocol):
    """A store of one test's own."""

    @property
    def clock(self) -> Clock:
        """Its clock."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def database(self) -> Runner:
        """The way to it."""


class Places(Protocol):
    """Gives places."""

    def fresh(self, settings: Settings, points: CrashPoints) -> AbstractContextManager[Place]:
        """Give a place with an empty store until the block is left.

        Args:
            settings: of the application.
            points: where its process may die.
        """


class VirtualClock:
    """Stands still but for a microsecond at each look, so that no two things are at one moment.

    It begins at a whole second.
    """

    def __init__(self) -> None:
        self.micros: int = time.time_ns() // 1_000_000_000 * 1_000_000

    def now(self) -> int:
        """Return the time."""
        self.micros += 1
        return self.micros

    def jump(self, moment: int) -> None:
        """Let it be that moment, unless it is later."""
        self.micros = max(self.micros, moment)


class _Database(CrashingRunner, Database):
    """An SQLite file that need not outlive the machine, and asks the test's clock."""

    durability = "OFF"

    def __init__(self, path: Path, clock: VirtualClock, points: CrashPoints) -> None:
        super().__init__(f"sqlite:///{path}")
        self._clock, self.points = clock, points

    def _make_engine(self) -> sa.Engine:
        engine = super()._make_engine()
        sa.event.listen(engine, "connect", self._set_up)
        return engine

    def _set_up(self, connection: Any, _record: Any) -> None:
        connection.create_function("durable_now", 0, self._clock.now)
        connection.execute("PRAGMA synchronous=OFF")


class _FilePlace:
    def __init__(self, database: _Database, store: Store, clock: VirtualClock) -> None:
        self.database, self.store, self.clock = database, store, clock


class OwnFile:
    """Places in SQLite files of their own; the tables are made once in a process."""

    @contextmanager
    def fresh(self, settings: Settings, points: CrashPoints) -> Iterator[Place]:
        """Give a place with an empty store; see ``Places``."""
        with tempfile.TemporaryDirectory(prefix="durable-test-") as folder:
            path, clock = Path(folder) / "store.db", VirtualClock()
            path.write_bytes(_empty_store())
            database = _Database(path, clock, points)
            store = Store(
                database,
                resend_after=int(settings.resend_after * 1_000_000),
                timer_horizon=int(settings.timer_horizon * 1_000_000),
            )
            try:
                yield _FilePlace(database, store, clock)
            finally:
                database.dispose()


@cache
def _empty_store() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="durable-test-"))
    try:
        database = Database(f"sqlite:///{folder / 'store.db'}")
        migrate(database)
        with database.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.dispose()
        return (folder / "store.db").read_bytes()
    finally:
        shutil.rmtree(folder)
