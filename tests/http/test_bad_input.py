"""No request fails within: whatever is in its address, its query or its body is answered in words,
and changes nothing that it does not name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from celery_durable.http.openapi import document
from celery_durable.http.service import contract_routes

from .client import Client
from .conftest import Shop

BAD = [
    *("%00", "a%00b", "%ff", "%ed%a0%80", "%F0%9F%98%80", "..%2f..", "%0a", "a%2Fb", "a%3fb"),
    *("x" * 201, "x" * 5000, "5", "-1", "nan", "true", "2026-13-45", "9" * 30, "a=%00", "=b"),
    *("@Visits@k", "@Visits@", "d-0123456789abcdef0123-1-1", "celery_durable.x"),
]
BODIES = [
    *(b"", b"{", b"null", b"\xff\xfe", b"NaN", b"1e999", b'"\\ud800"', b'"\\u0000"', b"9" * 5000),
    *(b"[" * 3000 + b"]" * 3000, b'"' + b"x" * 200_000 + b'"', b'{"__type__": "datetime"}'),
]
KINDS = ("application/json", "text/plain", "multipart/form-data", "application/json; charset=x")
FILLED = {"id": "running", "eventName": "go", "key": "k", "instanceId": "new", "name": "http.sale"}
ROUTES = [
    (method, path)
    for path, operations in document(contract_routes(), "/")["paths"].items()
    for method in operations
    if method != "parameters" and "/requests/" not in path  # where an answer is waited for
]


def requests_of(method: str, path: str, operation: Any) -> Iterator[tuple[str, bytes, str]]:
    """Yield addresses with bodies and their types, each wrong in one place."""
    parameters = operation.get("parameters", [])
    places = {each["name"]: each["in"] for each in parameters}
    needed = {
        each["name"]: "Running" if "tatus" in each["name"] else "2026-01-01T00:00:00Z"
        for each in parameters
        if each["in"] == "query" and each.get("required")
    } | ({"op": "add"} if "op" in places else {})

    def address(wrong: str | None = None, text: str = "") -> str:
        filled = path
        for name in [name for name, place in places.items() if place == "path"]:
            value = text if name == wrong else quote(FILLED.get(name, "x"))
            filled = filled.replace(f"{{{name}}}", value)
        query = {**needed, **({wrong: text} if places.get(wrong or "") == "query" else {})}
        return f"/durable{filled}?" + "&".join(f"{name}={text}" for name, text in query.items())

    for name, place in places.items():
        if place in ("path", "query"):
            yield from ((address(name, text), b"1", KINDS[0]) for text in BAD)
    if method == "post":
        yield from ((address(), body, kind) for body in BODIES for kind in KINDS)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_fails_within(shop: Shop, client: Client, method: str, path: str) -> None:
    shop.start("wait", "running")
    operation = client.get("/durable/openapi.json").json["paths"][path][method]
    for url, body, kind in requests_of(method, path, operation):
        answer = client.call(method.upper(), url, raw=body, CONTENT_TYPE=kind)
        assert answer.status < 500, (method, url[:120], body[:40], kind)
        if answer.status >= 400:
            assert len(answer.json["message"]) > 10
