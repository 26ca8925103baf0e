"""Entities and schedules in the admin."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.contrib.django.admin.addresses import quoted
from celery_durable.contrib.django.admin.schedules import SCHEDULE_VERBS
from celery_durable.errors import ScheduleNotFound

from .conftest import Site


@pytest.fixture
def counted(site: Site) -> Site:
    from tests.django.project.orders import tasks

    site.durable.entity(tasks.Counter, "visits").signal.add(4711)
    site.durable.entity(tasks.Counter, "a/b").signal.add(1)
    return site


def test_entities_are_listed_with_lock_and_waiting_messages(counted: Site) -> None:
    page = counted.get(counted.address("entity_changelist"))
    assert [each["data-entity"] for each in page.find("tr") if "data-entity" in each] == [
        "@Counter@a/b",
        "@Counter@visits",
    ]
    assert "4711" not in page.text
    none = counted.get(counted.address("entity_changelist"), name="Nothing")
    assert "There are no entities." in none.text


def test_entities_have_pages(counted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_durable.contrib.django.admin import entities

    monkeypatch.setattr(entities, "_ROWS_PER_PAGE", 1)
    address = counted.address("entity_changelist")
    first = counted.get(address)
    second = counted.get(address + str(first.find("a", rel="next")[0]["href"]))
    assert second.find("tr", data_entity="@Counter@visits")
    assert second.find("a", rel="next") == []
    assert counted.get(address + str(second.find("a", rel="prev")[0]["href"])).find(
        "tr", data_entity="@Counter@a/b"
    )
    assert "here is the first one" in counted.get(address, cursor="nonsense").text


def test_an_entity_takes_the_verbs_that_do_not_need_code_of_its_own(counted: Site) -> None:
    offered = [
        each["value"] for each in counted.page("@Counter@visits").find("button", name="verb")
    ]
    assert offered == ["suspend", "terminate"]
    for verb in ("cancel", "rewind", "restart", "raise_event"):
        told = counted.apply(verb, "@Counter@visits", reason="why", event_name="e").text
        assert f"'@Counter@visits' is an entity: {verb} is for orchestrations" in told
    counted.apply("suspend", "@Counter@visits", reason="why")
    assert counted.status("@Counter@visits") == "SUSPENDED"
    counted.apply("terminate", "@Counter@visits", reason="why")
    offered = [
        each["value"] for each in counted.page("@Counter@visits").find("button", name="verb")
    ]
    assert offered == ["purge"]


def test_the_state_of_an_entity_needs_the_permission(counted: Site) -> None:
    url = counted.address("entity_change", quoted("@Counter@visits"))
    page = counted.get(url)
    assert '"value": 4711' in page.text
    assert "no one" in page.text
    assert counted.page("@Counter@visits").find("svg")
    counted.login("view_entity")
    assert "4711" not in counted.client.get(url).content.decode()
    counted.login("view_instance")
    assert counted.client.get(url).status_code == 403
    assert counted.client.get(counted.address("entity_changelist")).status_code == 403


@pytest.mark.parametrize("key", ["@Counter@none", "order-1", "x" * 151, "@", "_"])
def test_what_is_no_entity_is_not_found(counted: Site, key: str) -> None:
    from tests.django.project.orders import tasks

    counted.start(tasks.fulfil, "x", id="order-1")
    assert counted.client.get(counted.address("entity_change", quoted(key))).status_code == 404


def test_nothing_about_entities_is_posted(counted: Site) -> None:
    assert (
        counted.client.post(counted.address("entity_change", quoted("@Counter@visits"))).status_code
        == 405
    )
    assert (
        counted.client.post(
            counted.address("entity_delete", quoted("@Counter@visits")), {"post": "yes"}
        ).status_code
        == 403
    )
    assert counted.durable.entity("Counter", "visits").state() == {"value": 4711}


# -- schedules -------------------------------------------------------------------------------------


@pytest.fixture
def nightly(site: Site) -> Any:
    from tests.django.project.orders import tasks

    return site.durable.schedule(
        "every/night", tasks.fulfil.s("x"), cron="5 3 * * *", tz="Europe/Berlin"
    )


def apply(site: Site, verb: str, **data: Any) -> Any:
    return site.post(
        site.address("schedule_apply"), verb=verb, name=quoted("every/night"), confirm="yes", **data
    )


def test_schedules_are_listed_and_have_a_page(site: Site, nightly: Any) -> None:
    page = site.get(site.address("schedule_changelist"))
    assert page.find("tr", data_schedule="every/night")
    assert "5 3 * * *" in page.text
    page = site.get(site.address("schedule_change", quoted("every/night")))
    assert [each["value"] for each in page.find("button", name="verb")] == [
        "pause",
        "trigger",
        "delete",
    ]


def test_a_schedule_is_paused_and_resumed_with_a_reason(site: Site, nightly: Any) -> None:
    question = site.post(
        site.address("schedule_apply"), 200, verb="pause", name=quoted("every/night")
    )
    assert question.find("input", name="reason")
    assert not nightly.refresh().is_paused
    apply(site, "pause", reason="the bank sleeps")
    assert nightly.refresh().is_paused
    assert nightly.reason == "the bank sleeps (user0)"
    assert site.log() == [("every/night", "Paused. Reason: the bank sleeps")]
    assert "needed nothing" in apply(site, "pause", reason="again").text
    apply(site, "resume", reason="it is awake")
    assert not nightly.refresh().is_paused
    assert "it is awake" in site.get(site.address("schedule_history", quoted("every/night"))).text


def test_a_schedule_is_run_now(site: Site, nightly: Any) -> None:
    page = apply(site, "trigger", reason="the report is late")
    runs = site.durable.find(id_prefix="every/night@manual-").items
    assert len(runs) == 1
    assert runs[0].id in page.text
    listed = site.get(site.address("schedule_change", quoted("every/night")))
    assert runs[0].id in listed.text


def test_a_schedule_is_deleted(site: Site, nightly: Any) -> None:
    apply(site, "delete", reason="no more nights")
    with pytest.raises(ScheduleNotFound):
        site.durable.get_schedule("every/night")
    assert site.log() == [("every/night", "Deleted. Reason: no more nights")]
    assert (
        site.client.post(
            site.address("schedule_apply"), {"verb": "pause", "name": "gone"}
        ).status_code
        == 404
    )


@pytest.mark.parametrize("verb", SCHEDULE_VERBS)
def test_a_verb_of_schedules_needs_its_permission_a_reason_and_the_token(
    site: Site, nightly: Any, verb: str
) -> None:
    from django.test import Client

    if verb == "resume":
        nightly.pause()
    url, data = (
        site.address("schedule_apply"),
        {"verb": verb, "name": quoted("every/night"), "reason": "why", "confirm": "yes"},
    )
    before = nightly.refresh()._row
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = site.client.cookies
    assert strict.post(url, data).status_code == 403
    assert site.client.get(url, data).status_code == 405
    assert site.post(url, 200, **{**data, "reason": " "}).find("form", id="durable-confirm")
    others = [each.permission for each in SCHEDULE_VERBS.values() if each.name != verb]
    for permissions in ([*others, "view_schedule"], [f"{verb}_schedule"]):
        site.login(*permissions)
        assert site.client.post(url, data).status_code == 403
    assert nightly.refresh()._row == before
    assert site.durable.count(id_prefix="every/night@") == 0
    site.login("view_schedule", f"{verb}_schedule")
    assert site.post(url, **data).find("li", **{"class": "success"})


def test_unknown_verbs_and_schedules_are_refused(site: Site, nightly: Any) -> None:
    url = site.address("schedule_apply")
    assert (
        site.client.post(
            url, {"verb": "backfill", "name": quoted("every/night"), "confirm": "yes"}
        ).status_code
        == 400
    )
    for name in ("none", "", "x" * 101, "_00"):
        assert site.client.post(url, {"verb": "pause", "name": name}).status_code == 404
    for part in ("none", "x" * 101, "%00"):
        assert (
            site.client.get(f"{site.address('schedule_changelist')}{part}/change/").status_code
            == 404
        )
    site.login("view_instance")
    assert site.client.get(site.address("schedule_changelist")).status_code == 403
