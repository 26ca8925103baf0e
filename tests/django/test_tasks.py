"""Django's Tasks framework on this engine: enqueued with the rows of a block, run, told, retried."""

from __future__ import annotations

from pathlib import Path

import django
import pytest

from tests.conftest import wait_until
from tests.preloaded import PATIENCE

from .conftest import Project, on_mariadb_too

HAS_TASKS = django.VERSION >= (6, 0)
needs_tasks = pytest.mark.skipif(not HAS_TASKS, reason="django.tasks is of Django 6.0 and later")

SETUP = """
from datetime import timedelta
from django.tasks import default_task_backend, task_backends, TaskResultStatus as S
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from celery_durable import RuntimeStatus
from celery_durable.testing import durable_environment
from tests.django.project.orders import django_tasks as dt
heard = []
def hears(name, signal):
    def receiver(sender, task_result, **_): heard.append((name, task_result.id, task_result.status))
    signal.connect(receiver, weak=False)
for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):
    hears(name, signal)
nudged = []
def raises(error, call):
    try: call()
    except error as found: return found
    raise AssertionError(error)
"""
NUDGES = """
durable.runtime.publisher.publish_turn = lambda address, **_: nudged.append(address.id) or True
durable.runtime.publisher.publish_activities = lambda rows: nudged.extend(r.instance for r in rows) or {}
"""


@pytest.mark.skipif(HAS_TASKS, reason="this Django has django.tasks")
def test_an_older_django_is_told_what_is_missing() -> None:
    from celery_durable.contrib.django import tasks  # Celery imports it with any Django

    with pytest.raises(ImportError, match=r"needs Django 6\.0 or later, .* this is Django 5"):
        tasks.DurableBackend  # noqa: B018


@needs_tasks
@on_mariadb_too
def test_what_is_enqueued_in_a_block_commits_or_rolls_back_with_it(project: Project) -> None:
    project.run(
        SETUP
        + NUDGES
        + """
with transaction.atomic():
    Order.objects.create(name="a")
    result = dt.double.enqueue(1)
    assert result.status == S.READY and result.enqueued_at and not nudged
    assert result.args == [1] and result.backend == "default" and result.attempts == 0
    assert durable.find(tasks=True).items == []
assert nudged == [result.id] and heard == [("enqueued", result.id, "READY")]
assert dt.double.get_result(result.id).status == S.READY
try:
    with transaction.atomic():
        lost = dt.double.enqueue(1)
        raise KeyError
except KeyError:
    pass
raises(TaskResultDoesNotExist, lambda: dt.double.get_result(lost.id))
raises(TaskResultDoesNotExist, lambda: default_task_backend.get_result("none"))
raises(TaskResultMismatch, lambda: dt.shaky.get_result(result.id))
run = durable.start(charge.s("x", 1), instance_id="no-django-task")
raises(TaskResultDoesNotExist, lambda: default_task_backend.get_result(run.id))
import asyncio
result = asyncio.run(dt.double.aenqueue(2))
assert asyncio.run(dt.double.aget_result(result.id)).args == [2]
"""
    )


@needs_tasks
def test_status_errors_workers_and_attempts(project: Project) -> None:
    project.run(
        SETUP
        + """
with durable_environment(durable) as env:
    result = dt.double.enqueue(4)
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (S.SUCCESSFUL, [4, 8], 1), result
    assert result.enqueued_at <= result.started_at <= result.finished_at and not result.errors
    assert result.last_attempted_at == result.started_at and result.is_finished
    assert [(name, status) for name, _, status in heard] == [
        ("enqueued", "READY"), ("started", "RUNNING"), ("finished", "SUCCESSFUL")]
    assert {id_ for _, id_, _ in heard} == {result.id}

    heard.clear()
    result = dt.shaky.enqueue(2)
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (S.SUCCESSFUL, 3, 3)
    assert [each.exception_class for each in result.errors] == [ValueError] * 2
    assert "attempt 1" in result.errors[0].traceback and "Traceback" in result.errors[0].traceback
    assert dt.told == [(result.id, n, n - 1) for n in (1, 2, 3)]
    assert [name for name, *_ in heard] == ["enqueued"] + ["started"] * 3 + ["finished"]
    run = durable.get(result.id)
    assert run.name == "tests.django.project.orders.django_tasks.shaky" == dt.shaky.module_path
    assert env.calls(run.name)[0].queue == "mails"

    heard.clear()
    result = dt.shaky.enqueue(9)
    env.run_until_idle()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (S.FAILED, 3, 3)
    assert heard[-1] == ("finished", result.id, "FAILED") and len(heard) == 5
    assert "Task failed" in str(raises(ValueError, lambda: result.return_value))

    result = dt.fail_once.enqueue("x")
    env.run_until_idle()
    result = dt.fail_once.get_result(result.id)
    assert (result.status, result.attempts, result.backend) == (S.FAILED, 1, "once")
    assert result.errors[0].exception_class is KeyError

    result = dt.not_json.enqueue()
    env.run_until_idle()
    assert dt.not_json.get_result(result.id).errors[-1].exception_class is TypeError

    result = dt.double.using(run_after=timezone.now() + timedelta(days=2)).enqueue(1)
    env.advance(days=1)
    result.refresh()
    assert result.status == S.READY and result.started_at is None
    durable.cancel(result.id, reason="not needed")
    env.run_until_idle()
    result.refresh()
    assert result.status == S.FAILED and result.errors[0].traceback == "not needed", (result, durable.get(result.id).reason)
    assert issubclass(result.errors[0].exception_class, OrchestrationRevoked), result.errors

    late = dt.double.using(run_after=timezone.now() + timedelta(days=2)).enqueue(5)
    env.advance(days=3)
    late.refresh()
    assert late.return_value == [5, 10] and late.started_at - late.enqueued_at > timedelta(days=1)
"""
    )


@needs_tasks
def test_orchestrators_call_them_and_crashes_change_nothing(project: Project) -> None:
    project.run(
        SETUP
        + """
with durable_environment(durable) as env:
    assert env.run(dt.calls_django_tasks.s(3)) == [3, 6, [1, 2], [2, 4], [3, 6], 1, "none"]
    def scenario(env):
        ids = [dt.shaky.enqueue(1).id, dt.double.enqueue(2).id]
        env.run_until_idle()
        found = [default_task_backend.get_result(id_) for id_ in ids]
        return [(each.status, each.return_value, each.attempts) for each in found]
    assert env.crash_everywhere(scenario) > 10
"""
    )


@needs_tasks
def test_what_cannot_be_run_is_refused(project: Project) -> None:
    project.run(
        SETUP
        + """
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.tasks import task
from celery_durable.contrib.django.tasks import DurableBackend
backend = task_backends["default"]
assert isinstance(backend, DurableBackend)
assert backend.supports_defer and backend.supports_async_task
assert backend.supports_get_result and backend.supports_priority
def local(): pass
raises(InvalidTask, lambda: dt.double.using(queue_name="unknown"))
raises(InvalidTask, lambda: dt.double.using(priority=101))
raises(InvalidTask, lambda: dt.double.using(run_after=timezone.now().replace(tzinfo=None)))
raises(InvalidTask, lambda: task(lambda: None))
raises(TypeError, lambda: dt.double.enqueue(object()))
raises(TypeError, lambda: dt.double.enqueue(timezone.now()))
assert durable.count(tasks=True) == 0
for options in ({"retries": 3}, {"retry": 3}, {"timeout": -1}):
    raises(ImproperlyConfigured, lambda: DurableBackend("x", {"OPTIONS": options}))
assert dt.double.using(queue_name="anything", backend="once").backend == "once"
assert [each.id for each in checks.run_checks() if each.id in ("celery_durable.E010", "celery_durable.E011")] == []
from django.test import override_settings
with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
    assert [each.id for each in backend.check()] == ["celery_durable.E010"]
import django, pickle
if django.VERSION >= (6, 1):
    assert pickle.loads(pickle.dumps(dt.double)) == dt.double
assert [dt.double.using(priority=p).s(1).options["priority"] for p in (-100, 0, 100)] == [0, 4, 9]
app.conf.broker_url = "redis://localhost"
assert [dt.double.using(priority=p).s(1).options["priority"] for p in (-100, 0, 100)] == [9, 5, 0]
"""
    )


@needs_tasks
@pytest.mark.parametrize("project", ["sqlite"], indirect=True)
def test_a_worker_runs_them(project: Project, tmp_path: Path) -> None:
    worker = project.worker(tmp_path / "worker.log", DURABLE_DJANGO_QUEUES="celery,mails")
    try:
        ids = project.run(
            SETUP
            + """
with transaction.atomic():
    ids = [dt.double.enqueue(4).id, dt.awaiting.enqueue("by a task").id]
    ids.append(dt.elsewhere.using(backend="default").enqueue("far").id)
print(" ".join(ids))
"""
        ).split()

        def told() -> list[str]:
            return project.run(
                SETUP
                + f"for id_ in {ids!r}:\n"
                + """
    result = default_task_backend.get_result(id_)
    print(result.status, result.is_finished and result.return_value, all(result.worker_ids), result.attempts)
print(Order.objects.count())
"""
            ).splitlines()

        wait_until(
            lambda: (
                told()
                == [
                    "SUCCESSFUL [4, 8] True 1",
                    "SUCCESSFUL by a task True 1",
                    "SUCCESSFUL FAR True 1",
                    "1",
                ]
            ),
            PATIENCE,
            lambda: (tmp_path / "worker.log").read_text(),
        )
    finally:
        worker.kill()
