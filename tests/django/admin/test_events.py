"""Events and requests in the admin: what is waited for is offered, also by sub-orchestrations, which
then get it; any other name can be written.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_durable.contrib.django.admin import asking
from celery_durable.contrib.django.admin.addresses import quoted
from celery_durable.inspection.awaiting import awaited_by

from .conftest import Page, Site
from .test_starting import wrong


@pytest.fixture
def family(site: Site) -> Site:
    """An order that waits for an event, and its approval, and the approval's own, for others."""
    durable, name = site.durable, "tests.family"
    if f"{name}.order" not in durable.registry:

        @durable.orchestrator(name=f"{name}.audit")
        async def audit(ctx: Any) -> Any:
            return await ctx.wait_event("audited")

        @durable.orchestrator(name=f"{name}.approval")
        async def approval(ctx: Any) -> Any:
            await ctx.any([ctx.wait_event("decision"), ctx.call(audit.s().set(task_id="audit-1"))])
            return "decided"

        @durable.orchestrator(name=f"{name}.order")
        async def order(ctx: Any) -> Any:
            child = ctx.call(approval.s().set(task_id="approval-1"))
            while True:
                request = ctx.wait_request("move")
                await ctx.any([child, ctx.wait_event("paid"), request], cancel_losers=False)
                if request.done():
                    asked = request.result()
                    if asked.data is None:
                        asked.reject("where to?")
                    else:
                        asked.reply({"moved": asked.data})
                else:
                    return await child

    site.start(durable.app.tasks[f"{name}.order"], id="order-1")
    return site


def question(site: Site, *ids: str) -> Page:
    """Return the page that asks which event."""
    return site.post(
        site.address("instance_apply"), 200, verb="raise_event", id=[quoted(id_) for id_ in ids]
    )


def offered(page: Page) -> list[str | None]:
    return [each["value"] for each in page.find("input", type="radio")]


def events(site: Site, instance_id: str) -> list[str | None]:
    return [
        event.name for event in site.durable.get(instance_id).history()
        if event.kind == "EventRaised"
    ]  # fmt: skip


def value(instance_id: str, name: str) -> str:
    return json.dumps([instance_id, name])


def test_what_is_waited_for_is_found_through_sub_orchestrations(family: Site) -> None:
    found = awaited_by(family.durable.get("order-1"))
    assert [(each.noun, each.name, each.instance_id) for each in found] == [
        ("event", "paid", "order-1"),
        ("request", "move", "order-1"),
        ("event", "decision", "approval-1"),
        ("event", "audited", "audit-1"),
    ]
    family.durable.get("order-1").terminate()
    assert awaited_by(family.durable.get("order-1")) == []


def test_the_form_offers_what_is_waited_for(family: Site) -> None:
    page = question(family, "order-1")
    names = [("order-1", "paid"), ("approval-1", "decision"), ("audit-1", "audited")]
    assert offered(page) == [*(value(*each) for each in names), ""]
    assert "decision, of its sub-orchestration approval-1 (tests.family.approval)" in page.text
    assert page.find("input", name="event_name")


def test_a_sub_orchestration_gets_the_event_that_it_waits_for(family: Site) -> None:
    page = family.apply(
        "raise_event", "order-1", reason="ticket 12", from_page="yes",
        awaited=value("approval-1", "decision"), event_name="", data='"yes"', event_id="",
    )  # fmt: skip
    assert family.status("approval-1") == "COMPLETED"
    assert events(family, "approval-1") == ["decision"]
    assert events(family, "order-1") == []
    assert "It was done to the sub-orchestration approval-1" in page.text
    assert page.find("section", id="durable-timeline")  # of the order
    assert family.log()[0][0] == "approval-1"
    (entry,) = family.durable.audit("approval-1").items
    assert (entry.verb, entry.actor, entry.reason) == ("raise_event", "user0", "ticket 12")


def test_any_other_name_can_be_written_and_goes_to_the_orchestration_itself(family: Site) -> None:
    family.apply(
        "raise_event", "order-1", reason="why",
        awaited=value("approval-1", "decision"), event_name="paid", data="", event_id="",
    )  # fmt: skip
    assert events(family, "order-1") == ["paid"]
    assert events(family, "approval-1") == []
    assert family.status("approval-1") == "RUNNING"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"awaited": "", "event_name": ""}, "event_name"),
        ({"awaited": value("approval-1", "nothing"), "event_name": ""}, "awaited"),
        ({"awaited": value("elsewhere", "decision"), "event_name": ""}, "awaited"),
    ],
)
def test_what_is_not_waited_for_is_not_chosen(
    family: Site, given: dict[str, str], field: str
) -> None:
    page = family.apply("raise_event", "order-1", code=200, reason="why", data="", **given)
    assert wrong(page) == [field]
    assert events(family, "order-1") == events(family, "approval-1") == []


def test_more_than_one_are_given_a_name_that_is_written(family: Site) -> None:
    from tests.django.project.orders import tasks

    family.start(tasks.approval, "x", id="order-2")
    page = question(family, "order-1", "order-2")
    assert offered(page) == []
    assert "required" in page.find("input", name="event_name")[0]


def test_a_wait_with_a_time_out_is_offered_where_the_code_is_not(
    family: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = family.durable
    if "tests.family.bounded" not in durable.registry:

        @durable.orchestrator(name="tests.family.bounded")
        async def bounded(ctx: Any) -> Any:
            return await ctx.wait_event("late", timeout=3600)

    family.start(durable.app.tasks["tests.family.bounded"], id="bounded-1")
    monkeypatch.setattr(durable.registry, "get", lambda name, version: None)
    assert [each.name for each in awaited_by(durable.get("bounded-1"))] == ["late"]


# -- requests --------------------------------------------------------------------------------------


def ask(site: Site, code: int = 200, **data: str) -> Page:
    empty = {"awaited": "", "request_name": "", "data": "", "reason": "why"}
    fresh = {"fresh": "6c84fb90-12c4-11e1-840d-7b25c5ee775a"}
    return site.post(site.address("instance_ask", "order-1"), code, **{**empty, **fresh, **data})


def test_a_request_is_answered_on_the_page(family: Site) -> None:
    link = family.page("order-1").find("a", id="durable-ask")[0]["href"]
    page = family.get(str(link))
    assert offered(page) == [value("order-1", "move"), ""]
    page = ask(family, awaited=value("order-1", "move"), data='{"city": "Rome"}')
    assert '"city": "Rome"' in page.text
    assert "It has answered" in page.text
    (entry,) = family.durable.audit("order-1", verb="ask").items
    assert (entry.effect, entry.actor, entry.reason) == ("done", "user0", "why")
    assert entry.arguments == {"name": "move", "data": "(hidden)"}
    assert family.log()[0] == ("order-1", "Asked: move. Reason: why")


def test_a_request_that_is_rejected_says_why(family: Site) -> None:
    page = ask(family, request_name="move")
    assert "It rejected the request: RequestRejected: where to?" in page.text


def test_one_who_may_not_see_payloads_sees_no_answer(family: Site) -> None:
    family.login("view_instance", "raise_event_instance")
    page = ask(family, awaited=value("order-1", "move"), data='"Rome"')
    assert "It has answered" in page.text
    assert "moved" not in page.text
    page = ask(family, request_name="move")
    assert "where to?" not in page.text


def test_a_request_that_is_not_answered_stays_and_is_the_same_when_asked_again(
    family: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: Any, **__: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(asking, "answer_of", late)
    page = ask(family, request_name="other", data="1")
    assert "There is no answer yet" in page.text
    assert page.find("input", name="fresh")[0]["value"] == "6c84fb90-12c4-11e1-840d-7b25c5ee775a"
    ids = []
    monkeypatch.setattr(asking, "answer_of", lambda *given: ids.append(given[-1]) or late())
    for data in ("1", "1", "2"):
        ask(family, request_name="other", data=data)
    assert ids[0] == ids[1] != ids[2]


def test_asking_needs_the_permission_and_one_that_is_under_way(family: Site) -> None:
    url = family.address("instance_ask", "order-1")
    family.login("view_instance")
    assert family.client.get(url).status_code == family.client.post(url).status_code == 403
    assert not family.page("order-1").find("a", id="durable-ask")
    family.login(is_superuser=True)
    family.durable.get("order-1").terminate()
    assert not family.page("order-1").find("a", id="durable-ask")
    assert "needs one that is" in ask(family, request_name="move").text
    assert family.client.get(family.address("instance_ask", "gone")).status_code == 404
