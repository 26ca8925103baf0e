"""The contract as a plain WSGI application."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .access import Authorize
from .completions import without_token
from .messages import Problem, Request, Response
from .routes import raw_suffix
from .service import Service
from .shapes import accepted

if TYPE_CHECKING:
    from .links import EventLinks

__all__ = ["Application", "application", "create_check_status_response"]

log: logging.Logger = logging.getLogger("celery_durable.http")
_HOST = re.compile(r"[A-Za-z0-9_.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
StartResponse = Callable[..., Any]


def application(
    durable: Any,
    authorize: Authorize | None = None,
    *,
    prefix: str = "",
    links: EventLinks | None = None,
) -> Application:
    """Return the contract as a WSGI application.

    Args:
        durable: where the orchestrators are registered.
        authorize: ``authorize(environ, verb, instance_id)``, such as ``BearerTokens(...)``; without
            one, everything is refused with 403.
        prefix: the path below which it answers, if the server does not mount it itself, such as
            ``/durable``.
        links: serve the pages of these approval links as well.
    """
    return Application(durable, authorize, prefix, links)


class Application:
    """A WSGI application; see ``application``."""

    def __init__(
        self,
        durable: Any,
        authorize: Authorize | None = None,
        prefix: str = "",
        links: EventLinks | None = None,
    ) -> None:
        self.service: Service = Service(durable, authorize)
        self.prefix: str = _slashed(prefix)
        self.links = links

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            response = self._answer(environ)
        except Problem as problem:
            response = problem.response()
        except Exception:
            path = without_token(str(environ.get("PATH_INFO")))
            log.exception("%s %r failed", environ.get("REQUEST_METHOD"), path)
            response = Problem(500, "this failed; the server's log says why").response()
        return response.wsgi(start_response)

    def _answer(self, environ: dict[str, Any]) -> Response:
        path = _decoded(environ.get("PATH_INFO", ""))
        if not path.startswith(self.prefix):
            raise Problem(404, "there is nothing at this address")
        request = request_of(environ, path.removeprefix(self.prefix), self.base(environ))
        if self.links is not None and (page := self.links.answer(request)) is not None:
            return page
        return self.service.answer(request)

    def base(self, environ: Mapping[str, Any]) -> str:
        """Return the absolute URL below which this application answers, on the origin of a request
        to it.
        """
        script = environ.get("SCRIPT_NAME", "").encode("latin-1")
        return origin_of(environ) + quote(script.rstrip(b"/"), safe="/") + quote(self.prefix)


def create_check_status_response(
    environ: Mapping[str, Any], instance_id: str, *, prefix: str = ""
) -> Response:
    """Return the answer to a start that a WSGI application of your own made:
    ``.wsgi(start_response)`` sends it.

    Args:
        environ: of the request.
        instance_id: what was started.
        prefix: where the contract is mounted on the same origin, such as ``/durable``.
    """
    return accepted(origin_of(environ) + quote(_slashed(prefix)), instance_id)


def _slashed(prefix: str) -> str:
    return f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"


def origin_of(environ: Mapping[str, Any]) -> str:
    """Return scheme, host and port as the client named them.

    Raises:
        Problem: 400, the Host header is none.
    """
    scheme = environ.get("wsgi.url_scheme", "http")
    host = environ.get("HTTP_HOST")
    if not host:
        port = str(environ.get("SERVER_PORT", ""))
        is_usual = port in ("", "443" if scheme == "https" else "80")
        host = environ.get("SERVER_NAME", "localhost") + ("" if is_usual else f":{port}")
    if not _HOST.fullmatch(host):
        raise Problem(400, "the Host header cannot be used", field="Host")
    return f"{scheme}://{host}"


def request_of(environ: dict[str, Any], path: str, base: str) -> Request:
    """Return a WSGI request as the core takes it; ``path`` is what follows the mount."""
    query = environ.get("QUERY_STRING", "")
    raw = raw_suffix(environ.get("RAW_URI") or environ.get("REQUEST_URI"), path)
    return Request(
        method=environ.get("REQUEST_METHOD", "GET").upper(),
        path=path,
        raw_path=raw,
        query=query,
        headers=headers_of(environ),
        base=base,
        read=_reader(environ),
        origin=environ,
        user=environ.get("REMOTE_USER") or None,
    )


def headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of a WSGI request, by lower-case names."""
    found = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            found[name.replace("_", "-").lower()] = str(environ[name])
    return found


def _reader(environ: Mapping[str, Any]) -> Callable[[int], bytes]:
    """Return a function that reads from the body, and never beyond its end: a server may wait there
    for ever.
    """
    stream = environ.get("wsgi.input")
    text = str(environ.get("CONTENT_LENGTH") or "")
    left = (
        int(text)
        if text.isascii() and text.isdigit()
        else (None if environ.get("wsgi.input_terminated") else 0)
    )

    def read(size: int) -> bytes:
        nonlocal left
        if stream is None:
            return b""
        part: bytes = stream.read(size if left is None else min(size, left))
        if left is not None:
            left -= len(part)
        return part

    return read


def _decoded(path: str) -> str:
    try:
        return path.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise Problem(400, "the address is not encoded in UTF-8") from None
