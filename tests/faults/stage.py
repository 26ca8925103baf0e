"""One world: a store, a broker and results that last, and processes that come and go, one at a
time.

Every process is the engine as an application has it: the app's runtime, Celery's requests and
tracer, recovery. Only the wires are ours: the broker, the clock, and the probe between the engine
and its store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import sqlalchemy as sa
from celery.app.trace import trace_task_ret
from celery.concurrency.base import BasePool, apply_target
from celery.utils.imports import symbol_by_name
from celery.worker import state as worker_state
from celery.worker.request import create_request_cls
from kombu.exceptions import OperationalError

import celery_durable.app.compose as app_module
import celery_durable.store.opening as store_module
from celery_durable.core.history import EventKind, load_events
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.watchdog import Watchdog
from celery_durable.errors import DurableError
from celery_durable.store import open_store
from celery_durable.store.schema import history, inbox, instances, metadata, outbox, workers
from celery_durable.worker.activity import wrap_tasks
from celery_durable.worker.bootstep import RecoveryStep
from celery_durable.worker.request import hold_messages, received
from tests.witnesses import recovery_of

from .broker import Broker
from .clock import ServerTime, VirtualTime, in_place
from .probe import Died, Probe, ProbedConnection, ProbedStore
from .programs import QUEUE, I, Program, app, durable, worlds

T = TypeVar("T")
PATIENCE = 400  # seconds of the world's time
_QUIET = 12  # idle seconds after which a client repeats what failed
_CONNECTION_ERRORS = (OperationalError, ConnectionError)
_watchdog: list[Watchdog] = []


class Run(NamedTuple):
    """A body that began."""

    ticket: ActivityAttemptId
    name: str
    instance: str
    is_late: bool


class Pool(BasePool):
    """Runs a task here and now; a death goes through."""

    def on_apply(self, *args: Any, **options: Any) -> None:
        apply_target(*args, propagate=(Died,), **options)


class Process:
    """One process: a worker that is a client too.

    ``is_bystander`` leaves it out of the probe's count.
    """

    def __init__(self, world: World, *, is_bystander: bool = False) -> None:
        self.world = world
        self.is_bystander = is_bystander
        self.writes, self.sees_statements = 0, world.url.startswith("sqlite")
        self.is_lossy = True
        self.is_dead = self.is_stale = self.has_lost_connection = False
        self.runtime = durable._runtime = self._make_runtime()
        self.pool = Pool()
        consumer = SimpleNamespace(call_soon=lambda work, *args: work(*args))
        self.worker = SimpleNamespace(consumer=consumer, app=app, hostname="host")
        self.step = RecoveryStep(self.worker)
        self.step.witness.depths = lambda: world.broker.depths(world.queues, world.clock.now())
        runtime = self.runtime
        self.recovery = recovery_of(runtime, runtime.worker_id, self.step.witness)

    def _make_runtime(self) -> Any:
        def open_probed(settings: Any) -> ProbedStore:
            options = {**(settings.backend_options or {}), **self.world.connection_options(self)}
            return ProbedStore(open_store(replace(settings, backend_options=options)), self)

        # it was just made
        no_check = mock.patch.object(store_module, "check_schema", lambda database: None)
        with no_check, mock.patch.object(app_module, "open_store", open_probed):
            runtime = app_module.compose(app, durable.registry)
            if not _watchdog:
                _watchdog.append(Watchdog(600))
        runtime.runner.watchdog.limit = 600
        # its thread lasts as long as the process that it watches
        runtime.runner.watchdog = _watchdog[0]
        self.world.workers += 1
        runtime.worker_id = f"worker-{self.world.workers}"
        runtime.publisher.queues = self.world.queues
        return runtime

    def call(self, place: str, name: str, work: Callable[[], T]) -> T:
        """Make a call that the probe may disturb."""
        return self.world.probe.around(self, place, name, work)

    def die(self, *, is_lossy: bool = True) -> None:
        """Be killed; the messages that it had taken are lost, or delivered again at once."""
        self.is_dead, self.is_lossy = True, is_lossy
        raise Died

    def freeze(self) -> None:
        """Stop for so long that everybody takes this process for dead.

        Then go on with what it was about to do.
        """
        self.is_stale = True
        self.world.broker.give_back(self)
        self.world.go_on_without(self)

    def be_overtaken(self) -> None:
        """Be slow, while another process takes a turn."""
        self.world.go_on_without(self, until=self.world.sequences())

    # -- what a worker does ------------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        """Run a message as a worker does."""
        task = app.tasks[message.headers["task"]]
        trace = partial(trace_task_ret, app=app)
        cls = create_request_cls(
            symbol_by_name(task.Request), task, self.pool, "host", None, trace=trace, app=app
        )
        request = cls(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=app,
            hostname="host",
            eventer=None,
            task=task,
            connection_errors=_CONNECTION_ERRORS,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=True,
        )
        worker_state.task_reserved(request)
        request.execute_using_pool(self.pool)

    def tick(self) -> None:
        """Let recovery look once, as its thread does."""
        try:
            self.recovery.tick(
                self.step.witness.running,
                lambda tickets: self.step._acknowledge(self.worker, tickets),
            )
        except DurableError:
            pass

    def close(self) -> None:
        """Leave nothing behind in this test's memory."""
        self.is_dead = True
        for live in list(self.runtime.live._live.values()):
            live.abandon()
        self.runtime.store.database.dispose()


class World:
    """What outlives a process, and the one process that there is."""

    def __init__(
        self,
        url: str,
        program: Program,
        probe: Probe | None = None,
        *,
        clock: VirtualTime | None = None,
        time_limit: float = PATIENCE,
    ) -> None:
        self.url, self.program, self.probe = url, program, probe or Probe()
        self.clock = clock or VirtualTime()
        self.queues = frozenset({QUEUE, f"{QUEUE}.turns"})
        self.broker = Broker()
        self.results: dict[str, Any] = {}
        self.noted: list[Any] = []
        self.ledger: list[Run] = []
        self.problems: list[str] = []
        self.workers = 0
        self.process: Any = None
        self._next_step = 0
        self._has_tried = False
        self._time_limit = time_limit
        self.eyes = _eyes(url)

    def connection_options(self, process: Process) -> dict[str, Any]:
        """Return how a process connects to the store."""
        if self.url.startswith("sqlite"):
            return {"connect_args": {"factory": partial(ProbedConnection, process)}}
        return {}

    # -- running -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the program to its end, or until it is plain that there will be none."""
        conf = {
            "durable_backend_url": self.url,
            "durable_resend_after": 2.0,
            "durable_worker_lease": 4.0,
            "durable_heartbeat_interval": 1.0,
            "durable_timer_horizon": 5.0,
            "durable_start_inline": False,
            "durable_inline_turns": True,
            **self.program.settings,
        }
        app.conf.update(conf)
        worlds.append(self)
        try:
            with in_place(self.clock), as_current_app():
                self._drive()
        finally:
            if self.process is not None:
                self.process.close()
            worlds.pop()

    def close(self) -> None:
        """Look no more."""
        self.eyes.close()

    def _drive(self, until: list[Any] | None = None) -> None:
        end, idle = self.clock.monotonic() + self._time_limit, 0
        while until is None or self.sequences() == until:
            try:
                if self.process is None:
                    self.process = Process(self)
                is_busy = self._work(idle)
            except Died:
                self._bury()
                idle = 0
                continue
            if self.process.is_dead:
                self.problems.append("somebody caught the death of the process, and went on")
            if self.process.is_dead or self.process.is_stale:
                self._bury()
                continue
            if is_busy:
                idle = 0
                continue
            if self.is_over():
                return
            if until is not None and idle > _QUIET:
                return
            if self.clock.monotonic() > end:
                self.problems.append(f"no end after {self._time_limit} s: {self._what_is_left()}")
                return
            idle += 1

    def _work(self, idle: int) -> bool:
        """Do one thing that there is to do; False if there was nothing, and a second has passed."""
        if self._take_step(idle):
            return True
        message = self.broker.take(self.process, self.queues, self.clock.now())
        if message is not None:
            self.process.handle(message)
            if self.process.has_lost_connection:
                self.process.has_lost_connection = False
                self.broker.give_back(self.process)
            return True
        self.pass_time(1)
        self.process.tick()
        return False

    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.clock.advance(seconds)
        if isinstance(self.clock, ServerTime):
            self._shift(int(seconds * 1_000_000))

    def _take_step(self, idle: int) -> bool:
        if self._next_step >= len(self.program.steps):
            return False
        step = self.program.steps[self._next_step]
        if self._has_tried:
            if idle < _QUIET:
                return False
            if step.has_taken(self):
                self._next_step, self._has_tried = self._next_step + 1, False
                return True
        elif not step.is_ready(self):
            return False
        self._has_tried = True
        number = self._next_step
        try:
            step.act(self)
        except (DurableError, OperationalError, ConnectionError):
            return True
        if self._next_step == number:
            self._next_step, self._has_tried = number + 1, False
        return True

    def _bury(self) -> None:
        dead, self.process = self.process, None
        worker_state.reset_state()
        received.clear()
        if dead is not None:
            if dead.is_lossy:
                self.broker.lose(self.queues)
            self.broker.give_back(dead)
            dead.close()

    def go_on_without(self, frozen: Process, until: list[Any] | None = None) -> None:
        """Let another process bring the program to its end, or go on until anything has moved."""
        running = (
            list(worker_state.active_requests),
            list(worker_state.reserved_requests),
            list(received),
        )
        worker_state.reset_state()
        received.clear()
        runtime = durable._runtime
        self.process = Process(self, is_bystander=True)
        try:
            self._drive(until)
        finally:
            if self.process is not None:
                self.broker.give_back(self.process)
                self.process.close()
            self.process = frozen
            durable._runtime = runtime
            worker_state.reset_state()
            worker_state.active_requests.update(running[0])
            worker_state.reserved_requests.update(running[1])
            received.clear()
            received.update(running[2])

    def body_begins(self, name: str, request: Any) -> None:
        """Note that an activity's body begins, and whether its outcome was known before."""
        ticket = ActivityAttemptId.parse(request.id)
        if ticket is not None:
            found = self.rows(
                sa.select(outbox.c.instance).where(outbox.c.execution == ticket.execution)
            )
            self.ledger.append(
                Run(ticket, name, found[0][0] if found else "", self.is_recorded(ticket))
            )

    def activity_is_sent(self, ticket: ActivityAttemptId) -> None:
        """Watch the rule that nothing is sent before the transaction that decided it has
        committed.
        """
        if self.process.is_stale or self.outbox_row(ticket):
            return
        if not any(event.command == ticket.command for event in self.events_of(ticket.execution)):
            self.problems.append(f"{ticket} was sent, but not committed")

    def activity_is_acknowledged(self, ticket: ActivityAttemptId) -> None:
        """Watch the rule that the store knows who runs what is not with the broker any more, or its
        outcome.
        """
        found = self.outbox_row(ticket)
        if found and found[0].holder is None:
            self.problems.append(
                f"{ticket} was acknowledged, but the store knows neither its holder nor its outcome"
            )

    def result_is_told(self, task_id: str) -> None:
        """Watch the rule that Celery hears of an end after the store."""
        status = self.status(task_id)
        if status is not None and not status.is_terminal:
            self.problems.append(f"Celery was told of the end of {task_id!r}, which is {status}")

    # -- looking, past every process ---------------------------------------------------------------

    def rows(self, statement: Any) -> list[Any]:
        """Read the store from outside."""
        return list(self.eyes.execute(statement))

    def status(self, id_: str = I) -> RuntimeStatus | None:
        found = self.rows(sa.select(instances.c.status).where(instances.c.id == id_))
        return RuntimeStatus(found[0][0]) if found else None

    def custom_status(self) -> Any:
        found = self.rows(sa.select(instances.c.custom_status).where(instances.c.id == I))
        payload = found[0][0] if found else None
        return (
            None if payload is None else self.process.runtime.codec.decode(bytes(payload).decode())
        )

    def instances(self) -> list[Any]:
        return self.rows(sa.select(instances).order_by(instances.c.created_at, instances.c.id))

    def sequences(self) -> list[Any]:
        """Return how far each instance has come."""
        return [tuple(row) for row in self.rows(_SEQUENCES)]

    def is_ended(self) -> bool:
        status = self.status()
        return status is not None and status.is_terminal

    def events_of(self, execution: str) -> list[Any]:
        rows = self.rows(
            sa.select(history.c.events)
            .where(history.c.execution == execution)
            .order_by(history.c.sequence)
        )
        return [event for (row,) in rows for event in load_events(bytes(row).decode())]

    def kinds(self) -> list[EventKind]:
        found = self.rows(sa.select(instances.c.execution).where(instances.c.id == I))
        return [event.kind for event in self.events_of(found[0][0])] if found else []

    def has_inbox(self, prefix: str, *, is_awake: bool = False) -> bool:
        awake = inbox.c.wake_at.is_not(None) if is_awake else sa.true()
        return bool(self.rows(sa.select(inbox.c.id).where(inbox.c.dedup.startswith(prefix), awake)))

    def has_outbox(self) -> bool:
        return bool(self.rows(sa.select(outbox.c.command)))

    def count_runs(self, name: str) -> int:
        """Tell how often bodies of the activity that runs now began."""
        ticket = self.ledger[-1].ticket
        return sum(run.name == name and run.ticket == ticket for run in self.ledger)

    def was_told(self, name: str) -> bool:
        if self.rows(sa.select(inbox.c.id).where(inbox.c.name == name)):
            return True
        found = self.rows(sa.select(history.c.events))
        return any(
            event.kind is EventKind.EVENT_RAISED and event.name == name
            for (row,) in found
            for event in load_events(bytes(row).decode())
        )

    def outbox_row(self, ticket: ActivityAttemptId) -> list[Any]:
        c = outbox.c
        wanted = (
            c.execution == ticket.execution,
            c.command == ticket.command,
            c.attempt == ticket.attempt,
        )
        return self.rows(sa.select(c.holder).where(*wanted))

    def is_recorded(self, ticket: ActivityAttemptId) -> bool:
        """Tell whether an outcome of an attempt is in the store, or nobody wants it any more."""
        execution, command, attempt = ticket
        if not self.outbox_row(ticket):
            return True
        dedup = f"outcome:{execution}:{command}:{attempt}"
        if self.rows(sa.select(inbox.c.id).where(inbox.c.dedup == dedup)):
            return True
        return any(
            event.kind in (EventKind.ACTIVITY_COMPLETED, EventKind.ACTIVITY_FAILED)
            and (event.command, event.attempt) == (command, attempt)
            for event in self.events_of(execution)
        )

    def is_over(self) -> bool:
        """Tell whether nothing is left to do, for anybody."""
        if self._next_step < len(self.program.steps) or self.broker.taken:
            return False
        if any(parcel.queue in self.queues for parcel in self.broker.parcels):
            return False
        live = [
            sa.select(sa.func.count()).select_from(instances).where(instances.c.status.in_(_LIVE)),
            sa.select(sa.func.count()).select_from(inbox),
            sa.select(sa.func.count()).select_from(outbox),
        ]
        return (
            not any(self.rows(sa.union_all(*live))[number][0] for number in range(3))
            and self.status() is not None
        )

    def _what_is_left(self) -> str:
        a, b = inbox.c, outbox.c
        left = {
            "instances": {row.id: row.status for row in self.instances()},
            "inbox": [tuple(row) for row in self.rows(sa.select(a.instance, a.dedup, a.check_at))],
            "outbox": [
                tuple(row)
                for row in self.rows(
                    sa.select(b.instance, b.command, b.attempt, b.check_at, b.holder)
                )
            ],
            "messages": [parcel.headers for parcel in self.broker.parcels],
        }
        return f"step {self._next_step}, " + ", ".join(
            f"{name} {rows}" for name, rows in left.items()
        )

    def empty(self) -> None:
        """Delete everything that the store holds."""
        for table in metadata.sorted_tables:
            if table.name != "durable_meta":
                self.eyes.execute(sa.delete(table))

    def _shift(self, micros: int) -> None:
        """Move everything that a server's store holds into the past: the same as if time had
        passed.
        """
        tables: dict[Any, tuple[str, ...]] = {
            inbox: ("visible_at", "wake_at", "check_at"),
            workers: ("started_at", "last_seen"),
            outbox: ("sent_at", "check_at", "deadline_at", "start_by", "beat_by"),
        }
        for table, names in tables.items():
            earlier = {name: table.c[name] - micros for name in names}
            if table is inbox:  # below zero, what is visible at once
                at = table.c.visible_at
                earlier["visible_at"] = sa.case((at < 0, at + micros), else_=at - micros)
            self.eyes.execute(sa.update(table).values(earlier))
        if self.process is not None:  # a sign of life is no new one because it is longer ago
            membership = self.process.recovery.membership
            membership._sightings = {
                worker: (last_seen - micros, since)
                for worker, (last_seen, since) in membership._sightings.items()
            }
        self.broker.shift(micros)


_SEQUENCES = sa.select(instances.c.id, instances.c.execution, instances.c.sequence).order_by(
    instances.c.id
)
_engines: dict[str, sa.Engine] = {}


def _eyes(url: str) -> sa.Connection:
    """Connect past every process. All SQLite files share an engine, and so what it has compiled."""
    path = sa.make_url(url).database
    if not url.startswith("sqlite"):
        if url not in _engines:
            _engines[url] = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        return _engines[url].connect()
    if "sqlite" not in _engines:
        _engines["sqlite"] = sa.create_engine(
            "sqlite://", poolclass=sa.pool.NullPool, creator=lambda: _connect[-1]()
        )
    _connect.append(lambda: sqlite3.connect(str(path), isolation_level=None))
    try:
        return _engines["sqlite"].connect().execution_options(isolation_level="AUTOCOMMIT")
    finally:
        _connect.pop()


_connect: list[Callable[[], sqlite3.Connection]] = []
_LIVE = [str(status) for status in RuntimeStatus if not status.is_terminal]


@contextmanager
def as_current_app() -> Iterator[None]:
    """Prepare the app as a worker does."""
    app.finalize()
    wrap_tasks(app)
    hold_messages(app)
    runtime = durable._runtime
    try:
        yield
    finally:
        durable._runtime = runtime
