"""Orchestrations in Django's ``TestCase``: on the test's own connection, in its own thread, by a
clock that jumps.

    class OrderTests(DurableTestMixin, TestCase):
        def test_reminder(self):
            self.client.post("/orders/", {"name": "a"})        # the view starts an orchestration in
            atomic() self.durable.run_until_idle() self.durable.advance(days=30) assert
            durable.get("order-a").output == "reminded"

Nothing is sent to a broker, and nothing opens a second connection: what the test rolls back is
gone. Activities are run by Celery's own tracer, with retries, transactional ones with their
transactions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from ...core.times import EPOCH
from ...engine.records import ActivityRow, ActivityTicket, TurnAddress
from ...engine.schedules import run_due_schedules
from ...errors import DurableError
from ...handles.orchestration import Orchestration
from ...store import Store
from ...store.runner import Cursor
from ...store.statements import Statement
from ...worker.publisher import CeleryPublisher
from .database import store_alias
from .project import durable_of_project
from .shared_connection import BorrowedConnection

__all__ = ["DurableRunner", "DurableTestMixin", "durable_inline"]

_MICROSECOND = timedelta(microseconds=1)
_MOST_ROUNDS = 100_000
_MOST_AT_ONCE = 1_000
_HOUR = 3_600_000_000
_MOVING = "i.status IN ('PENDING', 'RUNNING')"
_DUE = Statement(
    "SELECT b.id, b.instance FROM durable_inbox b JOIN durable_instances i ON i.id = b.instance "
    f"WHERE b.wake_at <= {{once}} AND {_MOVING} ORDER BY b.wake_at, b.id"
)
_NEXT_DUE = [
    Statement(
        "SELECT MIN(b.wake_at) FROM durable_inbox b JOIN durable_instances i ON i.id = b.instance "
        f"WHERE b.wake_at > {{once}} AND {_MOVING}"
    ),
    Statement("SELECT MIN(ready_at) FROM durable_waiting WHERE ready_at > {once}"),
    Statement("SELECT MIN(expires_at) FROM durable_places WHERE expires_at > {once}"),
    Statement("SELECT MIN(check_at) FROM durable_schedules WHERE check_at > {once}"),
]
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


class _VirtualConnection(BorrowedConnection):
    """Django's connection, with a clock that runs ahead of the database's by as much as the test
    says.
    """

    clock = "virtual"
    ahead = 0

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


class _InlinePublisher(CeleryPublisher):
    """Keeps what would be sent until the test runs it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.activities: deque[ActivityRow] = deque()
        self.turns: deque[str] = deque()

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process has the orchestrator."""
        return name in self.registry

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        """Keep a turn; one for later is found when its time has come."""
        if not delay:
            self.turns.append(address.id)
        return True

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityTicket, Exception]:
        """Keep activities."""
        self.activities.extend(rows)
        return {}

    def run_activity(self, row: ActivityRow) -> None:
        """Run one activity, as Celery does with ``task_always_eager``.

        Raises:
            DurableError: this process does not have the task.
        """
        if not self.knows_task(row.name):
            raise DurableError(
                f"orchestration {row.instance!r} calls {row.name!r}, which is not registered here",
                instance_id=row.instance,
            )
        super().publish_activities([row])


class DurableRunner:
    """Drives orchestrations in the test's thread; see ``durable_inline``."""

    def __init__(self, runtime: Any, connection: _VirtualConnection) -> None:
        self._runtime = runtime
        self._connection = connection

    @property
    def now(self) -> datetime:
        """The time by the clock of the test, aware UTC."""
        return EPOCH + timedelta(microseconds=self._runtime.store.now())

    def run_until_idle(self) -> None:
        """Take every turn and run every activity that is due, until nothing is.

        Raises:
            DurableError: an orchestration calls a task that is not registered, or continues without
                end.
        """
        with self._eagerly():
            for _ in range(_MOST_ROUNDS):
                if not self._step():
                    return
        raise DurableError(
            f"orchestrations are still busy after {_MOST_ROUNDS} turns and activities: do they ever"
            " wait?"
        )

    def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """Let time pass, and run what becomes due on the way, each at its own time:
        ``advance(days=30)``.
        """
        whole = (delta or timedelta()) + timedelta(**parts)
        if whole < timedelta():
            raise ValueError("time does not go back")
        target = self._runtime.store.now() + whole // _MICROSECOND
        self.run_until_idle()
        while (moment := self._next_due()) is not None and moment <= target:
            self._set(moment)
            self.run_until_idle()
        self._set(target)
        self.run_until_idle()

    def run(self, signature: Any, **options: Any) -> Orchestration:
        """Start an orchestration as ``durable.start`` does, run until nothing is due, and return
        its handle.
        """
        started: Orchestration = self._runtime.app.durable.start(signature, **options)
        self.run_until_idle()
        return started

    # -- steps -------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Do the next thing that is due; False if nothing is."""
        runtime, publisher = self._runtime, self._runtime.publisher
        if publisher.activities:
            publisher.run_activity(publisher.activities.popleft())
            return True
        if publisher.turns:
            runtime.runner.run(publisher.turns.popleft())
            return True
        return self._take_due() or self._send_rest() or self._admit() or self._tick()

    def _take_due(self) -> bool:
        """Take the turns of what was started or woken without a message that reached us."""
        due = self._rows(_DUE)
        for instance in dict.fromkeys(instance for _, instance in due):
            self._runtime.runner.run(instance)
        return bool(due) and self._rows(_DUE) != due

    def _send_rest(self) -> bool:
        """Send the activities of a large fan-out that its own commit did not send, as a worker's
        recovery does.
        """
        store, publisher = self._runtime.store, self._runtime.publisher
        for due in store.recovery.due_activities(_MOST_AT_ONCE):
            is_first = due.sent_at is None and due.row.kind == "activity"
            if store.recovery.move_activity(due, _HOUR, is_sent=is_first) and is_first:
                publisher.activities.append(due.row)
        return bool(publisher.activities)

    def _admit(self) -> bool:
        for name in self._runtime.store.admission.names_waiting(0):
            self._runtime.runner.admission.admit(name)
        return bool(self._runtime.publisher.turns)

    def _tick(self) -> bool:
        runtime = self._runtime
        run_due_schedules(runtime.runner.starter)
        return bool(runtime.publisher.turns)

    def _rows(self, statement: Statement) -> list[Any]:
        database = self._connection
        return [
            tuple(row)
            for row in database.read(lambda cursor: database.run(cursor, statement).fetchall())
        ]

    def _next_due(self) -> int | None:
        moments = [
            moment
            for statement in _NEXT_DUE
            for (moment,) in self._rows(statement)
            if moment is not None
        ]
        return min(moments, default=None)

    def _set(self, moment: int) -> None:
        self._connection.ahead += max(0, moment - self._runtime.store.now())

    @contextmanager
    def _eagerly(self) -> Iterator[None]:
        """Let Celery run activities here; the settings of the project are back afterwards."""
        conf = self._runtime.app.conf
        before = conf.task_always_eager, conf.task_eager_propagates
        conf.task_always_eager, conf.task_eager_propagates = True, False
        try:
            yield
        finally:
            conf.task_always_eager, conf.task_eager_propagates = before


@contextmanager
def durable_inline(durable: Any = None) -> Iterator[DurableRunner]:
    """Let the project's orchestrations run on Django's connection, in this thread, whenever the
    runner is told to.

    Under ``TestCase`` all of it is rolled back with the test; under ``TransactionTestCase`` the
    store is emptied at the end.

    Args:
        durable: the ``Durable``; that of the project's Celery app if left out.
    """
    durable = durable or durable_of_project()
    alias = store_alias() or DEFAULT_DB_ALIAS
    connection = _VirtualConnection(alias)
    is_rolled_back = connections[alias].in_atomic_block
    with durable.running_on(Store(connection), _InlinePublisher) as runtime:
        try:
            yield DurableRunner(runtime, connection)
        finally:
            if not is_rolled_back:
                _clear(connection)


def _clear(connection: _VirtualConnection) -> None:
    def delete(cursor: Cursor) -> None:
        for table in _TABLES:
            cursor.execute(f"DELETE FROM durable_{table}")

    connection.transact(delete)


class DurableTestMixin:
    """For ``TestCase`` and ``TransactionTestCase``: ``self.durable`` is a ``DurableRunner``."""

    durable: DurableRunner

    def setUp(self) -> None:
        """Begin."""
        super().setUp()  # type: ignore[misc]
        self.durable = self.enterContext(durable_inline())  # type: ignore[attr-defined]
