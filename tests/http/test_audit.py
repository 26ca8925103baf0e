"""Who did what over HTTP, and how that is read."""

from __future__ import annotations

from typing import Any

from celery_durable.http import VERBS, BearerTokens, Token, application

from .client import Client
from .conftest import ALL, BLIND, READER, Shop

BASE = "/durable/instances"


def told(shop: Shop, target: str | None = None) -> list[tuple[str, str | None, str]]:
    found = shop.durable.audit(target, limit=1000).items
    assert {entry.door for entry in found} <= {"http"}
    return [(entry.verb, entry.actor, entry.effect) for entry in reversed(found)]


def test_every_change_is_told_with_its_principal(shop: Shop) -> None:
    tokens = BearerTokens(Token(ALL, VERBS, name="billing"), Token(BLIND, VERBS))
    app = application(shop.durable, tokens, prefix="/durable")
    named, unnamed = Client(app, ALL), Client(app, BLIND)
    assert named.post("/durable/orchestrators/http.sale/o%2F1", "wait").status == 202
    assert named.post(f"{BASE}/o%2F1/suspend?reason=the%20bank").status == 202
    assert unnamed.post(f"{BASE}/o%2F1/resume").status == 202
    assert named.post(f"{BASE}/o%2F1/raiseEvent/approved", {"card": "4111"}).status == 202
    assert unnamed.call("DELETE", f"{BASE}/o%2F1").status == 200
    (_, _, (_, other, _), *_) = found = told(shop, "o/1")
    assert other is not None and other.startswith("token ") and len(other) == 14
    assert found == [
        ("start", "billing", "done"),
        ("suspend", "billing", "done"),
        ("resume", other, "done"),
        ("raise_event", "billing", "done"),
        ("purge", other, "done"),
    ]
    assert BLIND not in repr(shop.durable.audit().items)
    suspended = shop.durable.audit(verb="suspend").items[0]
    assert suspended.reason == "the bank"


def test_the_servers_user_and_the_hooks_principal(shop: Shop) -> None:
    run = shop.start("wait", "o")

    def allow(environ: dict[str, Any], verb: str, instance_id: str | None) -> bool:
        if "HTTP_X_CLIENT" in environ:
            environ["celery_durable.principal"] = environ["HTTP_X_CLIENT"]
        return True

    client = Client(application(shop.durable, allow, prefix="/durable"))
    client.call("POST", f"{BASE}/o/suspend", REMOTE_USER="ann")
    client.call("POST", f"{BASE}/o/resume", REMOTE_USER="ann", headers={"X-Client": "till 4"})
    client.call("POST", f"{BASE}/o/terminate")
    assert told(shop, run.id) == [
        ("suspend", "ann", "done"),
        ("resume", "till 4", "done"),
        ("terminate", None, "done"),
    ]


def test_nothing_is_told_of_who_is_not_let_in(shop: Shop, wsgi: Any) -> None:
    shop.start("wait", "o")
    assert Client(wsgi, READER).post(f"{BASE}/o/terminate").status == 403
    assert Client(wsgi).post(f"{BASE}/o/terminate").status == 401
    assert told(shop) == []


def test_the_trail_is_read(any_server: Client, shop: Shop, wsgi: Any) -> None:
    shop.start("wait", "a/b")
    for _ in range(2):
        any_server.post(f"{BASE}/a%2Fb/suspend?reason=bank%3A%20down")
    first = any_server.get(f"{BASE}/a%2Fb/audit?top=1")
    (entry,) = first.json
    assert (entry["verb"], entry["effect"], entry["reason"]) == ("suspend", "nothing", "bank: down")
    token = {"x-ms-continuation-token": first.headers["x-ms-continuation-token"]}
    rest = any_server.call("GET", f"{BASE}/a%2Fb/audit?top=5", headers=token)
    assert [each["effect"] for each in rest.json] == ["done"]
    assert any_server.get("/durable/audit?verb=suspend").json[0]["door"] == "http"
    assert any_server.get("/durable/audit?actor=other").json == []
    assert any_server.get("/durable/audit?since=never").status == 400
    assert any_server.get(f"{BASE}/none/audit").json == []
    blind = Client(wsgi, BLIND).get("/durable/audit").json
    assert blind[0]["reason"] == "bank (…)"


def test_an_answer_by_a_token_is_told(shop: Shop, wsgi: Any) -> None:
    assert Client(wsgi).post("/durable/completions/x", 1).status == 400
    assert told(shop) == []
