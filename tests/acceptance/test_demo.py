"""The demo, as a user meets it: a subprocess, its output and its exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import wait_until
from tests.nodes import interrupted

ROOT = Path(__file__).resolve().parents[2]


def command(*options):
    return [sys.executable, "-m", "celery_durable", "demo", *options]


def environment(tmp_path):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path)}


def run_demo(tmp_path, *options):
    return subprocess.run(
        command(*options), capture_output=True, text=True, timeout=120, env=environment(tmp_path), cwd=tmp_path
    )


def check_output(done):
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    checks = [line for line in lines if line.startswith(("ok ", "FAILED"))]
    assert len(checks) == 9
    assert all(line.startswith("ok ") for line in checks)
    assert any("kill -9" in line for line in lines)
    (killed,) = [line for line in lines if "twice" in line and line.startswith("charge 1240")]
    assert killed.split() == ["charge", "1240", "3", "twice", "completed"]
    assert "ExecutionCompleted" in done.stdout
    assert "order-2 is FAILED: OrderDeclined: bob said no" in done.stdout
    assert "Everything was as it should be" in lines[-1]


def workers_of(tmp_path):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes()
        except OSError:
            continue
        if b"CELERY_DURABLE_DEMO=" in words and str(tmp_path).encode() in words:
            found.append(process.name)
    return found


def test_it_needs_no_server(tmp_path):
    done = run_demo(tmp_path)
    check_output(done)
    assert list(tmp_path.iterdir()) == [], "it cleans up"
    assert not workers_of(tmp_path)


def test_on_redis_and_postgresql_it_has_a_place_of_its_own(tmp_path, redis_url, postgres_url):
    import redis

    check_output(run_demo(tmp_path, "--broker", redis_url, "--store", postgres_url, "--backend", redis_url))
    client = redis.Redis.from_url(redis_url)
    assert not list(client.scan_iter("*celery_durable_demo_*"))
    assert not client.exists("celery-task-meta-order-1", "celery-task-meta-order-2")
    client.close()
    engine = sa.create_engine(postgres_url)
    assert sa.inspect(engine).get_schema_names() == ["information_schema", "public"]
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path, number):
    code, output = interrupted(command(), "order-1 is started", number, 30, env=environment(tmp_path), cwd=tmp_path)
    assert code == 130, output
    assert "Interrupted" in output
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not workers_of(tmp_path), 10, "the end of the workers")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--broker", "nonsense://"], "No such transport"),
        (["--broker", "redis://127.0.0.1:1/0"], "the broker cannot be reached"),
        (["--store", "oracle://"], "SQLite, PostgreSQL and MySQL/MariaDB are supported"),
        (["--store", f"sqlite:///{__file__}"], "exists already"),
    ],
)
def test_it_says_in_words_what_is_wrong(tmp_path, options, complaint):
    done = run_demo(tmp_path, *options)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
