"""The example project: its own tests, its demo, and what a newcomer types."""

import re
import signal
import sys

import pytest

from tests.conftest import wait_until
from tests.nodes import interrupted
from tests.servers import own_keys

from .conftest import ROOT

pytestmark = pytest.mark.full

PROJECT = ROOT / "example_project"


@pytest.fixture
def project(place):
    """The project in its directory, with its files in the test's own."""
    place.working_directory = PROJECT
    place.environment["SHOP_DIRECTORY"] = str(place.directory / "data")
    return place


def test_its_own_tests_pass(project):
    plugins = ["-p", "pytest_django.plugin", "-p", "celery_durable.testing.plugin"]
    options = ["-q", "-p", "no:cacheprovider", *plugins]
    printed = project.printed("-m", "pytest", *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    counts = {
        word: int(count) for count, word in re.findall(r"(\d+) (\w+)", printed.splitlines()[-1])
    }
    assert counts["passed"] > 60
    assert not {"failed", "errors", "skipped", "xfailed"} & set(counts)


def check_demo(printed):
    lines = printed.splitlines()
    checks = [line for line in lines if line.startswith(("ok ", "FAILED"))]
    assert len(checks) == 7
    assert all(line.startswith("ok ") for line in checks)
    assert any("kill -9" in line for line in lines)
    assert sum(line.startswith("order-") for line in lines) == 20
    assert "Everything was as it should be" in lines[-1]


def is_cleaned_up(project):
    return [path.name for path in project.directory.iterdir() if path.name != "data"] == []


@pytest.mark.long  # the package's own demo, and the project's own tests, are of the full tier
def test_the_demo_needs_no_server(project):
    check_demo(project.printed("manage.py", "demo"))
    assert is_cleaned_up(project)
    assert not project.processes()


@pytest.mark.long  # the engine and Django over these have tests of their own
def test_the_demo_runs_on_postgresql_and_redis(project, postgres_url, redis_url):
    queue = f"shop-{project.directory.name}"
    with own_keys(redis_url, queue):
        printed = project.printed(
            "manage.py",
            "demo",
            "--configured",
            SHOP_DATABASE=postgres_url,
            SHOP_BROKER=redis_url,
            SHOP_QUEUE=queue,
            SHOP_KEY_PREFIX=f"{queue}:",
        )
    check_demo(printed)


@pytest.mark.long  # the package's own demo is interrupted in the full tier
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(project, number):
    command, options = (
        [sys.executable, "manage.py", "demo"],
        {"cwd": PROJECT, "env": project.environment},
    )
    code, output = interrupted(command, "worker 1 is started", number, 300, **options)
    assert code == 130, output
    wait_until(lambda: not project.processes(), 300, "the end of what it started")
    assert is_cleaned_up(project)


def test_the_settings_are_checked(project):
    wrong = project.python("manage.py", "check", SHOP_DATABASE="mysql://localhost/shop")
    assert "SHOP_DATABASE is a URL of PostgreSQL" in wrong.stderr
    assert "SECRET_KEY" in project.python("manage.py", "check", SHOP_DEBUG="0").stderr


def test_no_migration_is_missing(project):
    project.printed("manage.py", "makemigrations", "--check", "--dry-run")


def test_seeding_twice_changes_nothing(project):
    project.printed("manage.py", "migrate", "-v", "0")
    first, second = (project.printed("manage.py", "seed", "--customers", "3") for _ in range(2))
    assert first == second
    assert "5 customers" in first
    assert project.python("manage.py", "seed", "--customers", "-1").returncode == 1
