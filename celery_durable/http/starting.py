"""Starting an orchestrator by its name, and what a start answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..core.entity import RESERVED
from ..core.status import RuntimeStatus
from ..errors import PayloadError
from ..handles.orchestration import Orchestration
from .messages import Problem, Response, as_json
from .parameters import SECONDS, Parameter
from .routes import Call, Route
from .shapes import accepted, output_of

__all__ = ["ROUTES", "too_large_or_bad"]

LONGEST_WAIT = 60.0
_QUERY = (
    Parameter(
        "timeout",
        SECONDS,
        f"Wait so long for the end, {LONGEST_WAIT:.0f} at most; with pollingInterval.",
    ),
    Parameter(
        "pollingInterval",
        SECONDS,
        "Must be given for a wait; the store is looked at every second or more often.",
    ),
    Parameter("runTimeout", SECONDS, "How long the whole run may take; above 0."),
)


def start(call: Call) -> Response:
    """Start an orchestrator; the same id once more is the same orchestration."""
    name, instance_id = call.path["name"], call.path.get("instanceId")
    if name.startswith(RESERVED) or name not in call.durable.registry:
        raise Problem(400, f"there is no orchestrator {name!r}", field="name")
    run = _started(call, name, instance_id, call.body())
    if call.query["timeout"] is not None and call.query["pollingInterval"] is not None:
        status = _wait(run, call.query["timeout"])
        if status is RuntimeStatus.COMPLETED and call.may_view_payloads():
            return as_json(200, output_of(run))
    return accepted(call.request.base, run.id)


def _started(call: Call, name: str, instance_id: str | None, given: Any) -> Orchestration:
    signature = call.durable.app.signature(name, args=() if given is None else (given,))
    try:
        run: Orchestration = call.durable.start(
            signature, instance_id=instance_id, timeout=call.query["runTimeout"]
        )
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except TypeError as error:
        raise Problem(
            400, f"orchestrator {name!r} cannot take this input: {error}", field="body"
        ) from error
    except ValueError as error:
        field = "runTimeout" if call.query["runTimeout"] == 0 else "instanceId"
        raise Problem(400, str(error), field=field) from error
    if instance_id is not None and run.refresh().name != name:
        raise Problem(
            409, f"{instance_id!r} is an orchestration of another orchestrator", field="instanceId"
        )
    return run


def too_large_or_bad(error: PayloadError) -> Problem:
    """Return the answer to a value that the store does not take."""
    return Problem(413 if "limit" in error.facts else 400, str(error), field="body")


def _wait(run: Orchestration, timeout: float) -> RuntimeStatus:
    """Wait for the end, for a bounded time, and return the status."""
    # time-outs, and failures of the orchestration itself: its status says so
    with suppress(Exception):
        run.wait(min(timeout, LONGEST_WAIT))
    return run.refresh().runtime_status


_ABOUT_STARTED = {
    202: "It is started, or was already: its addresses.",
    200: "The wait was long enough: what the orchestrator returned, as it is.",
    400: "No JSON, or no such orchestrator, or an input that it cannot take.",
    409: "The id is that of another orchestrator's orchestration.",
    413: "The input is larger than durable_payload_limit.",
}
ROUTES = (
    Route(
        "POST",
        "orchestrators/{name}",
        "start",
        start,
        "Start an orchestrator under a new id.",
        _ABOUT_STARTED,
        _QUERY,
        takes_body=True,
    ),
    Route(
        "POST",
        "orchestrators/{name}/{instanceId}",
        "start",
        start,
        "Start an orchestrator under this id, once.",
        _ABOUT_STARTED,
        _QUERY,
        takes_body=True,
    ),
)
