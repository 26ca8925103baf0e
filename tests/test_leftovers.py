"""A run that is interrupted, killed, or fails leaves nothing behind: no process, server, database,
queue, key or folder.

In the full tier a run is killed with all of these at once, and one fails; the long tier ends it by
other signals, and in one process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import MARIADB, POSTGRES, REDIS, wait_until
from tests.forgetful import NOTES
from tests.leftovers import MARK, processes
from tests.nodes import ROOT, heed_interrupts, is_listening


@contextmanager
def run(
    test: str, notes: Path, *options: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a forgetful test in a run of its own; give the run, and what the test has made."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != MARK and not name.startswith("PYTEST_")
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"tests/forgetful.py::{test}",
        *options,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, NOTES: str(notes), "DURABLE_TEST_TIER": "full", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        wait_until(
            lambda: list(notes.glob("*.json")) or process.poll() is not None,
            what="what the test makes",
        )
        assert list(notes.glob("*.json")), process.communicate()[0]
        yield process, json.loads(next(notes.glob("*.json")).read_text())
    finally:
        process.kill()
        process.communicate()


def is_tidy(made: dict[str, Any]) -> bool:
    return not Path(made["ledger"]).exists() and not processes(made["ledger"])


def test_a_failure_takes_its_processes_along_and_the_run_says_what_was_left(tmp_path: Path) -> None:
    with run("test_with_a_process", tmp_path, DURABLE_FORGETFUL_FAILS="1") as (process, made):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "left behind" in output and "sleep 600" in output, output
        wait_until(lambda: is_tidy(made), what=f"the end of {made}")


@pytest.mark.parametrize(
    ("number", "options"),
    [
        pytest.param(signal.SIGKILL, ("-n", "2"), id="SIGKILL, several processes"),
        pytest.param(signal.SIGINT, (), id="SIGINT, one process", marks=pytest.mark.long),
        pytest.param(
            signal.SIGINT, ("-n", "2"), id="SIGINT, several processes", marks=pytest.mark.long
        ),
        pytest.param(signal.SIGKILL, (), id="SIGKILL, one process", marks=pytest.mark.long),
        pytest.param(
            signal.SIGTERM, ("-n", "2"), id="SIGTERM, several processes", marks=pytest.mark.long
        ),
    ],
)
def test_its_workers_servers_databases_and_keys_are_gone(
    number: signal.Signals,
    options: tuple[str, ...],
    tmp_path: Path,
    redis_url: str,
    rabbitmq_url: str,
    postgres_url: str,
    mariadb_url: str,
) -> None:
    with run("test_with_everything", tmp_path, *options) as (process, made):
        assert set(made["processes"]) <= set(processes(made["ledger"])), (
            "the mark is on all that it has started"
        )
        assert databases(POSTGRES) | databases(MARIADB) >= {
            sa.make_url(url).database for url in made["databases"]
        }
        assert keys(made["keys"]) and all(map(is_listening, made["ports"]))
        process.send_signal(number)
        wait_until(lambda: is_tidy(made), what=f"the end of {made}")
    assert not (databases(POSTGRES) | databases(MARIADB)) & {
        sa.make_url(url).database for url in made["databases"]
    }
    assert not keys(made["keys"])
    wait_until(lambda: not any(map(is_listening, made["ports"])), what="the end of what was killed")
    assert not [folder for folder in made["folders"] if Path(folder).exists()]
    listed = subprocess.run(
        ["rabbitmqctl", "-q", "list_vhosts"], capture_output=True, text=True, check=True
    )
    assert made["vhost"] not in listed.stdout.split()


def databases(url: str) -> set[str]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        asked = (
            "SELECT datname FROM pg_database" if url.startswith("postgresql") else "SHOW DATABASES"
        )
        found = {row[0] for row in connection.exec_driver_sql(asked)}
    engine.dispose()
    return found


def keys(name: str) -> list[Any]:
    import redis

    with redis.Redis.from_url(REDIS) as client:
        return list(client.scan_iter(f"*{name}*", count=1000))
