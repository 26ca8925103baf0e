"""Plain tasks that are declared durable: their ``.delay()`` is a durable start.

The class of such a task gets an ``apply_async`` that starts it as an orchestration of one activity.
What Celery and the engine send of an attempt (its message, its own retries, its replacement) goes
past that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from celery import Celery
from celery.app.registry import TaskRegistry

from ..handles.orchestration import Orchestration
from .headers import HEADER, PART, ticket_in
from .orchestrator import OrchestratorTask, end_of, started_here
from .runtime import runtime_of
from .starting import declared_of, plain_request_of

__all__ = ["is_durable", "make_durable", "watch_registry"]

_OURS = ("celery.", "celery_durable.")


def is_durable(task: Any, app: Celery) -> bool:
    """Tell whether a task is durable: as it declares, else as ``durable_tasks`` says."""
    if isinstance(task, OrchestratorTask) or task.name.startswith(_OURS):
        return False
    declared = getattr(task, "durable", None)
    if declared is not None:
        return bool(declared)
    patterns = app.conf.get("durable_tasks") or ()
    several = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(task.name, pattern) for pattern in several)


def watch_registry(app: Celery) -> None:
    """Let each task of an app be durable from its first use on, if it is declared so.

    Celery makes tasks when they are first used, which may be long before the app is finalized.
    """
    registry = app._tasks
    if isinstance(registry, _Watched):
        return
    watched = _Watched(registry)
    watched.app = app
    app._tasks = watched


class _Watched(TaskRegistry):  # type: ignore[misc]
    """The tasks of an app, each of which is looked at when it comes."""

    app: Celery

    def __setitem__(self, name: str, task: Any) -> None:
        """Keep a task."""
        super().__setitem__(name, task)
        _make_one_durable(self.app, task)


def make_durable(app: Celery) -> None:
    """Let the tasks of an app be durable that are declared so; safe to call again.

    Raises:
        ConfigurationError: what one declares cannot be used.
    """
    for task in list(app._tasks.values()):
        _make_one_durable(app, task)


def _make_one_durable(app: Celery, task: Any) -> None:
    cls: Any = type(task)
    if "_durable_start" in cls.__dict__ or not is_durable(task, app):
        return
    declared_of(task)
    _give_start(cls, cls.apply_async)


def _give_start(cls: Any, own: Callable[..., Any]) -> None:
    """Let ``.delay()`` of a class of tasks be a durable start; ``own`` sends a message."""

    def apply_async(
        self: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Start the task durably; see ``celery.Task.apply_async`` for the options."""
        options.update(link=link, link_error=link_error, shadow=shadow)
        if "_durable_start" not in type(self).__dict__ or _is_of_attempt(task_id, options):
            return own(self, args, kwargs, task_id=task_id, producer=producer, **options)
        return _start(self, args or (), kwargs or {}, task_id, options)

    cls.apply_async = apply_async
    # by these the engine sends the messages of attempts
    cls.publish = own
    cls.sends_by = property(lambda self: own)
    cls._durable_start = True


def _is_of_attempt(task_id: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a message belongs to an attempt: it is ours, Celery's own retry, or a part of
    what an attempt has replaced itself by.
    """
    headers = options.get("headers") or {}
    if HEADER in headers or PART in headers or options.get("retries"):
        return True
    return bool(ticket_in(task_id, None, options.get("replaced_task_nesting")))


def _start(
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task_id: str | None,
    options: Mapping[str, Any],
) -> Orchestration:
    runtime = runtime_of(task.app)
    request = plain_request_of(runtime, task, args, kwargs, options, instance_id=task_id)
    result = started_here(task, runtime.client.start(request), options)
    conf = task.app.conf
    if conf.task_always_eager and conf.task_eager_propagates and not runtime.publisher.is_draining:
        end_of(result, throw=True)
    return result
