"""The demo, as a user meets it: a process, its output and its exit code."""

import signal
import sys

import pytest
import sqlalchemy as sa

from tests.conftest import wait_until
from tests.nodes import interrupted

DEMO = ["-m", "celery_durable", "demo"]


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


def test_it_needs_no_server(place):
    done = place.python(*DEMO)
    check_output(done)
    assert list(place.directory.iterdir()) == [], "it cleans up"
    assert not place.processes()


@pytest.mark.long
def test_on_redis_and_postgresql_it_has_a_place_of_its_own(place, redis_url, postgres_url):
    import redis

    check_output(
        place.python(*DEMO, "--broker", redis_url, "--store", postgres_url, "--backend", redis_url)
    )
    client = redis.Redis.from_url(redis_url)
    assert not list(client.scan_iter("*celery_durable_demo_*"))
    assert not client.exists("celery-task-meta-order-1", "celery-task-meta-order-2")
    client.close()
    engine = sa.create_engine(postgres_url)
    assert sa.inspect(engine).get_schema_names() == ["information_schema", "public"]
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_an_interrupt_leaves_nothing_behind(place, number):
    command, options = [sys.executable, *DEMO], {"env": place.environment, "cwd": place.directory}
    code, output = interrupted(command, "order-1 is started", number, 300, **options)
    assert code == 130, output
    assert "Interrupted" in output
    assert list(place.directory.iterdir()) == []
    wait_until(lambda: not place.processes(), 300, "the end of the workers")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--broker", "nonsense://"], "No such transport"),
        (["--broker", "redis://127.0.0.1:1/0"], "the broker cannot be reached"),
        (["--store", "oracle://"], "SQLite, PostgreSQL and MySQL/MariaDB are supported"),
        (["--store", f"sqlite:///{__file__}"], "exists already"),
    ],
    ids=["transport", "broker", "store", "file"],
)
def test_it_says_in_words_what_is_wrong(place, options, complaint):
    done = place.python(*DEMO, *options)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
