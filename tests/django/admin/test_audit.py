"""The audit trail in the admin: on the page of an orchestration, and as a list."""

from __future__ import annotations

from celery_durable.contrib.django.admin import audit

from .conftest import Site
from .test_verbs import prepared


def test_the_page_of_one_shows_who_did_what(site: Site) -> None:
    run = prepared(site, "suspend")
    assert not site.page("order-1").find("table", id="durable-audit-entries")
    with site.durable.actor("<b>cron</b>"):
        run.suspend("card: 4711")
    page = site.page("order-1")
    assert page.find("tr", data_verb="suspend", data_effect="done")
    assert "<b>cron</b> code suspend done card: 4711" in page.text


def test_the_list_is_filtered_and_paged(site: Site) -> None:
    run = prepared(site, "suspend")
    with site.durable.actor("cron"):
        run.suspend("card: 4711")
        run.resume()
        site.durable.pause(task="orders.charge")
        run.terminate()
        run.purge()
    address = site.address("auditentry_changelist")
    page = site.get(address)
    found = [each["data-verb"] for each in page.find("tr") if "data-verb" in each]
    assert found == ["purge", "terminate", "pause", "resume", "suspend"]
    assert "task orders.charge" in page.text
    chosen = site.get(address, verb="suspend", actor="cron")
    assert chosen.find("tr", data_verb="suspend") and not chosen.find("tr", data_verb="purge")
    assert "There are no entries." in site.get(address, target="other").text
    assert "here is the first one" in site.get(address, cursor="x").text
    assert "There are no entries." in site.get(address, actor="\x00").text
    assert site.client.get(f"{address}x/change/").status_code == 404


def test_pages_lead_to_older_entries(site: Site) -> None:
    run = prepared(site, "suspend")
    before, audit._ROWS_PER_PAGE = audit._ROWS_PER_PAGE, 1
    try:
        with site.durable.actor("cron"):
            run.suspend()
            run.resume()
        address = site.address("auditentry_changelist")
        (older,) = site.get(address).find("a", id="durable-next")
        page = site.get(address + str(older["href"]))
        assert page.find("tr", data_verb="suspend")
        assert page.find("a", id="durable-first")
    finally:
        audit._ROWS_PER_PAGE = before


def test_it_needs_its_permission_and_hides_what_may_hold_data(site: Site) -> None:
    run = prepared(site, "suspend")
    with site.durable.actor("cron"):
        run.suspend("card: 4711")
    address = site.address("auditentry_changelist")
    site.login("view_instance")
    site.get(address, 403)
    site.login("view_auditentry")
    page = site.get(address)
    assert "card (…)" in page.text and "4711" not in page.text
    assert not page.find("a", href=site.address("instance_change", "order-1"))


def test_verbs_of_schedules_are_told_with_their_reasons(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.durable.schedule("nightly", tasks.approval.s("x"), interval=86_400)
    for verb in ("pause", "resume", "trigger", "delete"):
        given = {"verb": verb, "name": "nightly", "confirm": "yes", "reason": f"for {verb}"}
        site.post(site.address("schedule_apply"), 302, **given)
    found = site.durable.audit(kind="schedule").items
    assert [(each.verb, each.reason, each.actor) for each in reversed(found)] == [
        (verb, f"for {verb}", "user0") for verb in ("pause", "resume", "trigger", "delete")
    ]
    (triggered,) = (each for each in found if each.verb == "trigger")
    assert site.durable.audit(triggered.made).items == [triggered]
