"""The tab over Flower's own application: what it shows, to whom, and what it lets them do."""

from __future__ import annotations

import logging
import os
import re
import sys
import types
from collections.abc import Callable
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flower.app import Flower
from flower.options import options as flower_options
from flower.urls import settings
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.testing import AsyncHTTPTestCase

from celery_durable import contrib
from celery_durable.contrib.flower import reading as lists
from celery_durable.contrib.flower import reading_instance
from celery_durable.core.history import EventKind
from celery_durable.errors import StoreError
from tests.flower.conftest import basic

USER = basic("ann", "secret")
HOSTILE = [
    "a/b",
    "..",
    "../..",
    "a b+c&d=e#f?g",
    "%2e%2f",
    "\"'<script>alert(1)</script>",
    "{{ 7777*7777 }}{% raw x %}",
    "é\u202eü😀",
    "line\nfeed\rreturn",
    "\x01\x1b[31m",
    " leading",
]


class FlowerCase(AsyncHTTPTestCase):
    """One Flower over one application, whose activities run at once."""

    given: dict[str, Any] = {"basic_auth": ["ann:secret"]}
    conf: dict[str, Any] = {}

    @pytest.fixture(autouse=True)
    def use(
        self,
        new_app: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        self.caplog, self.monkeypatch = caplog, monkeypatch
        monkeypatch.delenv("FLOWER_UNAUTHENTICATED_API", raising=False)
        monkeypatch.setenv("ASYNC_TEST_TIMEOUT", "300")
        self.capp = new_app(task_always_eager=True, **self.conf)
        self.durable = self.capp.durable

        @self.durable.orchestrator(name="tab.order")
        async def order(ctx: Any, number: int = 0, secret: str = "") -> Any:
            ctx.set_status({"number": number})
            return await ctx.wait_event("go")

        @self.durable.orchestrator(name="tab.parent")
        async def parent(ctx: Any) -> Any:
            return await ctx.call(order.s().set(task_id=f"{ctx.instance_id}/child"))

        @self.durable.orchestrator(name="tab.failing")
        async def failing(ctx: Any) -> None:
            raise KeyError("<b>broken</b>")

        self.order, self.parent, self.failing = order, parent, failing

    def get_app(self) -> Flower:
        self.prepare()
        chosen = types.SimpleNamespace(**{**flower_options.as_dict(), **self.given})
        made = {**settings, "debug": False}
        if prefix := getattr(chosen, "url_prefix", None):
            made = {
                **made,
                "login_url": f"/{prefix}/login",
                "static_url_prefix": f"/{prefix}/static/",
            }
        self.flower = Flower(capp=self.capp, options=chosen, io_loop=self.io_loop, **made)
        return self.flower

    def get_http_client(self) -> AsyncHTTPClient:
        return AsyncHTTPClient(defaults={"connect_timeout": 300, "request_timeout": 300})

    def prepare(self) -> None:
        """What is to be so before Flower is made."""

    def tearDown(self) -> None:
        super().tearDown()
        self.flower.executor.shutdown()

    def get(
        self, path: str, headers: dict[str, str] | None = USER, code: int = 200, **arguments: Any
    ) -> str:
        query = f"?{urlencode(arguments)}" if arguments else ""
        answer = self.fetch(f"{path}{query}", headers=headers or {}, follow_redirects=False)
        assert answer.code == code, (answer.code, answer.body[-2000:])
        return answer.body.decode()

    def page_of(self, instance_id: str, code: int = 200, **more: Any) -> str:
        return self.get("/orchestrations/show", code=code, id=instance_id, **more)

    def act(
        self,
        instance_id: str,
        verb: str,
        headers: dict[str, str] | None = USER,
        token: bool = True,
        **fields: str,
    ) -> HTTPResponse:
        """Post the form of a verb as a browser does: with the cookie and the token of a page."""
        given = {"verb": verb, "reason": "because", "confirm": "yes", **fields}
        headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        if token:
            answer = self.fetch("/orchestrations", headers=USER)
            cookie = SimpleCookie(answer.headers["Set-Cookie"])["_xsrf"].value
            headers["Cookie"] = f"_xsrf={cookie}"
            given["_xsrf"] = cookie
        body = urlencode({key: value for key, value in given.items() if value is not None})
        path = f"/orchestrations/act?id={quote(instance_id, safe='')}"
        return self.fetch(path, method="POST", headers=headers, body=body, follow_redirects=False)

    def status(self, instance_id: str) -> str:
        return str(self.durable.get(instance_id).runtime_status)

    def warnings(self) -> list[str]:
        return [
            record.getMessage()
            for record in self.caplog.records
            if record.name == "celery_durable.flower"
        ]


def text_of(html: str) -> str:
    """The text of markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html.replace("<wbr>", ""))))


class TestList(FlowerCase):
    def test_it_has_all_columns(self) -> None:
        self.order.apply_async((1,), task_id="order-1")
        self.failing.apply_async(task_id="bad-1")
        self.durable.suspend("order-1", reason="wait for Ann")
        page = text_of(self.get("/orchestrations"))
        assert re.search(r"bad-1 tab.failing FAILED \d+s", page)
        assert re.search(r"order-1 tab.order {'number': 1} SUSPENDED \d+s .*wait for Ann", page)
        assert page.index("bad-1") < page.index("order-1"), "newest first"

    def test_what_it_waits_for(self) -> None:
        run = self.parent.apply_async(task_id="p")
        assert f"child {run.id}/child" in text_of(self.get("/orchestrations", name="tab.parent"))

    def test_pauses_say_why_and_until_when(self) -> None:
        switches = self.durable.runtime.store.switches
        switches.count_failure("tab.charge", 1, 1, 60_000_000, "paused by itself: <b>")
        self.durable.runtime.runner.switches.refresh()
        (pause,) = self.durable.pauses()
        page = self.get("/orchestrations")
        assert "paused by itself: &lt;b&gt;" in page and "<b>" not in page
        assert f"until {pause.until:%Y-%m-%dT%H:%M:%S}" in text_of(page)

    def test_filters(self) -> None:
        self.order.apply_async((1,), task_id="order-1")
        self.durable.start(
            self.failing.s(), instance_id="bad-1", tags={"customer": "7", "land": "é"}
        )
        for arguments, found in [
            ({"status": "FAILED"}, {"bad-1"}),
            ({"status": "RUNNING"}, {"order-1"}),
            ({"status": "SUSPENDED"}, set()),
            ({"name": "tab.order"}, {"order-1"}),
            ({"prefix": "bad"}, {"bad-1"}),
            ({"tags": "customer=7, land=é"}, {"bad-1"}),
            ({"tags": "customer=8"}, set()),
            ({"stuck": "1"}, set()),
            ({"status": "", "name": " "}, {"bad-1", "order-1"}),
        ]:
            page = self.get("/orchestrations", part="1", **arguments)
            assert {id_ for id_ in ("bad-1", "order-1") if id_ in page} == found, arguments
        page = self.get("/orchestrations", status="FAILED", prefix='"><i>', tags="a=b")
        assert "<option selected>FAILED</option>" in page and "<i>" not in page

    def test_bad_filters(self) -> None:
        for arguments in [
            {"status": "GONE"},
            {"tags": "no-sign"},
            {"cursor": "garbage"},
            {"cursor": "é\x01"},
        ]:
            assert 'role="alert"' in self.get("/orchestrations", code=400, **arguments)
        self.get("/orchestrations?name=%ff", code=400)

    def test_paging(self) -> None:
        self.monkeypatch.setattr(lists, "PAGE", 2)
        for number in range(5):
            self.order.apply_async(task_id=f"order-{number}")
        seen, path = [], "/orchestrations?name=tab.order"
        while path:
            page = self.get(path)
            seen += re.findall(r"show\?id=(order-\d)", page.partition("<tbody>")[2])
            older = re.search(r'rel="next" href="([^"]+)"', page)
            path = unescape(older[1]) if older else ""
            assert not path or "name=tab.order" in path
        assert seen == [f"order-{number}" for number in (4, 3, 2, 1, 0)]

    def test_live_refresh_is_a_part(self) -> None:
        self.order.apply_async(task_id="order-1")
        page = self.get("/orchestrations", name="tab.order")
        part = self.get(unescape(re.search(r'data-url="([^"]+)"', page)[1]))  # type: ignore[index]
        assert "order-1" in part and "<html" not in part and "<form" not in part
        assert "durable-live" in self.get("/orchestrations/static/tab.js", headers=None)

    def test_the_tab_is_on_flowers_pages_too(self) -> None:
        for path in ("/", "/tasks"):
            page = self.get(path)
            assert re.search(
                r'<a class="nav-link" id="durable-tab"\s+href="/orchestrations"', page
            ), path
        assert 'nav-link active" id="durable-tab"' in self.get("/orchestrations")

    def test_schedules_and_entities(self) -> None:
        @self.durable.entity
        class Counter:
            value: int = 0

            def add(self, number: int) -> None:
                self.value += number

        self.durable.schedule("nightly<b>", self.order.s(), cron="0 3 * * *", tz="Europe/Berlin")
        self.durable.entity(Counter, "vis/its").signal.add(3)
        assert "nightly<b> tab.order 0 3 * * * Europe/Berlin skip" in text_of(
            self.get("/orchestrations/schedules")
        )
        page = text_of(self.get("/orchestrations/entities"))
        assert re.search(r'Counter vis/its \{ "value": 3 \}', page)
        assert "vis/its" not in self.get("/orchestrations/entities", name="Other")
        self.get("/orchestrations/entities", name="x", cursor="garbage", code=400)
        offered = re.findall(r'name="verb" value="(\w+)"', self.page_of("@Counter@vis/its"))
        assert offered == ["suspend", "terminate"]
        answer = self.act("@Counter@vis/its", "cancel")
        assert (
            answer.code,
            "is an entity: cancel is for orchestrations" in text_of(answer.body.decode()),
        ) == (409, True)
        assert self.act("@Counter@vis/its", "terminate").code == 303

    def test_data_that_no_orchestrator_could_read_is_refused(self) -> None:
        self.durable.start(self.order.s(), instance_id="i")
        answer = self.act("i", "raise_event", event="go", data='{"a": nul}')
        assert (answer.code, "the data is no JSON" in answer.body.decode()) == (400, True)
        assert self.status("i") == "RUNNING"

    def test_half_a_character_is_shown_by_its_number(self) -> None:
        self.caplog.set_level(logging.ERROR)  # pytest's workers cannot report a log that holds one

        @self.durable.orchestrator(name="tab.missing")
        async def missing(ctx: Any, name: str) -> None:
            raise FileNotFoundError(name)

        self.durable.start(missing.s("caf\udce9"), instance_id="i")
        assert r"caf\udce9" in self.page_of("i")


class TestInstance(FlowerCase):
    def test_header_timeline_history_and_links(self) -> None:
        run = self.parent.apply_async(task_id="parent-1")
        page = self.page_of(run.id)
        assert '<svg xmlns="http://www.w3.org/2000/svg" class="durable-timeline"' in page
        assert (
            '<table class="durable-lanes">' in page
            and "/orchestrations/static/timeline.css" in page
        )
        assert f'href="/orchestrations/show?id={quote(run.id + "/child", safe="")}"' in page
        text = text_of(page)
        assert (
            "sub-orchestration 'parent-1/child'" in text
            and "ExecutionStarted" in text
            and "ChildStarted" in text
        )
        child = self.page_of(f"{run.id}/child")
        assert 'child of <a href="/orchestrations/show?id=parent-1">' in child
        assert "event 'go'" in text_of(child) and '"number": 0' in unescape(child)
        assert 'href="/task/' not in child, "Flower has no page of it"
        about = {
            "hostname": "w@h",
            "timestamp": 1.0,
            "local_received": 1.0,
            "clock": 1,
            "utcoffset": 0,
            "pid": 1,
        }
        self.flower.events.state.event(
            {"type": "task-received", "uuid": run.id, "name": "tab.parent", **about}
        )
        assert 'href="/task/parent-1"' in self.page_of(run.id)

    def test_refresh_ends_with_it(self) -> None:
        run = self.order.apply_async(task_id="o")
        part = self.page_of("o", part="1")
        assert "<html" not in part and "data-over" not in part and "<form" not in part
        run.raise_event("go", {"a": 1})
        assert 'data-over="1"' in self.page_of("o", part="1")

    def test_failures_only(self) -> None:
        self.failing.apply_async(task_id="bad")
        whole, failed = self.page_of("bad"), self.page_of("bad", failed="1")
        assert EventKind.EXECUTION_STARTED in whole and EventKind.EXECUTION_STARTED not in failed
        assert (
            "ExecutionFailed" in failed
            and "&lt;b&gt;broken" in failed
            and "<b>broken" not in failed
        )

    def test_history_in_pages(self) -> None:
        self.monkeypatch.setattr(reading_instance, "EVENTS", 2)
        run = self.order.apply_async(task_id="o")
        for _ in range(4):
            run.raise_event("other")
        run.raise_event("go", "x")
        numbers, path = [], "/orchestrations/show?id=o"
        while path:
            page = self.get(path)
            numbers += sorted(
                (int(n) for n in re.findall(r"<td>(\d+)</td><td><time>", page)), reverse=True
            )
            earlier = re.search(r'<a href="([^"]+)">earlier events', page)
            path = unescape(earlier[1]) if earlier else ""
        assert numbers == list(range(len(run.history()), 0, -1)) and len(numbers) > 4
        for until in ("x", "-1", "1.5"):
            self.page_of("o", code=400, until=until)

    def test_payloads_are_cut(self) -> None:
        run = self.order.apply_async((1,), {"secret": "x" * 200_000}, task_id="o")
        run.raise_event("go", "y" * 200_000)
        page = self.page_of("o")
        assert len(page) < 64 * 1024 * 3 and "more characters" in page

    def test_arguments_that_the_caller_hides(self) -> None:
        run = self.order.apply_async(
            (1,), {"secret": "hunter2"}, task_id="o", kwargsrepr="{'secret': '***'}"
        )
        run.raise_event("go", "hunter3")
        page = unescape(self.page_of("o"))
        assert "{'secret': '***'}" in page and "hunter2" not in page
        assert "payload" not in page

    def test_unknown_and_bad_ids(self) -> None:
        for id_ in ("nobody", "x" * 151):
            assert "Orchestrations" in self.page_of(id_, code=404 if len(id_) < 151 else 400)
        self.get("/orchestrations/show", code=400)
        self.get("/orchestrations/show?id=%00", code=400)
        self.get("/orchestrations/show?id=%ff%fe", code=400)

    def test_hostile_ids(self) -> None:
        for id_ in HOSTILE:
            self.durable.start(self.order.s(), instance_id=id_, tags={"<i>": "</dd><i>"})
            listed = self.get("/orchestrations", prefix=id_[:150])
            link = unescape(re.search(r'durable-id"><a href="([^"]+)"', listed)[1])  # type: ignore[index]
            assert link == f"/orchestrations/show?{urlencode({'id': id_})}"
            page = self.get(link)
            assert "<script>alert" not in page and "<i>" not in page and "60481729" not in page
            action = unescape(re.search(r'action="([^"]+)"', page)[1])  # type: ignore[index]
            assert action == f"/orchestrations/act?{urlencode({'id': id_})}"
            assert self.act(id_, "terminate").code == 303
            assert self.status(id_) == "TERMINATED", id_


class TestPanels(FlowerCase):
    """What the tab has in common with the admin's page."""

    def test_what_went_wrong_and_what_to_do(self) -> None:
        @self.capp.task(name="tab.charge")
        def charge(card: str) -> None:
            raise ValueError(f"<i>{card}</i> was declined")

        @self.durable.orchestrator(name="tab.shop")
        async def shop(ctx: Any) -> None:
            inner = paying.s().set(task_id=f"{ctx.instance_id}-pay")
            await ctx.call(inner)

        @self.durable.orchestrator(name="tab.paying")
        async def paying(ctx: Any) -> None:
            await ctx.call(charge.s("4711"))

        self.durable._watch_tasks()
        shop.apply_async(task_id="shop-1")
        page = self.page_of("shop-1")
        text = text_of(page)
        assert "The sub-orchestration tab.paying failed, attempt 1 ( shop-1 , event" in text
        assert "The activity tab.charge failed, attempt 1 ( shop-1-pay , event" in text
        assert "ValueError : <i>4711</i> was declined" in text and "<i>4711" not in page
        assert "frames of libraries" in text and "raise ValueError" in text
        assert "Rewind : Once the cause is gone, it runs tab.charge again" in text
        link = unescape(re.search(r'href="([^"]+)"><bdi>shop-1-pay</bdi>, event', page)[1])  # type: ignore[index]
        path, _, anchor = link.partition("#")
        assert f'id="{anchor}" class="durable-bad"' in self.get(path)
        assert "durable-failure" not in self.page_of(self.order.apply_async(task_id="o").id)

    def test_what_was_before_a_rewind_is_folded(self) -> None:
        self.failing.apply_async(task_id="bad")
        assert "The whole run, with what was before the rewind" not in self.page_of("bad")
        self.durable.get("bad").rewind()
        assert "The whole run, with what was before the rewind" in self.page_of("bad")

    def test_numbers_by_status_and_tags(self) -> None:
        for number in range(2):
            self.durable.start(self.order.s(number), instance_id=f"o-{number}", tags={"<b>": "7"})
        self.failing.apply_async(task_id="bad")
        page = self.get("/orchestrations", part="1")
        assert "RUNNING 2 FAILED 1" in text_of(page)
        assert 'href="/orchestrations/show' in page
        assert '<a href="/orchestrations?status=RUNNING">' in page
        assert "<li><bdi>&lt;b&gt;=7</bdi></li>" in page
        assert "{'number': 1}" in text_of(page)
        assert "<li><bdi>&lt;b&gt;=7</bdi></li>" in self.page_of("o-1")

    def test_names_are_broken_at_their_separators_only(self) -> None:
        self.durable.start(self.order.s(), instance_id="shop.<b>_1/x")
        page = self.get("/orchestrations", part="1")
        assert "<bdi>shop.<wbr>&lt;b&gt;_<wbr>1/<wbr>x</bdi>" in page
        assert "<bdi>tab.<wbr>order</bdi>" in page

    def test_names_that_are_waited_for_are_offered_and_get_the_event(self) -> None:
        self.parent.apply_async(task_id="p")
        page = self.page_of("p")
        offered = unescape(re.search(r'<option value="([^"]+)">go, of its', page)[1])  # type: ignore[index]
        assert "go, of its sub-orchestration p/child" in text_of(page)
        assert "there p/child waits for event 'go'" in text_of(page)
        answer = self.act("p", "raise_event", event="", awaited=offered, data='"x"')
        assert (answer.code, self.status("p/child"), self.status("p")) == (
            303, "COMPLETED", "COMPLETED",
        )  # fmt: skip
        assert self.durable.get("p").output == "x"

    def test_a_name_that_is_written_wins_and_one_that_is_not_waited_for_is_refused(self) -> None:
        run = self.parent.apply_async(task_id="p")
        chosen = '["p/child", "go"]'
        assert self.act("p", "raise_event", event="other", awaited=chosen).code == 303
        assert [event.name for event in run.history() if event.kind == "EventRaised"] == ["other"]
        for fields, code in (
            ({"awaited": '["p/child", "gone"]'}, 400),
            ({"awaited": '["elsewhere", "go"]'}, 400),
            ({"awaited": ""}, 400),
        ):
            assert self.act("p", "raise_event", event="", **fields).code == code
        assert self.status("p/child") == "RUNNING"

    def test_a_page_of_a_task_leads_to_its_orchestration(self) -> None:
        def seen(uuid: str, name: str, **more: Any) -> str:
            about = {"hostname": "w@h", "timestamp": 1.0, "local_received": 1.0, "clock": 1}
            event = {"type": "task-received", "uuid": uuid, "name": name, "utcoffset": 0, "pid": 1}
            self.flower.events.state.event({**event, **about, **more})
            return self.get(f"/task/{quote(uuid, safe='')}")

        ticket = f"d-{'0' * 20}-1-1"
        assert 'href="/orchestrations/show?id=order-1"' in seen("order-1", "tab.order")
        activity = seen(ticket, "tab.charge", parent_id="plain-1", root_id="plain-1")
        assert 'href="/orchestrations/show?id=plain-1"' in activity
        # of a name that is not known here, it is known by its activity
        assert 'href="/orchestrations/show?id=plain-1"' in seen("plain-1", "elsewhere.task")
        assert "durable-of-task" not in seen("other-1", "elsewhere.task")


class TestVerbs(FlowerCase):
    def test_each_does_what_it_says(self) -> None:
        run = self.order.apply_async(task_id="o")
        for verb, status, fields in [
            ("suspend", "SUSPENDED", {}),
            ("resume", "RUNNING", {}),
            ("raise_event", "COMPLETED", {"event": "go", "data": '{"by": "Ann"}'}),
            ("restart", "RUNNING", {}),
            ("cancel", "CANCELED", {}),
            ("restart", "RUNNING", {}),
            ("terminate", "TERMINATED", {}),
        ]:
            page = self.page_of("o")
            assert f'name="verb" value="{verb}"' in page, verb
            answer = self.act("o", verb, **fields)
            assert (answer.code, answer.headers["Location"]) == (
                303,
                f"/orchestrations/show?id=o&done={verb}",
            )
            assert self.status("o") == status
            if verb == "raise_event":
                assert run.refresh().output == {"by": "Ann"}
            if verb == "cancel":
                assert run.refresh().reason == "because (by ann, in Flower)"
        audit = text_of(self.page_of("o"))
        assert "Who did what" in audit and "ann flower terminate done because" in audit
        answer = self.act("o", "purge")
        assert (answer.code, answer.headers["Location"]) == (303, "/orchestrations?purged=1")
        self.page_of("o", code=404)
        found = run.audit()
        assert {(each.actor, each.door, each.effect) for each in found} == {
            ("ann", "flower", "done")
        }
        assert [each.verb for each in found][:2] == ["purge", "terminate"]

    def test_rewind(self) -> None:
        run = self.failing.apply_async(task_id="bad")
        assert self.act("bad", "rewind").code == 303
        assert [event.kind for event in run.history()].count(EventKind.EXECUTION_REWOUND) >= 1

    def test_only_what_fits_is_offered_and_done(self) -> None:
        self.failing.apply_async(task_id="bad")
        page = self.page_of("bad")
        assert set(re.findall(r'name="verb" value="(\w+)"', page)) == {"rewind", "restart", "purge"}
        for verb in ("suspend", "resume", "raise_event"):
            answer = self.act("bad", verb, event="go")
            assert answer.code == 409 and b'role="alert"' in answer.body
        assert self.status("bad") == "FAILED"

    def test_what_is_missing_or_wrong_changes_nothing(self) -> None:
        self.order.apply_async(task_id="o")
        for verb, fields, code in [
            ("suspend", {"reason": ""}, 400),
            ("suspend", {"reason": "  "}, 400),
            ("suspend", {"confirm": ""}, 400),
            ("terminate", {"reason": "x" * 1001}, 400),
            ("raise_event", {"event": ""}, 400),
            ("raise_event", {"event": "go", "data": "{broken"}, 400),
            ("raise_event", {"event": "go", "data": "[" * 100_000}, 400),
            ("raise_event", {"event": "a\x00b"}, 400),
            ("explode", {}, 404),
            ("", {}, 404),
            ("fork", {}, 404),
            ("raise_event", {"event": "go", "data": '"' + "x" * 9_000_000 + '"'}, 400),
        ]:
            assert self.act("o", verb, **fields).code == code, (verb, list(fields))
        assert self.act("nobody", "suspend").code == 404
        assert self.status("o") == "RUNNING" and len(self.durable.get("o").history()) == 1

    def test_without_the_token_nothing_happens(self) -> None:
        self.order.apply_async(task_id="o")
        assert self.act("o", "terminate", token=False).code == 403
        forged = {**USER, "Cookie": "_xsrf=0"}
        assert self.act("o", "terminate", token=False, headers=forged, _xsrf="1").code == 403
        assert (
            self.act("o", "terminate", headers={**USER, "Sec-Fetch-Site": "cross-site"}).code == 403
        )
        assert self.status("o") == "RUNNING"

    def test_without_credentials(self) -> None:
        self.order.apply_async(task_id="o")
        for path in (
            "/orchestrations",
            "/orchestrations/show?id=o",
            "/orchestrations/schedules",
            "/orchestrations/entities",
        ):
            for headers in (
                None,
                basic("ann", "wrong"),
                {"Authorization": "Basic ???"},
                {"Authorization": "Bearer x"},
            ):
                assert "o" not in re.findall(r"id=(\w)", self.get(path, headers=headers, code=401))
        for headers in (None, basic("bob", "secret")):
            assert self.act("o", "terminate", headers=headers).code == 401
            assert self.act("o", "terminate", headers=headers, token=False).code == 401
        assert self.status("o") == "RUNNING"

    def test_a_link_does_nothing(self) -> None:
        self.order.apply_async(task_id="o")
        self.get(
            "/orchestrations/act", id="o", verb="terminate", reason="x", confirm="yes", code=405
        )
        assert self.status("o") == "RUNNING"


class TestReadOnly(FlowerCase):
    given = {"basic_auth": ["ann:secret"], "read_only": True}

    def test_it_shows_and_does_not_steer(self) -> None:
        self.order.apply_async(task_id="o")
        page = self.page_of("o")
        assert "read-only" in page and 'method="post"' not in page
        for verb in ("terminate", "purge", "raise_event"):
            assert self.act("o", verb).code == 403
        assert self.status("o") == "RUNNING"


class TestWithoutAuthentication(FlowerCase):
    given: dict[str, Any] = {}

    def test_it_shows_and_does_not_steer(self) -> None:
        self.order.apply_async(task_id="o")
        page = self.get("/orchestrations/show?id=o", headers=None)
        assert "--basic-auth" in page and 'method="post"' not in page
        assert self.act("o", "terminate", headers=None).code == 401
        assert self.status("o") == "RUNNING"

    def test_unless_it_is_told_to(self) -> None:
        self.monkeypatch.setitem(os.environ, "FLOWER_UNAUTHENTICATED_API", "true")
        self.order.apply_async(task_id="o")
        assert self.act("o", "terminate", headers=None, token=False).code == 403
        assert self.act("o", "terminate", headers=None).code == 303
        assert self.durable.get("o").reason == "because"


class TestUnderAPrefix(FlowerCase):
    given = {"basic_auth": ["ann:secret"], "url_prefix": "mon.itor/flower"}

    def test_every_link_has_it(self) -> None:
        self.parent.apply_async(task_id="o")
        for path in (
            "",
            "/show?id=o",
            "/show?id=o%2Fchild",
            "/schedules",
            "/entities",
            "/show?id=nobody",
        ):
            answer = self.fetch(f"/mon.itor/flower/orchestrations{path}", headers=USER)
            assert answer.code == (404 if "nobody" in path else 200)
            links = re.findall(
                r'(?:href|src|action|data-url|data-page)="([^"]*)"', answer.body.decode()
            )
            own = [link for link in links if not link.startswith(("https://", "#"))]
            assert len(own) > 8 and all(link.startswith("/mon.itor/flower/") for link in own), own
        self.get("/orchestrations", code=404)
        self.get("/monXitor/flower/orchestrations", code=404)
        self.get("/mon.itor/flower/orchestrations/static/timeline.css")


class TestStoreDown(FlowerCase):
    conf = {"durable_backend_url": "postgresql+psycopg://postgres:hunter2@127.0.0.1:1/none"}

    def test_pages_say_so_and_flower_works(self) -> None:
        for path in ("", "/show?id=o", "/schedules", "/entities", "?part=1"):
            page = self.get(f"/orchestrations{path}", code=503)
            assert (
                "store cannot be reached" in text_of(page)
                and "Traceback" not in page
                and "hunter2" not in page
            )
        assert self.act_alone("terminate").code == 503
        assert "Workers" in self.get("/")
        self.get("/metrics", headers=None)

    def act_alone(self, verb: str) -> HTTPResponse:
        answer = self.fetch("/orchestrations", headers=USER)
        cookie = SimpleCookie(answer.headers["Set-Cookie"])["_xsrf"].value
        body = urlencode({"verb": verb, "reason": "r", "confirm": "yes", "_xsrf": cookie})
        headers = {
            **USER,
            "Cookie": f"_xsrf={cookie}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self.fetch(
            "/orchestrations/act?id=o",
            method="POST",
            headers=headers,
            body=body,
            follow_redirects=False,
        )


class TestSlowStore(FlowerCase):
    def test_flower_answers_while_the_store_does_not(self) -> None:
        import asyncio
        import threading

        hang = threading.Event()

        def find(**_: Any) -> Any:
            assert hang.wait(300)
            raise StoreError("gone")

        self.monkeypatch.setattr(self.durable, "find", find)

        async def both() -> tuple[int, int]:
            client = self.get_http_client()
            slow = client.fetch(self.get_url("/orchestrations"), headers=USER, raise_error=False)
            quick = await client.fetch(self.get_url("/healthcheck"), raise_error=False)
            assert not slow.done()
            hang.set()
            return quick.code, (await slow).code

        assert self.io_loop.run_sync(lambda: asyncio.wait_for(both(), 300)) == (200, 503)


class TestMetrics(FlowerCase):
    def test_ours_are_there_without_ids(self) -> None:
        self.order.apply_async((1,), {"secret": "hunter2"}, task_id="secret-id")
        event = {
            "type": "durable-completed",
            "hostname": "w@h",
            "timestamp": 1.0,
            "local_received": 1.0,
            "clock": 1,
            "orchestration": "tab.order",
            "instance": "secret-id",
            "uuid": "secret-id",
            "seconds": 0.01,
            "age": 2.0,
        }
        self.flower.events.state.event(event)
        text = self.get("/metrics", headers=None)
        assert 'celery_durable_instances{orchestration="tab.order",status="RUNNING"} 1.0' in text
        assert re.search(
            r'celery_durable_instances_finished_total\{orchestration="tab.order",outcome="completed"\} 1.0',
            text,
        )
        assert "flower_events_total" in text
        assert "secret-id" not in text and "hunter2" not in text


class TestSwitchedOff(FlowerCase):
    conf = {"durable_flower_tab": False}

    def test_there_is_no_tab_and_no_word(self) -> None:
        self.get("/orchestrations", code=404)
        assert "durable-tab" not in self.get("/tasks") and self.warnings() == []


class ChangedFlower(FlowerCase):
    """A Flower that lacks something that the tab uses: it works, without the tab, and says
    so once.
    """

    __test__ = False

    def test_one_warning_and_a_flower_that_works(self) -> None:
        for path in ("/", "/tasks"):
            assert "durable-tab" not in self.get(path)
        self.get("/orchestrations", code=404)
        self.get("/metrics", headers=None)
        (warning,) = self.warnings()
        assert "without the tab Orchestrations" in warning and "Flower 2." in warning


def _changed(name: str, change: Callable[[Any], None]) -> type:
    return type(name, (ChangedFlower,), {"__test__": True, "prepare": lambda self: change(self)})


def _without_list(self: Any) -> None:
    from celery_durable.contrib.flower.flower_compat import TabLoader

    original = TabLoader.source
    self.monkeypatch.setattr(
        TabLoader, "source", lambda loader, name: original(loader, name).replace("</ul>", "</ol>")
    )


def _without_block(self: Any) -> None:
    from celery_durable.contrib.flower.flower_compat import TabLoader

    original = TabLoader.source
    self.monkeypatch.setattr(
        TabLoader,
        "source",
        lambda loader, name: original(loader, name).replace("block container", "block main"),
    )


def _without_handlers_of_events(self: Any) -> None:
    self.monkeypatch.setattr("flower.events.EventsState.event", lambda state, event: None)
    original = Flower.__init__

    def init(flower: Any, *args: Any, **kwargs: Any) -> None:
        original(flower, *args, **kwargs)

    from celery.events.state import State

    made = State.__init__

    def state_init(state: Any, *args: Any, **kwargs: Any) -> None:
        made(state, *args, **kwargs)
        del state.handlers

    self.monkeypatch.setattr(State, "__init__", state_init)


def _without_name(module: str, name: str) -> Callable[[Any], None]:
    def change(self: Any) -> None:
        import importlib

        self.monkeypatch.delattr(importlib.import_module(module), name)
        for ours in [
            each for each in sys.modules if each.startswith("celery_durable.contrib.flower.")
        ]:
            self.monkeypatch.delitem(sys.modules, ours)
        for attribute in ("flower_compat", "pages", "metrics"):
            self.monkeypatch.delattr(contrib.flower, attribute, raising=False)

    return change


def _other_route(self: Any) -> None:
    self.monkeypatch.setattr(
        "celery_durable.contrib.flower.flower_compat._OPTIONS", ("basic_auth", "gone")
    )


TestNoNavigation = _changed("TestNoNavigation", _without_list)
TestNoBlock = _changed("TestNoBlock", _without_block)
TestNoEventHandlers = _changed("TestNoEventHandlers", _without_handlers_of_events)
TestNoMetricsView = _changed("TestNoMetricsView", _without_name("flower.views.monitor", "Metrics"))
TestNoBaseHandler = _changed("TestNoBaseHandler", _without_name("flower.views", "BaseHandler"))
TestNoOption = _changed("TestNoOption", _other_route)
