"""Requests and queries over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client
from .conftest import BLIND, READER, Shop

BASE = "/durable/instances"


@pytest.fixture
def clerk(shop: Shop) -> Any:
    return shop.start(id_="a/clerk", name="http.clerk")


def test_it_asks_and_looks(any_server: Client, clerk: Any) -> None:
    url = f"{BASE}/a%2Fclerk"
    answer = any_server.post(f"{url}/requests/move?timeout=5&requestId=r", "Rome")
    assert (answer.status, answer.json) == (200, {"to": "Rome", "nan": None})
    assert any_server.post(f"{url}/requests/move?requestId=r", "other").json["to"] == "Rome"
    refused = any_server.post(f"{url}/requests/move", "nowhere")
    assert (refused.status, refused.json) == (422, {"message": "there is no such place"})
    looked = any_server.get(f"{url}/queries/moves")
    assert (looked.status, looked.json) == (200, 1)
    late = any_server.post(f"{url}/requests/other?timeout=0", None)
    assert (late.status, "ask again with this request_id" in late.text) == (504, True)
    ended = any_server.post(f"{url}/requests/move", "stop")
    assert (ended.status, clerk.get(timeout=30)) == (410, 1)
    assert any_server.post(f"{url}/requests/move?requestId=r", None).json["to"] == "Rome"
    history = any_server.get(f"{url}?showHistory=true&showHistoryOutput=true").json["historyEvents"]
    answered = [each for each in history if each["EventType"] == "RequestAnswered"]
    assert (answered[0]["Name"], answered[0]["Result"]["to"]) == ("move", "Rome")


def test_what_cannot_be_answered(client: Client, clerk: Any, shop: Shop) -> None:
    url = f"{BASE}/a%2Fclerk"
    assert client.post(f"{BASE}/none/requests/move", 1).status == 404
    assert client.post(f"{url}/requests/%00", 1).status == 400
    assert client.post(f"{url}/requests/move", "x" * 200_000).status == 413
    assert client.get(f"{BASE}/none/queries/moves").status == 404
    unknown = client.get(f"{url}/queries/nothing")
    assert (unknown.status, "'fails', 'moves'" in unknown.text) == (404, True)
    failed = client.get(f"{url}/queries/fails")
    assert (failed.status, "AttributeError" in failed.text) == (500, True)
    shop.durable.registry._definitions.pop("http.clerk")
    assert client.get(f"{url}/queries/moves").status == 501


def test_who_may(wsgi: Any, clerk: Any) -> None:
    url = f"{BASE}/a%2Fclerk"
    blind, reader = Client(wsgi, BLIND), Client(wsgi, READER)
    assert blind.post(f"{url}/requests/move", 1).status == 200
    assert blind.get(f"{url}/queries/moves").status == 403
    assert reader.post(f"{url}/requests/move", 1).status == 403
