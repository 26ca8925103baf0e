"""What Celery's options mean for the start of an orchestration, whichever way it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from celery import Task
from celery.app.task import Context

from ..core.canvas_options import CanvasOptions
from ..core.options import REFUSED_BY_STARTS, refuse, stamps_in
from ..core.times import as_microseconds
from ..engine.start import StartRequest
from .backend import is_rpc
from .runtime import Runtime
from .task_events import shown_otherwise

__all__ = ["canvas_of_message", "moment", "request_of"]


def request_of(
    runtime: Runtime,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    **own: Any,
) -> StartRequest:
    """Return the request for a start with these options of ``apply_async``.

    ``own`` are fields of the request.

    Raises:
        TypeError: the arguments do not fit the orchestrator, or an option has no meaning for one.
        ValueError: a time has no time zone.
        Exception: what a router of ``task_routes`` raises, or ``QueueNotFound``.
    """
    refuse(options, REFUSED_BY_STARTS, f"{task.name}: the start of an orchestration")
    args, kwargs = tuple(args), dict(kwargs)
    task.check_arguments(args, kwargs, own.get("version"))
    queue, routed = runtime.publisher.place(task.name, options, lambda: (args, kwargs))
    expires = options.get("expires")
    own.setdefault("instance_id", options.get("task_id"))
    own.setdefault(
        "start_at", moment(runtime, options.get("eta") or options.get("countdown") or None)
    )
    return StartRequest(
        task.name,
        args,
        kwargs,
        queue=queue,
        canvas=_canvas(task, routed, _context(runtime, task, args, kwargs, options)),
        root_id=options.get("root_id"),
        expires=moment(runtime, task.expires if expires is None else expires),
        **own,
    )


def moment(runtime: Runtime, value: Any) -> int | None:
    """Return what seconds from now, a ``datetime`` or its text mean, in microseconds."""
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return as_microseconds(value)
    return int(runtime.store.now()) + round(float(value) * 1_000_000)


def _context(
    runtime: Runtime,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    """Return what is to travel with what is started here and now."""
    headers = runtime.publisher.context_headers.captured(task, args, kwargs, options)
    return runtime.runner.propagators.capture(headers)


def _canvas(
    task: Task, options: Mapping[str, Any], context: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return what is kept for the messages of an orchestration and for its end."""
    backend, reply_to = task.backend, options.get("reply_to")
    if is_rpc(backend):
        reply_to = reply_to or backend.oid
        with task.app.producer_pool.acquire(block=True) as producer:
            backend.on_task_call(producer, "")  # declares the reply queue, as sending a task would
    return (
        CanvasOptions.of_start(options)
        .with_end(
            reply={"reply_to": reply_to} if reply_to else None,
            ignores_result=bool(task.ignore_result and options.get("ignore_result") is None),
        )
        .with_context(context)
        .kept
    )


def canvas_of_message(request: Context) -> CanvasOptions:
    """Return what is kept of a start message that came over the broker and not by our client."""
    delivery, stamps = request.delivery_info or {}, request.stamps or {}
    names = [name for name in request.stamped_headers or () if name in stamps]
    options = stamps_in({**stamps, "stamped_headers": names})
    if delivery.get("routing_key") and not delivery.get("exchange"):
        options["queue"] = delivery["routing_key"]
    if delivery.get("priority"):
        options["priority"] = delivery["priority"]
    finish = {
        "link": request.callbacks,
        "link_error": request.errbacks,
        "chain": request.chain,
        "chord": request.chord,
        "group_id": request.group,
        "group_index": getattr(request, "group_index", None),
    }
    finish = {key: value for key, value in finish.items() if value is not None and value != []}
    if finish and request.parent_id:
        finish["parent_id"] = request.parent_id
    reply = {"reply_to": request.reply_to, "correlation_id": request.correlation_id}
    return CanvasOptions.of_parts(
        options=options,
        finish=finish,
        reply=reply if request.reply_to else None,
        ignores_result=bool(request.ignore_result),
        shown=shown_otherwise(request),
    )
