"""What the admin does to orchestrations: asked twice, with a reason, by whom it is permitted, and
told one by one.
"""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.contrib.django.admin import applying, chosen
from celery_durable.contrib.django.admin.verbs import admin_verbs
from celery_durable.core.history import EventKind
from celery_durable.engine.verb import Effect
from celery_durable.engine.verbs import VERBS as ROWS
from celery_durable.errors import InstanceNotFound, StoreError

from .conftest import Site
from .test_list import fill

EVENT = {"event_name": "approved", "data": '{"by": "ann"}', "event_id": ""}
ENDS = {
    "suspend": "SUSPENDED",
    "resume": "RUNNING",
    "cancel": "CANCELED",
    "terminate": "TERMINATED",
    "rewind": "FAILED",
    "restart": "COMPLETED",
    "raise_event": "COMPLETED",
}

#: Others have tests of their own.
VERBS = {name: verb for name, verb in admin_verbs().items() if name in {*ENDS, "purge"}}


def prepared(site: Site, verb: str, id: str = "order-1") -> Any:
    """Start an orchestration that is in a status in which the verb acts."""
    from tests.django.project.orders import tasks

    if verb in ("restart", "purge"):
        return site.start(tasks.fulfil, "x", id=id)
    if verb == "rewind":
        return site.start(tasks.failing, "x", id=id)
    run = site.start(tasks.approval, "x", id=id)
    if verb == "resume":
        run.suspend("by the test")
    return run


def reasons(site: Site, instance_id: str) -> list[str]:
    return [
        (event.facts or {}).get("reason") or "" for event in site.durable.get(instance_id).history()
    ]


def test_every_verb_of_the_table_is_one_of_the_engine_and_has_a_permission(site: Site) -> None:
    from django.contrib.auth.models import Permission

    found = set(
        Permission.objects.filter(content_type__app_label="celery_durable").values_list(
            "codename", flat=True
        )
    )
    assert {verb.permission for verb in VERBS.values()} <= found
    assert set(VERBS) <= set(ROWS)
    assert set(ROWS) - set(VERBS) == {"override", "fork"}


@pytest.mark.parametrize("mode", ["DEFERRED", "IMMEDIATE"])
def test_verbs_do_not_wait_for_the_transaction_of_their_own_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Under ATOMIC_REQUESTS Django's connection would hold what the store's needs, and SQLite has
    one writer: it would fail.
    """
    from django.db import connection, connections

    for id_ in ("a", "b"):
        prepared(site, "suspend", id_)
    site.durable.schedule("nightly", _tasks().approval.s("x"), interval=86_400)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setattr(connection, "transaction_mode", mode, raising=False)
    site.apply("suspend", "a", "b", reason="ticket 12")
    assert (site.status("a"), site.status("b")) == ("SUSPENDED", "SUSPENDED")
    site.apply("raise_event", "a", "b", reason="ticket 13", **EVENT)
    site.post(
        site.address("schedule_apply"),
        302,
        verb="pause",
        name="nightly",
        confirm="yes",
        reason="ticket 14",
    )
    assert site.durable.get_schedule("nightly").is_paused


def _tasks() -> Any:
    from tests.django.project.orders import tasks

    return tasks


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_asks_first_and_acts_when_confirmed(site: Site, verb: str) -> None:
    prepared(site, verb)
    before, life = site.status("order-1"), site.durable.runtime.client.fetch("order-1").execution
    question = site.post(site.address("instance_apply"), 200, verb=verb, id="order-1")
    assert site.status("order-1") == before
    assert site.log() == []
    assert question.find("form", id="durable-confirm")
    assert "required" in question.find("input", name="reason")[0]
    assert question.find("tr", data_instance="order-1")
    page = site.apply(
        verb, "order-1", reason="ticket 12", **(EVENT if verb == "raise_event" else {})
    )
    assert "1 orchestration was" in page.text
    assert "ticket 12" in site.log()[0][1]
    (entry,) = site.durable.audit("order-1").items
    assert (entry.verb, entry.actor, entry.door) == (verb, "user0", "admin")
    assert (entry.effect, entry.reason) == ("done", "ticket 12")
    assert site.log()[0][0] == "order-1"
    if verb == "purge":
        with pytest.raises(InstanceNotFound):
            site.durable.get("order-1")
        return
    assert site.status("order-1") == ENDS[verb]
    assert (site.durable.runtime.client.fetch("order-1").execution != life) == (verb == "restart")
    if VERBS[verb].keeps_reason and verb != "resume":
        assert "ticket 12 (user0)" in [
            *reasons(site, "order-1"),
            site.durable.get("order-1").reason,
        ]


def test_a_resumed_one_keeps_the_reason_in_its_history(site: Site) -> None:
    prepared(site, "resume")
    site.apply("resume", "order-1", reason="bank is back")
    resumed = [
        event
        for event in site.durable.get("order-1").history()
        if event.kind is EventKind.EXECUTION_RESUMED
    ]
    assert resumed[0].facts == {"reason": "bank is back (user0)"}


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_reason_nothing_is_done(site: Site, verb: str) -> None:
    prepared(site, verb)
    before = site.status("order-1")
    event = EVENT if verb == "raise_event" else {}
    for given in (
        {},
        {"reason": ""},
        {"reason": "   "},
        {"reason": "x" * 501},
        {"reason": "a\x00b"},
    ):
        page = site.apply(verb, "order-1", code=200, **given, **event)
        assert [
            attributes for _, attributes in page.elements if attributes.get("class") == "errorlist"
        ], given
    assert site.status("order-1") == before
    assert site.log() == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_its_own_permission(site: Site, verb: str) -> None:
    prepared(site, verb)
    before = site.status("order-1")
    others = [each.permission for each in VERBS.values() if each.name != verb]
    for permissions in ([*others, "view_instance"], [VERBS[verb].permission]):
        site.login(*permissions)
        for confirm in ({}, {"confirm": "yes"}):
            data = {"verb": verb, "id": "order-1", "reason": "why", **EVENT, **confirm}
            assert site.client.post(site.address("instance_apply"), data).status_code == 403
    assert site.status("order-1") == before
    site.login("view_instance", VERBS[verb].permission)
    page = site.apply(verb, "order-1", reason="why", **(EVENT if verb == "raise_event" else {}))
    assert "1 orchestration was" in page.text


@pytest.mark.parametrize("verb", VERBS)
def test_without_the_token_against_forgery_nothing_is_done(site: Site, verb: str) -> None:
    from django.test import Client

    prepared(site, verb)
    before = site.status("order-1")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = site.client.cookies
    data = {"verb": verb, "id": "order-1", "reason": "why", "confirm": "yes", **EVENT}
    assert strict.post(site.address("instance_apply"), data).status_code == 403
    assert (
        strict.post(
            site.address("instance_apply"), {**data, "csrfmiddlewaretoken": "x" * 32}
        ).status_code
        == 403
    )
    assert site.status("order-1") == before


def test_nothing_is_done_by_looking(site: Site) -> None:
    prepared(site, "suspend")
    query = {"verb": "suspend", "id": "order-1", "reason": "why", "confirm": "yes"}
    assert site.client.get(site.address("instance_apply"), query).status_code == 405
    assert site.client.head(site.address("instance_apply"), query).status_code == 405
    assert site.status("order-1") == "RUNNING"


@pytest.mark.parametrize("verb", ["fork", "override", "delete", "__init__", "get", "forget"])
def test_other_methods_are_no_verbs(site: Site, verb: str) -> None:
    prepared(site, "suspend")
    data = {"verb": verb, "id": "order-1", "reason": "why", "confirm": "yes"}
    assert site.client.post(site.address("instance_apply"), data).status_code == 400
    assert site.status("order-1") == "RUNNING"


@pytest.mark.parametrize(
    "data", [{"verb": "", "id": "order-1"}, {"verb": "suspend"}, {"verb": "suspend", "id": ""}]
)
def test_an_incomplete_choice_leads_back_with_a_message(site: Site, data: dict[str, str]) -> None:
    prepared(site, "suspend")
    page = site.post(site.address("instance_apply"), **data, confirm="yes", reason="why")
    assert page.find("li", **{"class": "warning"})
    assert site.status("order-1") == "RUNNING"


def test_each_that_refuses_is_told_and_the_others_are_done(site: Site) -> None:
    prepared(site, "suspend", "open")
    prepared(site, "restart", "done")
    prepared(site, "resume", "held")
    page = site.apply("suspend", "open", "done", "held", "gone", "x" * 151, reason="why")
    assert "1 orchestration was suspended." in page.text
    assert "1 orchestration needed nothing: held." in page.text
    assert (
        "rchestration 'done' is COMPLETED: suspend needs one that is PENDING or RUNNING"
        in page.text
    )
    assert "here is no orchestration 'gone'" in page.text
    assert len(page.find("li", **{"class": "error"})) == 3
    assert site.status("open") == "SUSPENDED"
    assert [id_ for id_, _ in site.log()] == ["open"]


def test_the_question_says_what_will_happen_to_each(site: Site) -> None:
    prepared(site, "suspend", "open")
    prepared(site, "restart", "done")
    prepared(site, "resume", "held")
    page = site.post(
        site.address("instance_apply"), 200, verb="suspend", id=["open", "done", "held", "gone"]
    )
    assert "This concerns 4 orchestrations" in page.text
    assert "done completed not possible in this status" in page.text
    assert "held suspended nothing to do in this status" in page.text
    assert "gone there is none" in page.text


def test_more_than_one_request_may_take_are_refused_at_once(site: Site) -> None:
    data = {
        "verb": "suspend",
        "id": [f"order-{number}" for number in range(501)],
        "reason": "why",
        "confirm": "yes",
    }
    assert site.client.post(site.address("instance_apply"), data).status_code == 400


# -- all that match --------------------------------------------------------------------------------


def test_all_that_match_are_chosen_by_the_filters_of_the_list(site: Site) -> None:
    for number in range(3):
        prepared(site, "suspend", f"open-{number}")
        prepared(site, "restart", f"done-{number}")
    prepared(site, "suspend", "other")
    question = site.post(
        site.address("instance_apply"), 200, verb="suspend", all="yes", query="q=open"
    )
    assert "This concerns 3 orchestrations" in question.text
    assert question.find("input", name="query")[0]["value"] == "q=open"
    page = site.apply("suspend", reason="why", all="yes", query="q=open")
    assert "3 orchestrations were suspended." in page.text
    assert [site.status(f"open-{number}") for number in range(3)] == ["SUSPENDED"] * 3
    assert site.status("other") == "RUNNING"
    assert len(site.log()) == 3


def test_all_without_filters_are_those_on_which_the_verb_acts(site: Site) -> None:
    prepared(site, "suspend", "open")
    prepared(site, "restart", "done")
    page = site.apply("purge", reason="why", all="yes", query="")
    assert "1 orchestration was purged." in page.text
    assert site.status("open") == "RUNNING"
    with pytest.raises(InstanceNotFound):
        site.durable.get("done")


def test_all_that_match_are_done_in_portions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_durable.contrib.django.admin import verbs

    fill(site, 12)
    monkeypatch.setattr(applying, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(chosen, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(verbs, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(verbs.matching_ids, "__defaults__", (5,))
    monkeypatch.setattr(chosen.Chosen.ids, "__defaults__", (5,))
    question = site.post(
        site.address("instance_apply"), 200, verb="purge", all="yes", query="q=order"
    )
    assert "This concerns 12 orchestrations" in question.text
    assert "at most" in question.text
    left = [12]
    while left[-1]:
        site.apply("purge", reason="why", all="yes", query="q=order")
        left.append(site.durable.count(id_prefix="order"))
    assert left == [12, 7, 2, 0]


@pytest.mark.parametrize("query", ["status=GONE", "q=tag%3Ax", "since=1y"])
def test_filters_that_do_not_fit_choose_nothing(site: Site, query: str) -> None:
    prepared(site, "suspend", "open")
    data = {"verb": "suspend", "all": "yes", "query": query, "reason": "why", "confirm": "yes"}
    assert site.client.post(site.address("instance_apply"), data).status_code == 400
    assert site.status("open") == "RUNNING"


# -- events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"by": "ann"}', {"by": "ann"}),
        ("", None),
        ("null", None),
        ('"yes"', "yes"),
        ("[1, 2.5]", [1, 2.5]),
    ],
)
def test_an_event_is_raised_with_its_data(site: Site, data: str, expected: object) -> None:
    prepared(site, "raise_event")
    site.apply(
        "raise_event", "order-1", event_name="approved", data=data, event_id="e-1", reason="why"
    )
    assert site.durable.get("order-1").wait(timeout=300) == expected


def test_an_event_of_one_id_arrives_once(site: Site) -> None:
    prepared(site, "raise_event")
    for _ in range(2):
        site.apply(
            "raise_event", "order-1", event_name="other", data="1", event_id="e-1", reason="why"
        )
    raised = [
        event
        for event in site.durable.get("order-1").history()
        if event.kind is EventKind.EVENT_RAISED
    ]
    assert len(raised) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"data": "{bad"},
        {"data": "NaN"},
        {"data": "[Infinity]"},
        {"data": "{'a': 1}"},
        {"data": '"\\ud800"'},
        {"data": "1" * 5000},
        {"data": "[" * 100_000},
        {"data": "x" * 1_000_001},
        {"event_name": ""},
        {"event_name": "x" * 201},
        {"event_name": "a\x00b"},
        {"event_name": "celery_durable.message"},
        {"event_id": "x" * 201},
        {"event_id": "a\x00b"},
    ],
)
def test_an_event_that_does_not_fit_is_an_error_of_the_form(
    site: Site, bad: dict[str, str]
) -> None:
    prepared(site, "raise_event")
    before = len(site.durable.get("order-1").history())
    page = site.apply("raise_event", "order-1", code=200, reason="why", **{**EVENT, **bad})
    assert page.find("form", id="durable-confirm")
    assert [given for _, given in page.elements if str(given.get("class")).startswith("errorlist")]
    assert site.status("order-1") == "RUNNING"
    assert len(site.durable.get("order-1").history()) == before
    assert site.log() == []


def test_data_over_the_payload_limit_is_an_error_of_the_form(site: Site) -> None:
    prepared(site, "raise_event")
    codec = site.durable.runtime.codec
    limit = [name for name in vars(codec) if "limit" in name]
    assert limit
    old = {name: getattr(codec, name) for name in limit}
    try:
        for name in limit:
            setattr(codec, name, 100)
        page = site.apply(
            "raise_event", "order-1", code=200, reason="why", **{**EVENT, "data": f'"{"x" * 200}"'}
        )
    finally:
        for name, value in old.items():
            setattr(codec, name, value)
    assert [given for _, given in page.elements if str(given.get("class")).startswith("errorlist")]
    assert site.status("order-1") == "RUNNING"


# -- where the user is led, and when the store fails -----------------------------------------------


def test_the_user_is_led_back_to_where_the_verb_was_chosen(site: Site) -> None:
    prepared(site, "suspend")
    url, data = (
        site.address("instance_apply"),
        {"verb": "suspend", "id": "order-1", "reason": "why", "confirm": "yes"},
    )
    assert site.client.post(url, data | {"from_page": "yes"})["Location"] == site.address(
        "instance_change", "order-1"
    )
    back = site.client.post(url, data | {"query": "q=order&status=RUNNING"})["Location"]
    assert back == f"{site.address('instance_changelist')}?q=order&status=RUNNING"
    hostile = site.client.post(url, data | {"query": "https://evil.example/\r\nX: y"})["Location"]
    assert hostile.startswith(f"{site.address('instance_changelist')}?https%3A")
    prepared(site, "purge", "done")
    purged = site.client.post(url, data | {"verb": "purge", "id": "done", "from_page": "yes"})[
        "Location"
    ]
    assert purged == site.address("instance_changelist")
    assert "purged" in site.get(site.address("instance_history", "done")).text.lower()


def test_a_store_that_cannot_be_reached_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(site, "suspend", "one")
    prepared(site, "suspend", "two")

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the store is down")

    monkeypatch.setattr(type(site.durable.runtime.client), "change", broken)
    page = site.apply("suspend", "one", "two", reason="why")
    assert "rchestration 'one': the store is down" in page.text
    assert "rchestration 'two': the store is down" in page.text
    monkeypatch.setattr(type(site.durable.runtime.store.reads), "find_page", broken)
    monkeypatch.setattr(type(site.durable.runtime.store.reads), "fetch", broken)
    for url in (site.address("instance_changelist"), site.address("instance_change", "one")):
        assert "the store is down" in site.get(url, 503).text
    site.login("view_instance")
    assert "the store is down" not in site.get(site.address("instance_changelist"), 503).text
    assert "StoreError" in site.get(site.address("instance_changelist"), 503).text


def test_the_buttons_are_those_that_fit_the_status(site: Site) -> None:
    for verb in ("suspend", "resume", "rewind", "restart"):
        run = prepared(site, verb, f"for-{verb}")
        shown = [str(each["value"]) for each in site.page(run.id).find("button", name="verb")]
        status = site.durable.get(run.id).runtime_status
        assert shown == [name for name in VERBS if ROWS[name].effect_in(status) is Effect.ACTS]
