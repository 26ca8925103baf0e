"""What the answers read like: the bodies that front ends of the Durable Functions host know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ..azure import OrchestrationRuntimeStatus
from ..azure.entities import shown_state
from ..core.history import EventKind
from ..core.kinds import KINDS
from ..errors import PayloadError
from ..handles.entity import Entity
from ..handles.fields import json_output_of
from ..handles.orchestration import Orchestration
from ..inspection.views import timeline_view, without_message
from .messages import Response, as_json

__all__ = [
    "accepted",
    "check_status_body",
    "entity_body",
    "history_body",
    "instance_url",
    "output_of",
    "status_body",
    "time_text",
]


def time_text(moment: datetime | None) -> str | None:
    """Return a time in UTC, to the second."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _to_the_second(text: str) -> str:
    return f"{text[:19]}Z"


def instance_url(base: str, instance_id: str) -> str:
    """Return the address of an orchestration below the mount."""
    return f"{base}instances/{quote(instance_id, safe='')}"


def check_status_body(base: str, instance_id: str) -> dict[str, str]:
    """Return the addresses by which an orchestration is watched and steered.

    Args:
        base: the absolute URL of the mount, with a slash at its end.
        instance_id: any id.
    """
    url = instance_url(base, instance_id)
    return {
        "id": instance_id,
        "statusQueryGetUri": url,
        "sendEventPostUri": f"{url}/raiseEvent/{{eventName}}",
        "terminatePostUri": f"{url}/terminate?reason={{text}}",
        "purgeHistoryDeleteUri": url,
        "restartPostUri": f"{url}/restart",
        "suspendPostUri": f"{url}/suspend",
        "resumePostUri": f"{url}/resume",
        "rewindPostUri": f"{url}/rewind",
    }


def accepted(base: str, instance_id: str) -> Response:
    """Return the answer to a start: 202, and where to read."""
    body = check_status_body(base, instance_id)
    return as_json(202, body, {"Location": body["statusQueryGetUri"], "Retry-After": "10"})


def status_body(
    run: Orchestration,
    *,
    shows_input: bool = True,
    shows_payloads: bool = False,
    shows_output: bool = True,
) -> dict[str, Any]:
    """Return where an orchestration stands; what is hidden is null."""
    return {
        "name": run.name,
        "instanceId": run.id,
        "runtimeStatus": str(OrchestrationRuntimeStatus(run.runtime_status.capitalize())),
        "input": _readable(lambda: _given(run.input)) if shows_payloads and shows_input else None,
        "customStatus": _readable(lambda: run.custom_status) if shows_payloads else None,
        "output": output_of(run) if shows_payloads and shows_output else None,
        "createdTime": time_text(run.created_at),
        "lastUpdatedTime": time_text(max(run.updated_at, run.created_at)),
    }


def output_of(run: Orchestration) -> Any:
    """Return the result, or the text of the failure."""
    return _readable(lambda: json_output_of(run) if run.failure is None else str(run.failure))


def _given(arguments: Mapping[str, Any]) -> Any:
    """Return the one argument of an orchestration.

    What was started otherwise shows all of them by their places and names.
    """
    args, kwargs = arguments["args"], arguments["kwargs"]
    if kwargs or len(args) > 1:
        return {"args": args, "kwargs": kwargs}
    return args[0] if args else None


def _readable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except PayloadError as error:
        return f"cannot be decoded: {error}"
    except Exception as error:  # a rebuilt exception says its text by code of its own
        return f"cannot be shown: {type(error).__name__}"


# -- history ---------------------------------------------------------------------------------------

#: The host's names of what has happened; all else goes by our own name.
_EVENT_TYPES = {
    "ActivityScheduled": "TaskScheduled",
    "ActivityCompleted": "TaskCompleted",
    "ActivityFailed": "TaskFailed",
    "ChildStarted": "SubOrchestrationInstanceCreated",
    "ChildCompleted": "SubOrchestrationInstanceCompleted",
    "ChildFailed": "SubOrchestrationInstanceFailed",
}
_ENDS = {
    "ExecutionCompleted": OrchestrationRuntimeStatus.Completed,
    "ExecutionFailed": OrchestrationRuntimeStatus.Failed,
    "ExecutionCanceled": OrchestrationRuntimeStatus.Canceled,
    "ExecutionTerminated": OrchestrationRuntimeStatus.Terminated,
}
#: What has the name of code where it has one; messages have names of their own.
_OF_CODE = frozenset(map(str, EventKind)) - {
    event for event, kind in KINDS.owners.items() if kind.message
}


def history_body(
    run: Orchestration, *, shows_output: bool, shows_input: bool, shows_payloads: bool
) -> list[Any]:
    """Return what has happened, as ``historyEvents`` holds it."""
    found = timeline_view(run, run.history(), payloads=True)
    if not shows_payloads:
        for facts in (each["facts"] for each in found):
            facts["reason"] = without_message(str(facts.get("reason") or ""))
    scheduled = {each["command"]: each for each in found if each["kind"] in KINDS.asked}
    return [
        _event_body(
            each,
            scheduled,
            shows_output and shows_payloads,
            shows_input and shows_payloads,
            run.name,
        )
        for each in found
    ]


def _event_body(
    event: Mapping[str, Any],
    scheduled: Mapping[int | None, Any],
    shows_output: bool,
    shows_input: bool,
    name: str,
) -> dict[str, Any]:
    kind, first = event["kind"], scheduled.get(event["command"])
    called = event["name"] or (first["name"] if first is not None else "")
    body: dict[str, Any] = {
        "EventType": _EVENT_TYPES.get(kind, kind),
        "Timestamp": _to_the_second(event["at"]),
    }
    if kind == "ExecutionStarted":
        body["FunctionName"] = name
    elif called:
        body["FunctionName" if kind in _OF_CODE else "Name"] = called
    if event["attempt"]:
        body["Attempt"] = event["attempt"]
    if first is not None and first is not event:
        body["ScheduledTime"] = _to_the_second(first["at"])
    if kind in _ENDS:
        body["OrchestrationStatus"] = str(_ENDS[kind])
    if reason := event["facts"].get("reason"):
        body["Reason"] = reason
    if shows_output and "error" in event:
        body["Reason"] = event["error"]
    if "payload" in event:
        is_outcome = kind in KINDS.results
        if shows_output if is_outcome else shows_input:
            body["Result" if is_outcome else "Input"] = event["payload"]
    return body


# -- entities --------------------------------------------------------------------------------------


def entity_body(entity: Entity, *, shows_state: bool) -> dict[str, Any]:
    """Return an entity as a list shows it; its state only if asked for."""
    body: dict[str, Any] = {
        "entityId": {"name": entity.name, "key": entity.key},
        "lastOperationTime": time_text(entity.updated_at),
    }
    return body | ({"state": shown_state(entity.state)} if shows_state else {})
