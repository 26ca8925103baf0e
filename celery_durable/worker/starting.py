"""What Celery's options mean for the start of an orchestration, whichever way it is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from celery import Task
from celery.app.task import Context

from ..core.canvas_options import CanvasOptions
from ..core.limits import read_retention
from ..core.options import (
    NOT_OF_ATTEMPTS,
    REFUSED_BY_PLAIN_STARTS,
    REFUSED_BY_STARTS,
    refuse,
    stamps_in,
)
from ..core.plain_task import TASK, TaskOptions
from ..core.retry import RetryPolicy, run_timeout
from ..core.times import as_microseconds
from ..engine.start import StartRequest
from ..errors import ConfigurationError
from .backend import is_rpc
from .modelled import expect_arguments
from .runtime import Runtime
from .sealing import serializer_of
from .task_events import shown_otherwise
from .turn_queues import common_queue

__all__ = ["canvas_of_message", "declared_of", "moment", "plain_request_of", "request_of"]

#: Options of the messages of turns; all others of a plain task's are for its attempts.
_OF_TURNS = frozenset({"queue", "exchange", "routing_key", "priority"})
_NOT_SAID = object()
Clock = Callable[[], int]


def request_of(
    runtime: Runtime,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    clock: Clock | None = None,
    **own: Any,
) -> StartRequest:
    """Return the request for a start with these options of ``apply_async``.

    ``own`` are fields of the request; ``clock`` gives the store's clock, if it is known.

    Raises:
        TypeError: the arguments do not fit the orchestrator, or an option has no meaning for one.
        ValueError: a time has no time zone.
        ConfigurationError: this process does not have the serializer of its messages.
        Exception: what a router of ``task_routes`` raises, or ``QueueNotFound``.
    """
    refuse(options, REFUSED_BY_STARTS, f"{task.name}: the start of an orchestration")
    _refuse_unwritable(task, options)
    args, kwargs = tuple(args), dict(kwargs)
    task.check_arguments(args, kwargs, own.get("version"))
    queue, routed = runtime.publisher.place(task.name, options, lambda: (args, kwargs))
    if "expires" not in own:
        own["expires"] = _expiry_of(runtime, task, options, clock)
    own.setdefault("instance_id", options.get("task_id"))
    own.setdefault(
        "start_at", moment(runtime, options.get("eta") or options.get("countdown") or None, clock)
    )
    return StartRequest(
        task.name,
        args,
        kwargs,
        queue=queue,
        canvas=_canvas(task, routed, _context(runtime, task, args, kwargs, options)),
        root_id=options.get("root_id"),
        **own,
    )


def plain_request_of(
    runtime: Runtime,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    chosen: TaskOptions | None = None,
    timeout: int | None = None,
    *,
    clock: Clock | None = None,
    **own: Any,
) -> StartRequest:
    """Return the request for a start of a plain task with these options of ``apply_async``.

    Args:
        runtime: of this process.
        task: what is started.
        args, kwargs: of its body.
        options: of ``apply_async``.
        chosen: how it is run, in the place of what the task declares.
        timeout: of the whole run, the same.
        clock: gives the store's clock, if it is known.
        **own: fields of the request.

    Raises:
        TypeError: the arguments do not fit the task, or an option has no meaning.
        PayloadError: they do not fit the annotations of a task with models.
        ConfigurationError: what the task declares cannot be used, or this process does not have
            the serializer of its messages.
    """
    refuse(options, REFUSED_BY_PLAIN_STARTS, f"{task.name}: a durable start")
    _refuse_unwritable(task, options)
    args, kwargs = tuple(args), dict(kwargs)
    if task.typing and (check := getattr(task, "__header__", None)) is not None:
        check(*args, **kwargs)
    expect_arguments(runtime.codec, task, args, kwargs)
    declared, declared_timeout = declared_of(task)
    queue, routed = runtime.publisher.place(task.name, options, lambda: (args, kwargs))
    if "expires" not in own:
        own["expires"] = _expiry_of(runtime, task, options, clock)
    own.setdefault("instance_id", options.get("task_id"))
    own.setdefault(
        "start_at", moment(runtime, options.get("eta") or options.get("countdown") or None, clock)
    )
    kept = {name: value for name, value in routed.items() if name in NOT_OF_ATTEMPTS}
    attempts = {
        name: value
        for name, value in routed.items()
        if name not in NOT_OF_ATTEMPTS and value is not None
    }
    run_by = replace(chosen or declared, options=attempts, expires=own["expires"])
    context = _context(runtime, task, args, kwargs, options)
    turns = {name: value for name, value in attempts.items() if name in _OF_TURNS}
    if common := common_queue(task.app.conf.get("durable_turn_queue")):
        queue, turns = common, {**turns, "queue": common}
    canvas = CanvasOptions(_canvas(task, kept | turns, context)).with_task(run_by.to_kept())
    return StartRequest(
        task.name,
        args,
        kwargs,
        queue=queue,
        canvas=canvas.with_timeout(declared_timeout if timeout is None else timeout).kept,
        root_id=options.get("root_id"),
        version=TASK,
        **own,
    )


def declared_of(task: Any) -> tuple[TaskOptions, int | None]:
    """Return how a task says that it is run, and how long all of it may take.

    Raises:
        ConfigurationError: what it declares cannot be used.
    """
    try:
        kept = getattr(task, "durable_retention", _NOT_SAID)
        retry = getattr(task, "durable_retry", None)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"durable_retry takes a RetryPolicy, not {retry!r}")
        return (
            TaskOptions(
                retry=retry,
                timeout=run_timeout(getattr(task, "durable_attempt_timeout", None)),
                heartbeat_timeout=run_timeout(getattr(task, "durable_heartbeat_timeout", None)),
                retention=(
                    None if kept is _NOT_SAID else read_retention(kept, f"task {task.name}")
                ),
            ),
            run_timeout(getattr(task, "durable_timeout", None)),
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"task {task.name}: {error}") from error


def _expiry_of(
    runtime: Runtime, task: Any, options: Mapping[str, Any], clock: Clock | None = None
) -> int | None:
    """Return when what is started here and now expires, in microseconds; None is never."""
    given = options.get("expires")
    return moment(runtime, task.expires if given is None else given, clock)


def moment(runtime: Runtime, value: Any, clock: Clock | None = None) -> int | None:
    """Return what seconds from now, a ``datetime`` or its text mean, in microseconds.

    ``clock`` is asked in the place of the store.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return as_microseconds(value)
    return int((clock or runtime.store.now)()) + round(float(value) * 1_000_000)


def _refuse_unwritable(task: Any, options: Mapping[str, Any]) -> None:
    """Refuse a start whose messages this process cannot write.

    Raises:
        ConfigurationError: it does not have their serializer.
    """
    if (name := serializer_of(task.app, task, options)) == "json":
        return
    from ..encoding import missing_serializer

    if (problem := missing_serializer(name)) is not None:
        raise ConfigurationError(
            f"{task.name} cannot be started, and nothing was written: {problem}", task=task.name
        )


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
