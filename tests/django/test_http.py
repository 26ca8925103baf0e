"""The HTTP contract in a Django project that is served, with a worker: sessions, permissions, CSRF,
tokens, links.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from celery_durable.engine.completion_tokens import sealed
from celery_durable.engine.records import ActivityAttemptId
from tests.conftest import wait_until
from tests.preloaded import PATIENCE, Preloaded

from .conftest import Project, sqlite_settings

APPROVAL = "tests.django.project.orders.tasks.approval"
EVERYTHING = "a-token-that-may-everything"
OF_ANOTHER_STORE = sealed("another store", ActivityAttemptId("0123456789abcdef0123", 1, 1))
PERMISSIONS = (
    "view_instance view_entity view_payload start_instance raise_event_instance suspend_instance"
    " resume_instance terminate_instance rewind_instance restart_instance purge_instance"
).split()
USERS = {
    "boss": PERMISSIONS,
    "nobody": [],
    "watcher": ["view_instance"],
    "blind": sorted({*PERMISSIONS} - {"view_payload"}),
}


class Site:
    """A served project, and its users in the browser."""

    def __init__(self, project: Project, port: int, sessions: dict[str, str]) -> None:
        self.project = project
        self.origin = f"http://127.0.0.1:{port}"
        self.sessions = sessions
        self.store = project.store()

    def browser(self, user: str | None = None, *, csrf: bool = True) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        if user is not None:
            session.cookies.set("sessionid", self.sessions[user], domain="127.0.0.1")
        if csrf:
            session.cookies.set("csrftoken", "x" * 32, domain="127.0.0.1")
            session.headers["X-CSRFToken"] = "x" * 32
        return session

    def machine(self, token: str) -> requests.Session:
        session = self.browser(csrf=False)
        session.headers["Authorization"] = f"Bearer {token}"
        return session

    def start(self, id_: str | None = None) -> str:
        id_ = id_ or f"i-{uuid.uuid4().hex[:8]}"
        url = f"{self.origin}/machines/orchestrators/{APPROVAL}/{quote(id_, safe='')}"
        assert self.machine(EVERYTHING).post(url, json="order").status_code == 202
        return id_

    def state(self) -> Any:
        """Everything that a request might change."""
        with self.store.database.cursor() as cursor:
            cursor.execute("SELECT id, status, reason FROM durable_instances ORDER BY id")
            instances = cursor.fetchall()
            cursor.execute("SELECT COUNT(*) FROM durable_inbox WHERE kind = 'EventRaised'")
            return instances, cursor.fetchall()


@pytest.fixture(scope="module")
def site(
    python: Preloaded, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    shutil.copy(migrated_file, directory / "app.db")
    project = Project(
        python,
        directory,
        sqlite_settings(directory),
        DJANGO_SETTINGS_MODULE="tests.django.http_settings",
    )
    sessions = json.loads(
        project.run(f"""
import json
from django.contrib.auth.models import Permission, User
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
keys = {{}}
for name, codenames in {USERS!r}.items():
    user = User.objects.create_user(name, is_active=True)
    found = Permission.objects.filter(content_type__app_label="celery_durable", codename__in=codenames)
    assert found.count() == len(codenames), (name, list(found))
    user.user_permissions.set(found)
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    keys[name] = session.session_key
print(json.dumps(keys))
""").splitlines()[-1]
    )
    with ExitStack() as stack:
        stack.callback(project.close)
        stack.callback(project.worker(directory / "worker.log").kill)
        server = project.start(directory / "server.log", "-m", "tests.django.serve_http")
        stack.callback(server.kill)
        log = directory / "server.log"
        wait_until(
            lambda: log.read_text().endswith("\n") or server.poll() is not None,
            PATIENCE,
            "the server's port",
        )
        port = log.read_text().strip()
        assert port.isdigit(), port
        yield Site(project, int(port), sessions)


# -- the contract ----------------------------------------------------------------------------------


def test_a_life_by_a_user_with_all_permissions(site: Site) -> None:
    boss, id_ = site.browser("boss"), f"a/b ü?{uuid.uuid4().hex[:6]}"
    started = boss.post(
        f"{site.origin}/durable/orchestrators/{APPROVAL}/{quote(id_, safe='')}", json="order-1"
    )
    assert started.status_code == 202, started.text
    body = started.json()
    assert (
        body["statusQueryGetUri"]
        == started.headers["Location"]
        == f"{site.origin}/durable/instances/{quote(id_, safe='')}"
    )
    assert body["sendEventPostUri"].endswith("/raiseEvent/{eventName}")
    waiting = wait_until(lambda: _is_running(boss, body["statusQueryGetUri"]), PATIENCE)
    assert waiting["customStatus"] == {"waits": "approved"}
    assert waiting["input"] == "order-1"
    assert boss.post(body["suspendPostUri"]).status_code == 202
    suspended = boss.get(body["statusQueryGetUri"], params={"showHistory": "true"}).json()
    assert suspended["runtimeStatus"] == "Suspended"
    assert suspended["historyEvents"][-1]["Reason"] == "by boss, over HTTP"
    told = boss.get(f"{body['statusQueryGetUri']}/audit").json()
    assert [(each["verb"], each["actor"], each["door"]) for each in told] == [
        ("suspend", "boss", "http"),
        ("start", "boss", "http"),
    ]
    assert boss.post(body["resumePostUri"]).status_code == 202
    assert boss.delete(body["purgeHistoryDeleteUri"]).status_code == 404
    assert (
        boss.post(
            body["sendEventPostUri"].replace("{eventName}", "approved"), json={"by": "ada"}
        ).status_code
        == 202
    )
    done = wait_until(
        lambda: (answer := boss.get(body["statusQueryGetUri"])).status_code == 200 and answer.json()
    )
    assert (done["runtimeStatus"], done["output"]) == ("Completed", {"by": "ada"})
    assert boss.post(body["terminatePostUri"].replace("{text}", "late")).status_code == 410
    again = boss.post(body["restartPostUri"])
    assert again.status_code == 202
    assert (
        boss.post(again.json()["terminatePostUri"].replace("{text}", "enough")).status_code == 202
    )
    assert boss.delete(body["purgeHistoryDeleteUri"]).json() == {"instancesDeleted": 1}
    assert boss.get(body["statusQueryGetUri"]).status_code == 404


def _is_running(session: requests.Session, url: str) -> Any:
    answer = session.get(url)
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "5"
    return answer.json()["customStatus"] and answer.json()


def test_a_wait_sees_the_end_although_requests_are_atomic(site: Site) -> None:
    url = f"{site.origin}/durable/orchestrators/tests.django.project.orders.tasks.failing?timeout=30&pollingInterval=0.1"
    answer = site.browser("boss").post(url, json="no money")
    assert answer.status_code == 202
    status = site.browser("boss").get(answer.headers["Location"])
    assert (status.status_code, status.json()["output"]) == (200, "no money")
    failed = site.browser("boss").get(
        answer.headers["Location"] + "?returnInternalServerErrorOnFailure=true"
    )
    assert failed.status_code == 500


def test_a_view_of_ones_own_answers_with_the_addresses(site: Site) -> None:
    name = f"own-{uuid.uuid4().hex[:6]}"
    answer = site.browser().get(f"{site.origin}/place?name={name}")
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "10")
    assert (
        answer.headers["Location"]
        == answer.json()["statusQueryGetUri"]
        == f"{site.origin}/durable/instances/{name}"
    )
    assert site.browser("boss").get(answer.headers["Location"]).status_code in (200, 202)


@pytest.mark.parametrize("path", ["", "nothing", "instances/", "orchestrators"])
def test_other_addresses_are_404(site: Site, path: str) -> None:
    assert site.browser("boss").get(f"{site.origin}/durable/{path}").status_code == 404


def test_other_methods_are_405(site: Site) -> None:
    answer = site.browser("boss").put(f"{site.origin}/durable/instances")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD")
    assert site.browser("boss").head(f"{site.origin}/durable/instances").status_code == 200


# -- who is let in ---------------------------------------------------------------------------------

REQUESTS = [
    ("GET", "instances/{id}", "view_instance"),
    ("GET", "instances", "view_instance"),
    ("GET", "entities", "view_entity"),
    ("GET", "entities/Counter/k", "view_entity"),
    ("GET", "entities/Counter", "view_entity"),
    ("GET", "openapi.json", "view_instance"),
    ("POST", f"orchestrators/{APPROVAL}", "start_instance"),
    ("POST", f"orchestrators/{APPROVAL}/new", "start_instance"),
    ("POST", "instances/{id}/raiseEvent/other", "raise_event_instance"),
    (
        "POST",
        "events/other?runtimeStatus=Pending,Running&instanceIdPrefix={id}",
        "raise_event_instance",
    ),
    ("POST", "entities/Counter/k?op=add", "raise_event_instance"),
    ("POST", "instances/{id}/suspend", "suspend_instance"),
    ("POST", "instances/{id}/resume", "resume_instance"),
    ("POST", "instances/{id}/rewind", "rewind_instance"),
    ("POST", "instances/{id}/restart", "restart_instance"),
    ("POST", "instances/{id}/terminate", "terminate_instance"),
    ("DELETE", "entities/Counter/k", "terminate_instance"),
    ("DELETE", "instances/{id}", "purge_instance"),
    ("DELETE", "instances?createdTimeFrom=2001-01-01", "purge_instance"),
]


def test_no_one_changes_or_sees_anything_without_permission(site: Site) -> None:
    id_ = site.start()
    wait_until(lambda: site.store.reads.status_of(id_) == "RUNNING")
    before = site.state()
    for method, path, permission in REQUESTS:
        url = f"{site.origin}/durable/{path.format(id=id_)}"
        for session, code in [
            (site.browser(), 401),
            (site.browser("nobody"), 403),
            (site.browser("watcher"), 403),
            (site.browser("boss", csrf=False), 403),
            (site.machine(EVERYTHING), 401),
        ]:
            if method == "GET" and session.headers.get("X-CSRFToken") is None and code == 403:
                continue  # looking needs no CSRF token
            if (
                permission == "view_instance"
                and session.cookies.get("sessionid") == site.sessions["watcher"]
            ):
                continue
            answer = session.request(method, url, json=1 if method == "POST" else None)
            assert answer.status_code == code, (method, path, answer.text)
            assert ("WWW-Authenticate" in answer.headers) == (code == 401)
            assert answer.json()["message"]
    assert site.state() == before


def test_permissions_open_what_they_name(site: Site) -> None:
    watcher = site.browser("watcher")
    id_ = site.start()
    body = watcher.get(
        f"{site.origin}/durable/instances/{id_}?showHistory=true&showHistoryOutput=true"
    )
    assert body.status_code == 202
    assert (body.json()["input"], body.json()["customStatus"]) == (None, None)
    assert "order" not in str([each.get("Input") for each in body.json()["historyEvents"]])
    assert watcher.get(f"{site.origin}/durable/entities/Counter/k").status_code == 403
    blind = site.browser("blind")
    url = f"{site.origin}/durable/orchestrators/tests.django.project.orders.tasks.fulfil?timeout=20&pollingInterval=1"
    assert blind.post(url, json="x").status_code == 202


def test_a_forged_csrf_token_is_403(site: Site) -> None:
    id_ = site.start()
    boss = site.browser("boss")
    boss.headers["X-CSRFToken"] = "y" * 32
    answer = boss.post(f"{site.origin}/durable/instances/{id_}/terminate")
    assert (answer.status_code, "CSRF" in answer.text) == (403, True)
    foreign = site.browser("boss")
    foreign.headers["Origin"] = "https://evil.example"
    assert foreign.post(f"{site.origin}/durable/instances/{id_}/terminate").status_code == 403
    assert site.store.reads.status_of(id_) in ("PENDING", "RUNNING")


def test_machines_need_a_token_and_no_csrf(site: Site) -> None:
    id_ = site.start()
    url = f"{site.origin}/machines/instances/{id_}"
    assert site.machine(EVERYTHING).post(f"{url}/suspend").status_code == 202
    assert site.machine("a-token-that-may-look").get(url).json()["runtimeStatus"] == "Suspended"
    assert site.machine("a-token-that-may-look").post(f"{url}/resume").status_code == 403
    told, *_ = site.machine("a-token-that-may-look").get(f"{url}/audit").json()
    assert (told["verb"], told["actor"][:6]) == ("suspend", "token ")
    assert site.machine("a-token-that-is-forged").get(url).status_code == 401
    both = site.browser("boss")
    both.headers["Authorization"] = "Bearer a-token-that-is-forged"
    assert both.post(f"{url}/resume").status_code == 401
    assert site.browser("boss", csrf=False).post(f"{url}/resume").status_code == 403
    for end in ("", "/fail"):  # there the token in the path is all that is needed, or looked at
        for who in (site.browser(csrf=False), site.browser("nobody"), site.machine("wrong")):
            for token, code in ((OF_ANOTHER_STORE, 410), (OF_ANOTHER_STORE[1:], 400)):
                address = f"{site.origin}/durable/completions/{token}{end}"
                assert who.post(address, json="x").status_code == code
    assert site.store.reads.status_of(id_) == "SUSPENDED"
    assert site.browser("boss").post(f"{url}/resume").status_code == 202


def test_a_hook_of_the_projects_own(site: Site) -> None:
    mine, other = site.start(f"boss-{uuid.uuid4().hex[:6]}"), site.start()
    boss = site.browser("boss")
    assert boss.get(f"{site.origin}/own/instances/{mine}").status_code == 202
    assert boss.get(f"{site.origin}/own/instances/{other}").status_code == 403
    assert boss.get(f"{site.origin}/own/instances").status_code == 403


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "data", "kind", "code"),
    [
        ("POST", f"orchestrators/{APPROVAL}", b"{", "application/json", 400),
        ("POST", f"orchestrators/{APPROVAL}", b"a=1", "application/x-www-form-urlencoded", 400),
        ("POST", f"orchestrators/{APPROVAL}", b'"' + b"x" * 10_000 + b'"', "application/json", 413),
        (
            "POST",
            f"orchestrators/{APPROVAL}",
            b'"' + b"x" * 3_000_000 + b'"',
            "application/json",
            413,
        ),
        ("POST", "orchestrators/unknown", b"1", "application/json", 400),
        ("POST", "orchestrators/celery_durable.canvas", b"1", "application/json", 400),
        ("POST", "instances/unknown/terminate", b"", "application/json", 404),
        ("POST", "instances/unknown/raiseEvent/x", b"1", "application/json", 404),
        ("DELETE", "instances", b"", "application/json", 400),
        ("DELETE", "instances/unknown", b"", "application/json", 404),
        ("GET", "instances?top=x", b"", "application/json", 400),
        ("GET", "instances/%FF", b"", "application/json", 404),
        ("GET", "instances/a%0Ab", b"", "application/json", 404),
    ],
)
def test_bad_input_has_its_code_and_changes_nothing(
    site: Site, method: str, path: str, data: bytes, kind: str, code: int
) -> None:
    before = site.state()[0]
    answer = site.browser("boss").request(
        method, f"{site.origin}/durable/{path}", data=data, headers={"Content-Type": kind}
    )
    assert answer.status_code == code, answer.text
    assert answer.json()["message"]
    assert [row[0] for row in site.state()[0]] == [row[0] for row in before]


# -- links -----------------------------------------------------------------------------------------


def _link(site: Site, id_: str, **options: Any) -> str:
    wait_until(lambda: site.store.reads.status_of(id_) == "RUNNING")
    env = options.pop("env", {})
    options = {"title": "Ship <7>?", "origin": site.origin, **options}
    return site.project.run(
        f"""
from celery_durable.contrib.django.http import signed_event_url
print(signed_event_url({id_!r}, "approved", {{"Yes & ship": "yes", "No": "no"}}, **{options!r}))
""",
        **env,
    ).splitlines()[-1]


def _pressed(page: requests.Response, choice: str = "0") -> dict[str, str]:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found is not None, page.text
    return {"choice": choice, "csrfmiddlewaretoken": found[1]}


def test_a_link_is_opened_and_answered_once(site: Site) -> None:
    id_ = site.start()
    link = _link(site, id_)
    before, person = site.state(), site.browser(csrf=False)
    assert (
        site.browser(csrf=False).get(link).status_code
        == site.browser(csrf=False).head(link).status_code
        == 200
    )
    page = person.get(link)
    assert "Ship &lt;7&gt;?" in page.text
    assert "Yes &amp; ship" in page.text
    assert not re.search(r"<script|<style|style=|\son\w+=", page.text)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    style = re.search(r'rel="stylesheet" href="([^"]+)"', page.text)
    assert style is not None
    assert site.browser(csrf=False).get(style[1]).headers["Content-Type"].startswith("text/css")
    for session, data, code in [
        (site.browser(csrf=False), {"choice": "0"}, 403),  # CSRF token missing
        (person, {**_pressed(page), "csrfmiddlewaretoken": "x" * 64}, 403),
        (person, _pressed(page, "2"), 400),
        (person, _pressed(page, ""), 400),
    ]:
        assert session.post(link, data=data).status_code == code
    assert site.state() == before
    thanks = person.post(link, data=_pressed(page, "1"))
    assert (thanks.status_code, "recorded: No" in thanks.text) == (200, True)
    for again in (person.post(link, data=_pressed(page, "0")), person.get(link)):
        assert (again.status_code, "answered already" in again.text) == (410, True)
    wait_until(lambda: site.store.reads.status_of(id_) == "COMPLETED")
    assert (
        site.browser("boss").get(f"{site.origin}/durable/instances/{id_}").json()["output"] == "no"
    )


def test_links_that_cannot_be_used_have_their_pages(site: Site) -> None:
    id_ = site.start()
    link = _link(site, id_)
    expired = _link(site, id_, max_age=0.001)
    wait_until(lambda: "has expired" in site.browser(csrf=False).get(expired).text)
    person = site.browser(csrf=False)
    page = person.get(link)
    forged = site.browser(csrf=False).get(link + "x")
    assert (forged.status_code, "not valid" in forged.text) == (403, True)
    assert person.post(link[:-1], data=_pressed(page)).status_code == 403
    assert person.post(expired, data=_pressed(page)).status_code == 410
    site.machine(EVERYTHING).post(f"{site.origin}/machines/instances/{id_}/terminate")
    for closed in (person.get(link), person.post(link, data=_pressed(page))):
        assert (closed.status_code, "not asked any more" in closed.text) == (410, True)
    assert person.put(link).status_code in (403, 405)


def test_a_link_of_an_older_secret_key_is_honoured(site: Site) -> None:
    id_ = site.start()
    wait_until(lambda: site.store.reads.status_of(id_) == "RUNNING")
    printed = site.project.run(f"""
from django.conf import settings
settings.SECRET_KEY = "the older one of two secrets"
from celery_durable.contrib.django.http import signed_event_url
print(signed_event_url({id_!r}, "approved"))
settings.SECRET_KEY = "one that nobody uses any more"
print(signed_event_url({id_!r}, "approved"))
""").splitlines()
    old, foreign = printed[-2:]
    assert urlsplit(old).netloc == ""
    assert site.browser(csrf=False).get(site.origin + old).status_code == 200
    assert site.browser(csrf=False).get(site.origin + foreign).status_code == 403


def test_an_asgi_server_tells_the_encoded_path_too(site: Site) -> None:
    id_ = f"a/raiseEvent/{uuid.uuid4().hex[:6]}"
    printed = site.project.run(f"""
import asyncio, json
from urllib.parse import quote
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

async def ask(method, path, body=b""):
    raw = path.encode()
    scope = {{"type": "http", "method": method, "path": path.replace("%2F", "/"), "raw_path": raw, "query_string": b"",
             "headers": [(b"authorization", b"Bearer {EVERYTHING}"), (b"host", b"shop.example"),
                         (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]}}
    told = ApplicationCommunicator(app_, scope)
    await told.send_input({{"type": "http.request", "body": body}})
    status = (await told.receive_output(30))["status"]
    return [status, json.loads((await told.receive_output(30))["body"] or "null")]

app_ = get_asgi_application()
id_ = quote({id_!r}, safe="")
print(json.dumps([
    asyncio.run(ask("POST", "/machines/orchestrators/{APPROVAL}/" + id_, b'"order"')),
    asyncio.run(ask("GET", "/machines/instances/" + id_)),
    asyncio.run(ask("POST", "/machines/instances/" + id_ + "/raiseEvent/x%2Fy", b"1")),
]))
""").splitlines()
    started, seen, raised = json.loads(printed[-1])
    assert (started[0], started[1]["id"]) == (202, id_)
    assert (
        started[1]["statusQueryGetUri"]
        == f"http://shop.example/machines/instances/{quote(id_, safe='')}"
    )
    assert (seen[0], seen[1]["instanceId"]) == (202, id_)
    assert raised == [202, None]
