"""From a signature of Celery to the request of a start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core.canvas import MAPS
from ..core.canvas_options import CanvasOptions
from ..core.retry import Interval, RetryPolicy, run_timeout
from ..core.times import as_microseconds
from ..worker.orchestrator import OrchestratorTask
from ..worker.starting import declared_of, plain_request_of, request_of
from ..worker.ticks import tick_request_of

if TYPE_CHECKING:
    from ..core.plain_task import TaskOptions
    from ..engine.start import IfExists, StartRequest
    from ..worker.runtime import Runtime

__all__ = ["PlainChoice", "repeated", "requested"]

#: Celery's tasks that stand for several others; the rest of Celery's own are tasks like any.
_CANVASES = frozenset({"celery.chain", "celery.chord", "celery.chunks", "celery.group", *MAPS})


@dataclass(frozen=True)
class PlainChoice:
    """What ``start`` was given that is for plain tasks alone."""

    retry: RetryPolicy | None = None
    attempt_timeout: Interval | None = None
    heartbeat_timeout: Interval | None = None

    @property
    def given(self) -> list[str]:
        """The names of what was given."""
        return [each.name for each in fields(self) if getattr(self, each.name) is not None]

    def over(self, declared: TaskOptions) -> TaskOptions:
        """Return how a task is run that declares something."""
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise TypeError(f"retry takes a RetryPolicy, not {self.retry!r}")
        chosen: dict[str, Any] = {
            "retry": self.retry,
            "timeout": run_timeout(self.attempt_timeout),
            "heartbeat_timeout": run_timeout(self.heartbeat_timeout),
        }
        return replace(
            declared, **{name: value for name, value in chosen.items() if value is not None}
        )


def repeated(runtime: Runtime, signature: Any, verb: str) -> StartRequest:
    """Return the request for what a schedule starts by a signature again and again.

    Raises:
        TypeError: it is no signature of a task, its arguments do not fit, or it has an option
            without meaning.
        ValueError: its ``expires`` cannot be read.
    """
    task, args, kwargs, options = _read(runtime, signature, verb)
    return tick_request_of(runtime, task, args, kwargs, options)


def requested(
    runtime: Runtime,
    signature: Any,
    instance_id: str | None = None,
    start_at: datetime | None = None,
    tags: Mapping[str, str] | None = None,
    if_exists: IfExists = "return",
    verb: str = "durable.start()",
    timeout: Interval | None = None,
    version: str | None = None,
    plain: PlainChoice = PlainChoice(),
    clock: Callable[[], int] | None = None,
) -> StartRequest:
    """Return the request that a signature and the arguments of ``start`` make.

    ``clock`` gives the store's clock, if it is known.

    Raises:
        TypeError: it is no signature of a task, its arguments do not fit, or it has an option
            without meaning.
        ValueError: ``timeout`` is not positive.
    """
    task, args, kwargs, options = _read(runtime, signature, verb)
    if version is not None and (not isinstance(version, str) or not version):
        raise TypeError(f"version is the name of one, not {version!r}")
    own: dict[str, Any] = {"tags": tags, "if_exists": if_exists, "clock": clock}
    if instance_id is not None:
        own["instance_id"] = instance_id
    if start_at is not None:
        own["start_at"] = as_microseconds(start_at)
    limit = run_timeout(timeout)
    if not isinstance(task, OrchestratorTask):
        if version is not None:
            raise TypeError(f"{task.name} is a plain task, and has no versions")
        chosen = plain.over(declared_of(task)[0])
        return plain_request_of(runtime, task, args, kwargs, options, chosen, limit, **own)
    if plain.given:
        raise TypeError(
            f"{', '.join(plain.given)}: for plain tasks; {task.name} is an orchestrator, which says"
            " such things of each call"
        )
    request = request_of(runtime, task, args, kwargs, options, version=version, **own)
    if limit is not None:
        request.canvas = CanvasOptions(request.canvas).with_timeout(limit).kept
    return request


def _read(
    runtime: Runtime, signature: Any, verb: str
) -> tuple[Any, Sequence[Any], Mapping[str, Any], dict[str, Any]]:
    """Return the task of a signature, its arguments and its options."""
    if not isinstance(signature, Mapping) or "task" not in signature:
        given = "the orchestrator itself" if hasattr(signature, "s") else type(signature).__name__
        raise TypeError(f"{verb} takes a signature such as my_orchestrator.s(...), not {given}")
    args, kwargs = signature.get("args") or (), signature.get("kwargs") or {}
    return _task_of(runtime, signature, verb), args, kwargs, dict(signature.get("options") or {})


def _task_of(runtime: Runtime, signature: Mapping[str, Any], verb: str) -> Any:
    name = str(signature["task"])
    task = runtime.app.tasks.get(name)
    if task is None:
        raise TypeError(f"{verb}: the task {name!r} is not registered here")
    if name in _CANVASES:
        raise TypeError(f"{verb} takes a task, not a canvas: use durable.canvas(...).start()")
    return task
