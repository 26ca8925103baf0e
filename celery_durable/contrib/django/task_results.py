"""Results of Django tasks, read from the store: status, errors, who ran it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.tasks.exceptions import TaskResultDoesNotExist
from django.utils.module_loading import import_string

from ...core.history import Event, EventKind
from ...core.status import RuntimeStatus
from ...core.times import EPOCH
from ...errors import InstanceNotFound, OrchestrationRevoked, PayloadError
from .project import durable_of_project

__all__ = ["result_of"]

_FAILED = (RuntimeStatus.FAILED, RuntimeStatus.CANCELED, RuntimeStatus.TERMINATED)


def result_of(result_id: str, alias: str) -> TaskResult:
    """Return the result of a task that was enqueued.

    Raises:
        TaskResultDoesNotExist: there is none of this id, or no task any more.
        StoreError: the store cannot be reached.
    """
    durable = durable_of_project()
    try:
        run = durable.get(result_id)
    except (InstanceNotFound, ValueError, TypeError):
        raise TaskResultDoesNotExist(result_id) from None
    task = _task_of(run.name)
    if task is None:
        raise TaskResultDoesNotExist(result_id)
    attempts = _Attempts(durable.runtime.codec, run.history())
    running = None if run.runtime_status.is_terminal else _running(durable, result_id)
    given = run.input
    result = TaskResult(
        task=task,
        id=run.id,
        status=_status(run.runtime_status, is_running=running is not None),
        enqueued_at=run.created_at,
        started_at=attempts.began[0] if attempts.began else running and running[1],
        finished_at=run.completed_at,
        last_attempted_at=running[1] if running else attempts.began[-1] if attempts.began else None,
        args=list(given["args"]),
        kwargs=dict(given["kwargs"]),
        backend=alias,
        errors=attempts.errors,
        worker_ids=[*attempts.workers, *([running[0]] if running else ())],
    )
    if not attempts.errors and run.runtime_status in _FAILED:
        reason = run.reason or str(run.runtime_status)
        result.errors.append(_error_of(_path_of(run), reason))
    if run.runtime_status is RuntimeStatus.COMPLETED:
        object.__setattr__(result, "_return_value", run.output)
    return result


def _task_of(name: str) -> Task | None:
    try:
        found = import_string(name)
    except ImportError:
        return None
    return found if isinstance(found, Task) else None


def _status(status: RuntimeStatus, *, is_running: bool) -> TaskResultStatus:
    if status is RuntimeStatus.COMPLETED:
        return TaskResultStatus.SUCCESSFUL
    if status in _FAILED:
        return TaskResultStatus.FAILED
    return TaskResultStatus.RUNNING if is_running else TaskResultStatus.READY


def _running(durable: Any, result_id: str) -> tuple[str, datetime | None] | None:
    """Return who runs the task now, and since when about; None if no worker does."""
    for each in durable.runtime.store.reads.pending(result_id).activities:
        if each.holder is not None:
            since = None if each.sent_at is None else _moment(each.sent_at)
            return each.worker or each.holder, since
    return None


def _path_of(run: Any) -> str:
    failure = run.failure
    kind = OrchestrationRevoked if failure is None else type(failure)
    return f"{kind.__module__}.{kind.__qualname__}"


class _Attempts:
    """What history has of the attempts of a task that are over."""

    def __init__(self, codec: Any, events: Sequence[Event]) -> None:
        #: When each began.
        self.began: list[datetime] = []
        #: Who ran it; "" where no worker said so.
        self.workers: list[str] = []
        self.errors: list[Any] = []
        for event in events:
            if event.kind in (EventKind.ACTIVITY_COMPLETED, EventKind.ACTIVITY_FAILED):
                facts = event.facts or {}
                self.began.append(_moment(event.at - int(facts.get("ran") or 0)))
                self.workers.append(str(facts.get("worker") or ""))
            if event.kind == EventKind.ACTIVITY_FAILED:
                self.errors.append(_error(codec, event.payload or "null"))


def _error(codec: Any, payload: str) -> Any:
    try:
        facts = codec.decode(payload)
        kind, traceback = f"{facts['module']}.{facts['type']}", facts.get("traceback") or ""
    except (PayloadError, KeyError, TypeError):
        kind, traceback = "builtins.Exception", "what was raised cannot be read"
    return _error_of(kind, traceback)


def _error_of(kind: str, traceback: str) -> TaskError:
    return TaskError(exception_class_path=kind, traceback=traceback)


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
