"""The stage of an integration test: one application, its servers, its workers, and the log of what
ran.
"""

from __future__ import annotations

import importlib
import json
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.core.history import EventKind
from tests.conftest import MARIADB, POSTGRES, own_database, wait_until
from tests.leftovers import delete_keys
from tests.nodes import APPLICATIONS, WorkerProcess, load_application
from tests.servers import own_keys

if str(APPLICATIONS) not in sys.path:
    sys.path.insert(0, str(APPLICATIONS))


@dataclass(frozen=True)
class Run:
    """One line of the run log."""

    at: float
    what: str
    facts: list[Any]
    key: str | None
    place: int


def load_testapp(environment: dict[str, str]) -> ModuleType:
    """Import the test application anew, configured by an environment.

    The last one is ``sys.modules['testapp']``.
    """
    importlib.import_module("reusable")
    return load_application(APPLICATIONS / "testapp.py", environment)


@dataclass
class Stage:
    """One test application, in this process as a client and in workers."""

    environment: dict[str, str]
    directory: Path
    testapp: ModuleType
    workers: list[WorkerProcess] = field(default_factory=list)
    keys: ExitStack = field(default_factory=ExitStack)

    @property
    def app(self) -> Any:
        return self.testapp.app

    @property
    def durable(self) -> Any:
        return self.testapp.durable

    @property
    def queue(self) -> str:
        return self.environment["TESTAPP_QUEUE"]

    def worker(
        self,
        *,
        queues: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        worker = WorkerProcess(
            {**self.environment, **(environment or {})},
            self.directory / f"worker-{len(self.workers)}.log",
            queues=queues or (self.queue, f"{self.queue}-other"),
            **options,
        )
        self.workers.append(worker)
        return worker.wait_ready()

    def start(self, signature: Any, **options: Any) -> Any:
        return self.durable.start(signature, **options)

    def outcome(self, signature: Any, timeout: float = 300, **options: Any) -> Any:
        """Start an orchestration and return what came of it."""
        return self.finish(self.start(signature, **options), timeout)

    def finish(self, run: Any, timeout: float = 300) -> Any:
        """Wait for the end; if it does not come, fail with all that is known of it."""
        try:
            return run.get(timeout=timeout)
        except TimeoutError:
            if run.refresh().runtime_status.is_terminal:
                raise
            events = "\n".join(str(event) for event in run.history())
            pytest.fail(
                f"{run.id} is {run.runtime_status} ({run.reason}) after {timeout}"
                f" s\n{events}\n{self.state()}"
            )

    def release(self, key: str) -> None:
        """Set the marker that an activity or a turn waits for."""
        (Path(self.environment["TESTAPP_MARKERS"]) / key).touch()

    def runs(self, what: str, *facts: Any) -> list[Run]:
        """The runs of an activity with these first arguments."""
        path = Path(self.environment["TESTAPP_RUNS"])
        lines = path.read_text().splitlines() if path.exists() else []
        runs = [Run(*json.loads(line)) for line in lines]
        return [run for run in runs if run.what == what and run.facts[: len(facts)] == list(facts)]

    def wait_for_run(self, what: str, *facts: Any, count: int = 1, timeout: float = 300) -> None:
        wait_until(
            lambda: len(self.runs(what, *facts)) >= count,
            timeout,
            lambda: f"{count} runs of {what}{facts}\n{self.state()}",
        )

    def assert_nothing_ran_after_its_completion(self, instance_id: str) -> None:
        """No activity began after its outcome was recorded.

        A store's clock is read a moment before its answer is.
        """
        run = self.durable.get(instance_id)
        completed = {
            f"{run._known.execution}-{event.command}": event.at / 1_000_000
            for event in run.history()
            if event.kind is EventKind.ACTIVITY_COMPLETED
        }
        assert completed
        path = Path(self.environment["TESTAPP_RUNS"])
        for line in map(json.loads, path.read_text().splitlines()):
            began = Run(*line)
            if began.key in completed:
                assert began.at <= completed[began.key] + 1.0, (
                    f"{began} began after it was completed"
                )

    def counts(self) -> Counter[str]:
        path = Path(self.environment["TESTAPP_RUNS"])
        return (
            Counter(json.loads(line)[1] for line in path.read_text().splitlines())
            if path.exists()
            else Counter()
        )

    def logs(self) -> str:
        """The ends of the workers' logs, for a failure."""
        return "\n".join(
            f"--- {worker.log.name}\n{worker.text()[-12000:]}" for worker in self.workers
        )

    def state(self) -> str:
        """Where each process stands, what the store's server does, and the workers' logs: for a
        failure that comes once in a thousand runs.
        """
        for worker in self.workers:
            worker.write_stacks()
        return f"{self._sessions()}\n{self.logs()}"

    def _sessions(self) -> str:
        if not self.environment["TESTAPP_STORE"].startswith("postgresql"):
            return ""
        columns = "pid, state, wait_event, pg_blocking_pids(pid) AS blocked_by, query"
        query = f"SELECT {columns} FROM pg_stat_activity WHERE datname = current_database()"
        engine = sa.create_engine(self.environment["TESTAPP_STORE"], poolclass=sa.NullPool)
        with engine.connect() as connection:
            return "\n".join(str(row) for row in connection.exec_driver_sql(query))

    def wipe_broker(self) -> None:
        """Throw away every message of this stage, also those that a dead worker had taken."""
        broker = self.environment["TESTAPP_BROKER"]
        if broker.startswith("redis"):
            delete_keys(broker, self.queue)
            return
        with self.app.connection_for_write() as connection:
            for name in (self.queue, f"{self.queue}-other"):
                with suppress(Exception), connection.channel() as channel:
                    channel.queue_purge(name)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.keys.close()
        self.app.close()


def make_stage(
    directory: Path,
    broker: str,
    store: str,
    backend: str | None = None,
    *,
    migrates: bool = True,
    **environment: str,
) -> Stage:
    """Make a stage with a key prefix and queue names of its own, and the tables of the store."""
    directory.mkdir(exist_ok=True)
    (directory / "markers").mkdir()
    name = f"durable-{uuid.uuid4().hex[:10]}"
    prefix = json.dumps({"global_keyprefix": f"{name}:"})
    given = {
        "TESTAPP_BROKER": broker,
        "TESTAPP_BACKEND": backend or "",
        "TESTAPP_BROKER_OPTIONS": prefix if broker.startswith("redis") else "{}",
        "TESTAPP_BACKEND_OPTIONS": prefix if (backend or "").startswith("redis") else "{}",
        "TESTAPP_STORE": store,
        "TESTAPP_QUEUE": name,
        "TESTAPP_RUNS": str(directory / "runs.jsonl"),
        "TESTAPP_MARKERS": str(directory / "markers"),
        **environment,
    }
    stage = Stage(given, directory, load_testapp(given))
    for url in {broker, backend or ""}:
        if url.startswith("redis"):
            stage.keys.enter_context(own_keys(url, name))
    if migrates and not store.startswith("sqlite"):
        stage.durable.migrate()
    return stage


@pytest.fixture(scope="module")
def module_postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database of this module's own."""
    with own_database(POSTGRES) as url:
        yield url


@pytest.fixture(scope="module")
def module_mariadb_url() -> Iterator[str]:
    """An empty MariaDB database of this module's own."""
    with own_database(MARIADB) as url:
        yield url


@pytest.fixture
def new_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Make stages for one test, and clear them away after it."""
    stages: list[Stage] = []

    def make(broker: str, store: str, backend: str | None = None, **options: Any) -> Stage:
        number = len(list(tmp_path.glob("stage-*")))
        stage = make_stage(tmp_path / f"stage-{number}", broker, store, backend, **options)
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture(scope="module")
def stage(
    redis_url: str, module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """The stage of a whole module: Redis, PostgreSQL, and one prefork worker."""
    stage = make_stage(
        tmp_path_factory.mktemp("stage") / "s", redis_url, module_postgres_url, redis_url
    )
    stage.worker(concurrency=4)
    yield stage
    stage.close()
