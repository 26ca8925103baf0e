"""What a schedule starts: the request of each tick, from a task and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from numbers import Real
from typing import Any

from ..core.canvas_options import CanvasOptions
from ..engine.start import StartRequest
from .orchestrator import OrchestratorTask
from .runtime import Runtime
from .starting import moment, plain_request_of, request_of

__all__ = ["tick_request_of"]


def tick_request_of(
    runtime: Runtime,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> StartRequest:
    """Return the request for what a schedule starts again and again.

    ``expires`` in seconds counts from when each is to start; a moment is the same for all.

    Args:
        runtime: of this process.
        task: an orchestrator or a plain task.
        args, kwargs: of each start.
        options: of ``apply_async``.

    Raises:
        TypeError: the arguments do not fit the task, or an option has no meaning.
        ValueError: ``expires`` is a time without a zone, or none at all.
        ConfigurationError: what the task declares cannot be used.
    """
    given = options.get("expires")
    expires = task.expires if given is None else given
    others = {name: value for name, value in options.items() if name != "expires"}
    of_kind = request_of if isinstance(task, OrchestratorTask) else plain_request_of
    request = of_kind(runtime, task, args, kwargs, others, expires=None)
    if expires is not None:
        canvas = CanvasOptions(request.canvas)
        within = _microseconds(expires)
        at = moment(runtime, expires) if within is None else None
        request.canvas = canvas.with_expiry(within=within, at=at).kept
    return request


def _microseconds(expires: Any) -> int | None:
    """Return how long this is; None if it is a moment."""
    if isinstance(expires, timedelta):
        return expires // timedelta(microseconds=1)
    return round(float(expires) * 1_000_000) if isinstance(expires, Real) else None
