"""Starting an orchestration in the admin: what can be, by whom, and what is told where."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .conftest import Page, Site

FULFIL = "tests.django.project.orders.tasks.fulfil"
APPROVAL = "tests.django.project.orders.tasks.approval"
CHARGE = "tests.django.project.orders.tasks.charge"


def start(site: Site, code: int = 302, **data: Any) -> Page:
    """Send the form, as a browser does: with all fields."""
    empty = dict.fromkeys(
        ("args", "kwargs", "instance_id", "start_at", "tags", "timeout", "version", "reason"), ""
    )
    fresh = {"fresh": uuid.uuid4()}
    return site.post(site.address("instance_add"), code, **{**empty, **fresh, **data})


def wrong(page: Page) -> list[str | None]:
    """Return the fields of a form that have errors."""
    return [
        given["data-field"]
        for given in (each for tag, each in page.elements if tag == "div")
        if "errors" in str(given.get("class")).split()
    ]


def test_the_list_leads_to_the_form_which_offers_what_can_be_started(site: Site) -> None:
    listed = site.get(site.address("instance_changelist"))
    page = site.get(str(listed.find("a", id="durable-add")[0]["href"]))
    offered = [str(each["value"]) for each in page.find("option")]
    assert offered.index(FULFIL) < offered.index(CHARGE)  # orchestrators first
    assert not [name for name in offered if name.startswith(("celery.", "celery_durable."))]
    assert {each["name"] for each in page.find("textarea")} == {"args", "kwargs", "tags"}


def test_an_orchestration_is_started_and_the_trail_says_by_whom(site: Site) -> None:
    page = start(
        site,
        task=APPROVAL,
        args='["x"]',
        instance_id="order-1",
        tags="customer=7\nname=Ann Lee, Rome",
        timeout="1.5h",
        reason="ticket 12",
    )
    run = site.durable.get("order-1")
    assert (run.name, run.input) == (APPROVAL, {"args": ["x"], "kwargs": {}})
    assert run.tags == {"customer": "7", "name": "Ann Lee, Rome"}
    assert run.deadline is not None
    allowed = run.deadline - run.started_at
    assert abs(allowed - timedelta(hours=1.5)) < timedelta(seconds=1)
    assert "Started: order-1" in page.text
    (entry,) = site.durable.audit("order-1").items
    assert (entry.verb, entry.actor, entry.door) == ("start", "user0", "admin")
    assert (entry.effect, entry.reason) == ("done", "ticket 12")
    assert site.log() == [("order-1", "Started. Reason: ticket 12")]


def test_a_plain_task_is_started_durably(site: Site) -> None:
    start(site, task=CHARGE, args='["x"]', kwargs='{"amount": 3}', instance_id="charge-1")
    assert site.durable.get("charge-1").output == {"name": "x", "amount": 3}


def test_it_begins_later_by_the_time_zone_of_the_user(site: Site) -> None:
    from django.utils import timezone

    when = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=2)
    with timezone.override("Asia/Tokyo"):
        page = site.get(site.address("instance_add"))
        assert "Asia/Tokyo" in page.text
        local = when.astimezone(timezone.get_current_timezone()).strftime("%Y-%m-%dT%H:%M")
        start(site, task=FULFIL, args='["x"]', instance_id="later", start_at=local)
    assert site.status("later") == "PENDING"
    waits = site.page("later").text
    assert when.strftime("%Y-%m-%d %H:%M") in waits


def test_a_form_that_is_sent_twice_starts_once(site: Site) -> None:
    fresh = uuid.uuid4()
    for _ in range(2):
        start(site, task=APPROVAL, args='["x"]', fresh=fresh)
    assert [run.id for run in site.durable.find().items] == [str(fresh)]


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [
        ("task", {"task": "fulfil"}, f"Did you mean {FULFIL}"),
        ("task", {"task": "celery.backend_cleanup"}, "There is no orchestrator or task"),
        ("task", {"task": ""}, "required"),
        ("args", {"args": "{"}, "This is not JSON"),
        ("args", {"args": '{"a": 1}'}, "A JSON list is needed"),
        ("args", {"args": "[1, 2, 3]"}, "too many positional arguments"),
        ("args", {"args": ""}, "missing a required argument"),
        ("kwargs", {"kwargs": "[1]"}, "A JSON object is needed"),
        ("kwargs", {"kwargs": '{"card": 1}'}, "unexpected keyword argument 'card'"),
        ("instance_id", {"instance_id": "taken"}, "already"),
        ("instance_id", {"instance_id": "@Counter@visits"}, "cannot be the id"),
        ("instance_id", {"instance_id": "x" * 151}, "150"),
        ("start_at", {"start_at": "tomorrow"}, "Enter a valid date/time"),
        ("tags", {"tags": "customer"}, "is not a tag"),
        ("tags", {"tags": "a=1\na=2"}, "there twice"),
        ("timeout", {"timeout": "soon"}, "is no length of time"),
        ("timeout", {"timeout": "0"}, "It has to be from"),
        ("version", {"version": "7"}, "has these versions here"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    site: Site, field: str, given: dict[str, str], told: str
) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="taken")
    page = start(site, 200, **{"task": FULFIL, "args": '["x"]', "reason": "why", **given})
    assert wrong(page) == [field]
    assert told in page.text
    for name, value in given.items():  # what was written is still there
        if name in ("args", "kwargs", "tags") and value:
            assert re.sub(r"\s+", " ", value) in page.text
    assert [run.id for run in site.durable.find().items] == ["taken"]


def test_what_the_store_does_not_take_is_told_at_the_arguments(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(site.durable.app.conf, "durable_payload_limit", 100)
    site.durable._runtime = None
    page = start(site, 200, task=FULFIL, kwargs=json.dumps({"name": "x" * 200}))
    assert wrong(page) == ["kwargs"]
    assert "cannot start" in page.text


def test_starting_needs_the_permission(site: Site) -> None:
    address = site.address("instance_add")
    for permissions in (("view_instance",), ("start_instance",)):
        site.login(*permissions)
        assert site.client.get(address).status_code == 403
        assert site.client.post(address, {"task": FULFIL, "args": '["x"]'}).status_code == 403
    site.login("view_instance")
    assert not site.get(site.address("instance_changelist")).find("a", id="durable-add")
    site.login("view_instance", "start_instance")
    start(site, task=FULFIL, args='["x"]', instance_id="order-1")
    assert site.status("order-1") == "COMPLETED"
    assert site.client.get("/admin/").status_code == 200


def test_a_module_that_cannot_be_imported_takes_no_form_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ImportError("no module named gone")

    monkeypatch.setattr(site.durable.app.loader, "import_default_modules", broken)
    page = site.get(site.address("instance_add"))
    assert FULFIL in [each["value"] for each in page.find("option")]
    assert "one module cannot be imported" in caplog.text
