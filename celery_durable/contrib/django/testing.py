"""Orchestrations in Django's ``TestCase``: on the test's own connection, in its own thread, by a
clock that jumps.

    class OrderTests(DurableTestMixin, TestCase):
        def test_reminder(self):
            self.client.post("/orders/", {"name": "a"})  # the view starts one in atomic()
            self.durable.run_until_idle()
            self.durable.advance(days=30)
            self.assertEqual(durable.get("order-a").output, "reminded")

Nothing is sent to a broker, and nothing opens a second connection: what the test rolls back is
gone. ``self.durable`` is a ``celery_durable.testing.DurableEnv``; under pytest the fixture
``durable_env`` is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from ...settings import Settings
from ...store import Store
from ...store.runner import Cursor
from ...testing.crash_points import CrashingRunner, CrashPoints
from ...testing.env import DurableEnv
from ...testing.places import Place
from .database import store_alias
from .project import durable_of_project
from .shared_connection import SharedConnection

__all__ = ["DurableTestMixin", "durable_inline"]

_TABLES = (
    "outbox",
    "inbox",
    "history",
    "instances",
    "waiting",
    "places",
    "limits",
    "schedules",
    "workers",
)


class _VirtualConnection(CrashingRunner, SharedConnection):
    """Django's connection, with a clock that runs ahead of the database's by as much as the test
    says.
    """

    clock = "virtual"
    ahead = 0

    def __init__(self, alias: str, points: CrashPoints) -> None:
        super().__init__(alias)
        self.points = points

    @property
    def fragments(self) -> Mapping[str, str]:
        """What the ``{fragments}`` of statements stand for."""
        own = super().fragments
        now = {
            "postgresql": f"({own['now']} + CAST(current_setting('durable.ahead') AS BIGINT))",
            "mysql": f"({own['now']} + @durable_ahead)",
            "sqlite": "durable_virtual_now()",
        }[self.family]
        return {**own, "now": now, "once": f"(SELECT {now})"}

    def set_clock(self, cursor: Cursor) -> None:
        """Tell the database how far ahead it is."""
        if self.family == "postgresql":
            cursor.execute("SELECT set_config('durable.ahead', %s, false)", [str(self.ahead)])
        elif self.family == "mysql":
            cursor.execute("SET @durable_ahead = %s", [self.ahead])
        elif self._clocked is not self.wrapper.connection:
            self.wrapper.connection.create_function(
                "durable_virtual_now", 0, lambda: time.time_ns() // 1000 + self.ahead
            )
            self._clocked = self.wrapper.connection

    _clocked: Any = None


class _Clock:
    """The database's clock, ahead by as much as the test says."""

    def __init__(self, connection: _VirtualConnection, store: Store) -> None:
        self._connection = connection
        self.now = store.now

    def jump(self, moment: int) -> None:
        """Let it be that moment, unless it is later."""
        self._connection.ahead += max(0, moment - self.now())


class _ConnectionPlace:
    def __init__(self, alias: str, points: CrashPoints) -> None:
        self.database = _VirtualConnection(alias, points)
        self.store = Store(self.database)
        self.clock = _Clock(self.database, self.store)


class _OwnConnection:
    """The test's own connection.

    What is rolled back with the test leaves nothing; else the store is emptied at the end. A place
    within a place is a transaction that begins with an empty store, and is rolled back.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._depth = 0

    @contextmanager
    def fresh(self, settings: Settings, points: CrashPoints) -> Iterator[Place]:
        """Give a place with an empty store; see ``celery_durable.testing.places``."""
        place = _ConnectionPlace(self._alias, points)
        self._depth += 1
        try:
            if self._depth > 1:
                block: Any = transaction.atomic(using=self._alias)
                block._from_testcase = (
                    True  # as that of TestCase: within it durable=True is allowed
                )
                with block:
                    _clear(place.database)
                    yield place
                    transaction.set_rollback(True, using=self._alias)
                return
            is_rolled_back = connections[self._alias].in_atomic_block
            try:
                yield place
            finally:
                if not is_rolled_back:
                    _clear(place.database)
        finally:
            self._depth -= 1


def durable_inline(durable: Any = None) -> DurableEnv:
    """Let the project's orchestrations run on Django's connection, in this thread, whenever the
    test says so, within a ``with`` block.

    Under ``TestCase`` all of it is rolled back with the test; under ``TransactionTestCase`` the
    store is emptied at the end.

    Args:
        durable: the ``Durable``; that of the project's Celery app if left out.

    Example:
        >>> with durable_inline() as env:
        ...     env.advance(days=30)
    """
    return DurableEnv(
        durable or durable_of_project(), _OwnConnection(store_alias() or DEFAULT_DB_ALIAS)
    )


def _clear(connection: _VirtualConnection) -> None:
    def delete(cursor: Cursor) -> None:
        for table in _TABLES:
            cursor.execute(f"DELETE FROM durable_{table}")

    connection.transact(delete)


class DurableTestMixin:
    """For ``TestCase`` and ``TransactionTestCase``: ``self.durable`` is a ``DurableEnv``."""

    durable: DurableEnv

    def setUp(self) -> None:
        """Begin."""
        super().setUp()  # type: ignore[misc]
        self.durable = self.enterContext(durable_inline())  # type: ignore[attr-defined]
