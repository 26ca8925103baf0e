"""A turn message under Celery's tracer, without what the tracer does for an ``Ignore``.

A turn that does not end its orchestration ends in ``Ignore``. Celery makes two tracebacks of it,
with the positions of every instruction of their code, and sends one to the worker's main process:
that costs as much as the turn itself. Here a turn has the tracer's surroundings (request, signals,
hooks, cleaning up) and ends with an ``Ignore`` that has no traceback; anything else that it raises
is raised once more under Celery's own tracer, and dealt with there. The last message of an
orchestration is traced by Celery, with the arguments that the orchestration has.

A tracer that is wrapped, as by Sentry, is never passed by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import celery.app.trace
from billiard.einfo import ExceptionInfo
from celery import signals
from celery._state import _task_stack
from celery.app.task import Context
from celery.app.trace import trace_ok_t
from celery.exceptions import Ignore
from celery.states import IGNORED

from .headers import HEADER, MessageHeader
from .originals import is_celerys_own

__all__ = ["QuietTracer", "raise_pending"]

log: logging.Logger = logging.getLogger("celery_durable.orchestrator")
_PENDING = "durable_pending_error"


class QuietTracer:
    """Stands for ``Task.__trace__``: what Celery puts there is kept, and called for all that is no
    turn.
    """

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        return None if task is None else task.__dict__.get("_durable_tracer")

    def __set__(self, task: Any, tracer: Callable[..., Any] | None) -> None:
        task.__dict__["_durable_tracer"] = None if tracer is None else _traced(task, tracer)


def raise_pending(request: Context) -> None:
    """Raise what a turn has raised already, for Celery's tracer to see."""
    if (error := getattr(request, _PENDING, None)) is not None:
        raise error


def _traced(task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
    is_bare = is_celerys_own(celery.app.trace, "build_tracer.<locals>.trace_task", tracer)

    def trace(
        uuid: str, args: Sequence[Any], kwargs: Mapping[str, Any], request: Any = None
    ) -> Any:
        wire = request.get(HEADER) if isinstance(request, Mapping) else None
        header = MessageHeader.from_wire(wire)
        kind = None if header is None else header.kind
        if kind == "finish":
            shown = task.shown_arguments(uuid)
            return tracer(
                uuid, shown.get("args", args), shown.get("kwargs", kwargs), {**request, **shown}
            )
        if kind != "turn" or not is_bare:
            return tracer(uuid, args, kwargs, request)
        began = monotonic()
        try:
            _run(task, uuid, args, kwargs, request)
        except Ignore:
            ended = _without_traceback()
            return trace_ok_t(ended, ended.exception, monotonic() - began, None)
        except Exception as error:
            return tracer(uuid, args, kwargs, {**request, _PENDING: error})
        return tracer(uuid, args, kwargs, request)

    return trace


def _run(
    task: Any, uuid: str, args: Sequence[Any], kwargs: Mapping[str, Any], request: Mapping[str, Any]
) -> None:
    _task_stack.push(task)
    task.request_stack.push(Context(request, args=args, called_directly=False, kwargs=kwargs))
    about = {"sender": task, "task_id": uuid, "task": task, "args": args, "kwargs": kwargs}
    try:
        signals.task_prerun.send(**about)
        task.app.loader.on_task_init(uuid, task)
        task.before_start(uuid, args, kwargs)
        task(*args, **kwargs)
    finally:
        try:
            signals.task_postrun.send(**about, retval=None, state=IGNORED)
        finally:
            _task_stack.pop()
            task.request_stack.pop()
            _clean_up(task)


def _clean_up(task: Any) -> None:
    try:
        task.backend.process_cleanup()
        task.app.loader.on_process_cleanup()
    except Exception:
        log.exception("cleaning up after a turn failed")


def _without_traceback() -> Any:
    info: Any = ExceptionInfo.__new__(ExceptionInfo)
    info.type, info.exception, info.tb, info.traceback, info.internal = (
        Ignore,
        Ignore(),
        None,
        "",
        True,
    )
    return info
