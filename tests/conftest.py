"""Servers for the tests: found by environment variable or on their default local ports.

An absent server skips its tests with one loud line; under ``CI=true`` it fails the run. Every test isolates itself: own
database, own key prefix, own virtual host, own queue names.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401  imported late, after a deep recursion, it fails on CPython 3.11
import pytest
import sqlalchemy as sa

POSTGRES = os.environ.get("DURABLE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("DURABLE_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/")
REDIS = os.environ.get("DURABLE_TEST_REDIS", "redis://127.0.0.1:6379/0")
RABBITMQ = os.environ.get("DURABLE_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")
IS_CI = os.environ.get("CI") == "true"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-cache", action="store_true", help="keep no live executions: every turn replays history from its beginning"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-cache"):
        from celery_durable.engine.cache import LiveExecutions

        os.environ["DURABLE_TEST_CACHE"] = "0"  # for the workers that tests start
        LiveExecutions.put = lambda self, live: live.abandon()  # type: ignore[method-assign]
    config.addinivalue_line("markers", "cache: tests the cache itself, which --no-cache takes away")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--no-cache"):
        known = {item.nodeid for item in items}
        gone = [item for item in items if _needs_no_second_run(item, known)]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


def _needs_no_second_run(item: pytest.Item, known: set[str]) -> bool:
    """Tell whether a run without caches says nothing new: it runs without them anyway, or differs by the database alone."""
    chosen = getattr(getattr(item, "callspec", None), "id", "").split("-")
    with_sqlite = "-".join("sqlite" if each == "postgres" else each for each in chosen)
    return (
        item.get_closest_marker("cache") is not None
        or bool({"live", "replay", "mariadb"} & set(chosen))
        or ("postgres" in chosen and f"{item.nodeid.partition('[')[0]}[{with_sqlite}]" in known)
    )


@pytest.fixture(autouse=True)
def ordinary_process() -> Iterator[None]:
    """Let no test find what another one has left in this process.

    A worker leaves its log level, eager tasks of two threads that results may not be had, and a task that a test has declared
    goes to every application that is made from then on.
    """
    from celery import _state

    logging.getLogger().setLevel(logging.WARNING)
    _state._set_task_join_will_block(False)
    known = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers -= {made for made in _state._on_app_finalizers - known if _is_declared_in_a_test(made)}


def _is_declared_in_a_test(finalizer: Any) -> bool:
    """Tell whether what Celery calls for each new application makes a task of a function within a function of the tests."""
    made_of = [cell.cell_contents for cell in finalizer.__closure__ or () if callable(cell.cell_contents)]
    return any(
        str(getattr(each, "__module__", "")).startswith("tests.") and "<locals>" in getattr(each, "__qualname__", "")
        for each in made_of
    )


def absent(name: str, error: object) -> None:
    """Skip, or fail where every server has to be there."""
    message = f"{name.upper()} IS NOT THERE, its tests do not run: {error}"
    if IS_CI:
        pytest.fail(message)
    pytest.skip(message)


def wait_until(condition: Callable[[], object], timeout: float = 60, what: str = "the condition") -> object:
    """Return the condition's value as soon as it is true; fail after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


def _own_database(url: str, name: str, create: str, drop: str) -> Iterator[str]:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(create.format(name=name)))
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        engine.dispose()
        absent(sa.make_url(url).get_backend_name(), error)
    yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(drop.format(name=name)))
    engine.dispose()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database of this test's own."""
    name = f"durable_{uuid.uuid4().hex[:12]}"
    yield from _own_database(POSTGRES, name, "CREATE DATABASE {name}", "DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """An empty MariaDB database of this test's own."""
    name = f"durable_{uuid.uuid4().hex[:12]}"
    yield from _own_database(MARIADB, name, "CREATE DATABASE {name}", "DROP DATABASE {name}")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Each of the supported databases in turn, empty."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis that answers; tests keep to a key prefix of their own."""
    try:
        import redis

        redis.Redis.from_url(REDIS).ping()
    except Exception as error:
        absent("redis", error)
    return REDIS


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """A RabbitMQ that answers, in a virtual host of this run's own where that can be made."""
    from kombu import Connection

    try:
        with Connection(RABBITMQ, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except Exception as error:
        absent("rabbitmq", error)
    vhost = f"durable-{uuid.uuid4().hex[:8]}"
    ctl = shutil.which("rabbitmqctl")
    user = sa.make_url(RABBITMQ).username or "guest"
    is_own = ctl is not None and not subprocess.run([ctl, "add_vhost", vhost], capture_output=True).returncode
    if is_own:
        subprocess.run([ctl, "set_permissions", "-p", vhost, user, ".*", ".*", ".*"], capture_output=True, check=True)
        yield f"{RABBITMQ.rstrip('/').removesuffix('/%2F')}/{vhost}"
        subprocess.run([ctl, "delete_vhost", vhost], capture_output=True)
    else:
        yield RABBITMQ


@pytest.fixture
def new_app(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make applications over an SQLite file, with a broker in memory that nobody consumes."""
    from celery import Celery, _state

    from celery_durable import Durable

    made: list[Any] = []
    shared = set(_state._on_app_finalizers)

    def make(**conf: Any) -> Any:
        app = Celery("anonymous", broker="memory://", set_as_current=False)
        app.conf.update({"durable_backend_url": f"sqlite:///{tmp_path / 'app.db'}", **conf})
        Durable(app)
        made.append(app)
        return app

    yield make
    for app in made:
        if app.durable._runtime is not None:
            app.durable._runtime.store.database.dispose()
        app.close()
    _state._on_app_finalizers.intersection_update(shared)
