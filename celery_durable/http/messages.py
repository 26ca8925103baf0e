"""Requests and answers without a web framework: what an adapter hands in, and what it gets back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

__all__ = ["Problem", "Request", "Response", "as_json"]

_JSON = "application/json"
_MOST_NESTED = 200


@dataclass(frozen=True)
class Request:
    """One HTTP request below the place where the contract is mounted.

    Attributes:
        method: as it came.
        path: below the mount, decoded; ``raw_path`` is the same still encoded, where the server
            tells.
        query: the query string, encoded.
        headers: by lower-case names.
        base: the absolute URL of the mount on the origin that the client used, with a slash at its
            end.
        read: returns at most so many bytes of the body, each time the next ones.
        origin: what the adapter got (a WSGI environ, Django's request); passed to the ``authorize``
            hook, which finds the fields of the path in ``environ["celery_durable.path"]`` or
            ``request.durable_path``.
        user: who asks, as the server or the session knows; kept with the reasons of verbs.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    base: str
    read: Callable[[int], bytes]
    origin: Any
    raw_path: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Response:
    """One answer; ``body`` is encoded already."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = _JSON

    def header_list(self) -> list[tuple[str, str]]:
        """Return all headers, with those that every answer has: nothing is cached, nothing is
        guessed.
        """
        always = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return [*{**always, **self.headers}.items()]

    def without_body(self) -> Response:
        """Return the answer to HEAD."""
        return replace(
            self, body=b"", headers={"Content-Length": str(len(self.body)), **self.headers}
        )

    def wsgi(self, start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a WSGI request with this."""
        start_response(f"{self.status} {HTTPStatus(self.status).phrase}", self.header_list())
        return [self.body]


class Problem(Exception):
    """An answer that says what is wrong with a request: a code, a text, and the field if one is to
    blame.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.headers: Mapping[str, str] | dict[str, str] = headers or {}

    def response(self) -> Response:
        """Return the answer: ``{"message": ...}``, and ``"field"`` where there is one."""
        body = {"message": str(self)} | ({"field": self.field} if self.field is not None else {})
        return as_json(self.status, body, self.headers)


def as_json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with a JSON body.

    What JSON cannot hold becomes text, and NaN and infinities null.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(value, 0), allow_nan=False)
    return Response(status, text.encode(), headers or {})


def _plain(value: Any, depth: int) -> Any:
    if depth > _MOST_NESTED:
        return "..."
    if isinstance(value, dict):
        return {str(key): _plain(part, depth + 1) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part, depth + 1) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
