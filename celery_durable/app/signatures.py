"""From a signature of Celery to the request of a start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core.canvas_options import CanvasOptions
from ..core.retry import Interval, run_timeout
from ..core.times import as_microseconds
from ..engine.start import IfExists, StartRequest
from ..worker.orchestrator import OrchestratorTask
from ..worker.starting import request_of

if TYPE_CHECKING:
    from ..worker.runtime import Runtime

__all__ = ["requested"]


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
) -> StartRequest:
    """Return the request that a signature and the arguments of ``start`` make.

    Raises:
        TypeError: it is no signature of an orchestrator, its arguments do not fit, or it has an
            option without meaning.
        ValueError: ``timeout`` is not positive.
    """
    if not isinstance(signature, Mapping) or "task" not in signature:
        given = "the orchestrator itself" if hasattr(signature, "s") else type(signature).__name__
        raise TypeError(f"{verb} takes a signature such as my_orchestrator.s(...), not {given}")
    name = str(signature["task"])
    task = runtime.app.tasks.get(name)
    if not isinstance(task, OrchestratorTask):
        what = (
            f"the plain task {name!r}"
            if task is not None
            else f"{name!r}, which is not registered here"
        )
        raise TypeError(
            f"{verb} takes an orchestrator, not {what}. Decorate it with @durable.orchestrator;"
            " a plain task is started by .delay()"
        )
    options = dict(signature.get("options") or {})
    if version is not None and (not isinstance(version, str) or not version):
        raise TypeError(f"version is the name of one, not {version!r}")
    own: dict[str, Any] = {"tags": tags, "if_exists": if_exists, "version": version}
    if instance_id is not None:
        own["instance_id"] = instance_id
    if start_at is not None:
        own["start_at"] = as_microseconds(start_at)
    request = request_of(
        runtime, task, signature.get("args") or (), signature.get("kwargs") or {}, options, **own
    )
    if (limit := run_timeout(timeout)) is not None:
        request.canvas = CanvasOptions(request.canvas).with_timeout(limit).kept
    return request
