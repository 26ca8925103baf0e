"""The audit trail: who did what."""

from __future__ import annotations

from ..inspection.views import audit_view
from .instances import CONTINUATION, TOP, page_of
from .messages import Response, as_json
from .parameters import MOMENT, TEXT, Parameter
from .routes import Call, Route

__all__ = ["ROUTES"]


def _of_one(call: Call) -> Response:
    """List what was done to one orchestration; also after it was purged."""
    return _page(call, call.path["id"])


def _of_all(call: Call) -> Response:
    """List what was done to all."""
    query = call.query
    chosen = {name: query[name] for name in ("actor", "door", "verb", "since", "until")}
    return _page(call, None, **chosen)


def _page(call: Call, target: str | None, **chosen: object) -> Response:
    found = page_of(call, call.durable.audit, target, **chosen)
    shows = call.may_view_payloads()
    entries = [audit_view(entry, messages=shows) for entry in found.items]
    return as_json(
        200, entries, {CONTINUATION.name: found.next_cursor} if found.next_cursor else {}
    )


_ANSWERS = {
    200: "A page of entries, newest first; the header of that name has the token of the next page.",
    400: "A parameter cannot be used.",
}
ROUTES = (
    Route(
        "GET",
        "instances/{id}/audit",
        "view",
        _of_one,
        "Who did what to an orchestration, also after it was deleted.",
        _ANSWERS,
        (TOP, CONTINUATION),
    ),
    Route(
        "GET",
        "audit",
        "view",
        _of_all,
        "Who did what.",
        _ANSWERS,
        (
            Parameter("actor", TEXT, "Who did it."),
            Parameter("door", TEXT, "Over which door: cli, admin, flower, http or code."),
            Parameter("verb", TEXT, "What was done, such as purge."),
            Parameter("since", MOMENT, "At this time or later."),
            Parameter("until", MOMENT, "Before this time."),
            TOP,
            CONTINUATION,
        ),
    ),
)
