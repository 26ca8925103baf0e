"""Making schedules in the admin, and changing them: what is not edited stays as it is."""

from __future__ import annotations

import dataclasses
import html
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_durable.contrib.django.admin.addresses import quoted
from celery_durable.errors import InvalidState, ScheduleNotFound
from celery_durable.handles.declare_schedule import declare_schedule
from celery_durable.handles.edit_schedule import ScheduleEdit, edit_schedule
from celery_durable.handles.schedule import row_of_schedule

from .conftest import Page, Site
from .test_starting import APPROVAL, CHARGE, FULFIL, wrong

NEW = {
    "name": "nightly",
    "task": FULFIL,
    "args": '["x"]',
    "kwargs": "",
    "cron": "0 3 * * *",
    "interval": "",
    "tz": "Europe/Berlin",
    "overlap": "buffer",
    "catch_up": "2h",
    "jitter": "30",
    "reason": "ticket 12",
}


def make(site: Site, code: int = 302, **data: str) -> Page:
    return site.post(site.address("schedule_add"), code, **{**NEW, **data})


def row(site: Site, name: str = "nightly") -> Any:
    return row_of_schedule(site.durable.get_schedule(name))


def shown(site: Site, name: str = "nightly") -> dict[str, str]:
    """Return what a browser would send of the form if nothing was touched."""
    url = site.address("schedule_edit", quoted(name))
    text = site.client.get(url).content.decode()
    page, found = Page(text), dict[str, str]()
    for each in page.find("input"):
        is_off = each.get("type") == "checkbox" and "checked" not in each
        if "name" not in each or is_off:
            continue
        found[str(each["name"])] = each.get("value") or (
            "on" if each.get("type") == "checkbox" else ""
        )
    for part in text.split("<textarea ")[1:]:
        name = part.split('name="', 1)[1].split('"', 1)[0]
        found[name] = html.unescape(part.split(">", 1)[1].split("</textarea>", 1)[0].lstrip("\n"))
    select = text.split('<select name="overlap"', 1)[1].split("</select>", 1)[0]
    found["overlap"] = select.split(" selected", 1)[0].rsplit('value="', 1)[1].split('"', 1)[0]
    return {name: value for name, value in found.items() if name != "csrfmiddlewaretoken"}


def edit(
    site: Site, code: int = 302, name: str = "nightly", before: Any = None, **data: str
) -> Page:
    """Touch some fields of the form as it was shown ``before``, or is now, and send it."""
    sent = {**(before or shown(site, name)), **data}
    return site.post(site.address("schedule_edit", quoted(name)), code, **sent)


# -- making ----------------------------------------------------------------------------------------


def test_a_schedule_is_made_and_the_trail_says_by_whom(site: Site) -> None:
    listed = site.get(site.address("schedule_changelist"))
    assert listed.find("a", id="durable-add", href=site.address("schedule_add"))
    page = make(site)
    made = site.durable.get_schedule("nightly")
    assert (made.orchestrator, made.cron, made.tz) == (FULFIL, "0 3 * * *", "Europe/Berlin")
    assert (made.overlap, made.catch_up, made.jitter) == (
        "buffer",
        timedelta(hours=2),
        timedelta(seconds=30),
    )
    assert made.next_at is not None
    assert not made.is_paused
    assert made.trigger().output == {"name": "x", "amount": 10}
    assert "Made: nightly" in page.text
    entry = site.durable.audit("nightly").items[-1]
    assert (entry.verb, entry.kind, entry.actor, entry.door, entry.effect, entry.reason) == (
        "declare", "schedule", "user0", "admin", "done", "ticket 12",
    )  # fmt: skip
    assert site.log()[-1] == ("nightly", "Made. Reason: ticket 12")


def test_a_schedule_of_a_plain_task_begins_paused(site: Site) -> None:
    make(site, task=CHARGE, args='["x", 1]', cron="", interval="15m", paused="on", reason="soon")
    made = site.durable.get_schedule("nightly")
    assert (made.interval, made.cron) == (timedelta(minutes=15), None)
    assert (made.is_paused, made.reason, made.next_at) == (True, "soon", None)
    made.resume()
    assert made.next_at is not None
    assert made.trigger().output == {"name": "x", "amount": 1}


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [
        ("name", {"name": "taken"}, "There is a schedule of this name already"),
        ("name", {"name": "@x"}, "does not begin with"),
        ("name", {"name": "x" * 101}, "100"),
        ("task", {"task": "nothing"}, "There is no orchestrator or task"),
        ("args", {"args": "[1, 2, 3]"}, "too many positional arguments"),
        ("kwargs", {"kwargs": '{"card": 1}'}, "unexpected keyword argument 'card'"),
        ("cron", {"cron": "61 3 * * *"}, "61"),
        ("cron", {"cron": "0 0 30 2 *"}, "30"),
        ("cron", {"cron": ""}, "Give a crontab line or an interval"),
        ("interval", {"interval": "60"}, "not both"),
        ("interval", {"cron": "", "interval": "0.01"}, "It has to be from 0.1s"),
        ("interval", {"cron": "", "interval": "often"}, "is no length of time"),
        ("tz", {"tz": "Mars/Base"}, "there is no time zone"),
        ("overlap", {"overlap": "sometimes"}, "Select a valid choice"),
        ("catch_up", {"catch_up": "-1"}, "must not be negative"),
        ("catch_up", {"catch_up": ""}, "required"),
        ("jitter", {"jitter": "200y"}, "is no length of time"),
    ],
)
def test_what_is_wrong_with_a_new_one_is_told_at_its_field(
    site: Site, field: str, given: dict[str, str], told: str
) -> None:
    from tests.django.project.orders import tasks

    site.durable.schedule("taken", tasks.approval.s("x"), interval=86_400)
    page = make(site, 200, **given)
    assert wrong(page) == [field]
    assert told in page.text
    assert [each.name for each in site.durable.schedules()] == ["taken"]
    assert site.durable.get_schedule("taken").orchestrator == APPROVAL


def test_one_that_comes_first_is_not_overwritten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.django.project.orders import tasks

    site.durable.schedule("nightly", tasks.approval.s("x"), interval=86_400)
    monkeypatch.setattr(site.durable.runtime.store.schedules, "get", lambda name: None)
    page = make(site, 200)
    monkeypatch.undo()
    assert wrong(page) == ["name"]
    assert site.durable.get_schedule("nightly").orchestrator == APPROVAL


# -- changing --------------------------------------------------------------------------------------


@pytest.fixture
def nightly(site: Site) -> Any:
    """A schedule with options that no form shows."""
    from tests.django.project.orders import tasks

    signature = tasks.fulfil.s("x", amount=7).set(
        queue="slow", expires=300, headers={"tenant": "a"}, link=tasks.mark.si("x", "done")
    )
    return site.durable.schedule(
        "nightly", signature, cron="5 3 * * *", tz="Europe/Berlin", catch_up=90.5, jitter=3600
    )


_MOVES = ("revision", "updated_at")


def changed(before: Any, after: Any) -> set[str]:
    names = [each.name for each in dataclasses.fields(before) if each.name not in _MOVES]
    return {name for name in names if getattr(before, name) != getattr(after, name)}


def test_a_form_that_nothing_was_touched_in_changes_nothing(site: Site, nightly: Any) -> None:
    before = row(site)
    edit(site)
    assert row(site) == before
    (entry,) = site.durable.audit("nightly").items
    assert (entry.verb, entry.effect) == ("change", "nothing")


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        ({"cron": "6 4 * * *"}, {"cron", "anchor_at", "next_at", "check_at"}),
        ({"tz": "Asia/Tokyo"}, {"timezone", "anchor_at", "next_at", "check_at"}),
        (
            {"cron": "", "interval": "1h"},
            {"cron", "every", "timezone", "anchor_at", "next_at", "check_at"},
        ),
        ({"overlap": "allow"}, {"overlap"}),
        ({"catch_up": "2d"}, {"catch_up"}),
        ({"jitter": "0"}, {"jitter"}),
        ({"args": '["y"]'}, {"input"}),
        ({"kwargs": '{"amount": 8}'}, {"input"}),
        ({"paused": "on", "reason": "why"}, {"is_paused", "reason", "next_at", "check_at"}),
    ],
)
def test_what_is_edited_changes_and_nothing_else(
    site: Site, nightly: Any, given: dict[str, str], moved: set[str]
) -> None:
    before = row(site)
    edit(site, **given)
    assert changed(before, row(site)) == moved
    run = site.durable.get_schedule("nightly").trigger()
    name = "y" if "args" in given else "x"
    amount = 8 if "kwargs" in given else 7
    assert run.input == {"args": [name], "kwargs": {"amount": amount}}


def test_other_words_for_the_same_change_nothing(site: Site, nightly: Any) -> None:
    before = row(site)
    edit(site, catch_up="90500000e-6", jitter="60m", tz="")
    assert changed(before, row(site)) in (set(), {"timezone", "anchor_at", "next_at", "check_at"})
    assert row(site).catch_up == before.catch_up


def test_another_task_is_started_with_options_of_its_own(site: Site, nightly: Any) -> None:
    before = row(site)
    edit(site, task=CHARGE, args='["z"]', kwargs='{"amount": 1}', reason="ticket 13")
    assert changed(before, row(site)) == {"orchestrator", "input", "canvas", "queue"}
    assert site.durable.get_schedule("nightly").trigger().output == {"name": "z", "amount": 1}
    (entry,) = site.durable.audit("nightly", verb="change").items
    assert (entry.actor, entry.reason, entry.effect) == ("user0", "ticket 13", "done")
    assert entry.arguments == {"orchestrator": CHARGE, "input": "(hidden)"}
    assert ("nightly", "Changed: Orchestrator or task, Arguments, Named arguments. Reason:"
            " ticket 13") in site.log()  # fmt: skip


def test_a_paused_one_is_edited_and_continues(site: Site, nightly: Any) -> None:
    nightly.pause(reason="stocktaking")
    edit(site, overlap="allow")
    found = site.durable.get_schedule("nightly")
    assert (found.is_paused, found.reason, found.overlap) == (True, "stocktaking", "allow")
    before = shown(site)
    del before["paused"]
    edit(site, before=before)
    found.refresh()
    assert (found.is_paused, found.reason) == (False, None)
    assert found.next_at is not None


def test_what_others_changed_meanwhile_is_kept(site: Site, nightly: Any) -> None:
    before = shown(site)
    edit(site, overlap="cancel", catch_up="5m")
    edit(site, before=before, cron="7 7 * * *")
    found = site.durable.get_schedule("nightly")
    assert (found.cron, found.overlap, found.catch_up) == (
        "7 7 * * *",
        "cancel",
        timedelta(minutes=5),
    )
    page = edit(site, 200, before=before, cron="8 8 * * *")
    assert wrong(page) == ["cron"]
    assert "It was changed meanwhile, to: 7 7 * * *" in page.text
    edit(site, before=before, cron="7 7 * * *")  # both have the same in mind


def test_arguments_stay_hidden_and_stay(site: Site, nightly: Any) -> None:
    site.login("view_schedule", "change_schedule")
    url = site.address("schedule_edit", quoted("nightly"))
    assert "amount" not in site.client.get(url).content.decode().replace("{&quot;amount", "")
    assert '["x"]' not in shown(site).values()
    before = row(site)
    edit(site, overlap="allow")
    assert changed(before, row(site)) == {"overlap"}
    assert "7" not in site.get(site.address("schedule_change", quoted("nightly"))).find("pre")
    edit(site, args='["y"]')
    assert site.durable.get_schedule("nightly").trigger().input == {
        "args": ["y"],
        "kwargs": {"amount": 7},
    }


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [
        ("args", {"args": "[1, 2, 3]"}, "fulfil(): "),
        ("cron", {"cron": "never"}, "never"),
        ("interval", {"interval": "1h"}, "not both"),
        ("task", {"task": "nothing"}, "There is no orchestrator or task"),
    ],
)
def test_what_is_wrong_with_a_change_is_told_at_its_field(
    site: Site, nightly: Any, field: str, given: dict[str, str], told: str
) -> None:
    before = row(site)
    page = edit(site, 200, **given)
    assert wrong(page) == [field]
    assert told in page.text
    assert row(site) == before


def test_the_code_of_one_that_is_changed_need_not_be_here(site: Site, nightly: Any) -> None:
    store = site.durable.runtime.store
    assert store.schedules.change(dataclasses.replace(row(site), orchestrator="elsewhere.task"))
    edit(site, overlap="allow")
    assert row(site).orchestrator == "elsewhere.task"
    page = edit(site, 200, args='["y"]')
    assert wrong(page) == ["args"]
    assert "not registered here" in page.text


def test_an_entry_of_beat_schedule_is_read_only_and_says_why(site: Site) -> None:
    from celery_durable.app.signatures import repeated
    from tests.django.project.orders import tasks

    runtime, name = site.durable.runtime, "beat:project:every/night"
    request = repeated(runtime, tasks.fulfil.s("x"), "the test")
    declare_schedule(
        site.durable.app, name, request, cron="0 3 * * *", interval=None, tz=None,
        overlap="allow", catch_up=60, jitter=0, is_declared=True,
    )  # fmt: skip
    url = site.address("schedule_change", quoted(name))
    page = site.get(url)
    assert not page.find("a", id="durable-change")
    assert "It is the entry “every/night” of beat_schedule" in page.text
    edit_url = site.address("schedule_edit", quoted(name))
    answer = site.client.get(edit_url)
    assert (answer.status_code, answer["Location"]) == (302, url)
    assert site.client.post(edit_url, NEW).status_code == 403
    with pytest.raises(InvalidState, match="beat_schedule"):
        edit_schedule(site.durable.app, name, ScheduleEdit(cron="1 1 * * *"))
    assert site.durable.get_schedule(name).cron == "0 3 * * *"


def test_a_schedule_that_is_gone_is_not_found(site: Site, nightly: Any) -> None:
    nightly.delete()
    assert site.client.get(site.address("schedule_edit", quoted("nightly"))).status_code == 404
    with pytest.raises(ScheduleNotFound):
        edit_schedule(site.durable.app, "nightly", ScheduleEdit(cron="1 1 * * *"))


def test_the_forms_need_their_permissions(site: Site, nightly: Any) -> None:
    add, change = site.address("schedule_add"), site.address("schedule_edit", quoted("nightly"))
    page = site.address("schedule_change", quoted("nightly"))
    site.login("view_schedule")
    assert not site.get(page).find("a", id="durable-change")
    assert not site.get(site.address("schedule_changelist")).find("a", id="durable-add")
    for permissions, codes in (
        (("view_schedule",), (403, 403)),
        (("add_schedule",), (403, 403)),
        (("view_schedule", "add_schedule"), (200, 403)),
        (("view_schedule", "change_schedule"), (403, 200)),
    ):
        site.login(*permissions)
        found = tuple(site.client.get(url).status_code for url in (add, change))
        assert found == codes, permissions
        if codes != (200, 200):
            refused = add if codes[0] == 403 else change
            assert site.client.post(refused, {**NEW, "name": "other"}).status_code == 403
    assert [each.name for each in site.durable.schedules()] == ["nightly"]


def test_the_next_tick_is_one_of_the_new_times(site: Site, nightly: Any) -> None:
    edit(site, cron="", interval="1h")
    ahead = site.durable.get_schedule("nightly").next_at - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead <= timedelta(hours=1)
