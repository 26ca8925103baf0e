"""Ends of activities by their tokens: for webhooks, and for workers of another kind.

The token in the path is the permission: no hook is asked, and no session is looked at. So it is
kept out of logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..errors import PayloadError
from .messages import Problem, Response
from .routes import Call, Route
from .starting import too_large_or_bad

__all__ = ["ROUTES", "without_token"]

_TOKEN = re.compile(r"(completions/)[^/?#]+")
_OVER = (
    "Nothing is changed: the activity is over already, timed out, was canceled, or is of another"
    " store."
)


def without_token(path: str) -> str:
    """Return a path for a log: who reads that must not end an activity."""
    return _TOKEN.sub(r"\1…", path)


def _complete(call: Call) -> Response:
    value = call.body()
    return _answer(lambda: call.durable.complete(call.path["token"], value))


def _fail(call: Call) -> Response:
    error = _text_in(call.body())
    return _answer(lambda: call.durable.fail(call.path["token"], error))


def _text_in(body: Any) -> str:
    """Return the text of an error: the body itself, or its field ``error``.

    Raises:
        Problem: 400, there is none.
    """
    text = body.get("error") if isinstance(body, dict) else body
    if not isinstance(text, str) or not text:
        raise Problem(
            400, 'the body is the text of the error, "..." or {"error": "..."}', field="error"
        )
    return text


def _answer(end: Callable[[], bool]) -> Response:
    try:
        is_recorded = end()
    except PayloadError as error:
        raise too_large_or_bad(error) from error
    except ValueError as error:
        raise Problem(400, str(error), field="token") from error
    if not is_recorded:
        raise Problem(410, _OVER.lower().rstrip("."))
    return Response(202)


def _route(path: str, handler: Callable[[Call], Response], about: str) -> Route:
    answers = {
        202: "It is recorded, once.",
        400: "The token is damaged, or the body cannot be used.",
        410: _OVER,
    }
    return Route("POST", path, "", handler, about, answers, takes_body=True, has_token=True)


ROUTES = (
    _route(
        "completions/{token}",
        _complete,
        "Give an activity its result, the body, by the token that its function has deferred it to.",
    ),
    _route(
        "completions/{token}/fail",
        _fail,
        "Let the attempt of an activity have failed; the retry policy of its call decides.",
    ),
)
