"""A cluster under load: workers that are supervised as in production, faults on schedule, and the
check at the end.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from celery import _state
from kombu.exceptions import OperationalError

from celery_durable import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import DurableError, StoreError
from celery_durable.store.database import Statement
from tests.conftest import PATIENCE, wait_until
from tests.nodes import WorkerProcess
from tests.servers import own_keys
from tests.tiers import budget, is_long

from .chaosapp import build, true_time
from .load import MIXED, Job, mixed
from .report import Figures

SHORT = {
    "durable_resend_after": 1,
    "durable_heartbeat_interval": 0.5,
    "durable_worker_lease": 2,
    "durable_recovery_interval": 0.3,
}
# a copy may have looked just before the commit of an outcome became visible, and get the processor
# only now
GRACE = 5.0
# how long after the last fault everything has to be over
LIMIT = PATIENCE
ENDED = [status for status in RuntimeStatus if status.is_terminal]
_building = threading.Lock()


@dataclass(frozen=True)
class Start:
    """The beginning of one run of an activity's body."""

    at: float
    task_id: str
    instance: str
    what: str
    worker: str
    pid: int

    @property
    def ticket(self) -> ActivityAttemptId:
        ticket = ActivityAttemptId.parse(self.task_id)
        assert ticket is not None, self
        return ticket


@dataclass
class Fault:
    """Something that goes wrong at a moment (seconds after the beginning).

    ``pids`` says whom it killed, None is all.
    """

    at: float
    kind: str
    action: Callable[[], set[int] | None]


@dataclass
class Happened:
    kind: str
    at: float
    pids: set[int] | None


@dataclass
class Slot:
    """One place for a worker, filled again whenever its process ends."""

    name: str
    options: dict[str, Any]
    process: WorkerProcess | None = None
    is_wanted: bool = True
    lives: int = 0


def schedule(
    dice: random.Random, span: float, faults: dict[str, tuple[int, Callable[[], set[int] | None]]]
) -> list[Fault]:
    """So many faults of each kind, at moments that the dice choose within ``span`` seconds, after a
    moment in peace.
    """
    kinds = [kind for kind, (count, _) in faults.items() for _ in range(count)]
    dice.shuffle(kinds)
    share = span / max(len(kinds), 1)
    return [
        Fault(0.3 + (n + dice.random()) * share, kind, faults[kind][1])
        for n, kind in enumerate(kinds)
    ]


def _comes_true(condition: Callable[[], object], timeout: float) -> bool:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Cluster:
    """One application with its broker, its store and its workers."""

    def __init__(
        self,
        directory: Path,
        broker: str,
        store: str,
        *,
        seed: str = "0",
        conf: dict[str, Any] | None = None,
        broker_options: dict[str, Any] | None = None,
        pace: float = 1,
        more_conf: dict[str, Any] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "markers").mkdir()
        self.directory, self.seed, self.dice = directory, seed, random.Random(seed)
        self.queue = f"chaos-{uuid.uuid4().hex[:10]}"
        options = dict(broker_options or {})
        self.keys = ExitStack()
        if broker.startswith(("redis", "reckless")):
            options.setdefault("global_keyprefix", f"{self.queue}:")
            self.keys.enter_context(own_keys(broker.replace("reckless://", "redis://"), self.queue))
        self.config: dict[str, Any] = {
            "broker": broker,
            "broker_options": options,
            "store": store,
            "queue": self.queue,
            "pace": pace,
            "notes": str(directory / "notes.jsonl"),
            "markers": str(directory / "markers"),
            "conf": {**(SHORT if conf is None else conf), **(more_conf or {})},
        }
        with _building:
            shared = set(_state._on_app_finalizers)
            self.app = build(self.config)
            _state._on_app_finalizers.intersection_update(shared)
            self.durable = self.app.durable
            self.durable.migrate()  # Alembic keeps what it works on in globals
        self.slots: dict[str, Slot] = {}
        self.jobs: dict[str, Job] = {}
        self.happened: list[Happened] = []
        self.figures = Figures(directory.name)
        self.lock = threading.RLock()
        self.made = true_time()

    # -- workers -----------------------------------------------------------------------------------

    def worker(self, name: str = "a", *, waits: bool = True, **options: Any) -> WorkerProcess:
        """Start a worker in a slot of its own."""
        slot = self.slots[name] = Slot(name, options)
        process = self._fill(slot)
        return process.wait_ready(120) if waits else process

    def workers(self, count: int, **options: Any) -> None:
        """Start several, and wait until all are ready."""
        for process in [
            self.worker(chr(ord("a") + n), waits=False, **options) for n in range(count)
        ]:
            process.wait_ready(120)

    def _fill(self, slot: Slot) -> WorkerProcess:
        options = dict(slot.options)
        environment = {
            "CHAOS": json.dumps(self.config),
            "CHAOS_WORKER": slot.name,
            **options.pop("environment", {}),
        }
        slot.lives += 1
        slot.process = WorkerProcess(
            environment,
            self.directory / f"worker-{slot.name}-{slot.lives}.log",
            app="tests.chaos.chaosapp",
            **options,
        )
        return slot.process

    def supervise(self) -> None:
        """Start what has ended again, whoever ended it."""
        with self.lock:
            for slot in self.slots.values():
                if slot.is_wanted and slot.process is not None and not slot.process.is_running:
                    slot.process.kill()
                    self.figures.restarts += 1
                    self._fill(slot)

    def running(self) -> list[Slot]:
        return [
            slot
            for slot in self.slots.values()
            if slot.process is not None and slot.process.is_running
        ]

    def pids(self, worker: WorkerProcess) -> set[int]:
        return {worker.process.pid, *worker.children()}

    # -- faults that are there for every cluster ---------------------------------------------------

    def kill_worker(self) -> set[int]:
        """SIGKILL for a whole worker; its successor starts at once."""
        with self.lock:
            if not self.running():
                return set()
            lately = {start.worker for start in self.starts()[-6:]}
            slot = self.dice.choice(
                [slot for slot in self.running() if slot.name in lately] or self.running()
            )
            assert slot.process is not None
            pids = self.pids(slot.process)
            slot.process.kill()
            self._fill(slot)
            return pids

    def kill_child(self) -> set[int]:
        """SIGKILL for one process of a prefork pool."""
        with self.lock:
            slots = [
                slot
                for slot in self.running()
                if slot.process is not None and slot.process.children()
            ]
            if not slots:
                return set()
            process = self.dice.choice(slots).process
            assert process is not None
            busy = {start.pid for start in self.starts()[-20:]} & set(process.children())
            candidates = sorted(busy) or process.children()
            if not candidates:  # it has lost them all a moment ago
                return set()
            child = self.dice.choice(candidates)
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                return set()
            return {child}

    def redeploy(self) -> set[int]:
        """A warm shutdown; supervision starts the successor once it has ended."""
        with self.lock:
            if self.running():
                process = self.dice.choice(self.running()).process
                assert process is not None
                process.process.terminate()
            return set()

    def end(self, name: str) -> None:
        """SIGKILL for a worker that shall have no successor."""
        with self.lock:
            slot = self.slots[name]
            slot.is_wanted = False
            assert slot.process is not None
            slot.process.kill()

    # -- the run -----------------------------------------------------------------------------------

    def storm(
        self,
        count: int,
        span: float = 0,
        faults: dict[str, tuple[int, Callable[[], set[int] | None]]] | None = None,
        *,
        size: int = 2,
        kinds: Iterable[str] = MIXED,
        limit: float = LIMIT,
    ) -> Figures:
        """Run so many jobs beside faults, and check what came of them.

        In the long tier until the budget is spent.
        """
        end = time.monotonic() + budget()
        while not self.figures.rounds or (is_long() and time.monotonic() < end):
            seed, self.figures.rounds = (
                f"{self.seed}:{self.figures.rounds}",
                self.figures.rounds + 1,
            )
            jobs = mixed(seed, count, size, kinds, prefix=f"{self.figures.rounds}-")
            self.run(jobs, schedule(random.Random(seed), span, faults or {}), limit)
        return self.check()

    def run(self, jobs: Sequence[Job], faults: Iterable[Fault] = (), limit: float = LIMIT) -> None:
        """Start all jobs, the last third of them while faults happen, and wait until everything is
        over.
        """
        self.jobs.update({job.id: job for job in jobs})
        schedule_, failures = sorted(faults, key=lambda fault: fault.at), list[BaseException]()
        waiting = self._feed(list(jobs), len(jobs) - len(jobs) // 3, self._start)
        if jobs and schedule_:
            _comes_true(self.starts, 60)  # what has not begun cannot be hit
        began = time.monotonic()
        injector = threading.Thread(
            target=self._inject, args=(schedule_, began, failures), daemon=True
        )
        injector.start()
        span = max((fault.at for fault in schedule_), default=0)
        events = [(job, number) for job in jobs for number in job.events]
        while True:
            elapsed = time.monotonic() - began
            share = len(waiting) if elapsed >= span * 0.8 else max(0, len(waiting) - len(jobs) // 3)
            waiting = self._feed(waiting, share, self._start)
            if not waiting:
                events = self._feed(events, 3 if elapsed < span else len(events), self._tell)
            if failures:
                raise failures[0]
            self.supervise()
            if not waiting and not events and not injector.is_alive() and self.is_over():
                break
            if elapsed > span + limit or self.is_blocked():
                self._fail(elapsed)
            time.sleep(0.1)

    def _inject(self, faults: Sequence[Fault], began: float, failures: list[BaseException]) -> None:
        try:
            for fault in faults:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                at = true_time()
                self.happened.append(Happened(fault.kind, at, fault.action()))
        except BaseException as error:
            failures.append(error)

    def _feed(self, things: list[Any], count: int, give: Callable[[Any], None]) -> list[Any]:
        """Give some, in order; what fails for want of a server is given again later."""
        for number, thing in enumerate(things[:count]):
            try:
                give(thing)
            except (StoreError, OperationalError, OSError):
                self.figures.refusals += 1
                return things[number:]
        return things[count:]

    def start(self, job: Job) -> None:
        self.jobs[job.id] = job
        self._start(job)

    def wait_over(self, timeout: float = PATIENCE) -> None:
        """Wait until everything that was started is over."""
        if (
            not _comes_true(lambda: self.is_over() or self.is_blocked(), timeout)
            or self.is_blocked()
        ):
            self._fail(timeout)

    def _start(self, job: Job) -> None:
        self.durable.start(
            self.app.signature(f"chaos.{job.kind}", args=job.args), instance_id=job.id
        )

    def _tell(self, event: tuple[Job, int]) -> None:
        self.tell(*event)

    def tell(self, job: Job, number: int) -> None:
        self.durable.raise_event(job.id, "item", number, event_id=f"item-{number}")

    def is_over(self) -> bool:
        try:
            return (
                self.count("SELECT COUNT(*) FROM durable_instances WHERE completed_at IS NULL") == 0
            )
        except DurableError:
            return False

    def is_blocked(self) -> bool:
        """True when something was suspended: nothing here deserves that, and nobody will
        resume it.
        """
        try:
            return (
                self.count("SELECT COUNT(*) FROM durable_instances WHERE status = 'SUSPENDED'") > 0
            )
        except DurableError:
            return False

    def count(self, sql: str) -> int:
        return int(self.durable.runtime.store.database.fetch_one(Statement(sql))[0])

    def held(self) -> int:
        """How many activities the store knows a worker of."""
        return self.count("SELECT COUNT(*) FROM durable_outbox WHERE holder IS NOT NULL")

    # -- what is left ------------------------------------------------------------------------------

    def starts(self) -> list[Start]:
        path = Path(self.config["notes"])
        return (
            [Start(*json.loads(line)) for line in path.read_text().splitlines()]
            if path.exists()
            else []
        )

    def all_runs(self) -> list[Any]:
        runs, cursor = [], None
        while True:
            page = self.durable.find(limit=500, cursor=cursor)
            runs += page.items
            if (cursor := page.next_cursor) is None:
                return runs

    def all_histories(self) -> dict[str, list[Any]]:
        return {run.id: run.history() for run in self.all_runs()}

    def lateness_of_timers(self) -> list[float]:
        """How many seconds after a timer was due the body of the activity began that waited for it,
        by the true clock.
        """
        began = {start.ticket: start.at for start in reversed(self.starts())}
        found = []
        for run in self.all_runs():
            due: dict[int, float] = {}
            fired = None
            for event in run.history():
                if event.kind == "TimerCreated":
                    due[event.command] = event.facts["due"] / 1_000_000
                elif event.kind == "TimerFired":
                    fired = due[event.command]
                elif event.kind == "ActivityScheduled" and fired is not None:
                    ticket = ActivityAttemptId(
                        run.refresh()._known.execution, event.command, event.attempt
                    )
                    found.append(began[ticket] - fired)
                    fired = None
        return sorted(found)

    def check(self, *, rows_within: float = 60) -> Figures:
        """Every result is right, nothing ran after its completion, and no row is left over."""
        runs = self.all_runs()
        over = {run.id: run.refresh().runtime_status for run in runs}
        assert set(over.values()) == {RuntimeStatus.COMPLETED}, self.diagnosis()
        wrong = {
            job.id: (self.durable.get(job.id).output, job.expected)
            for job in self.jobs.values()
            if self.durable.get(job.id).output != job.expected
        }
        assert not wrong, f"results and what they must be: {wrong}"
        histories = {run.id: run.history() for run in runs}
        executions = {run.id: run._known.execution for run in runs}
        starts = self.starts()
        self._assert_nothing_ran_late(histories, executions, starts)
        wait_until(
            lambda: (
                not self.count(
                    "SELECT (SELECT COUNT(*) FROM durable_inbox) + (SELECT COUNT(*) FROM"
                    " durable_outbox)"
                )
            ),
            rows_within,
            f"the end of all rows in inbox and outbox:\n{self.leftovers()}",
        )
        self._assert_workers_are_alive()
        self._measure(runs, histories, executions, starts)
        return self.figures

    def _assert_nothing_ran_late(
        self, histories: Any, executions: Any, starts: Sequence[Start]
    ) -> None:
        recorded = {
            ActivityAttemptId(executions[id_], event.command, event.attempt): event.at / 1_000_000
            for id_, events in histories.items()
            for event in events
            if event.kind in ("ActivityCompleted", "ActivityFailed")
        }
        assert recorded, "history has no outcome of any activity: nothing was checked"
        late = [
            (start, start.at - recorded[start.ticket])
            for start in starts
            if start.at > recorded.get(start.ticket, float("inf")) + GRACE
        ]
        assert not late, f"ran after the outcome was recorded: {late}"
        if not self.happened:  # a process that was killed may leave an outcome, and no line
            assert not set(recorded) - {start.ticket for start in starts}, (
                "outcomes of what never ran"
            )

    def _assert_workers_are_alive(self) -> None:
        """Recovery goes on in each of them, whatever it met: it says so in the store."""
        lease = int(self.config["conf"].get("durable_worker_lease", 10) * 1_000_000)
        database = self.durable.runtime.store.database
        fresh = Statement(
            f"SELECT hostname FROM durable_workers WHERE last_seen > {{now}} - {lease}"
        )

        def are_alive() -> bool:
            self.supervise()
            seen = {
                row[0]
                for row in database.read(lambda cursor: database.run(cursor, fresh).fetchall())
            }
            return {
                slot.process.name for slot in self.running() if slot.process is not None
            } <= seen

        wait_until(
            are_alive, 60, lambda: f"a sign of life of every worker in the store\n{self.logs()}"
        )

    def _measure(self, runs: Any, histories: Any, executions: Any, starts: Sequence[Start]) -> None:
        figures = self.figures
        figures.seconds = true_time() - self.made
        figures.orchestrations, figures.activities = (
            len(runs),
            len({start.task_id for start in starts}),
        )
        figures.doubles = len(starts) - figures.activities
        figures.faults = Counter(fault.kind for fault in self.happened)
        figures.exits = figures.restarts
        moves: dict[str, list[float]] = {run.id: [] for run in runs}
        for start in starts:
            moves.setdefault(start.instance, []).append(start.at)
        ends: dict[ActivityAttemptId, float] = {}
        for id_, events in histories.items():
            for event in events:
                moves[id_].append(event.at / 1_000_000)
                if event.kind in ("ActivityCompleted", "ActivityFailed"):
                    ends[ActivityAttemptId(executions[id_], event.command, event.attempt)] = (
                        event.at / 1_000_000
                    )
        completed = {run.id: run.completed_at.timestamp() for run in runs}
        for fault in self.happened:
            if fault.pids is None:
                found = [
                    min(at for at in [*times, completed[id_]] if at > fault.at) - fault.at
                    for id_, times in moves.items()
                    if min(times) < fault.at < completed[id_]
                ]
            else:
                found = [
                    self._again(start, starts, fault.at) for start in self._hit(fault, starts, ends)
                ]
            figures.recoveries.setdefault(fault.kind, []).extend(found)

    def _hit(
        self, fault: Happened, starts: Sequence[Start], ends: dict[ActivityAttemptId, float]
    ) -> list[Start]:
        """The activities whose body ran in a process that was killed, and had to run again."""
        last = {(start.pid, start.task_id): start for start in starts if start.at < fault.at}
        return [
            start
            for start in last.values()
            if start.pid in (fault.pids or ())
            and self._again(start, starts, fault.at)
            and not start.at < ends.get(start.ticket, 0) < fault.at
        ]

    @staticmethod
    def _again(hit: Start, starts: Sequence[Start], at: float) -> float:
        """After how long the activity ran again, in whichever attempt; 0 if it did not."""
        same = hit.ticket[:2]
        return min(
            (start.at - at for start in starts if start.at > at and start.ticket[:2] == same),
            default=0.0,
        )

    def leftovers(self) -> str:
        rows = []
        for table in ("durable_inbox", "durable_outbox"):
            database = self.durable.runtime.store.database
            rows += [
                f"{table}: {row}"
                for row in database.read(
                    lambda cursor, table=table: database.run(
                        cursor, Statement(f"SELECT * FROM {table}")
                    ).fetchall()
                )
            ]
        return "\n".join(map(str, rows))

    def _fail(self, seconds: float) -> NoReturn:
        pytest.fail(
            f"{self.figures.name}: not everything was over after {seconds:.0f}"
            f" s\n{self.diagnosis()}"
        )

    def diagnosis(self) -> str:
        """All that may tell why something is not over."""
        parts = [str([(fault.kind, round(fault.at - self.made, 2)) for fault in self.happened])]
        try:
            parts.append(f"now {true_time():.3f}")
            for run in self.all_runs():
                if run.refresh().runtime_status is not RuntimeStatus.COMPLETED:
                    parts.append(f"{run.id} is {run.runtime_status} ({run.reason}) {run.failure!r}")
                    parts += [f"    {event}" for event in run.history()[-12:]]
            parts.append(self.leftovers())
        except DurableError as error:
            parts.append(f"the store does not answer: {error}")
        return "\n".join([*parts, self.logs()])

    def logs(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(
            f"--- {slot.name}, life {slot.lives}, running:"
            f" {slot.process.is_running}\n{slot.process.text()[-5000:]}"
            for slot in self.slots.values()
            if slot.process is not None
        )

    def messages(self) -> float:
        """How many messages of activities the workers received, for each activity."""
        texts = [path.read_text(errors="replace") for path in self.directory.glob("worker-*.log")]
        received = [
            id_ for text in texts for id_ in re.findall(r"\[(d-[0-9a-z-]+)\] received", text)
        ]
        assert received
        return len(received) / len(set(received))

    def release(self, key: str) -> None:
        (self.directory / "markers" / key).touch()

    def close(self) -> None:
        for slot in self.slots.values():
            slot.is_wanted = False
            if slot.process is not None:
                try:
                    slot.process.thaw()
                except (ProcessLookupError, psutil.Error):
                    pass
                slot.process.kill()
        self.keys.close()
        self.durable.runtime.store.database.dispose()
        self.app.close()
