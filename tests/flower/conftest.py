"""A stage for Flower's tests: one application with a worker and a broker of its own, and a look at
its event stream.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from celery.events.receiver import EventReceiver
from celery.events.state import State

from tests.conftest import wait_until
from tests.nodes import ROOT, WorkerProcess, free_port, load_application
from tests.preloaded import shared
from tests.servers import own_keys

HERE = Path(__file__).parent


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Stage:
    """The application in this process, and what runs beside it."""

    environment: dict[str, str]
    directory: Path
    module: Any
    workers: list[WorkerProcess] = field(default_factory=list)

    def worker(self, *options: str, **more: Any) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        log = self.directory / f"worker-{len(self.workers)}.log"
        queues = (self.environment["FLOWERAPP_QUEUE"],)
        worker = WorkerProcess(
            self.environment,
            log,
            app="flowerapp",
            queues=queues,
            options=options,
            paths=[str(HERE)],
            **more,
        )
        self.workers.append(worker)
        return worker.wait_ready(300)

    @property
    def durable(self) -> Any:
        return self.module.durable

    def waiting(self, run: Any) -> Any:
        """Wait until an ``order`` waits for its event, which nothing else than time tells in its
        history.
        """
        children = lambda: [child.runtime_status for child in run.children()]  # noqa: E731
        wait_until(lambda: children() == ["COMPLETED"], what=f"{run.id} to have its part")
        return run


@pytest.fixture(scope="module")
def new_stage(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Stage]]:
    """Make stages, each with a broker's prefix, queue and store of its own."""
    made: list[Stage] = []

    def make(broker: str = redis_url, **conf: Any) -> Stage:
        directory = tmp_path_factory.mktemp("flower")
        name = f"durable-{uuid.uuid4().hex[:10]}"
        environment = {
            "FLOWERAPP_BROKER": broker,
            "FLOWERAPP_BACKEND": redis_url,
            "FLOWERAPP_QUEUE": name,
            "FLOWERAPP_STORE": f"sqlite:///{directory / 'store.db'}",
            "FLOWERAPP_OPTIONS": json.dumps(
                {"global_keyprefix": f"{name}:"} if broker == redis_url else {}
            ),
            "FLOWERAPP_CONF": json.dumps(conf),
        }
        ledger.enter_context(own_keys(redis_url, name))
        stage = Stage(environment, directory, load_application(HERE / "flowerapp.py", environment))
        made.append(stage)
        return stage

    with ExitStack() as ledger:
        yield make
        _clear(made)


def _clear(made: list[Stage]) -> None:
    for stage in made:
        for worker in stage.workers:
            worker.kill()
        stage.durable.runtime.store.database.dispose()
        stage.module.app.close()


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage]) -> Stage:
    """The stage of a module, with a worker that sends events."""
    stage = new_stage()
    stage.worker("-E")
    return stage


class Watch:
    """What a monitor makes of the event stream of an app: Celery's own receiver and state."""

    def __init__(self, app: Any) -> None:
        self.state = State()
        self.events: list[dict[str, Any]] = []
        self._app = app
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_until(self._is_heard, 300, "the event stream")

    def _is_heard(self) -> bool:
        """Send an event of our own: a receiver on Redis subscribes with its first look only."""
        with self._app.events.default_dispatcher() as dispatcher:
            dispatcher.send("watch-begins")
        return self._ready.wait(0.2)

    def _run(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = EventReceiver(connection, handlers={"*": self._note}, app=self._app)
            with receiver.consumer_context() as (own, _, _):
                while not self._stop.is_set():
                    try:
                        own.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"] == "watch-begins":
            self._ready.set()
            return
        self.events.append(dict(event))
        self.state.event(event)

    def task(self, uuid_: str) -> Any:
        return self.state.tasks.get(uuid_)

    def types(self, uuid_: str) -> list[str]:
        """The types of the events of a task, as they came."""
        return [event["type"] for event in list(self.events) if event.get("uuid") == uuid_]

    def until(self, uuid_: str, state: str) -> Any:
        """Wait until a task is in a state."""
        wait_until(
            lambda: getattr(self.task(uuid_), "state", None) == state,
            what=f"{uuid_} to be {state}: {self.types(uuid_)}",
        )
        return self.task(uuid_)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(300)


@pytest.fixture
def watch_of() -> Iterator[Callable[[Any], Watch]]:
    """Watch the event stream of an app."""
    watches: list[Watch] = []

    def make(app: Any) -> Watch:
        watches.append(Watch(app))
        return watches[-1]

    yield make
    for watch in watches:
        watch.close()


@dataclass
class Answer:
    """An answer of Flower's."""

    status: int
    text: str
    headers: dict[str, str]


class FlowerProcess:
    """``celery -A flowerapp flower`` on a free port."""

    def __init__(
        self, stage: Stage, *options: str, environment: dict[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.log = stage.directory / f"flower-{self.port}.log"
        paths = os.pathsep.join([str(HERE), str(ROOT)])
        with self.log.open("ab") as output:
            self.process = shared().start(
                [
                    "-m",
                    "celery",
                    "-A",
                    "flowerapp",
                    "flower",
                    f"--port={self.port}",
                    "--address=127.0.0.1",
                    *options,
                ],
                {**os.environ, **stage.environment, "PYTHONPATH": paths, **(environment or {})},
                stage.directory,
                output,
                output,
            )

    def wait_ready(self, path: str = "/healthcheck") -> FlowerProcess:
        """Wait until it serves."""
        wait_until(
            lambda: self.process.poll() is not None or self._serves(path), 300, "Flower to serve"
        )
        assert self.process.poll() is None, self.log.read_text()
        return self

    def _serves(self, path: str) -> bool:
        try:
            return self.get(path).status == 200
        except OSError:
            return False

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(
        self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None
    ) -> Answer:
        given = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.ask("POST", path, urlencode(fields), given)

    def ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str] | None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        finally:
            connection.close()

    def close(self) -> None:
        self.process.kill()


@pytest.fixture
def new_flower() -> Iterator[Callable[..., FlowerProcess]]:
    """Start Flowers, and end them with the test."""
    made: list[FlowerProcess] = []

    def make(stage: Stage, *options: str, **more: Any) -> FlowerProcess:
        made.append(FlowerProcess(stage, *options, **more))
        return made[-1]

    yield make
    for flower in made:
        flower.close()
