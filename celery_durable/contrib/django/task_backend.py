"""The backend of Django's Tasks framework: ``enqueue`` is a durable start of a plain task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.tasks import DEFAULT_TASK_QUEUE_NAME, Task, TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued
from django.utils import timezone
from django.utils.json import normalize_json

from ...core.retry import RetryPolicy, run_timeout
from .project import durable_of_project, find_app
from .task_results import result_of
from .task_running import celery_task_of, offer

__all__ = ["DurableBackend", "DurableTask"]

_OPTIONS = ("retry", "timeout", "attempt_timeout", "heartbeat_timeout")
_MOST = 9  # of Celery's priorities, on every broker that has any
_APP = "celery_durable.contrib.django"


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableTask(Task):  # type: ignore[misc]
    """A task that is declared for ``DurableBackend``: an activity of orchestrators, too.

    Example:
        >>> @durable.orchestrator
        ... async def welcome(ctx, user):
        ...     return await ctx.call(send_welcome.s(user), retry=RetryPolicy(max_attempts=5))
    """

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Return the signature of the Celery task that runs it, for ``ctx.call``, ``ctx.map`` and a
        canvas.
        """
        options = _options_of(self)
        if self.run_after is not None:
            options["eta"] = _aware(self.run_after)
        return celery_task_of(self).s(*args, **kwargs).set(**options)

    def durable_signature(self) -> Any:
        """Return the same without arguments: what ``ctx.call`` and ``ctx.map`` make of the task."""
        return self.s()


class DurableBackend(BaseTaskBackend):  # type: ignore[misc]
    """Enqueues each task as a durable start: in the store at once, with the rows of an ``atomic()``
    block that is open, and run at least once by a Celery worker.

    ``OPTIONS`` takes ``retry`` (a ``RetryPolicy``), ``timeout``, ``attempt_timeout`` and
    ``heartbeat_timeout`` of all its tasks, as ``durable.start`` does; ``QUEUES`` is Django's.

    Example:
        >>> TASKS = {
        ...     "default": {
        ...         "BACKEND": "celery_durable.contrib.django.tasks.DurableBackend",
        ...         "QUEUES": ["default", "mails"],
        ...         "OPTIONS": {"retry": RetryPolicy(max_attempts=5)},
        ...     }
        ... }
    """

    task_class = DurableTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        if unknown := sorted(set(self.options) - set(_OPTIONS)):
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]['OPTIONS'] has {', '.join(unknown)}; DurableBackend takes"
                f" {', '.join(_OPTIONS)}"
            )
        #: How often a task is tried; None is once.
        self.retry: RetryPolicy | None = self.options.get("retry")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]['OPTIONS']['retry'] takes a RetryPolicy, not {self.retry!r}"
            )
        for name in _OPTIONS[1:]:
            try:
                run_timeout(self.options.get(name))
            except (TypeError, ValueError) as error:
                raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS']: {error}") from error

    def validate_task(self, task: Task) -> None:
        """Refuse what cannot be run, and let workers run what can.

        Raises:
            InvalidTask: it cannot.
        """
        super().validate_task(task)
        if "<" in task.module_path:
            raise InvalidTask("Task function must be defined at a module level.")
        offer(task, type(self))

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Start a task, within the ``atomic()`` block that is open around the caller.

        Raises:
            InvalidTask: it cannot be run.
            TypeError: an argument is no JSON.
            StoreError: it could not be stored.
        """
        self.validate_task(task)
        args, kwargs = normalize_json(list(args)), normalize_json(dict(kwargs))
        run = durable_of_project().start(
            celery_task_of(task).s(*args, **kwargs).set(**_options_of(task)),
            start_at=None if task.run_after is None else _aware(task.run_after),
            **self.options,
        )
        result = TaskResult(
            task=task,
            id=run.id,
            status=TaskResultStatus.READY,
            enqueued_at=datetime.now(UTC),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        task_enqueued.send(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """Return a result by its id, as the store has it now.

        Raises:
            TaskResultDoesNotExist: there is none, or it was purged.
        """
        return result_of(result_id, self.alias)

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        """Tell what of the project keeps the backend from working."""
        found = list(super().check(**kwargs))
        where = f"TASKS[{self.alias!r}]"
        if not apps.is_installed(_APP):
            hint = f"Add {_APP!r} to INSTALLED_APPS."
            problem = (
                f"{where} is DurableBackend, but {_APP!r} is not installed: enqueue() would not"
            )
            found.append(Error(f"{problem} join atomic()", hint=hint, id="celery_durable.E010"))
        if find_app() is None:
            hint = "Write durable = Durable(app) below app = Celery(...) in celery.py."
            problem = f"{where} is DurableBackend, but the project has no durable Celery app"
            found.append(Error(problem, hint=hint, id="celery_durable.E011"))
        return found


def _options_of(task: Task) -> dict[str, Any]:
    """Return Celery's options for Django's queue and priority.

    Django's default queue is Celery's own; the others have the same names.
    """
    options: dict[str, Any] = {"priority": _priority(task.priority)}
    if task.queue_name != DEFAULT_TASK_QUEUE_NAME:
        options["queue"] = task.queue_name
    return options


def _priority(given: int) -> int:
    """Return one of Celery's ten priorities for one of -100 to 100: Redis has the first ones first,
    other brokers the last.
    """
    share = (given - TASK_MIN_PRIORITY) / (TASK_MAX_PRIORITY - TASK_MIN_PRIORITY)
    high: int = round(share * _MOST)
    app = find_app()
    is_redis = app is not None and str(app.conf.broker_url or "").startswith(("redis", "sentinel"))
    return _MOST - high if is_redis else high


def _aware(moment: datetime) -> datetime:
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
