"""Entities: looking at one or many, signals, and deleting.

Their ids, as hooks see them, are ``@name@key``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..azure.entities import shown_state
from ..core.entity import entity_id, orchestrator_of
from ..errors import InstanceNotFound, PayloadError
from ..handles.entity import Entity
from .instances import CONTINUATION, TOP, page_of
from .messages import Problem, Response, as_json
from .parameters import BOOLEAN, MOMENT, OPERATION, Parameter
from .routes import Call, Route
from .shapes import entity_body
from .starting import too_large_or_bad

__all__ = ["ROUTES"]


def browse(call: Call) -> Response:
    """List entities, those made last first."""
    query = call.query
    shows = bool(query["fetchState"]) and call.may_view_payloads()
    page = page_of(call, call.durable.entities, call.path.get("name"))
    bodies = [
        entity_body(each, shows_state=shows) for each in page.items if _is_within(each, query)
    ]
    return as_json(200, bodies, {CONTINUATION.name: page.next_cursor} if page.next_cursor else {})


def _is_within(entity: Entity, query: Any) -> bool:
    begin, end = query["lastOperationTimeFrom"], query["lastOperationTimeTo"]
    return (begin is None or entity.updated_at >= begin) and (
        end is None or entity.updated_at <= end
    )


def show(call: Call) -> Response:
    """Answer the state of an entity."""
    reference = _reference(call)
    if not call.may_view_payloads():
        raise Problem(403, "this client may not see what entities hold")
    if (state := shown_state(reference.state())) is None:
        raise _unknown(call)
    return as_json(200, state)


def signal(call: Call) -> Response:
    """Ask for an operation, one-way."""
    reference, operation = _reference(call), call.query["op"]
    if orchestrator_of(call.path["name"]) not in call.durable.registry:
        raise Problem(404, f"there is no class of entities {call.path['name']!r}")
    given = call.body()
    try:
        getattr(reference.signal, operation)(*(() if given is None else (given,)))
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    return Response(202)


def delete(call: Call) -> Response:
    """Delete an entity; without effect if there is none."""
    reference = _reference(call)
    with suppress(InstanceNotFound):
        call.durable.get(reference.id).terminate(reason=call.reason("deleted by request"))
    return Response(202)


def _reference(call: Call) -> Any:
    try:
        entity_id(call.path["name"], call.path["key"])
        return call.durable.entity(call.path["name"], call.path["key"])
    except ValueError as error:
        raise _unknown(call) from error


def _unknown(call: Call) -> Problem:
    return Problem(
        404, f"there is no entity {call.path['key'][:200]!r} of {call.path['name'][:100]!r}"
    )


_LIST = (
    Parameter(
        "fetchState",
        BOOLEAN,
        "Whether states are shown; needs the payload permission.",
        default=False,
    ),
    Parameter("lastOperationTimeFrom", MOMENT, "Used at this time or later."),
    Parameter("lastOperationTimeTo", MOMENT, "Used at this time or earlier."),
    TOP,
    CONTINUATION,
)
_PAGE = {
    200: (
        "A page, which the times may leave short; the header of that name has the token of the next"
        " one."
    ),
    400: "A parameter cannot be used.",
}
ROUTES = (
    Route("GET", "entities", "view", browse, "Entities, those made last first.", _PAGE, _LIST),
    Route("GET", "entities/{name}", "view", browse, "Entities of one class.", _PAGE, _LIST),
    Route(
        "GET",
        "entities/{name}/{key}",
        "view",
        show,
        "What an entity holds; needs the payload permission.",
        {200: "Its state.", 404: "There is none, or it holds nothing yet."},
    ),
    Route(
        "POST",
        "entities/{name}/{key}",
        "raise_event",
        signal,
        "Ask for an operation, one-way; it makes the entity.",
        {
            202: "It will be done.",
            400: "No JSON, or op is missing or none.",
            404: "There is no such class of entities.",
            413: "The argument is larger than durable_payload_limit.",
        },
        (Parameter("op", OPERATION, "The operation.", is_required=True),),
        takes_body=True,
    ),
    Route(
        "DELETE",
        "entities/{name}/{key}",
        "terminate",
        delete,
        "Delete what an entity holds.",
        {202: "It is deleted, or there was none.", 404: "No entity can be called so."},
    ),
)
