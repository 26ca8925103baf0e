"""The example project: its own tests, its demo, and what a newcomer types."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.nodes import interrupted

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "example_project"
IS_LONG = os.environ.get("DURABLE_TEST_LONG") == "1"


def environment(tmp_path, **variables):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SHOP_", "CELERY_", "DJANGO_", "PYTEST_"))
    }
    chosen = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path), "SHOP_DIRECTORY": str(tmp_path / "data")}
    return {**others, **chosen, **variables}


def python(tmp_path, *arguments, timeout=300, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT, env=environment(tmp_path, **variables), capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def manage(tmp_path, *arguments, **variables):
    return python(tmp_path, "manage.py", *arguments, **variables)


def test_its_own_tests_pass(tmp_path):
    options = ["-q", "-p", "no:cacheprovider", "-p", "pytest_django.plugin"]
    done = python(tmp_path, "-m", "pytest", *options, timeout=540, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    assert counts["passed"] > 60
    assert not {"failed", "errors", "skipped", "xfailed"} & set(counts)


def check_demo(done):
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    checks = [line for line in lines if line.startswith(("ok ", "FAILED"))]
    assert len(checks) == 7
    assert all(line.startswith("ok ") for line in checks)
    assert any("kill -9" in line for line in lines)
    assert sum(line.startswith("order-") for line in lines) == 20
    assert "Everything was as it should be" in lines[-1]


def processes_of(tmp_path):
    """Return the processes that were started with this test's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in words and int(process.name) != os.getpid():
            found.append(process.name)
    return found


def test_the_demo_needs_no_server(tmp_path):
    done = manage(tmp_path, "demo")
    check_demo(done)
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == [], "it cleans up"
    assert not processes_of(tmp_path)


def test_the_demo_runs_on_postgresql_and_redis(tmp_path, postgres_url, redis_url):
    queue = f"shop-{tmp_path.name}"
    done = manage(
        tmp_path, "demo", "--configured",
        SHOP_DATABASE=postgres_url, SHOP_BROKER=redis_url, SHOP_QUEUE=queue, SHOP_KEY_PREFIX=f"{queue}:",
    )  # fmt: skip
    forget(redis_url, queue)
    check_demo(done)


def forget(url, prefix):
    import redis

    client = redis.Redis.from_url(url)
    for key in list(client.scan_iter(f"*{prefix}*")):
        client.delete(key)
    client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, *([signal.SIGTERM] if IS_LONG else [])])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path, number):
    command = [sys.executable, "manage.py", "demo"]
    code, output = interrupted(command, "worker 1 is started", number, 60, cwd=PROJECT, env=environment(tmp_path))
    assert code == 130, output
    wait_until(lambda: not processes_of(tmp_path), 20, "the end of what it started")
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []


def test_the_settings_are_checked(tmp_path):
    assert (
        "SHOP_DATABASE is a URL of PostgreSQL"
        in manage(tmp_path, "check", SHOP_DATABASE="mysql://localhost/shop").stderr
    )
    assert "SECRET_KEY" in manage(tmp_path, "check", SHOP_DEBUG="0").stderr
    done = manage(tmp_path, "makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr


def test_seeding_twice_changes_nothing(tmp_path):
    assert manage(tmp_path, "migrate", "-v", "0").returncode == 0
    first, second = (manage(tmp_path, "seed", "--customers", "3").stdout for _ in range(2))
    assert first == second
    assert "5 customers" in first
    assert manage(tmp_path, "seed", "--customers", "-1").returncode == 1
