"""Orchestrations: looking at one or many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..core.entity import ORCHESTRATORS
from ..core.names import parts_of_id
from ..core.status import RuntimeStatus
from ..errors import InstanceNotFound
from ..handles.orchestration import Orchestration
from .messages import Problem, Response, as_json
from .parameters import BOOLEAN, COUNT, MOMENT, STATUSES, TEXT, Parameter
from .routes import Call, Route
from .shapes import history_body, instance_url, status_body

__all__ = [
    "CONTINUATION",
    "CREATED_FROM",
    "CREATED_TO",
    "ROUTES",
    "STATUS",
    "TOP",
    "UNKNOWN",
    "created_within",
    "found",
    "page_of",
]

_LARGEST_PAGE = 1000
_LARGEST_ANSWER = 8_000_000
_READ_WITH_PAYLOADS = 50
_TOKEN = "x-ms-continuation-token"  # noqa: S105  not a secret
CONTINUATION = Parameter(
    _TOKEN, TEXT, "Of the page before: the header of that name.", place="header"
)
TOP = Parameter(
    "top",
    COUNT,
    f"At most so many, {_LARGEST_PAGE} at most; fewer where payloads are large.",
    default=100,
)


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


# -- looking ---------------------------------------------------------------------------------------


def show(call: Call) -> Response:
    """Answer 202 while it runs, and 200 at its end."""
    run, query = found(call), call.query
    shows = call.may_view_payloads()
    body = status_body(run, shows_input=query["showInput"], shows_payloads=shows)
    if query["showHistory"]:
        body["historyEvents"] = history_body(
            run,
            shows_output=query["showHistoryOutput"],
            shows_input=query["showInput"],
            shows_payloads=shows,
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
    filters = {**created_within(query), "id_prefix": query["instanceIdPrefix"], "status": statuses}
    token: str | None = call.request.headers.get(_TOKEN) or None
    left, size, bodies = _top(call), 0, []
    # payloads are read by few at a time: an answer stays of bounded size
    while left and size < _LARGEST_ANSWER:
        limit = min(left, _READ_WITH_PAYLOADS) if shows else left
        page = page_of(
            call, call.durable.find, limit=limit, cursor=token, with_payloads=shows, **filters
        )
        for run in page.items:
            if not run.name.startswith(ORCHESTRATORS):
                bodies.append(
                    status_body(run, shows_input=query["showInput"], shows_payloads=shows)
                )
                size += len(as_json(200, bodies[-1]).body) if shows else 0
        left, token = left - limit, page.next_cursor
        if token is None:
            break
    return as_json(200, bodies, {_TOKEN: token} if token else {})


def _top(call: Call) -> int:
    return min(int(call.query["top"]), _LARGEST_PAGE)


def page_of(call: Call, find: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the page that ``top`` and the continuation token ask for.

    Raises:
        Problem: 400, the token is none that a list gave.
    """
    token = call.request.headers.get(_TOKEN) or None
    try:
        return find(*args, **{"limit": _top(call), "cursor": token, **options})
    except ValueError as error:
        if token is None:
            raise
        raise Problem(400, f"{_TOKEN} is none that a list gave", field=_TOKEN) from error


def created_within(query: Any) -> dict[str, Any]:
    """Return the filters of the times that a query names, both inclusive."""
    until = query["createdTimeTo"]
    try:
        # the moment itself is within
        after = until if until is None else until + timedelta(microseconds=1)
    except OverflowError:
        after = until
    return {"created_after": query["createdTimeFrom"], "created_before": after}


# -- the table -------------------------------------------------------------------------------------

UNKNOWN = "There is no such orchestration."
_SHOW_INPUT = Parameter(
    "showInput", BOOLEAN, "Whether the input is shown; needs the payload permission.", default=True
)
CREATED_FROM = Parameter("createdTimeFrom", MOMENT, "Created at this time or later.")
CREATED_TO = Parameter("createdTimeTo", MOMENT, "Created at this time or earlier.")
STATUS = Parameter("runtimeStatus", STATUSES, "With one of these statuses.")
ROUTES = (
    Route(
        "GET",
        "instances/{id}",
        "view",
        show,
        "Where an orchestration stands.",
        {
            202: "It has not ended: ask again.",
            200: "It is over.",
            404: UNKNOWN,
            500: "It has failed, and returnInternalServerErrorOnFailure is set.",
        },
        (
            Parameter(
                "showHistory",
                BOOLEAN,
                "Whether what has happened is shown, as historyEvents.",
                default=False,
            ),
            Parameter(
                "showHistoryOutput",
                BOOLEAN,
                "Whether that has results; needs the payload permission.",
                default=False,
            ),
            _SHOW_INPUT,
            Parameter(
                "returnInternalServerErrorOnFailure",
                BOOLEAN,
                "Answer 500 if it has failed.",
                default=False,
            ),
        ),
    ),
    Route(
        "GET",
        "instances",
        "view",
        browse,
        "Orchestrations, newest first.",
        {
            200: "A page of them; the header of that name has the token of the next page.",
            400: "A parameter cannot be used.",
        },
        (
            Parameter("instanceIdPrefix", TEXT, "Whose ids begin so."),
            CREATED_FROM,
            CREATED_TO,
            STATUS,
            _SHOW_INPUT,
            TOP,
            CONTINUATION,
        ),
    ),
)
