"""The page of one orchestration: what it shows, and what it keeps from whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import Limit
from celery_durable.contrib.django.admin import history as history_table
from celery_durable.contrib.django.admin import payloads
from celery_durable.store.schema import history, instances

from .conftest import Page, Site
from .test_list import make_family


def change(site: Site, instance_id: str, **values: object) -> None:
    store = site.durable.runtime.store
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(instances.update().where(instances.c.id == instance_id).values(**values))


def buttons(page: Page) -> list[str]:
    return [str(each["value"]) for each in page.find("button", name="verb")]


def test_a_page_tells_what_it_waits_for_and_what_to_do(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1", tags={"customer": "7"})
    page = site.page("order-1")
    assert "event 'approved'" in page.text
    assert "nothing to do" in page.text
    assert "customer=7" in page.text
    assert buttons(page) == ["suspend", "cancel", "terminate", "raise_event"]
    assert page.find("svg", role="img") or page.find("svg", **{"class": "durable-timeline"})
    assert page.find("table", **{"class": "durable-lanes"})


def test_a_failed_one_shows_its_failure_and_what_can_be_done(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.failing, "no <b>card</b> 4711", id="order-1")
    page = site.page("order-1")
    assert buttons(page) == ["rewind", "restart", "purge"]
    assert page.find("b") == []  # what people wrote stays text
    assert "no <b>card</b> 4711" in page.text
    assert "builtins.ValueError" in page.text


def test_the_failure_panel_names_the_call_and_folds_libraries(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.failing, "no card", id="order-1")
    page = site.page("order-1")
    (panel,) = page.find("div", id="durable-failure")
    assert panel
    assert "builtins.ValueError: no card" in page.text
    site.login("view_instance")
    hidden = site.page("order-1")
    assert hidden.find("div", id="durable-failure") and "no card" not in hidden.text


def test_a_rewind_shows_what_it_would_do_before_it_is_confirmed(site: Site) -> None:
    from celery_durable.contrib.django.admin.addresses import quoted
    from tests.django.project.orders import tasks

    site.start(tasks.failing, "no card", id="order-1")
    asked = {"verb": "rewind", "id": [quoted("order-1")], "from_page": "yes"}
    page = site.post(site.address("instance_apply"), 200, **asked)
    assert page.find("section", id="durable-forecast")
    assert "it would be" in page.text
    assert site.status("order-1") == "FAILED"


def test_before_a_rewind_lies_folded_and_bars_lead_to_events(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.failing, "no card", id="order-1")
    assert not site.page("order-1").find("details", id="durable-lives")
    site.durable.get("order-1").rewind()
    page = site.page("order-1")
    assert page.find("details", id="durable-lives")
    assert {each["href"] for each in page.find("a") if "#event-" in each.get("href", "")}
    assert page.find("tr", id="event-1")


def test_the_history_can_show_failures_only_and_keeps_the_numbers(site: Site) -> None:
    from tests.django.project.orders import tasks

    run = site.start(tasks.failing, id="order-1")
    everything = [
        each["data-event"] for each in site.page("order-1").find("tr") if "data-event" in each
    ]
    assert everything == [str(number) for number in range(1, len(run.history()) + 1)]
    page = site.page("order-1", events="failed")
    assert [
        (each["data-event"], each["data-kind"]) for each in page.find("tr") if "data-event" in each
    ] == [("3", "ActivityFailed"), ("4", "ExecutionFailed")]


def test_a_long_history_has_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.django.project.orders import tasks

    monkeypatch.setattr(history_table, "EVENTS_PER_PAGE", 3)
    count = len(site.start(tasks.fulfil, "x", id="order-1").history())
    assert count > 3
    numbers: list[str] = []
    for number in range(1, (count + 2) // 3 + 1):
        page = site.page("order-1", page=number)
        numbers += [str(each["data-event"]) for each in page.find("tr") if "data-event" in each]
    assert numbers == [str(number) for number in range(1, count + 1)]
    for nonsense in ("0", "-1", "x", "99999"):
        assert site.page("order-1", page=nonsense).find("table", id="durable-events")


def test_parents_and_children_are_linked(site: Site) -> None:
    make_family(site)
    assert site.page("child-1").find("a", id="durable-parent")[0]["href"] == site.address(
        "instance_change", "parent-1"
    )
    children = site.page("parent-1").find("tr", data_instance="child-1")
    assert len(children) == 1


# -- payloads --------------------------------------------------------------------------------------


SECRET = "card 4711"


def secretive(site: Site) -> None:
    """Let a secret be in every place where a payload or the text of an error can be."""
    from tests.django.project.orders import tasks

    site.start(tasks.fulfil, SECRET, SECRET, id="done")
    site.start(tasks.failing, SECRET, id="failed")
    run = site.start(tasks.approval, SECRET, id="open")
    run.raise_event("other", {"text": SECRET})
    site.start(tasks.approval, "x", id="held").suspend(
        f"fail has used up its attempts: ValueError: {SECRET}"
    )
    encode = site.durable.runtime.codec.encode
    change(site, "open", custom_status=encode(SECRET).encode())
    change(site, "done", output=encode({"text": SECRET}).encode())


IDS = ("done", "failed", "open", "held")


def test_payloads_are_shown_to_whom_it_is_permitted(site: Site) -> None:
    secretive(site)
    site.login("view_instance", "view_payload")
    for instance_id in IDS:
        assert SECRET in site.page(instance_id).text, instance_id


def test_without_the_permission_no_payload_and_no_text_of_an_error_leaks(site: Site) -> None:
    secretive(site)
    verbs = [
        "suspend",
        "resume",
        "cancel",
        "terminate",
        "rewind",
        "restart",
        "raise_event",
        "purge",
    ]
    site.login("view_instance", *(f"{verb}_instance" for verb in verbs))
    urls = [site.address("instance_change", each) for each in IDS]
    urls += [f"{url}?events=failed" for url in urls] + [site.address("instance_changelist")]
    for url in urls:
        content = site.client.get(url).content.decode()
        assert "4711" not in content, url
        assert "durable-payload" not in content
    text = site.page("failed").text
    assert "ValueError" in text  # the type helps, and is no secret
    assert "fail has used up its attempts" in site.page("held").text
    for instance_id in IDS:
        for which in ("input", "output", "custom_status", "failure"):
            response = site.client.get(site.address("instance_payload", instance_id, which))
            assert response.status_code == 403
            assert b"4711" not in response.content


def test_the_key_of_a_limit_is_a_payload(site: Site) -> None:
    @site.durable.orchestrator(name="limited", limit=Limit(1, key="card"))
    async def limited(ctx: Any, card: str) -> None:
        await ctx.wait_event("approved")

    for each in ("one", "two"):
        site.start(limited, SECRET, id=each)
    assert SECRET in site.page("two").text
    site.login("view_instance")
    page = site.page("two")
    assert "4711" not in page.text
    assert "a place (…)" in page.text


def test_half_a_character_is_shown_by_its_number(site: Site) -> None:
    @site.durable.orchestrator(name="reads")
    async def reads(ctx: Any, name: str) -> None:
        raise FileNotFoundError(name)

    name = "caf\udce9"  # as Python has the name of a file that is not UTF-8
    site.start(reads, name, id="failed")
    assert r"FileNotFoundError: caf\udce9" in site.page("failed").text
    downloaded = site.client.get(site.address("instance_payload", "failed", "input"))
    assert json.loads(downloaded.content)["args"] == [name]


def test_a_payload_is_downloaded_whole(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, {"text": "é" * 50_000}, id="order-1")
    response = site.client.get(site.address("instance_payload", "order-1", "input"))
    assert response["Content-Type"].startswith("application/json")
    assert response["Content-Disposition"] == 'attachment; filename="input.json"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert json.loads(response.content) == {"args": [{"text": "é" * 50_000}], "kwargs": {}}
    assert (
        json.loads(site.client.get(site.address("instance_payload", "order-1", "output")).content)
        is None
    )


def test_a_long_payload_is_cut_on_the_page(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "é" * 50_000, id="order-1")
    shown = payloads.shown_payload("input", "Input", lambda: site.durable.get("order-1").input)
    assert shown.is_cut
    assert len((shown.text or "").encode()) <= payloads.MOST_SHOWN
    page = site.page("order-1")
    assert "the first 64 KB" in page.text
    assert page.text.count("é") < 40_000


@pytest.mark.parametrize("which", ["canvas", "policy", "__class__", "id"])
def test_other_columns_are_no_payloads(site: Site, which: str) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1")
    assert site.client.get(site.address("instance_payload", "order-1", which)).status_code == 404


def test_a_payload_that_cannot_be_decoded_says_so_in_its_place(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.fulfil, "x", id="order-1")
    change(site, "order-1", output=b"{broken")
    page = site.page("order-1")
    assert '"args"' in page.text  # the input is shown all the same
    assert page.find("p", **{"class": "errornote"})
    assert site.client.get(site.address("instance_payload", "order-1", "output")).status_code == 500


def test_a_damaged_history_leaves_the_rest_of_the_page(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.fulfil, "x", id="order-1")
    store = site.durable.runtime.store
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(
            sa.update(history).where(history.c.instance == "order-1").values(events=b"[broken")
        )
    page = site.page("order-1")
    assert "The history cannot be read" in page.text
    assert buttons(page) == ["restart", "purge"]


def test_what_cannot_be_json_is_told() -> None:
    shown = payloads.shown_payload("output", "Output", lambda: {(1, 2): "x"})
    assert shown.text is None
    assert "cannot be shown as JSON" in shown.problem


# -- ids -------------------------------------------------------------------------------------------


HOSTILE = [
    "a/b",
    "../etc",
    "..",
    ".",
    "a_2Fb",
    "_",
    "a b",
    " a",
    "a\"b'c",
    "<script>alert(1)</script>",
    "ü€😀",
    "a\nb",
    "a\rb",
    "a%2Fb",
    "a?b=c#d",
    "x/payload/input",
    "change",
    "add",
    "apply",
    "x/change/",
    "{{ 7 }}",
    "a\\b",
    "+",
    "x" * 150,
    "%00",
    "\u202e",
]


@pytest.mark.sparse(3)
@pytest.mark.parametrize("instance_id", HOSTILE)
def test_any_id_has_a_page_and_can_be_steered(site: Site, instance_id: str) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id=instance_id)
    listed = site.get(site.address("instance_changelist"))
    url = next(
        each["href"]
        for each in listed.find("a")
        if str(each["href"]).endswith("/change/") and "instance/" in str(each["href"])
    )
    page = site.get(str(url))
    assert page.find("input", name="id")[0]["value"]
    assert site.client.get(str(url).removesuffix("change/") + "payload/input/").status_code == 200
    part = str(page.find("input", name="id")[0]["value"])
    assert "\n" not in part
    assert "\r" not in part
    done = site.post(
        site.address("instance_apply"),
        verb="suspend",
        id=part,
        from_page="yes",
        confirm="yes",
        reason="why",
    )
    assert site.status(instance_id) == "SUSPENDED"
    assert "1 orchestration was suspended" in done.text
    assert site.log()[0][0] == instance_id
    assert "why" in site.get(str(url).removesuffix("change/") + "history/").text


@pytest.mark.parametrize(
    "part", ["order-9", "_", "_5F", "%00", "x" * 151, "a_2Fb", "_00", "%ED%A0%80", "..", "_2E_2E"]
)
def test_an_unknown_id_is_not_found(site: Site, part: str) -> None:
    base = site.address("instance_changelist")
    for rest in ("change", "payload/input", "history"):
        assert site.client.get(f"{base}{part}/{rest}/").status_code == 404, rest


@pytest.mark.parametrize("model", ["instance", "entity", "schedule"])
def test_the_log_is_not_asked_for_what_no_column_holds(site: Site, model: str) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    base = site.address(f"{model}_changelist")
    for part, looks in (("order-9", True), ("_00", False)):
        with CaptureQueriesContext(connection) as queries:
            assert site.client.get(f"{base}{part}/history/").status_code == 404
        assert any("django_admin_log" in query["sql"] for query in queries) is looks, part


def test_a_user_without_permission_sees_no_page(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1")
    site.login("suspend_instance", "view_payload")  # neither is the permission to look
    for name in ("change", "history"):
        assert site.client.get(site.address(f"instance_{name}", "order-1")).status_code == 403
        assert site.client.get(site.address(f"instance_{name}", "order-9")).status_code == 403
    assert site.client.get(site.address("instance_payload", "order-1", "input")).status_code == 403


def test_the_style_of_the_pictures_is_served(site: Site) -> None:
    page = site.get(site.address("instance_changelist"))
    url = site.address("instance_timeline_css")
    assert url in [each["href"] for each in page.find("link")]
    response = site.client.get(url)
    assert response["Content-Type"].startswith("text/css")
    assert b".durable-timeline" in response.content
