"""The routes of the verbs, made from their table.

A verb is ``POST instances/{id}/<name>``, with its reason and its arguments in the query and a JSON
argument as the body. Where the contract of Durable Functions has a form or codes of its own
(``raiseEvent``, ``rewind``, ``restart``, deleting), the route is written out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..core.names import parts_of_id
from ..core.status import RuntimeStatus
from ..engine.verb import LIVE, Argument, Effect, Kind, Surface, Verb
from ..engine.verbs import VERBS, offered_in
from ..errors import InstanceNotFound, InvalidState, PayloadError
from ..handles.orchestration import Orchestration
from .access import RAISE_EVENT_MANY
from .instances import CREATED_FROM, CREATED_TO, STATUS, UNKNOWN, created_within, found
from .messages import Problem, Response, as_json
from .parameters import BOOLEAN, NUMBER, TAGS, TEXT, Parameter
from .parameters import Kind as ParameterKind
from .routes import Call, Route
from .shapes import accepted
from .starting import too_large_or_bad

__all__ = ["verb_routes"]

#: So many are deleted by one request; the next one continues.
MOST_PURGED = 2000
_KINDS: Mapping[Kind, ParameterKind] = {
    Kind.TEXT: TEXT,
    Kind.ERROR: TEXT,
    Kind.NUMBER: NUMBER,
    Kind.FLAG: BOOLEAN,
}
_REASON = Parameter("reason", TEXT, "Why: kept in history.")
_ENDED = "It is over."


def verb_routes() -> tuple[Route, ...]:
    """Return the routes of all verbs that are offered, in the table's order."""
    return tuple(
        route for verb in offered_in(Surface.HTTP) for route in _OWN.get(verb.name, _common)(verb)
    )


# -- most verbs ------------------------------------------------------------------------------------


def _common(verb: Verb) -> tuple[Route, ...]:
    """Return the route of a verb that has no form of its own."""
    answers = {202: "It is done, or was so already.", 404: UNKNOWN, 410: _ENDED}
    if any(verb.effect_in(status) is Effect.REFUSED for status in LIVE):
        answers[409] = "It is not possible in its status."
    parameters = [_REASON] if verb.keeps_reason else []
    arguments = verb.arguments_in(Surface.HTTP)
    parameters += [_parameter(each) for each in arguments if each.kind is not Kind.JSON]
    return (
        _post(
            verb,
            verb.name,
            partial(_steer, verb),
            answers,
            *parameters,
            takes_body=any(each.kind is Kind.JSON for each in arguments),
        ),
    )


def _post(
    verb: Verb,
    path: str,
    handler: Callable[[Call], Response],
    answers: Mapping[int, str],
    *parameters: Parameter,
    takes_body: bool = False,
) -> Route:
    return Route(
        "POST",
        f"instances/{{id}}/{path}",
        verb.name,
        handler,
        verb.words.meaning_in(Surface.HTTP),
        answers,
        parameters,
        takes_body,
    )


def _parameter(argument: Argument) -> Parameter:
    return Parameter(
        argument.name_in(Surface.HTTP),
        _KINDS[argument.kind],
        argument.help,
        default=argument.default,
        is_required=argument.is_required,
    )


def _steer(verb: Verb, call: Call) -> Response:
    """Apply a verb, and answer 202; with the addresses of the other one, if it makes one."""
    run = found(call)
    if run.runtime_status not in verb.acts_in:
        _refuse_ended(run)
    try:
        result = verb.apply(call.durable.runtime.client, run.id, _given(verb, call))
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except ValueError as error:
        raise Problem(400, str(error)) from error
    except InvalidState as error:
        has_ended = getattr(error.facts.get("status"), "is_terminal", False)
        raise Problem(410 if has_ended else 409, str(error)) from error
    return accepted(call.request.base, result) if isinstance(result, str) else Response(202)


def _given(verb: Verb, call: Call) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if verb.keeps_reason:
        given["reason"] = call.reason(call.query["reason"])
    for argument in verb.arguments_in(Surface.HTTP):
        if argument.kind is Kind.JSON:
            given[argument.name] = call.body()
            continue
        value = call.query[argument.name_in(Surface.HTTP)]
        is_error = argument.kind is Kind.ERROR and value is not None
        given[argument.name] = RuntimeError(value) if is_error else value
    return given


def _refuse_ended(run: Orchestration) -> None:
    if run.runtime_status.is_terminal:
        raise Problem(410, f"orchestration {run.id!r} is {run.runtime_status}: it is over")


# -- raiseEvent ------------------------------------------------------------------------------------


def _raise_event(call: Call) -> Response:
    run = found(call)
    _refuse_ended(run)
    try:
        run.raise_event(call.path["eventName"], call.body())
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except ValueError as error:
        raise Problem(400, str(error), field="eventName") from error
    except InvalidState as error:
        raise Problem(410, str(error)) from error
    return Response(202)


def _raise_event_many(call: Call) -> Response:
    query, wanted = call.query, call.query["runtimeStatus"]
    filters = {
        "status": wanted,
        "name": query["name"],
        "tags": query["tag"],
        "id_prefix": query["instanceIdPrefix"],
        **created_within(query),
    }
    chosen = {name: value for name, value in filters.items() if value is not None}
    event_id = query["eventId"] or str(uuid.uuid4())
    if wanted == ():  # only such as nothing here ever has
        return as_json(202, {"eventId": event_id, "instancesMatched": 0, "eventsRaised": 0})
    try:
        done = call.durable.raise_event_many(
            call.path["eventName"], call.body(), event_id=event_id, **chosen
        )
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except ValueError as error:
        raise Problem(400, str(error), field="eventName") from error
    counts = {"instancesMatched": done.matched, "eventsRaised": done.done}
    return as_json(202, {"eventId": event_id, **counts})


def _many_events() -> Route:
    return Route(
        "POST",
        "events/{eventName}",
        RAISE_EVENT_MANY,
        _raise_event_many,
        "Raise an external event on all orchestrations that match, each once for one eventId.",
        {
            202: "It will be delivered to so many.",
            400: "No JSON, no runtimeStatus, or a name or a parameter that cannot be used.",
            413: "The payload is larger than durable_payload_limit.",
        },
        (
            Parameter("name", TEXT, "Of the orchestrator."),
            Parameter("tag", TAGS, "That have all of these tags, such as customer=7."),
            Parameter("instanceIdPrefix", TEXT, "Whose ids begin so."),
            CREATED_FROM,
            CREATED_TO,
            replace(STATUS, is_required=True),
            Parameter("eventId", TEXT, "Deduplicates: made up, and answered, if it is left out."),
        ),
        takes_body=True,
    )


def _event_routes(verb: Verb) -> tuple[Route, ...]:
    answers = {
        202: "It will be delivered.",
        400: "No JSON, or a name that cannot be used.",
        404: UNKNOWN,
        410: _ENDED,
        413: "The payload is larger than durable_payload_limit.",
    }
    return (
        _post(verb, "raiseEvent/{eventName}", _raise_event, answers, takes_body=True),
        _many_events(),
    )


# -- rewind ----------------------------------------------------------------------------------------


def _rewind(call: Call) -> Response:
    run = found(call)
    status = run.runtime_status
    if status is not RuntimeStatus.FAILED:
        code = 410 if status.is_terminal else 400
        raise Problem(
            code, f"orchestration {run.id!r} is {status}: only one that is FAILED can be rewound"
        )
    try:
        run.rewind(reason=call.reason(call.query["reason"]))
    except InvalidState as error:
        raise Problem(409, str(error)) from error
    return Response(202)


def _rewind_routes(verb: Verb) -> tuple[Route, ...]:
    answers = {
        202: "It runs again.",
        400: "It has not failed.",
        404: UNKNOWN,
        410: "It is over, and has not failed.",
        409: "Its end is not told to Celery yet, or it could not be archived: try again.",
    }
    return (_post(verb, "rewind", _rewind, answers, _REASON),)


# -- restart ---------------------------------------------------------------------------------------


def _restart(call: Call) -> Response:
    instance_id = call.path["id"]
    try:
        if parts_of_id(instance_id) is not None:
            raise InstanceNotFound(f"{instance_id[:200]!r} is an entity, not an orchestration")
        run = call.durable.get(instance_id)
        again = run.restart(str(uuid.uuid4()) if call.query["restartWithNewInstanceId"] else None)
    except (InstanceNotFound, ValueError) as error:
        raise Problem(400, str(error), field="id") from error
    except InvalidState as error:
        raise Problem(400, str(error), field="restartWithNewInstanceId") from error
    return accepted(call.request.base, again.id)


def _restart_routes(verb: Verb) -> tuple[Route, ...]:
    answers = {
        202: "It is started: its addresses.",
        400: "There is no such orchestration, or it is not over.",
    }
    with_new_id = Parameter(
        "restartWithNewInstanceId",
        BOOLEAN,
        "Under a new id; else in the place of the old one, which must be over.",
        default=True,
    )
    return (_post(verb, "restart", _restart, answers, with_new_id),)


# -- deleting --------------------------------------------------------------------------------------


def _purge(call: Call) -> Response:
    run = found(call)
    try:
        run.purge()
    except InvalidState as error:
        if run.runtime_status.is_terminal:
            raise Problem(409, str(error)) from error
        raise Problem(404, f"nothing is deleted: {error}") from error
    return as_json(200, {"instancesDeleted": 1})


def _purge_many(call: Call) -> Response:
    wanted = call.query["runtimeStatus"]
    ended = [s for s in VERBS["purge"].acts_in if wanted is None or s in wanted]
    deleted = 0
    if ended:
        within = created_within(call.query)
        deleted = call.durable.purge(status=ended, limit=MOST_PURGED, **within).done
    if not deleted:
        raise Problem(404, "no finished orchestration matches: nothing is deleted")
    return as_json(200, {"instancesDeleted": deleted})


def _purge_routes(verb: Verb) -> tuple[Route, ...]:
    return (
        Route(
            "DELETE",
            "instances/{id}",
            verb.name,
            _purge,
            verb.words.meaning_in(Surface.HTTP),
            {
                200: "It is deleted.",
                404: "There is none, or it is not over.",
                409: "Its end is not told to Celery yet, or it could not be archived: try again.",
            },
        ),
        Route(
            "DELETE",
            "instances",
            verb.name,
            _purge_many,
            f"Delete finished orchestrations, up to {MOST_PURGED} at a time.",
            {
                200: "So many are deleted.",
                400: "createdTimeFrom is missing, or a parameter cannot be used.",
                404: "None is deleted.",
            },
            (replace(CREATED_FROM, is_required=True), CREATED_TO, STATUS),
        ),
    )


_OWN: Mapping[str, Callable[[Verb], tuple[Route, ...]]] = {
    "raise_event": _event_routes,
    "rewind": _rewind_routes,
    "restart": _restart_routes,
    "purge": _purge_routes,
}
