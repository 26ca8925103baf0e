"""The table of routes: what a path means, what it may be asked with, and what it answers.

A path is matched as the client sent it, still encoded, wherever the server tells that: then an id
may hold slashes. Where it does not (``wsgiref``), the decoded path is matched, and an id takes as
much of it as it can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .messages import Problem, Request, Response
from .parameters import Parameter

__all__ = ["Call", "Route", "match", "raw_suffix"]

_FIELD = re.compile(r"\{(\w+)\}")
_GREEDY = frozenset({"id", "instanceId", "key"})


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        method: GET, POST or DELETE.
        path: below the mount, with ``{fields}``.
        verb: what its hook is asked for; see ``access``.
        handler: gives the answer.
        about: one line.
        answers: what each code means; 401, 403 and the like are added for all.
        parameters: of the query and the headers.
        takes_body: whether a JSON body is read.
        has_token: whether a token in the path is the permission, and no hook is asked.
    """

    method: str
    path: str
    verb: str
    handler: Callable[[Call], Response]
    about: str
    answers: Mapping[int, str]
    parameters: Sequence[Parameter] = ()
    takes_body: bool = False
    has_token: bool = False

    @property
    def segments(self) -> list[str]:
        """The parts of the path."""
        return self.path.split("/")

    @property
    def fields(self) -> list[str]:
        """The names of what the path holds."""
        return _FIELD.findall(self.path)

    def pattern(self) -> re.Pattern[str]:
        """Return what the decoded path looks like."""
        text = _FIELD.sub(
            lambda found: f"(?P<{found[1]}>{'.+' if found[1] in _GREEDY else '[^/]+'})", self.path
        )
        return re.compile(text, re.DOTALL)

    def read(self, request: Request) -> dict[str, str] | None:
        """Return the values of the path's fields, or None if it is another path.

        Raises:
            Problem: 400, the path is no UTF-8.
        """
        if request.raw_path is None:
            found = self.pattern().fullmatch(request.path)
            return None if found is None else found.groupdict()
        parts = request.raw_path.split("/")
        if len(parts) != len(self.segments):
            return None
        values: dict[str, str] = {}
        for part, segment in zip(parts, self.segments, strict=True):
            text = _decoded(part)
            if (name := _FIELD.fullmatch(segment)) is None:
                if text != segment:
                    return None
            elif not text:
                return None
            else:
                values[name[1]] = text
        return values


@dataclass
class Call:
    """One request on its route, with everything that a handler needs."""

    durable: Any
    request: Request
    route: Route
    path: Mapping[str, str]
    query: Mapping[str, Any]
    limit: int
    may_view_payloads: Callable[[], bool] = field(repr=False)

    def reason(self, given: str | None = None) -> str | None:
        """Return why a verb is used, with who uses it as far as that is known; history keeps it."""
        by = f"by {self.request.user[:150]}, over HTTP" if self.request.user else ""
        return (f"{given} ({by})" if given else by) if by else given

    def body(self) -> Any:
        """Return the JSON body; None if there is none.

        Raises:
            Problem: 400 if it is no JSON or cannot be read, 413 if it is too large.
        """
        raw = read_body(self.request, self.limit)
        if not raw.strip():
            return None
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            raise Problem(
                400,
                f"the body must be application/json, not {kind[:100] or 'of no type'}",
                field="body",
            )
        return json_of(raw)


def json_of(raw: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        Problem: 400, it is none, or the orchestrator could not read it.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise Problem(400, "the body is nested too deeply", field="body") from None
    except Exception as error:
        raise Problem(400, f"the body is no JSON that can be read: {error}", field="body") from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, of which no more than ``limit`` bytes and one are read.

    Raises:
        Problem: 413 if it is larger, 400 if it is cut off.
    """
    declared = check_length(request, limit)
    parts: list[bytes] = []
    size = 0
    while size <= limit and (part := request.read(min(65536, limit + 1 - size))):
        parts.append(part)
        size += len(part)
    if size > limit:
        raise _too_large(limit)
    if declared is not None and size < declared:
        raise Problem(400, f"the body was cut off: {size} bytes of {declared} came", field="body")
    return b"".join(parts)


def check_length(request: Request, limit: int) -> int | None:
    """Return what the client says that the body's size is.

    Raises:
        Problem: 413 if that is more than the limit, 400 if it is no number.
    """
    text = request.headers.get("content-length", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Problem(400, "Content-Length must be a number", field="Content-Length")
    if len(text) > 18 or int(text) > limit:
        raise _too_large(limit)
    return int(text)


def _too_large(limit: int) -> Problem:
    return Problem(
        413, f"the body has more than {limit} bytes: keep large data elsewhere and pass a reference"
    )


def match(routes: Iterable[Route], request: Request) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the fields of its path.

    Raises:
        Problem: 404 if there is no such path, 405 if it has no such method.
    """
    method = "GET" if request.method == "HEAD" else request.method
    allowed: set[str] = set()
    for route in routes:
        fields = route.read(request)
        if fields is not None:
            if route.method == method:
                return route, fields
            allowed.add(route.method)
    if not allowed:
        raise Problem(404, "there is nothing at this address")
    methods = sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))
    raise Problem(
        405, f"this address takes {', '.join(methods)}", headers={"Allow": ", ".join(methods)}
    )


def raw_suffix(raw: str | None, path: str) -> str | None:
    """Return the end of an encoded path that stands for a decoded one, or None if it is not to be
    found.

    Servers tell the encoded path in variables of their own, middleware changes one and not the
    other.
    """
    if raw is None:
        return None
    raw = re.sub(r"^[a-z][a-z0-9+.-]*://[^/?#]*", "", raw, flags=re.IGNORECASE).partition("?")[0]
    parts = raw.split("/")[1:]
    length = -1
    # one that is as long is the only one: addresses may have many parts
    for start in range(len(parts) - 1, -1, -1):
        length += 1 + len(unquote(parts[start]))
        if length >= len(path):
            suffix = "/".join(parts[start:])
            return suffix if unquote(suffix) == path else None
    return None


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "the address is not encoded in UTF-8") from None
