"""The tables by ``manage.py migrate``: the same as by ``durable.migrate()``, from either side, and
back.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from celery_durable.store.migrate import HEAD, downgrade, found_revision, migrate
from tests.contract.test_migrations import describe, differences
from tests.preloaded import Preloaded

from .conftest import Project, on_mariadb_too, server_settings, sqlite_settings

VERSIONS = Path(__file__).parents[2] / "celery_durable/store/alembic/versions"
MIGRATIONS = Path(__file__).parents[2] / "celery_durable/contrib/django/migrations"


@pytest.mark.changes_tables
@on_mariadb_too
def test_both_routes_give_the_same_schema(project: Project) -> None:
    database = project.store().database
    assert found_revision(database) == HEAD
    by_django = describe(database)
    downgrade(database)
    migrate(database)
    assert describe(database) == by_django
    # Django's own tables are in the way of the comparison there too, but are left out
    if database.family != "sqlite":
        names = {"django", "auth", "orders"}
        assert [
            each for each in differences(database) if not any(name in str(each) for name in names)
        ] == []


@pytest.mark.parametrize("project", ["sqlite"], indirect=True)
def test_each_revision_has_a_migration_and_none_is_missing(project: Project) -> None:
    revisions = sorted(path.stem for path in VERSIONS.glob("0*.py"))
    assert sorted(path.stem[:4] for path in MIGRATIONS.glob("0*.py")) == [
        name[:4] for name in revisions
    ]
    for path in MIGRATIONS.glob("0*.py"):
        assert re.search(rf'StoreRevision\("{path.stem[:4]}"', path.read_text()), path
    assert revisions[-1][:4] == HEAD
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")


@pytest.mark.sparse(3)
@pytest.mark.full
@pytest.mark.changes_tables
@on_mariadb_too
def test_tables_that_are_there_already_are_left_alone_and_each_step_can_be_taken_back(
    project: Project,
) -> None:
    project.manage("migrate", "-v0", "celery_durable", "0002")
    store = project.store().database
    assert found_revision(store) == "0002"
    migrate(store)
    project.manage("migrate", "-v0")
    assert found_revision(store) == HEAD
    project.run("""
from django.core.management import call_command
call_command("migrate", "celery_durable", "zero", verbosity=0)
tables = {name for name in connection.introspection.table_names() if name.startswith("durable_")}
assert tables <= {"durable_alembic_version"}, tables
call_command("migrate", verbosity=0)
assert len(durable.runtime.store.id) == 32
""")
    assert found_revision(store) == HEAD


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def test_a_schema_that_is_behind_is_told(
    kind: str, python: Preloaded, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_file = kind == "sqlite"
    url = sa.make_url("sqlite://" if is_file else request.getfixturevalue(f"{kind}_url"))
    project = Project(
        python, tmp_path, sqlite_settings(tmp_path) if is_file else server_settings(url)
    )
    told = project.manage("check", "--database", "default", code=1)
    assert "celery_durable.E002" in told and "manage.py migrate" in told
    project.manage("migrate", "-v0")
    assert "E002" not in project.manage("check", "--database", "default")


def test_models_read_the_store_and_refuse_to_write(project: Project) -> None:
    project.run("""
import datetime
from django.contrib.auth.models import Permission
from celery_durable.contrib.django.models import *
before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
durable.start(fulfil.s("a", amount=3), instance_id="a", tags={"customer": "7"})
durable.start(failing.s(), instance_id="b")
durable.entity(Counter, "n").signal.add(1)
durable.schedule("daily", fulfil.s("a"), interval=86_400)
durable.terminate("b", output={"n": 1}, reason="enough")
a, b = (Instance.objects.get(pk=name) for name in "ab")
assert a.input == {"args": ["a"], "kwargs": {"amount": 3}} and a.tags == {"customer": "7"} and a.output is None
assert a.created_at.utcoffset() == datetime.timedelta(0) and before < a.created_at == durable.get("a").created_at
assert (b.output, b.reason, b.status, b.is_over, a.is_over) == ({"n": 1}, "enough", "TERMINATED", True, False)
assert {i.id for i in Instance.objects.orchestrations().filter(created_at__gte=before)} == {"a", "b"}
assert not Instance.objects.filter(created_at__lt=before).exists()
assert [i.entity for i in Instance.objects.entities()] == [("Counter", "n")] and a.entity is None
assert a.run.runtime_status == a.runtime_status
assert a.inbox.get().kind == "ExecutionStarted" and before < a.inbox.get().visible_at
durable.runtime.runner.run("a")
assert a.outbox.get().name.endswith("charge") and a.history.count() == 1
assert Schedule.objects.get().handle.name == "daily" and Schedule.objects.get().input["args"] == ["a"]
with transaction.atomic():
    assert not Instance.objects.get(pk="a").get_deferred_fields() - {"input_data", "output_data", "failure_data",
        "custom_status_data", "canvas_data"}

def refused(call):
    try: call()
    except DurableError as error: assert "read-only" in str(error)
    else: raise AssertionError(call)
for model in (Instance, History, InboxMessage, OutboxMessage, Schedule, Worker):
    objects = model.objects
    for call in (objects.create, objects.all().delete, objects.all().update, model().save, model().delete,
                 lambda: objects.get_or_create(), lambda: objects.bulk_create([model()]), lambda: objects.update_or_create()):
        refused(call)
assert Instance.objects.count() == 3
held = set(Permission.objects.filter(content_type__app_label="celery_durable").values_list("codename", flat=True))
assert {name for name, _ in PERMISSIONS} | {"view_instance", "view_schedule", "pause_schedule"} <= held
assert not {"add_instance", "change_instance", "delete_instance"} & held
""")
