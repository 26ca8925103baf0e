"""Orchestrations: looking at one or many, events, and the verbs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..core.entity import ORCHESTRATORS, parts_of_id
from ..core.status import RuntimeStatus
from ..engine.verbs import statuses_of
from ..errors import InstanceNotFound, InvalidState, PayloadError
from ..result import Orchestration
from .messages import Problem, Response, as_json
from .parameters import BOOLEAN, COUNT, MOMENT, STATUSES, TEXT, Parameter
from .routes import Call, Route
from .shapes import history_body, instance_url, status_body
from .starting import too_large_or_bad

__all__ = ["CONTINUATION", "ROUTES", "TOP", "page_of"]

#: So many are deleted by one request; the next one goes on.
MOST_PURGED = 2000
_LARGEST_PAGE = 1000
_TOKEN = "x-ms-continuation-token"  # noqa: S105  not a secret
CONTINUATION = Parameter(_TOKEN, TEXT, "Of the page before: the header of that name.", place="header")
TOP = Parameter("top", COUNT, f"At most so many, {_LARGEST_PAGE} at most.", default=100)


def found(call: Call) -> Orchestration:
    """Return the orchestration that the path names; entities have routes of their own.

    Raises:
        Problem: 404.
    """
    instance_id = call.path["id"]
    try:
        if parts_of_id(instance_id) is not None:
            raise InstanceNotFound(f"{instance_id!r} is an entity")
        run: Orchestration = call.durable.get(instance_id)
    except (InstanceNotFound, ValueError) as error:
        raise Problem(404, f"there is no orchestration {instance_id[:200]!r}") from error
    return run


# -- looking ------------------------------------------------------------------------------------------------


def look(call: Call) -> Response:
    """Answer 202 while it goes on, and 200 at its end."""
    run, query = found(call), call.query
    shows = call.may_view_payloads()
    body = status_body(run, shows_input=query["showInput"], shows_payloads=shows)
    if query["showHistory"]:
        body["historyEvents"] = history_body(
            run, shows_output=query["showHistoryOutput"], shows_input=query["showInput"], shows_payloads=shows
        )
    status = run.runtime_status
    if not status.is_terminal:
        return as_json(202, body, {"Location": _same_url(call, run.id), "Retry-After": "5"})
    has_failed = status is RuntimeStatus.FAILED
    return as_json(500 if has_failed and query["returnInternalServerErrorOnFailure"] else 200, body)


def _same_url(call: Call, instance_id: str) -> str:
    query = call.request.query
    return instance_url(call.request.base, instance_id) + (f"?{query}" if query else "")


def browse(call: Call) -> Response:
    """List orchestrations, newest first."""
    query, statuses = call.query, call.query["runtimeStatus"]
    if statuses == ():  # only such as nothing here ever has
        return as_json(200, [])
    shows = call.may_view_payloads()
    page = page_of(
        call,
        call.durable.find,
        with_payloads=shows,
        **_created(query),
        id_prefix=query["instanceIdPrefix"],
        status=statuses,
    )
    bodies = [
        status_body(run, shows_input=query["showInput"], shows_payloads=shows)
        for run in page.items if not run.name.startswith(ORCHESTRATORS)
    ]  # fmt: skip
    return as_json(200, bodies, {_TOKEN: page.next_cursor} if page.next_cursor else {})


def page_of(call: Call, find: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the page that ``top`` and the continuation token ask for.

    Raises:
        Problem: 400, the token is none that a list gave.
    """
    token = call.request.headers.get(_TOKEN) or None
    try:
        return find(*args, limit=min(int(call.query["top"]), _LARGEST_PAGE), cursor=token, **options)
    except ValueError as error:
        if token is None:
            raise
        raise Problem(400, f"{_TOKEN} is none that a list gave", field=_TOKEN) from error


def _created(query: Any) -> dict[str, Any]:
    until = query["createdTimeTo"]
    try:
        after = until if until is None else until + timedelta(microseconds=1)  # the moment itself is within
    except OverflowError:
        after = until
    return {"created_after": query["createdTimeFrom"], "created_before": after}


# -- deleting -----------------------------------------------------------------------------------------------


def purge(call: Call) -> Response:
    """Delete a finished orchestration."""
    run = found(call)
    try:
        run.purge()
    except InvalidState as error:
        if run.runtime_status.is_terminal:
            raise Problem(409, str(error)) from error
        raise Problem(404, f"nothing is deleted: {error}") from error
    return as_json(200, {"instancesDeleted": 1})


def purge_many(call: Call) -> Response:
    """Delete finished orchestrations."""
    wanted = call.query["runtimeStatus"]
    over = [status for status in statuses_of("purge") if wanted is None or status in wanted]
    deleted = 0
    if over:
        deleted = call.durable.purge(status=over, limit=MOST_PURGED, **_created(call.query)).done
    if not deleted:
        raise Problem(404, "no finished orchestration matches: nothing is deleted")
    return as_json(200, {"instancesDeleted": deleted})


# -- steering -----------------------------------------------------------------------------------------------


def raise_event(call: Call) -> Response:
    """Raise an external event."""
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


def _refuse_ended(run: Orchestration) -> None:
    if run.runtime_status.is_terminal:
        raise Problem(410, f"orchestration {run.id!r} is {run.runtime_status}: it is over")


def _steering(verb: Callable[[Orchestration, str | None], object]) -> Callable[[Call], Response]:
    def steer(call: Call) -> Response:
        run = found(call)
        _refuse_ended(run)
        try:
            verb(run, call.query["reason"])
        except InvalidState as error:
            raise Problem(410, str(error)) from error
        return Response(202)

    return steer


def rewind(call: Call) -> Response:
    """Run again what made a failed orchestration fail."""
    run = found(call)
    status = run.runtime_status
    if status is not RuntimeStatus.FAILED:
        code = 410 if status.is_terminal else 400
        raise Problem(code, f"orchestration {run.id!r} is {status}: only one that is FAILED can be rewound")
    try:
        run.rewind(reason=call.query["reason"])
    except InvalidState as error:
        raise Problem(409, str(error)) from error
    return Response(202)


# -- the table ------------------------------------------------------------------------------------------------

_REASON = (Parameter("reason", TEXT, "Why: kept in history."),)
_UNKNOWN, _ENDED = "There is no such orchestration.", "It is over."
_SHOW_INPUT = Parameter("showInput", BOOLEAN, "Whether the input is shown; needs the payload permission.", default=True)
_FROM, _TO = "Created at this time or later.", "Created at this time or earlier."
_STATUS = Parameter("runtimeStatus", STATUSES, "With one of these statuses.")
_STEERED = {202: "It is done, or was so already.", 404: _UNKNOWN, 410: _ENDED}


def _verb(name: str, about: str, verb: Callable[[Orchestration, str | None], object]) -> Route:
    return Route("POST", f"instances/{{id}}/{name}", name, _steering(verb), about, _STEERED, _REASON)


ROUTES = (
    Route(
        "GET", "instances/{id}", "view", look, "Where an orchestration stands.",
        {
            202: "It goes on: ask again.", 200: "It is over.", 404: _UNKNOWN,
            500: "It has failed, and returnInternalServerErrorOnFailure is set.",
        },
        (
            Parameter("showHistory", BOOLEAN, "Whether what has happened is shown, as historyEvents.", default=False),
            Parameter("showHistoryOutput", BOOLEAN, "Whether that has results; needs the payload permission.", default=False),
            _SHOW_INPUT,
            Parameter("returnInternalServerErrorOnFailure", BOOLEAN, "Answer 500 if it has failed.", default=False),
        ),
    ),
    Route(
        "GET", "instances", "view", browse, "Orchestrations, newest first.",
        {200: "A page of them; the header of that name has the token of the next page.", 400: "A parameter cannot be used."},
        (
            Parameter("instanceIdPrefix", TEXT, "Whose ids begin so."),
            Parameter("createdTimeFrom", MOMENT, _FROM), Parameter("createdTimeTo", MOMENT, _TO),
            _STATUS, _SHOW_INPUT, TOP, CONTINUATION,
        ),
    ),
    Route(
        "DELETE", "instances/{id}", "purge", purge, "Delete a finished orchestration, its history and its children.",
        {200: "It is deleted.", 404: "There is none, or it is not over.", 409: "Its end is not told to Celery yet: try again."},
    ),
    Route(
        "DELETE", "instances", "purge", purge_many, f"Delete finished orchestrations, up to {MOST_PURGED} at a time.",
        {200: "So many are deleted.", 400: "createdTimeFrom is missing, or a parameter cannot be used.", 404: "None is deleted."},
        (
            Parameter("createdTimeFrom", MOMENT, _FROM, is_required=True), Parameter("createdTimeTo", MOMENT, _TO),
            _STATUS,
        ),
    ),
    Route(
        "POST", "instances/{id}/raiseEvent/{eventName}", "raise_event", raise_event, "Raise an external event.",
        {
            202: "It will be delivered.", 400: "No JSON, or a name that cannot be used.", 404: _UNKNOWN, 410: _ENDED,
            413: "The payload is larger than durable_payload_limit.",
        },
        takes_body=True,
    ),
    _verb("terminate", "End it at once, with its children.", lambda run, reason: run.terminate(reason=reason)),
    _verb("suspend", "Let it take no more turns.", lambda run, reason: run.suspend(reason)),
    _verb("resume", "Let it go on.", lambda run, reason: run.resume(reason)),
    Route(
        "POST", "instances/{id}/rewind", "rewind", rewind, "Run again what made it fail.",
        {
            202: "It goes on.", 400: "It has not failed.", 404: _UNKNOWN, 410: "It is over, and has not failed.",
            409: "Its end is not told to Celery yet: try again.",
        },
        _REASON,
    ),
)  # fmt: skip
