"""Requests, which an orchestration answers, and queries of its state."""

from __future__ import annotations

from ..engine.querying import UnknownQueryError
from ..errors import ConfigurationError, DurableError, InvalidState, PayloadError
from ..handles.asking import answer_of, value_of
from . import starting
from .access import VIEW_PAYLOAD
from .instances import UNKNOWN, found
from .messages import Problem, Response, as_json
from .parameters import SECONDS, TEXT, Parameter
from .routes import Call, Route
from .starting import too_large_or_bad

__all__ = ["ROUTES"]


def _ask(call: Call) -> Response:
    """Ask, and wait for the answer."""
    run, query = found(call), call.query
    timeout = min(query["timeout"], starting.LONGEST_WAIT)
    try:
        answer = answer_of(run, call.path["name"], call.body(), timeout, query["requestId"])
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except InvalidState as error:
        raise Problem(410, str(error)) from error
    except TimeoutError as error:
        raise Problem(504, str(error)) from error
    except ValueError as error:
        raise Problem(400, str(error), field="name") from error
    if answer.has_failed:
        rejection, _ = run.app.durable.runtime.codec.decode_failure(answer.payload or "")
        raise Problem(422, str(rejection))
    return as_json(200, value_of(run, answer))


def _query(call: Call) -> Response:
    """Answer what a query says."""
    run, name = found(call), call.path["name"]
    try:
        return as_json(200, run.query(name))
    except UnknownQueryError as error:
        raise Problem(404, str(error), field="name") from error
    except ConfigurationError as error:
        raise Problem(501, str(error)) from error
    except DurableError:
        raise
    except Exception as error:
        raise Problem(500, f"the query failed: {type(error).__name__}: {error}") from error


ROUTES = (
    Route(
        "POST",
        "instances/{id}/requests/{name}",
        "raise_event",
        _ask,
        "Ask an orchestration, and wait for its answer.",
        {
            200: "The answer, as it is.",
            400: "No JSON, or a name that cannot be used.",
            404: UNKNOWN,
            410: "It is over, or has ended without an answer.",
            413: "The payload is larger than durable_payload_limit.",
            422: "The orchestrator rejected it: the message says why.",
            504: "There is no answer in time; ask again with the same requestId.",
        },
        (
            Parameter(
                "timeout",
                SECONDS,
                f"Wait so long for the answer, {starting.LONGEST_WAIT:.0f} at most.",
                default=30.0,
            ),
            Parameter(
                "requestId",
                TEXT,
                "The same one again is the same request: it gives the answer there is.",
            ),
        ),
        takes_body=True,
    ),
    Route(
        "GET",
        "instances/{id}/queries/{name}",
        VIEW_PAYLOAD,
        _query,
        "What a query says of an orchestration, after its last committed turn.",
        {
            200: "The result, as it is.",
            404: "There is no such orchestration, or it has no query of that name.",
            500: "The query failed: the message says how.",
            501: "This process does not have the orchestrator's code.",
        },
    ),
)
