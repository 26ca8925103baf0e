"""What all tests share: three tiers, the servers, and that no test finds or leaves what another one
has left.

* *quick*: needs no server; what ``pytest`` runs by itself.
* *full*: ``--tier=full`` adds PostgreSQL, MariaDB, Redis, RabbitMQ, servers of a test's own, and a
  browser.
* *long*: ``--tier=long`` gives searches and storms a budget of seconds (``--budget``) instead of a
  number of examples.

A test is of the full tier if it is marked so, or asks for a server. Every test isolates itself: own
database, own key prefix, own virtual host, own queue names.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis  # imported late, after a deep recursion, it fails on CPython 3.11
import pytest

from tests import leftovers, preloaded, tiers
from tests.servers import MARIADB, POSTGRES, RABBITMQ, REDIS, absent, own_database, own_vhost

IS_WHOLE_RUN = leftovers.begin()
# how long an example takes is said by the machine and by what else it does
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**31:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")  # SQLite need not wait for the disk


def pytest_addoption(parser: pytest.Parser) -> None:
    tiers.add_options(parser)
    parser.addoption(
        "--no-cache",
        action="store_true",
        help="keep no live executions: every turn replays history from its beginning",
    )


def pytest_configure(config: pytest.Config) -> None:
    tiers.configure(config)
    if config.getoption("--no-cache"):
        from celery_durable.engine.cache import LiveExecutions

        os.environ["DURABLE_TEST_CACHE"] = "0"  # for the workers that tests start
        begin = LiveExecutions.__init__
        LiveExecutions.__init__ = lambda self, size: begin(self, 0)  # type: ignore[method-assign]
    config.addinivalue_line("markers", "cache: tests the cache itself, which --no-cache takes away")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tiers.choose(config, items)
    if config.getoption("--no-cache"):
        known = {item.nodeid for item in items}
        gone = [item for item in items if _needs_no_second_run(item, known)]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


def _needs_no_second_run(item: pytest.Item, known: set[str]) -> bool:
    """Tell whether a run without caches says nothing new: it runs without them anyway, or differs
    by the database alone.
    """
    chosen = getattr(getattr(item, "callspec", None), "id", "").split("-")
    with_sqlite = "-".join("sqlite" if each == "postgres" else each for each in chosen)
    return (
        item.get_closest_marker("cache") is not None
        or bool({"live", "replay", "mariadb"} & set(chosen))
        or ("postgres" in chosen and f"{item.nodeid.partition('[')[0]}[{with_sqlite}]" in known)
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves something behind has failed.

    What it has left is cleared away all the same.
    """
    preloaded.close()
    if not IS_WHOLE_RUN:
        return
    end = time.monotonic() + 20
    while (left := leftovers.of_this_run()) and time.monotonic() < end:
        time.sleep(0.5)
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.section("left behind", red=True)
        for line in left:
            reporter.write_line(line)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let a report be sent to the main process whatever was logged: half a character ends a run."""
    data = yield
    return _encodable(data)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_encodable, value))
    return value


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell how much the searches of the long tier have tried."""
    if not tiers.is_long():
        return
    told: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            told[report.nodeid.partition("[")[0], name] += value
    for (test, name), count in sorted(told.items()):
        terminalreporter.write_line(f"{count:>9,} {name} in {test}")


@pytest.fixture(autouse=True)
def ordinary_process() -> Iterator[None]:
    """Let no test find what another one has left in this process.

    A worker leaves its log level, eager tasks of two threads that results may not be had, and a
    task that a test has declared goes to every application that is made from then on.
    """
    from celery import _state

    logging.getLogger().setLevel(logging.WARNING)
    _state._set_task_join_will_block(False)
    known = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers -= {
        made for made in _state._on_app_finalizers - known if _is_declared_in_a_test(made)
    }


def _is_declared_in_a_test(finalizer: Any) -> bool:
    """Tell whether what Celery calls for each new application makes a task of a function within a
    function of the tests.
    """
    made_of = [
        cell.cell_contents for cell in finalizer.__closure__ or () if callable(cell.cell_contents)
    ]
    return any(
        str(getattr(each, "__module__", "")).startswith("tests.")
        and "<locals>" in getattr(each, "__qualname__", "")
        for each in made_of
    )


#: How many seconds something may take before it is said to hang. No machine is so slow, so no
#: verdict depends on its speed.
PATIENCE = 300


def wait_until(
    condition: Callable[[], object],
    timeout: float = PATIENCE,
    what: str | Callable[[], str] = "the condition",
) -> object:
    """Return the condition's value as soon as it is true.

    Fail after ``timeout`` seconds, which are never fewer than that. ``what`` is asked for then if
    it is a function: logs are of use only as they are at that moment.
    """
    timeout = max(timeout, PATIENCE)
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            said = what() if callable(what) else what
            pytest.fail(f"{said} did not come true within {timeout} s")
        time.sleep(0.02)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty PostgreSQL database of this test's own."""
    with own_database(POSTGRES) as url:
        yield url


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    """An empty MariaDB database of this test's own."""
    with own_database(MARIADB) as url:
        yield url


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
    with own_vhost(RABBITMQ) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An SQLite file with the tables, to be copied: what a test leaves in it, all others find."""
    from celery_durable.store.database import Database
    from celery_durable.store.migrate import migrate

    path = tmp_path_factory.mktemp("template") / "store.db"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    with database.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before, "a test has used the template instead of a copy"


@pytest.fixture
def new_app(tmp_path: Path, sqlite_template: Path) -> Iterator[Callable[..., Any]]:
    """Make applications over an SQLite file, with a broker in memory that nobody consumes."""
    from celery import Celery, _state

    from celery_durable import Durable

    shutil.copy(sqlite_template, tmp_path / "app.db")
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
