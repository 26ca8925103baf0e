"""Who is let in, what is hidden, what is too large, and how addresses are read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote

import pytest

from celery_durable import RuntimeStatus
from celery_durable.errors import ConfigurationError, StoreError
from celery_durable.http import (
    VERBS,
    BearerTokens,
    Token,
    Verdict,
    application,
    check_status_body,
    create_check_status_response,
    routes,
)
from celery_durable.http.service import contract_routes
from tests.conftest import wait_until

from .client import ORIGIN, Client
from .conftest import ALL, BLIND, READER, Shop

BASE = "/durable"
STRANGE = [
    "a/b",
    "a%2Fb",
    "/",
    "a?b",
    "a#b",
    "%",
    "a b",
    " ",
    "ü/ß",
    "日本語",
    "\U0001f600",
    "a+b",
    "a&b=c",
    "x/terminate",
    "x/raiseEvent/y",
    "..",
    "a\nb",
    "\x7f",
    "'\"<>",
    "{id}",
    ":@",
    "~",
    "a;b",
    "\\",
]


def all_requests() -> list[tuple[str, str, str]]:
    """Every route that asks for a permission, on an orchestration that is there, with everything
    that it needs.
    """
    found = []
    for route in contract_routes():
        if route.has_token:
            continue
        path = route.path.format(
            id="i",
            instanceId="new",
            eventName="approved",
            key="k",
            name="Visits" if "entities" in route.path else "http.sale",
        )
        query = {
            "DELETE instances": "?createdTimeFrom=2001-01-01",
            "POST entities/Visits/k": "?op=add",
        }
        found.append((route.method, path + query.get(f"{route.method} {path}", ""), route.verb))
    return found


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "verb"), all_requests())
def test_every_route_is_closed_to_those_without_its_permission(
    shop: Shop, method: str, path: str, verb: str
) -> None:
    secret = "a-token-for-everything-else"
    tokens = BearerTokens(Token(secret, set(VERBS) - {verb}))
    run = shop.start("wait", "i")
    before = run.history()
    for app, token, code in [
        (application(shop.durable, prefix=BASE), None, 403),
        (application(shop.durable, tokens, prefix=BASE), None, 401),
        (application(shop.durable, tokens, prefix=BASE), "wrong-wrong-wrong-wrong", 401),
        (application(shop.durable, tokens, prefix=BASE), secret, 403),
    ]:
        answer = Client(app, token).call(method, f"{BASE}/{path}", 1 if method == "POST" else None)
        assert answer.status == code, (token, answer.body)
        assert answer.json["message"]
        assert ("www-authenticate" in answer.headers) == (code == 401)
    assert shop.durable.count() == 1
    assert shop.durable.entities().items == []
    assert (run.refresh().runtime_status, run.history()) == (RuntimeStatus.RUNNING, before)


@pytest.mark.parametrize(("method", "path", "verb"), all_requests())
def test_one_permission_opens_its_routes_and_no_other(
    shop: Shop, method: str, path: str, verb: str
) -> None:
    secret = "a-token-for-one-verb-only"
    app = application(shop.durable, BearerTokens(Token(secret, [verb])), prefix=BASE)
    for other_method, other_path, other_verb in all_requests():
        answer = Client(app, secret).call(
            other_method, f"{BASE}/{other_path}", 1 if other_method == "POST" else None
        )
        is_state = other_path == "entities/Visits/k" and other_method == "GET"
        assert (answer.status == 403) == (other_verb != verb or is_state), (
            other_method,
            other_path,
        )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic eDp5",
        f"Basic {ALL}",
        f"Bearer {ALL}x",
        f"Bearer {ALL[:-1]}",
        f"Bearer {ALL} {ALL}",
        "Bearer \xff",
    ],
)
def test_a_forged_token_is_no_one(wsgi: Any, header: str) -> None:
    answer = Client(wsgi).get(f"{BASE}/instances", headers={"Authorization": header})
    assert answer.status == 401
    assert (
        Client(wsgi).get(f"{BASE}/instances", headers={"Authorization": f"bearer {ALL}"}).status
        == 200
    )


@pytest.mark.parametrize("answer", [None, 1, "yes", [True], object()])
def test_a_hook_that_does_not_clearly_allow_refuses(shop: Shop, answer: Any) -> None:
    app = application(shop.durable, lambda environ, verb, instance_id: answer)
    assert Client(app).get("/instances").status == 403


def test_a_hook_is_asked_about_the_instance(shop: Shop) -> None:
    asked: list[Any] = []

    def authorize(environ: Any, verb: str, instance_id: str | None) -> Verdict | bool:
        asked.append((verb, instance_id, environ["celery_durable.path"]))
        return instance_id is None or instance_id.startswith(environ["HTTP_X_TENANT"])

    shop.start("x", "blue/1")
    shop.start("x", "red/1")
    client = Client(application(shop.durable, authorize))
    for tenant, code in (("blue", 200), ("red", 403)):
        answer = client.get("/instances/blue%2F1", headers={"X-Tenant": tenant})
        assert answer.status == code
    assert asked[:2] == [
        ("view", "blue/1", {"id": "blue/1"}),
        ("view_payload", "blue/1", {"id": "blue/1"}),
    ]
    client.post("/orchestrators/http.sale/new", 1, headers={"X-Tenant": "red"})
    assert asked[-1] == ("start", "new", {"name": "http.sale", "instanceId": "new"})
    client.post("/entities/Visits/k?op=add", 1, headers={"X-Tenant": "red"})
    assert asked[-1][:2] == ("raise_event", "@Visits@k")
    assert shop.durable.count() == 2


@pytest.mark.parametrize(
    ("secret", "verbs"),
    [("short", ["view"]), ("x" * 16, ["look"]), ("ü" * 16, ["view"]), ("a b" * 10, ["view"])],
)
def test_a_token_that_cannot_be_used_is_refused(secret: str, verbs: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        Token(secret, verbs)


def test_a_token_does_not_show_its_secret() -> None:
    assert "secret" not in repr(Token("secret-secret-secret", "view"))


# -- what is hidden --------------------------------------------------------------------------------


def test_payloads_are_hidden_without_their_permission(wsgi: Any, shop: Shop) -> None:
    shop.start("wait", "i").raise_event("approved", "by ada")
    wait_until(lambda: shop.durable.get("i").runtime_status.is_terminal)
    shop.start("bad", "failed")
    shop.start("wait", "suspended").suspend("PayloadError: the words of ada cannot be decoded")
    shop.durable.entity("Visits", "k").signal.add(7)
    for token in (BLIND, READER):
        client = Client(wsgi, token)
        one = client.get(
            f"{BASE}/instances/i?showHistory=true&showHistoryOutput=true&showInput=true"
        )
        assert (one.json["input"], one.json["output"], one.json["customStatus"]) == (
            None,
            None,
            None,
        )
        for path in (
            "instances/failed?showHistory=true&showHistoryOutput=true",
            "instances/suspended?showHistory=true",
            "instances",
            "entities?fetchState=true",
        ):
            one.body += client.get(f"{BASE}/{path}").body
        for secret in (b"ada", b"charged ", b"no such card", b'"value"', b'"wait"'):
            assert secret not in one.body, secret
        assert client.get(f"{BASE}/entities/Visits/k").status == 403
    waited = Client(wsgi, BLIND).post(
        f"{BASE}/orchestrators/http.sale?timeout=20&pollingInterval=1", "x"
    )
    assert waited.status == 202
    assert b"charged" not in waited.body


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["orchestrators/http.sale/new", "instances/i/raiseEvent/approved", "entities/Visits/k?op=add"],
)
def test_a_body_over_the_limit_is_413_and_is_not_read(
    client: Client, shop: Shop, path: str
) -> None:
    run = shop.start("wait", "i")
    answer = client.post(f"{BASE}/{path}", "x" * 100_000)
    assert answer.status == 413
    assert client.stream.taken == 0
    endless = client.post(
        f"{BASE}/{path}", "x" * 500_000, CONTENT_LENGTH=None, **{"wsgi.input_terminated": True}
    )
    assert endless.status == 413
    assert client.stream.taken <= 100_001
    wide = client.post(
        f"{BASE}/{path}", raw=('"' + "\u00fc" * 40_000 + '"').encode()
    )  # the store writes six characters each
    assert wide.status == 413
    assert shop.durable.count() == 1
    assert shop.durable.entities().items == []
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9" * 30])
def test_a_length_that_is_none_is_refused(client: Client, shop: Shop, length: str) -> None:
    app, client.app = (
        client.app,
        lambda environ, start: app({**environ, "CONTENT_LENGTH": length}, start),
    )
    answer = client.post(f"{BASE}/orchestrators/http.sale", 1)
    assert answer.status == (413 if length.isdigit() else 400)
    assert shop.durable.count() == 0


def test_a_body_that_is_cut_off_starts_nothing(client: Client, shop: Shop) -> None:
    answer = client.post(f"{BASE}/orchestrators/http.sale", raw=b"1", CONTENT_LENGTH="2")
    assert (answer.status, answer.json["field"]) == (400, "body")
    assert shop.durable.count() == 0


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.sparse(3)
@pytest.mark.parametrize("id_", [*STRANGE, "x" * 150, "\U0001f600" * 150])
def test_any_id_can_be_started_seen_and_steered(any_server: Client, shop: Shop, id_: str) -> None:
    client = any_server
    answer = client.post(f"{BASE}/orchestrators/http.sale/{quote(id_, safe='')}", "wait")
    assert (answer.status, answer.json["id"]) == (202, id_)
    assert answer.json["statusQueryGetUri"].isascii()

    def local(name: str) -> str:
        return str(answer.json[name]).removeprefix(ORIGIN)

    assert client.get(local("statusQueryGetUri")).json["instanceId"] == id_
    assert client.post(local("suspendPostUri")).status == 202
    assert client.post(local("resumePostUri")).status == 202
    assert (
        client.post(local("sendEventPostUri").replace("{eventName}", "approved"), "go").status
        == 202
    )
    wait_until(lambda: shop.durable.get(id_).runtime_status.is_terminal)
    assert shop.durable.get(id_).output == ["charged wait", "go"]
    again = client.post(local("restartPostUri") + "?restartWithNewInstanceId=false")
    assert again.json == answer.json
    terminated = client.post(local("terminatePostUri").replace("{text}", quote("so it is")))
    assert terminated.status == 202
    assert shop.durable.get(id_).reason == "so it is"
    assert client.delete(local("purgeHistoryDeleteUri")).json == {"instancesDeleted": 1}
    assert shop.durable.count() == 0


def test_the_encoded_path_decides_where_an_id_ends(client: Client, shop: Shop) -> None:
    shop.start("wait", "a/raiseEvent/b")
    shop.start("wait", "a")
    assert client.post(f"{BASE}/instances/a%2FraiseEvent%2Fb/raiseEvent/approved", 1).status == 202
    assert client.post(f"{BASE}/instances/a/raiseEvent/approved%2Fraised", 1).status == 202
    wait_until(lambda: shop.durable.get("a/raiseEvent/b").runtime_status.is_terminal)
    assert shop.durable.get("a").runtime_status is RuntimeStatus.RUNNING


@pytest.mark.parametrize("name", ["suspend", "restart", "raiseEvent", "approved"])
def test_events_may_have_the_name_of_a_verb(any_server: Client, shop: Shop, name: str) -> None:
    shop.start("wait", "a")
    assert any_server.post(f"{BASE}/instances/a/raiseEvent/{name}", 1).status == 202
    wait_until(
        lambda: (
            [event.name for event in shop.durable.get("a").history() if event.kind == "EventRaised"]
            == [name]
        )
    )


def test_an_encoded_path_that_is_of_another_request_is_not_believed(
    client: Client, shop: Shop
) -> None:
    shop.start("x", "mine")
    shop.start("x", "yours")
    answer = client.get(f"{BASE}/instances/mine", RAW_URI=f"{BASE}/instances/yours")
    assert answer.json["instanceId"] == "mine"
    absolute = client.get(
        f"{BASE}/instances/mine", RAW_URI=f"http://other{BASE}/instances/mine?x=1"
    )
    assert absolute.json["instanceId"] == "mine"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "instances/",
        "nothing",
        "instances/i/fork",
        "orchestrators",
        "orchestrators/",
        "entities/Visits/",
    ],
)
def test_other_addresses_are_404(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert client.call(method, f"{BASE}/{path}").status == 404
    assert client.get("/elsewhere").status == 404
    assert client.get("/durablesque/instances").status == 404


def test_an_address_of_many_parts_is_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counting(text: str) -> str:
        decoded.append(len(text))
        return unquote(text)

    monkeypatch.setattr(routes, "unquote", counting)
    raw = "/durable/%FF" + "/%41" * 2000
    assert routes.raw_suffix(raw, "%FF" + "/A" * 2000) is None, "it is not what the client has sent"
    assert sum(decoded) < 3 * len(raw)
    assert routes.raw_suffix("/durable/a%2Fb/%C3%BC", "a/b/ü") == "a%2Fb/%C3%BC"


def test_an_address_that_is_no_utf8_is_400(any_server: Client) -> None:
    assert any_server.get(f"{BASE}/instances/%FF").status == 400


@pytest.mark.parametrize(("method", "path", "verb"), all_requests())
def test_another_method_is_405_and_tells_which_there_are(
    client: Client, shop: Shop, method: str, path: str, verb: str
) -> None:
    run = shop.start("wait", "i")
    before = run.history()
    path = path.partition("?")[0]
    allowed = {each for each, other, _ in all_requests() if other.partition("?")[0] == path}
    allowed |= {"HEAD"} if "GET" in allowed else set()
    for other in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - allowed:
        answer = client.call(other, f"{BASE}/{path}")
        assert answer.status == 405, other
        assert answer.headers["allow"] == ", ".join(sorted(allowed))
    assert shop.durable.count() == 1
    assert (run.refresh().runtime_status, run.history()) == (RuntimeStatus.RUNNING, before)


def test_head_is_as_get_without_the_body(client: Client, shop: Shop) -> None:
    shop.start("x", "i")
    head, get = (client.call(method, f"{BASE}/instances/i") for method in ("HEAD", "GET"))
    assert (head.status, head.body, head.headers) == (200, b"", get.headers)


def test_addresses_are_on_the_origin_that_the_client_used(wsgi: Any) -> None:
    for origin in ("http://a.example", "https://[::1]:8443", "http://127.0.0.1:8000"):
        answer = Client(wsgi, ALL, origin=origin).post(f"{BASE}/orchestrators/http.sale", 1)
        assert answer.json["statusQueryGetUri"].startswith(f"{origin}/durable/instances/")
    mounted = Client(wsgi, ALL).post(
        f"{BASE}/orchestrators/http.sale", 1, SCRIPT_NAME="/my app", RAW_URI=None
    )
    assert mounted.json["statusQueryGetUri"].startswith(f"{ORIGIN}/my%20app/durable/instances/")
    nameless = Client(wsgi, ALL).post(f"{BASE}/orchestrators/http.sale", 1, HTTP_HOST=None)
    assert nameless.headers["location"].startswith("https://10.0.0.1:8000/durable/")


@pytest.mark.parametrize(
    "host", ["evil.example/path", "a b", "user@host", "host:port", "\xff.example"]
)
def test_a_host_that_is_none_is_400(wsgi: Any, shop: Shop, host: str) -> None:
    assert (
        Client(wsgi, ALL).post(f"{BASE}/orchestrators/http.sale", 1, HTTP_HOST=host).status == 400
    )
    assert shop.durable.count() == 0


def test_check_status_of_a_start_of_ones_own() -> None:
    environ = {"wsgi.url_scheme": "https", "HTTP_HOST": "shop.example"}
    answer = create_check_status_response(environ, "a/b", prefix="durable")
    told: list[Any] = []
    (body,) = answer.wsgi(lambda status, headers: told.extend((status, dict(headers))))
    assert told[0] == "202 Accepted"
    assert told[1]["Location"] == "https://shop.example/durable/instances/a%2Fb"
    assert told[1]["Retry-After"] == "10"
    assert json.loads(body) == check_status_body("https://shop.example/durable/", "a/b")


# -- what breaks -----------------------------------------------------------------------------------


def test_a_store_that_is_away_is_503(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("no route to db-7.internal with password hunter2")

    monkeypatch.setattr(type(shop.durable.runtime.store.reads), "fetch", fail)
    answer = client.get(f"{BASE}/instances/i")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert b"hunter2" not in answer.body


def test_what_is_not_foreseen_is_500_and_in_the_log(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(type(shop.durable.runtime.store.reads), "fetch", lambda *_: 1 / 0)
    answer = client.get(f"{BASE}/instances/i%0AERROR%20forged")
    assert answer.status == 500
    assert b"zero" not in answer.body
    assert "division by zero" in caplog.text
    assert "\nERROR forged" not in caplog.text, "an address makes no lines of its own"
