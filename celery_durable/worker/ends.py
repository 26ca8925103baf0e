"""The end of an orchestration, reported as Celery reports the end of a task.

Where code listens (callbacks, handlers of the task's class, signals, a monitor that has wrapped the
task's call), a last message lets Celery's own tracer report it, in a worker. Where none does, that
would be a message for nothing: the result is stored, and a failure logged, by the process that
committed the end. What listens is seen in that process; handlers and receivers belong where tasks
are defined, so that all processes have them.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app.task import Context
from celery.app.trace import get_log_policy, task_has_custom
from celery.utils.saferepr import saferepr

from ..core.canvas_options import CanvasOptions
from ..core.plain_task import TASK
from ..core.status import RuntimeStatus
from ..core.text import encodable
from ..errors import DurableError, OrchestrationRevoked, PayloadError

if TYPE_CHECKING:
    from ..engine.listing import InstanceRecord
    from ..engine.records import TurnAddress
    from ..payload import PayloadCodec

__all__ = ["end_in_words", "is_heard", "log_failure", "store_again", "store_end", "shown_arguments"]

log: logging.Logger = logging.getLogger("celery_durable.orchestrator")
_LONGEST = 1024  # as in celery.app.amqp
_PASSING = (
    "ConnectionError",
    "TimeoutError",
    "OperationalError",
    "InterfaceError",
    "DisconnectionError",
    "Timeout",
)
_HEARD: Mapping[RuntimeStatus, tuple[Any, tuple[str, ...]]] = {
    RuntimeStatus.COMPLETED: (signals.task_success, ("on_success", "after_return")),
    RuntimeStatus.FAILED: (signals.task_failure, ("on_failure", "after_return")),
    RuntimeStatus.CANCELED: (signals.task_revoked, ()),
    RuntimeStatus.TERMINATED: (signals.task_revoked, ()),
}


def is_heard(task: Any, status: RuntimeStatus) -> bool:
    """Tell whether anybody in this process wants to hear of such an end of a task.

    ``task`` is None if it is not known here.
    """
    signal, handlers = _HEARD[status]
    if signal.has_listeners(task):
        return True
    if task is None or not hasattr(task, "durable_call"):
        return False
    is_wrapped = (
        status is RuntimeStatus.FAILED and type(task).__call__ is not type(task).durable_call
    )  # by Sentry and the like
    return is_wrapped or any(task_has_custom(task, handler) for handler in handlers)


def shown_arguments(codec: PayloadCodec, record: InstanceRecord) -> dict[str, Any]:
    """Return what a task's request tells of its arguments: those of the current execution, shown as
    the start wished.

    Raises:
        PayloadError: they are damaged.
    """
    args, kwargs = codec.decode(record.input or "[[], {}]")
    shown = dict(CanvasOptions.read(codec, record.canvas).shown)
    if record.version == TASK:
        shown["durable_name"] = record.name  # its messages are of another task
    texts = {"argsrepr": saferepr(tuple(args), _LONGEST), "kwargsrepr": saferepr(kwargs, _LONGEST)}
    return {"args": tuple(args), "kwargs": dict(kwargs), **texts, **shown}


def end_in_words(status: RuntimeStatus, reason: str | None) -> str:
    """Return why an orchestration was revoked."""
    return f"{status}: {reason}" if reason else str(status)


def store_end(
    backend: Any,
    codec: PayloadCodec,
    address: TurnAddress,
    status: RuntimeStatus,
    payloads: Mapping[str, str | None],
    about: Mapping[str, Any],
) -> None:
    """Store the result of an orchestration as a worker would.

    ``about`` is what its request knows beside the ids.
    """
    known = {"args": (), "kwargs": {}, "children": [], "ignore_result": False, "retries": 0}
    ids = {"id": address.id, "task": address.name, "root_id": address.root_id or address.id}
    request = Context(**{**known, **ids, **about})
    if status is RuntimeStatus.COMPLETED:
        backend.store_result(
            address.id, codec.decode(payloads["output"] or "null"), "SUCCESS", request=request
        )
    elif status is RuntimeStatus.FAILED:
        error, _ = codec.decode_failure(payloads["failure"] or "")
        trace = "".join(traceback.format_exception(error))
        backend.store_result(address.id, error, "FAILURE", traceback=trace, request=request)
    else:
        reason = payloads["reason"]
        revoked = OrchestrationRevoked(
            f"orchestration {address.id!r} is {end_in_words(status, reason)}",
            instance_id=address.id,
            status=status,
            reason=reason,
        )
        backend.store_result(address.id, revoked, "REVOKED", request=request)


def log_failure(task: Any, codec: PayloadCodec, address: TurnAddress, failure: str | None) -> None:
    """Log a failure that no tracer logs, as the tracer would."""
    try:
        error, _ = codec.decode_failure(failure or "")
    except DurableError as damage:
        error = damage
    policy = get_log_policy(
        task or SimpleNamespace(throws=()), SimpleNamespace(internal=False), error
    )
    text = "".join(traceback.format_exception(error))
    context = {
        "id": address.id,
        "name": address.name,
        "exc": encodable(saferepr(error)),
        "description": policy.description,
        "hostname": None,
        "traceback": encodable(text),
        "args": "",
        "kwargs": "",
        "internal": False,
    }
    # handlers write UTF-8, which cannot hold half a character
    is_writable = text == encodable(text)
    log.log(
        policy.severity,
        policy.format.strip(),
        context,
        exc_info=(
            (type(error), error, error.__traceback__) if policy.traceback and is_writable else None
        ),
        extra={
            "data": context,
            "durable_instance": address.id,
            "durable_orchestration": address.name,
        },
    )


# -- results that a backend refuses ----------------------------------------------------------------


def store_again(
    store_result: Callable[..., Any],
    task_id: str,
    result: Any,
    state: str,
    trace: str | None,
    request: Any,
    **options: Any,
) -> Any:
    """Store a result that was not stored the first time.

    One that is refused for what it is, is replaced by a few words about it.

    What a backend refuses twice, while it takes a short text right afterwards, it will always
    refuse: it is too large, or cannot be encoded. The output itself is in the store, and
    ``durable.get(id).output`` has it.

    Raises:
        Exception: whatever the backend raises that may pass.
    """
    try:
        return store_result(task_id, result, state, trace, request, **options)
    except Exception as error:
        if _may_pass(error):
            raise
        log.debug("the result backend refuses the result of %r", task_id, exc_info=True)
    try:
        return store_result(task_id, result, state, trace, request, **options)
    except Exception as error:
        if _may_pass(error):
            raise
        refusal = f"{type(error).__name__}: {error}"[:_LONGEST]
    what = (
        f"result of orchestration {task_id!r}"
        if state == "SUCCESS"
        else f"end of orchestration {task_id!r} ({state})"
    )
    refused = PayloadError(
        f"the result backend refuses the {what}: {refusal}. durable.get({task_id!r}) has it"
    )
    small = Context(
        {**vars(request), "args": None, "kwargs": None, "argsrepr": None, "kwargsrepr": None}
    )
    answer = store_result(
        task_id, refused, "FAILURE" if state == "SUCCESS" else state, None, small, **options
    )
    log.error("%s", refused)
    return answer


def _may_pass(error: BaseException | None) -> bool:
    """Tell whether an error of a backend may be gone later: the way to it is blocked, or it is
    busy.
    """
    while error is not None:
        if isinstance(error, OSError) or any(
            cls.__name__ in _PASSING for cls in type(error).__mro__
        ):
            return True
        error = error.__cause__
    return False
