"""Tests that make something of each kind and are never over.

``test_leftovers`` runs them, and ends them in every way.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.integration.conftest import make_stage
from tests.leftovers import MARK
from tests.nodes import OwnPostgres, OwnRabbit, OwnRedis

NOTES = "DURABLE_FORGETFUL_NOTES"


def never_ends(**made: Any) -> None:
    """Say what was made, and wait; a test that is to fail fails now."""
    path = Path(os.environ[NOTES], f"{os.getpid()}.json")
    path.with_suffix(".new").write_text(json.dumps({"ledger": os.environ[MARK], **made}))
    path.with_suffix(".new").rename(path)
    assert os.environ.get("DURABLE_FORGETFUL_FAILS") != "1", "as it was asked to"
    threading.Event().wait(240)


def test_with_a_process() -> None:
    """A process that nobody knows of."""
    never_ends(processes=[forgotten_process()])


def test_with_everything(
    tmp_path: Path,
    sqlite_url: str,
    redis_url: str,
    rabbitmq_url: str,
    postgres_url: str,
    mariadb_url: str,
) -> None:
    """A prefork worker, one of threads, and a process that nobody knows of; servers of its own, and
    a part of each of the shared ones.
    """
    own: list[Any] = [OwnRedis(tmp_path), OwnPostgres(), OwnRabbit()]
    for server in own:
        server.start()
    working = make_stage(tmp_path / "working", "durable://", sqlite_url)
    working.start(working.testapp.pipeline.s("middle"))
    worker = working.worker()
    working.worker(pool="threads")
    working.wait_for_run("hold", "middle")
    stage = make_stage(tmp_path / "stage", redis_url, postgres_url, redis_url)
    stage.start(stage.testapp.triple.s(1))
    other = make_stage(tmp_path / "other", rabbitmq_url, mariadb_url)
    other.start(other.testapp.triple.s(1))
    never_ends(
        processes=[worker.process.pid, *worker.children(), forgotten_process()],
        folders=[str(server.directory) for server in own[1:]],
        databases=[postgres_url, mariadb_url],
        vhost=rabbitmq_url.rpartition("/")[2],
        keys=stage.queue,
        ports=[server.port for server in own],
    )


def forgotten_process() -> int:
    """Start a process of which nobody keeps anything."""
    forgotten = subprocess.Popen(["sleep", "600"], start_new_session=True)
    forgotten.returncode = 0  # Python, too, shall not ask after it
    return forgotten.pid
