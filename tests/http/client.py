"""A client of a WSGI application in this process, that speaks as real servers do."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.validate import validator

ORIGIN = "https://shop.example:8443"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Body(io.BytesIO):
    """A body that tells how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        self.taken += len(part)
        return part


class Client:
    """Calls an application.

    Args:
        app: a WSGI application.
        token: sent as a bearer token.
        tells_raw_path: whether the server passes the encoded path on, as gunicorn and uWSGI do and
            wsgiref does not.
        origin: what the client takes the server for.
    """

    def __init__(
        self,
        app: Any,
        token: str | None = None,
        *,
        tells_raw_path: bool = True,
        origin: str = ORIGIN,
    ) -> None:
        self.app = app
        self.token = token
        self.tells_raw_path = tells_raw_path
        self.origin = origin

    def call(
        self,
        method: str,
        url: str,
        data: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **environ: Any,
    ) -> Answer:
        if data is not None:
            raw = json.dumps(data).encode()
        split = urlsplit(url)
        self.stream = Body(raw or b"")
        scheme, _, host = self.origin.partition("://")
        full: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "10.0.0.1",
            "SERVER_PORT": "8000",
            "PATH_INFO": unquote_to_bytes(split.path).decode("latin-1"),
            "QUERY_STRING": split.query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": host,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.input": self.stream,
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if self.tells_raw_path:
            full["RAW_URI"] = split.path + (f"?{split.query}" if split.query else "")
        if raw is not None:
            full |= {"CONTENT_LENGTH": str(len(raw)), "CONTENT_TYPE": "application/json"}
        if self.token is not None:
            full["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        full |= {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in (headers or {}).items()
        }
        full |= environ
        return self.send({name: value for name, value in full.items() if value is not None})

    def send(self, environ: dict[str, Any]) -> Answer:
        told: list[Any] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            told[:] = [status, headers]
            return lambda data: None

        parts = validator(self.app)(environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            parts.close()
        names = [name.lower() for name, _ in told[1]]
        assert len(names) == len(set(names)), told[1]
        return Answer(
            int(told[0].split()[0]), {name.lower(): value for name, value in told[1]}, body
        )

    def get(self, url: str, **options: Any) -> Answer:
        return self.call("GET", url, **options)

    def post(self, url: str, data: Any = None, **options: Any) -> Answer:
        return self.call("POST", url, data, **options)

    def delete(self, url: str, **options: Any) -> Answer:
        return self.call("DELETE", url, **options)
