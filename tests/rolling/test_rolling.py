"""Workers of an older release beside those of this one: each goes on with what the other began.

As ``docs/howto/deployment.md`` has it: the tables are migrated first, by the new release, while the
old one works; then both work side by side; then one of them leaves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import ROOT, WorkerProcess
from tests.servers import own_keys

from .releases import last_with_head, supported, unpack

HERE = Path(__file__).resolve().parent
PATIENCE = 90
OLDEST, *_, NEWEST = supported()
#: The database, the revision of the older release, which one leaves, how many executions are cached.
IN_FULL = [("postgres", OLDEST, "old", 500), ("sqlite", NEWEST, "new", 0)]
CASES = [
    *IN_FULL,
    *(
        case
        for revision in supported()
        for leaver in ("old", "new")
        for case in [
            ("postgres", revision, leaver, 500 if leaver == "old" else 0),
            ("sqlite", revision, leaver, 0 if leaver == "old" else 500),
        ]
        if case not in IN_FULL
    ),
]


class Deployment:
    """One store and one broker, and the workers and clients of two releases."""

    def __init__(self, folder: Path, store: str, broker: str, old: Path, cache: int) -> None:
        self.folder, self.queue = folder, f"rolling-{os.urandom(5).hex()}"
        self.paths = {"old": [str(old)], "new": [str(ROOT)]}
        self.workers: dict[str, WorkerProcess] = {}
        self._environment = {
            "ROLLING_BROKER": broker,
            "ROLLING_STORE": store,
            "ROLLING_QUEUE": self.queue,
            "ROLLING_FOLDER": str(folder),
            "ROLLING_CACHE": str(cache),
        }

    def environment(self, release: str) -> dict[str, str]:
        return {**self._environment, "ROLLING_RELEASE": release}

    def worker(self, release: str) -> None:
        """Start a worker of a release."""
        worker = WorkerProcess(
            self.environment(release),
            self.folder / f"{release}.log",
            app="rollingapp",
            paths=[*self.paths[release], str(HERE)],
            queues=[self.queue, f"{self.queue}.turns"],
        )
        self.workers[release] = worker
        worker.wait_ready()

    def client(self, release: str, *arguments: str) -> Any:
        """Run the application as a client of a release, and return what it prints."""
        done = subprocess.run(
            [sys.executable, str(HERE / "rollingapp.py"), *arguments],
            env={
                **os.environ,
                **self.environment(release),
                "PYTHONPATH": os.pathsep.join(self.paths[release]),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{release}: {arguments}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout or "null")

    def notes(self) -> list[list[Any]]:
        path = self.folder / "runs"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{w.text()[-6000:]}" for name, w in self.workers.items())

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()


@pytest.fixture
def deploy(
    tmp_path: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Deployment]]:
    """Make a deployment for one test, and clear it away after it."""
    made: list[Deployment] = []

    def make(store: str, revision: str, cache: int) -> Deployment:
        old = unpack(last_with_head(revision), tmp_path / "old")
        made.append(Deployment(tmp_path, store, redis_url, old, cache))
        return made[-1]

    yield make
    for each in made:
        each.close()
        with own_keys(redis_url, each.queue):
            pass


def roll(deployment: Deployment, leaver: str) -> None:
    """Let one release take over from the other, or be taken back."""
    stays = "new" if leaver == "old" else "old"
    run = deployment.client
    run("old", "migrate")
    deployment.worker("old")
    run("old", "start", "k1")
    run("new", "migrate")
    run("old", "start", "k2")
    deployment.worker("new")
    run("new", "start", "k3")
    keys = ("k1", "k2", "k3")
    run("old", "gate", "first", "k1", "k3")
    run("new", "gate", "first", "k2")
    run("new", "settle", *keys)
    run("old", "steer", "k1")
    run("new", "steer", "k2", "k3")
    deployment.workers[leaver].stop()
    run(stays, "gate", "second", *keys)
    found = run(stays, "results", *keys)
    expected = run("new", "expected")
    notes = deployment.notes()
    assert found == {f"{name}-{key}": each for key in keys for name, each in expected.items()}, (
        deployment.logs()
    )
    assert {release for release, what, *_ in notes if what == "add"} == {"new", "old"}
    turns = [took for _, what, *took in notes if what == "turns"]
    assert any(len(set(took)) == 2 for took in turns), "no release took over from the other"


@pytest.mark.parametrize(
    ("store", "revision", "leaver", "cache"),
    [
        pytest.param(*case, marks=pytest.mark.full if case in IN_FULL else pytest.mark.long)
        for case in CASES
    ],
)
def test_releases_work_side_by_side(
    deploy: Callable[..., Deployment],
    request: pytest.FixtureRequest,
    store: str,
    revision: str,
    leaver: str,
    cache: int,
) -> None:
    roll(deploy(request.getfixturevalue(f"{store}_url"), revision, cache), leaver)
