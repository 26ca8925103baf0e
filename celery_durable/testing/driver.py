"""A worker that the test plays: it takes turns, runs activities and lets time pass, one thing after
the other, and may die at any of its crash points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.exceptions import WorkerLostError

from ..core.times import EPOCH
from ..engine.clock import StoreClock
from ..engine.inbox_recovery import InboxRecovery
from ..engine.outbox_recovery import OutboxRecovery
from ..engine.records import ActivityAttemptId
from ..engine.schedules import run_due_schedules
from ..engine.switches import until_of
from ..errors import DurableError
from ..store.statements import Statement
from ..worker.activity import wrap_tasks
from .calls import Calls
from .crash_points import Crash, CrashPoints
from .places import Place
from .publisher import InlinePublisher

if TYPE_CHECKING:
    from ..app.durable import Durable
    from ..worker.runtime import Runtime

__all__ = ["Driver", "eagerly"]

log: logging.Logger = logging.getLogger("celery_durable.testing")

_MICROSECOND = timedelta(microseconds=1)
_MOST_ROUNDS = 100_000
_BATCH = 1_000
_DUE = Statement(
    "SELECT b.id, b.instance FROM durable_inbox b JOIN durable_instances i ON i.id = b.instance"
    " WHERE b.wake_at <= {once} AND i.status IN ('PENDING', 'RUNNING') ORDER BY b.wake_at, b.id"
)
_NEXT_DUE = Statement(
    "SELECT MIN(moment) FROM (SELECT MIN(b.wake_at) AS moment FROM durable_inbox b JOIN"
    " durable_instances i ON i.id = b.instance WHERE b.wake_at > {once} AND i.status IN"
    " ('PENDING', 'RUNNING')"
    " UNION ALL SELECT MIN(check_at) FROM durable_inbox WHERE check_at > {once} AND wake_at <="
    " {once}"
    " UNION ALL SELECT MIN(check_at) FROM durable_outbox WHERE check_at > {once} AND is_delegated ="
    " {true}"
    " UNION ALL SELECT MIN(ready_at) FROM durable_waiting WHERE ready_at > {once}"
    " UNION ALL SELECT MIN(expires_at) FROM durable_places WHERE expires_at > {once}"
    " UNION ALL SELECT MIN(expires_at) FROM durable_activity_places WHERE expires_at > {once}"
    " UNION ALL SELECT MIN(check_at) FROM durable_schedules WHERE check_at > {once}) AS moments"
)
# what a worker has died of is found by its recovery at once, whatever the clock shows
_LOOK_NOW = [
    Statement(
        "UPDATE durable_inbox SET check_at = {now} WHERE check_at > {now} AND visible_at <= {now}"
    ),
    Statement(
        "UPDATE durable_outbox SET check_at = {now} WHERE check_at > {now} AND sent_at IS NOT NULL"
    ),
]


class Driver:
    """Drives the orchestrations of one place.

    Args:
        durable: whose orchestrations.
        place: where they live.
        points: where the worker may die.
    """

    def __init__(self, durable: Durable, place: Place, points: CrashPoints) -> None:
        self.durable = durable
        self.place = place
        self.points = points
        #: Whether every turn is replayed from history.
        self.is_cold: bool = False
        #: Raises what the test is to hear of.
        self.after_step: Callable[[], None] = lambda: None
        #: Delivers what is to arrive by now; tells whether anything did.
        self.deliver: Callable[[], bool] = lambda: False
        self._queues: dict[ActivityAttemptId, str | None] = {}
        #: Rows of inboxes whose turn was taken in vain.
        self._tried: set[int] = set()
        self._process = ExitStack()
        self.calls: Calls = Calls(self.now, self._queues.get, points.reach, None)
        self._begin_process()

    # -- the process -------------------------------------------------------------------------------

    def _begin_process(self) -> None:
        """Make the engine of a process that knows nothing but the store."""
        store = self.place.store
        runtime = self._process.enter_context(self.durable.running_on(store, InlinePublisher))
        publisher = runtime.publisher
        assert isinstance(publisher, InlinePublisher)
        wrap_tasks(runtime.app)
        publisher.points, publisher.run_all = self.points, self.run_until_idle
        runtime.runner.clock = _Asking(store.now)
        self.calls.inner, runtime.tracing = runtime.tracing, self.calls
        self.runtime: Runtime = runtime
        self.publisher: InlinePublisher = publisher

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _crash(self) -> None:
        """Go on in a new process, with the messages that the broker has, and what recovery finds
        to be missing.
        """
        self._tried.clear()
        publisher = self.publisher
        activities, turns, retries = publisher.activities, publisher.turns, publisher.retries
        self._process.close()
        self._begin_process()
        publisher = self.publisher
        publisher.activities, publisher.turns, publisher.retries = activities, turns, retries
        database = self.place.database
        for statement in _LOOK_NOW:
            database.change_one(statement)
        self._inbox().repair(_BATCH)
        self._outbox().repair(_BATCH)

    def _inbox(self) -> InboxRecovery:
        return InboxRecovery(self.runtime.store, self.publisher, self.runtime.registry)

    def _outbox(self) -> OutboxRecovery:
        runtime = self.runtime
        return OutboxRecovery(
            runtime.store,
            runtime.runner,
            self.publisher,
            runtime.codec,
            runtime.settings,
            WorkerLostError,
        )

    # -- time --------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time by the clock of the test, aware UTC, in whole milliseconds: what a look
        at the clock adds is not seen.
        """
        return EPOCH + timedelta(milliseconds=self.place.clock.now() // 1000)

    def next_due(self) -> int | None:
        """Return when something becomes due by itself; None if nothing does."""
        database = self.place.database
        (moment,) = database.fetch_one(_NEXT_DUE)
        ends = [until_of(each) for each in self.place.store.switches.read() if not each.lifted_at]
        retries = [kept.due for kept in self.publisher.retries]
        due = [int(each) for each in (moment, *ends, *retries) if each is not None]
        return min(due, default=None)

    # -- steps -------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Take every turn and run every activity that is due, until nothing is."""
        for _ in range(_MOST_ROUNDS):
            if not self._step():
                return
            self.after_step()
        raise DurableError(
            f"orchestrations are still busy after {_MOST_ROUNDS} turns and activities: do they ever"
            " wait?"
        )

    def _step(self) -> bool:
        """Do the next thing that is due; False if nothing is."""
        publisher = self.publisher
        if self.deliver():
            return True
        if publisher.activities:
            row = publisher.activities[0]
            self._queues[row.ticket] = row.queue
            self._work(
                f"while activity {row.name} ran for {row.instance!r}",
                lambda: publisher.run_activity(row),
            )
            self._acknowledge(publisher.activities, row)
            return True
        if (retry := publisher.due_retry()) is not None:
            row = retry.row
            self._work(
                f"while activity {row.name} ran again for {row.instance!r}",
                lambda: publisher.run_retry(retry),
            )
            self._acknowledge(publisher.retries, retry)
            return True
        if publisher.turns:
            instance, tries = message = publisher.turns[0]
            self._turn(instance, tries)
            self._acknowledge(self.publisher.turns, message)
            return True
        return self._take_due() or self._look("while recovery looked for work", self._look_for_work)

    def _acknowledge(self, queue: Any, message: Any) -> None:
        """Take a message away that has been dealt with: by now a copy of it may have come."""
        if not self._has_crashed and message in queue:
            queue.remove(message)

    def _turn(self, instance: str, tries: int = 0) -> None:
        """Take turns of an instance; one that breaks off is taken again later, as in a worker."""

        def take() -> None:
            try:
                if not self.publisher.run_turn(instance, tries):
                    self.runtime.runner.run(instance, sends=tries)
            except DurableError:
                raise
            except Exception:
                log.exception("a turn of %r broke off", instance)

        self._work(f"during a turn of {instance!r}", take)

    def _work(self, step: str, do: Callable[[], object]) -> None:
        """Let the worker do something, in which it may die: then another one takes its place."""
        self._has_crashed = False
        self.points.begin(step)
        try:
            do()
        except Crash:
            self._has_crashed = True
        finally:
            self.points.end()
        if self._has_crashed:
            self._crash()
        elif self.is_cold:
            self.runtime.live.clear()

    _has_crashed = False

    @property
    def is_busy(self) -> bool:
        """Whether the worker is in the middle of something."""
        return self.points.is_in_step

    def _look(self, step: str, look: Callable[[], bool]) -> bool:
        found: list[bool] = []
        self._work(step, lambda: found.append(look()))
        return self._has_crashed or any(found)

    def _take_due(self) -> bool:
        """Take the turns of what was started or woken without a message that reached us."""
        due = [(row, instance) for row, instance in self._due() if row not in self._tried]
        for instance in dict.fromkeys(instance for _, instance in due):
            self._turn(instance)
        left = {row for row, _ in self._due()} if due else set()
        self._tried |= left.intersection(row for row, _ in due)  # recovery tries these again
        return any(row not in left for row, _ in due)

    def _due(self) -> Sequence[tuple[int, str]]:
        database = self.place.database
        rows = database.read(lambda cursor: database.run(cursor, _DUE).fetchall())
        return [(row[0], row[1]) for row in rows]

    def _look_for_work(self) -> bool:
        """Do what recovery does in a worker: send the rest of a large fan-out, admit, start what
        schedules are due.
        """
        runtime, publisher = self.runtime, self.publisher
        runtime.store.switches.release(_BATCH)
        self._inbox().repair(_BATCH)
        self._outbox().repair(_BATCH)
        for name in runtime.store.admission.names_waiting(0):
            runtime.runner.admission.admit(name)
        if runtime.store.limits.is_due(0):
            runtime.runner.dispatcher.admit()
        run_due_schedules(runtime.runner.starter)
        if runtime.client.archiver is not None:
            runtime.client.archiver.run(_BATCH)
        return bool(publisher.activities or publisher.turns)

    # -- all of it ---------------------------------------------------------------------------------

    def jump(self, moment: int) -> None:
        """Let it be a moment, and do what is due then."""
        self.place.clock.jump(moment)
        self.run_until_idle()

    def micros_of(self, when: datetime) -> int:
        """Return a moment as the store has it.

        Raises:
            ValueError: it has no time zone.
        """
        if when.tzinfo is None:
            raise ValueError(f"{when} has no time zone: which moment is it?")
        return (when.astimezone(UTC) - EPOCH) // _MICROSECOND


class _Asking(StoreClock):
    """The clock of a process whose store's clock jumps: it asks each time."""

    def now(self) -> int:
        """Return the time."""
        return self._ask()


@contextmanager
def eagerly(durable: Durable) -> Iterator[None]:
    """Let Celery run here what tasks send; the settings of the application are back afterwards."""
    conf = durable.app.conf
    before = conf.task_always_eager, conf.task_eager_propagates
    conf.task_always_eager, conf.task_eager_propagates = True, False
    try:
        yield
    finally:
        conf.task_always_eager, conf.task_eager_propagates = before
