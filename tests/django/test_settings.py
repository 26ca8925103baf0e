"""What an alias means to the store, what the checks say, and ``manage.py durable``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.preloaded import Preloaded

from .conftest import Project, sqlite_settings

SECRET = "s3cr3t-Pa55"
ADDRESSES = """
from celery_durable.store.addresses import address_of
from celery_durable.store.database import Database
from django.db import connections
def add(name, **settings):
    connections.settings[name] = {**connections.settings["default"], "OPTIONS": {}, "USER": "", "PASSWORD": "", "HOST": "",
                                  "PORT": "", **settings}
"""


@pytest.fixture
def sqlite_project(python: Preloaded, tmp_path: Path) -> Project:
    """The project over a file, without tables."""
    return Project(python, tmp_path, sqlite_settings(tmp_path))


def test_an_alias_is_translated_to_what_django_connects_with(sqlite_project: Project) -> None:
    sqlite_project.run(
        ADDRESSES
        + f"""
from pathlib import Path
PG = "django.db.backends.postgresql"
add("full", ENGINE=PG, NAME="shop", USER="me", PASSWORD="{SECRET}", HOST="db.example", PORT="6432",
    OPTIONS={{"sslmode": "require", "pool": True, "assume_role": "owner", "isolation_level": 2}})
full = address_of("django://full")
assert str(full.url) == "postgresql+psycopg://me@db.example:6432/shop", full.url
assert full.options["connect_args"] == dict(dbname="shop", user="me", password="{SECRET}", host="db.example", port="6432",
                                            sslmode="require", options="-c role=owner"), full.options
for shown in (full, full.url, Database("django://full")):
    assert "{SECRET}" not in f"{{shown}} {{shown!r}}"

add("service", ENGINE=PG, NAME="", OPTIONS={{"service": "shop", "passfile": ".pgpass"}})
service = address_of("django://service")
assert service.options["connect_args"] == dict(service="shop", passfile=".pgpass") and service.url.database is None
add("socket", ENGINE=PG, NAME="shop", HOST="/run/postgresql")
assert address_of("django://socket").url.host is None
assert address_of("django://socket").options["connect_args"]["host"] == "/run/postgresql"
add("gis", ENGINE=PG, NAME=None)
assert address_of("django://gis").options["connect_args"]["dbname"] == "postgres"

add("path", ENGINE="django.db.backends.sqlite3", NAME=Path("/somewhere/x y.db"))
assert address_of("django://path").url.database == "/somewhere/x y.db"
add("relative", ENGINE="django.db.backends.sqlite3", NAME="x.db")
assert address_of("django://relative/").url.database == str(Path("x.db").absolute())
add("memory", ENGINE="django.db.backends.sqlite3", NAME="file:x?mode=memory&cache=shared")
def refused(call, *words):
    try: call()
    except ConfigurationError as error: assert all(word in str(error) for word in words), error
    else: raise AssertionError(words)
refused(lambda: Database("django://memory").engine, "memory")
refused(lambda: address_of("django://nobody"), "'nobody'", "'default'")
refused(lambda: address_of("django://"), "''", "'default'")
add("dummy", ENGINE="django.db.backends.dummy")
refused(lambda: address_of("django://dummy"), "dummy", "PostgreSQL")
add("broken", ENGINE="no.such.engine")
refused(lambda: address_of("django://broken"), "broken")
refused(lambda: address_of("nonsense {SECRET}"), "SQLAlchemy URL")
"""
    )


def test_an_alias_of_mysql_is_translated_to_what_pymysql_connects_with(
    sqlite_project: Project,
) -> None:
    sqlite_project.run(
        ADDRESSES
        + f"""
import pymysql
pymysql.install_as_MySQLdb()
def address(**settings):
    alias = f"mysql{{len(connections.settings)}}"
    add(alias, ENGINE="django.db.backends.mysql", **settings)
    return address_of(f"django://{{alias}}")
def arguments(**settings):
    found = dict(address(**settings).options["connect_args"])
    assert found.pop("charset") == "utf8mb4"
    return found
NAMED = dict(NAME="shop", USER="me", PASSWORD="{SECRET}", HOST="db.example", PORT="3307")
CA = dict(ca="/ca.pem", cert="/me.pem")
named = dict(database="shop", user="me", password="{SECRET}", host="db.example", port=3307)
assert arguments(**NAMED, OPTIONS=dict(charset="latin1", init_command="SET @x = 1", isolation_level=None)) == named
assert str(address(**NAMED).url) == "mysql+pymysql://me@db.example:3307/shop"
assert arguments(NAME="shop", HOST="/run/mysqld.sock") == dict(database="shop", unix_socket="/run/mysqld.sock")
assert arguments(NAME="", OPTIONS=dict(passwd="x", db="shop")) == dict(password="x", database="shop")
file = dict(read_default_file="/etc/shop.cnf", read_default_group="shop")
assert arguments(NAME="", OPTIONS=file) == file

for options in (dict(ssl=CA), dict(ssl_ca="/ca.pem", ssl_verify_identity=True), dict(ssl_disabled=True)):
    assert arguments(**NAMED, OPTIONS=options) == {{**named, **options}}
for options, expected in (
    (dict(ssl=True), dict(ssl=dict(check_hostname=False))),
    (dict(ssl_mode="DISABLED"), dict(ssl_disabled=True)),
    (dict(ssl_mode="PREFERRED"), dict(ssl={{}})),
    (dict(ssl_mode="REQUIRED"), dict(ssl=dict(check_hostname=False))),
    (dict(ssl_mode="VERIFY_CA", ssl=CA), dict(ssl=dict(CA, check_hostname=False, verify_mode="required"))),
    (dict(ssl_mode="VERIFY_IDENTITY", ssl=CA), dict(ssl=dict(CA, check_hostname=True, verify_mode="required"))),
):
    assert arguments(**NAMED, OPTIONS=options) == {{**named, **expected}}, options
for options in (dict(ssl_mode="VERIFY_IDENTITY"), dict(ssl_mode="SOMETIMES")):
    try: arguments(**NAMED, OPTIONS=options)
    except ConfigurationError as error: assert options["ssl_mode"] in str(error) and "ssl" in str(error)
    else: raise AssertionError(options)
"""
    )


@pytest.mark.parametrize("project", ["sqlite"], indirect=True)
def test_an_alias_that_comes_to_mean_another_database_is_followed(project: Project) -> None:
    project.run("""
from django.test.utils import setup_databases, teardown_databases
from django.db import connections
durable.start(fulfil.s("a"), instance_id="a")
before = durable.runtime
connections.settings["default"]["TEST"]["NAME"] = os.environ["DURABLE_DJANGO_DIR"] + "/test.db"
old = setup_databases(0, False)
assert durable.find().items == [] and durable.runtime is not before
assert str(durable.runtime.store.database).endswith("/test.db")
durable.start(fulfil.s("b"), instance_id="b")
teardown_databases(old, 0)
assert [run.id for run in durable.find().items] == ["a"]
""")


SHELL = """
from io import StringIO
from contextlib import redirect_stdout, redirect_stderr
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
def said(*arguments):
    with redirect_stdout(StringIO()) as out, redirect_stderr(out):
        try: call_command(*arguments)
        except SystemExit as end: return end.code or 0, out.getvalue()
        except SystemCheckError as error: return 1, str(error)
    return 0, out.getvalue()
def check(**conf):
    app.conf.update(conf)
    for name, value in conf.items():  # until Celery 5.6 Django's settings come before app.conf's
        setattr(settings, f"CELERY_{name.upper()}", value)
    code, text = said("check")
    return code, {word.strip("()").removeprefix("celery_durable.") for word in text.split() if "celery_durable." in word}
"""


def test_the_checks_find_what_is_risky_and_the_command_says_the_same(
    sqlite_project: Project,
) -> None:
    printed = sqlite_project.manage("check", DURABLE_DJANGO_BROKER="memory://")
    assert all(f"(celery_durable.{name})" in printed for name in ("W001", "W003", "I005"))
    assert (
        "Set CELERY_BROKER_URL to Redis" in printed
        and "CELERY_DURABLE_RETENTION is not set" in printed
    )
    sqlite_project.run(
        SHELL
        + """
assert check() == (0, {"W001", "I005"}), check()
assert "(celery_durable.W001)" in said("durable", "check")[1]
settings.DEBUG = True
assert check(durable_retention=3600) == (0, set())
from django.db import connections
connections.settings["default"]["AUTOCOMMIT"] = False
assert check() == (0, {"W009"})
connections.settings["default"]["AUTOCOMMIT"] = True
assert check() == (0, set())
settings.CELERY_DURABLE_RETENTON = settings.DURABLE_OURS = 5
assert check() == (0, {"W008"})
assert "there is no setting CELERY_DURABLE_RETENTON: it is ignored" in said("check")[1]
del settings.CELERY_DURABLE_RETENTON
assert check(task_always_eager=True) == (0, {"W004"})
assert check(task_always_eager=False, durable_serializer="pickle") == (1, {"E003"})
assert check(durable_serializer=7) == (1, {"E004"})
assert check(durable_serializer="json", durable_backend_url="sqlite:////somewhere/else.db") == (0, {"W002"})
assert check(durable_backend_url="django://nobody") == (1, {"E001"})
code, text = said("durable", "check")
assert code == 78 and "celery_durable.E001" in text, text
"""
    )


@pytest.mark.parametrize("project", ["sqlite"], indirect=True)
def test_manage_py_durable_is_the_command_group(project: Project) -> None:
    assert "--input" in project.manage("durable", "start", "--help")
    assert "nobody" in project.manage("durable", "show", "nobody", code=3)
    project.run(
        SHELL
        + """
import json
name = "tests.django.project.orders.tasks.approval"
assert said("durable", "start", name, "--input", '"a"', "--id", "a") == (0, "a\\n")
code, text = said("durable", "show", "a", "--format", "json")
assert not code and json.loads(text)["status"] == "PENDING", text
assert said("durable", "frobnicate")[0] == 2
assert said("durable", "terminate", "a", "--reason", "enough")[0] == 0
assert durable.get("a").reason == "enough"
assert said("durable", "resume", "a")[0] == 4
"""
    )


def test_a_project_without_durable_orchestrations_is_told(sqlite_project: Project) -> None:
    told = sqlite_project.manage("check", DJANGO_SETTINGS_MODULE="tests.django.project.bare")
    assert "celery_durable.W006" in told
    assert "durable = Durable(app)" in sqlite_project.manage(
        "durable", "list", code=78, DJANGO_SETTINGS_MODULE="tests.django.project.bare"
    )
