"""Django tasks as Celery tasks: each has one, of the name that its function is imported by.

The name is what pauses, limits, routes and lists know it by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery import shared_task
from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
from django.tasks.signals import task_finished, task_started
from django.utils.json import normalize_json

from ...worker.activity_context import ActivityContext, durable_context
from .project import app_of_project

__all__ = ["celery_task_of", "offer", "offer_all"]

_offered: set[str] = set()


def offer(task: Task, backend: type) -> None:
    """Let workers of this process run a task."""
    name = task.module_path
    if name in _offered:
        return
    _offered.add(name)
    shared_task(name=name, bind=True, typing=False, durable=False, durable_notes_worker=True)(
        _body_of(task, backend)
    )


def offer_all(backend: type) -> None:
    """Let workers of this process run every task that the modules have which are imported, also
    those that are declared for another backend: ``using(backend=...)`` enqueues them here.
    """
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()) if hasattr(module, "__dict__") else ():
            if isinstance(value, Task):
                offer(value, backend)


def celery_task_of(task: Task) -> Any:
    """Return the Celery task that runs a task."""
    return app_of_project().tasks[task.module_path]


def _body_of(task: Task, backend: type) -> Callable[..., Any]:
    function = task.func

    def body(celery_task: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _Run(task, backend, celery_task, args, kwargs).run()

    body.__name__, body.__qualname__ = function.__name__, function.__qualname__
    body.__module__, body.__doc__ = function.__module__, function.__doc__
    return body


class _Run:
    """One attempt of a task's body."""

    def __init__(self, task: Task, backend: type, celery_task: Any, args: Any, kwargs: Any) -> None:
        self.task = task
        self.backend = backend
        self.celery_task = celery_task
        self.context = durable_context()
        self.result = self._result(args, kwargs)

    def run(self) -> Any:
        """Run it, and tell Django's signals; return what it returned as JSON."""
        result = self.result
        task_started.send(sender=self.backend, task_result=result)
        given = (TaskContext(task_result=result),) if self.task.takes_context else ()
        try:
            value = normalize_json(self.task.call(*given, *result.args, **result.kwargs))
        except BaseException:
            if not self._is_tried_again():
                self._finish(TaskResultStatus.FAILED)
            raise
        object.__setattr__(result, "_return_value", value)
        self._finish(TaskResultStatus.SUCCESSFUL)
        return value

    def _finish(self, status: TaskResultStatus) -> None:
        object.__setattr__(self.result, "status", status)
        object.__setattr__(self.result, "finished_at", datetime.now(UTC))
        task_finished.send(sender=self.backend, task_result=self.result)

    def _result(self, args: Any, kwargs: Any) -> TaskResult:
        now, request, context = datetime.now(UTC), self.celery_task.request, self.context
        attempt = 1 if context is None else context.attempt
        known = self._known(context)
        workers = [str(request.hostname or "")] * attempt
        return TaskResult(
            task=self.task,
            id=str(request.id or "") if context is None else context.instance_id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=None if known is None else known.enqueued_at,
            started_at=now if known is None else known.started_at or now,
            finished_at=None,
            last_attempted_at=now,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.task.backend,
            errors=[] if known is None else known.errors,
            worker_ids=[*(() if known is None else known.worker_ids[: attempt - 1]), *workers][
                -attempt:
            ],
        )

    def _known(self, context: ActivityContext | None) -> TaskResult | None:
        """Return the result so far, for a task that is given it."""
        if context is None or not self.task.takes_context or not self._is_enqueued(context):
            return None
        return self.task.get_backend().get_result(context.instance_id)

    def _is_enqueued(self, context: ActivityContext) -> bool:
        """Tell whether it was enqueued, and is no activity of an orchestrator."""
        scope = context.scope
        return scope is not None and scope.orchestration == self.task.module_path

    def _is_tried_again(self) -> bool:
        """Tell whether another attempt may follow, as far as can be told here."""
        context = self.context
        if context is None or not self._is_enqueued(context):
            return False
        retry = getattr(self.task.get_backend(), "retry", None)
        most = 1 if retry is None else retry.max_attempts
        return most is None or context.attempt < most
