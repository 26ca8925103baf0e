"""The list of orchestrations: what it shows, filters and pages."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from celery_durable.core.times import EPOCH
from celery_durable.inspection import views
from celery_durable.store.schema import instances

from .conftest import Page, Site


@pytest.fixture
def shop(site: Site) -> Site:
    """One orchestration of each kind that the filters tell apart."""
    from tests.django.project.orders import tasks

    site.start(tasks.fulfil, "x", id="done-1", tags={"customer": "7"})
    site.start(tasks.failing, "card 4711", id="failed-1", tags={"customer": "8", "name": "Ann Lee"})
    site.start(tasks.approval, "x", id="open-1", tags={"customer": "7"})
    site.start(tasks.approval, "x", id="held-1").suspend("waiting for the bank")
    site.durable.entity(tasks.Counter, "visits").signal.add(1)
    return site


def shown(page: Page) -> list[str]:
    return [str(row["data-instance"]) for row in page.find("tr") if "data-instance" in row]


def listed(site: Site, **query: object) -> list[str]:
    return shown(site.get(site.address("instance_changelist"), **query))


def test_the_list_shows_the_newest_first_and_no_entities(shop: Site) -> None:
    page = shop.get(shop.address("instance_changelist"))
    assert shown(page) == ["held-1", "open-1", "failed-1", "done-1"]
    assert [each["data-status"] for each in page.find("span", **{"class": "durable-status"})] == [
        "SUSPENDED",
        "RUNNING",
        "FAILED",
        "COMPLETED",
    ]
    assert "tests.django.project.orders.tasks.approval" in page.text
    assert "event, request or code" in page.text  # what open-1 waits for
    assert "4711" not in page.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "FAILED"}, ["failed-1"]),
        ({"status": ["FAILED", "SUSPENDED"]}, ["held-1", "failed-1"]),
        ({"name": "tests.django.project.orders.tasks.fulfil"}, ["done-1"]),
        ({"version": "2"}, []),
        ({"since": "1h"}, ["held-1", "open-1", "failed-1", "done-1"]),
        ({"stuck": "on"}, []),
        ({"roots": "on", "status": "RUNNING"}, ["open-1"]),
        ({"q": "open"}, ["open-1"]),
        ({"q": "pen-1"}, []),
        ({"q": "tag:customer=7"}, ["open-1", "done-1"]),
        ({"q": "done tag:customer=7"}, ["done-1"]),
        ({"q": "tag:customer=7 tag:name=x"}, []),
        ({"q": 'tag:"name=Ann Lee"'}, ["failed-1"]),
        ({"q": "tag:customer=7", "status": "RUNNING"}, ["open-1"]),
        ({"q": "@Counter"}, ["@Counter@visits"]),
        ({"q": "%"}, []),
        ({"q": "' OR 1=1 --"}, []),
        ({"name": "no\x00such"}, []),
    ],
)
def test_filters(shop: Site, query: dict[str, object], expected: list[str]) -> None:
    assert listed(shop, **query) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"q": "tag:customer"},
        {"q": "tag:=7"},
        {"status": "GONE"},
        {"since": "1y"},
        {"name": "x" * 201},
    ],
)
def test_a_filter_that_does_not_fit_says_so_and_shows_nothing(
    shop: Site, query: dict[str, str]
) -> None:
    page = shop.get(shop.address("instance_changelist"), **query)
    assert shown(page) == []
    assert "durable-empty" in [given.get("id") for given in page.find("p")]
    assert page.find("ul", **{"class": "errorlist"}) or [
        given for _, given in page.elements if given.get("class") == "errorlist"
    ]


def test_children_are_found_by_their_parent_and_left_out_of_roots(site: Site) -> None:
    make_family(site)
    assert listed(site, parent="parent-1") == ["child-1"]
    assert listed(site, roots="on") == ["parent-1"]
    assert set(listed(site)) == {"parent-1", "child-1"}


def make_family(site: Site) -> None:
    """Start an orchestration with a sub-orchestration that waits."""
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "p", id="parent-1")
    site.start(tasks.approval, "c", id="child-1")
    store = site.durable.runtime.store
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(
            instances.update().where(instances.c.id == "child-1").values(parent_id="parent-1")
        )


def fill(site: Site, count: int) -> None:
    """Insert finished orchestrations, several of one moment."""
    rows = [
        {
            "id": f"order-{number:04}",
            "execution": f"e{number}",
            "name": "shop.order",
            "status": "COMPLETED",
            "sequence": 1,
            "crashes": 0,
            "created_at": 1_700_000_000_000_000 + number // 3,
            "updated_at": 1_700_000_000_000_000,
        }
        for number in range(count)
    ]
    store = site.durable.runtime.store
    store.now()  # the schema is there
    with store.database.using() as engine, engine.begin() as connection:
        connection.execute(instances.insert(), rows)


def test_pages_go_on_and_back_over_every_row_once(site: Site) -> None:
    fill(site, 250)
    address, seen, pages = site.address("instance_changelist"), [], []
    url: str | None = address
    while url is not None:
        page = site.get(url)
        seen += shown(page)
        pages.append(shown(page))
        following = page.find("a", rel="next")
        url = None if not following else address + str(following[0]["href"])
    assert [len(each) for each in pages] == [100, 100, 50]
    assert seen == sorted((f"order-{number:04}" for number in range(250)), reverse=True)
    back = page.find("a", rel="prev")
    page = site.get(address + str(back[0]["href"]))
    assert shown(page) == pages[1]
    page = site.get(address + str(page.find("a", rel="prev")[0]["href"]))
    assert shown(page) == pages[0]
    assert page.find("a", rel="prev") == []
    assert page.find("a", rel="next") != []


def test_the_links_to_other_pages_keep_the_filters(site: Site) -> None:
    fill(site, 120)
    page = site.get(site.address("instance_changelist"), status=["COMPLETED", "FAILED"], q="order-")
    query = parse_qs(urlsplit(str(page.find("a", rel="next")[0]["href"])).query)
    assert query["status"] == ["COMPLETED", "FAILED"]
    assert query["q"] == ["order-"]


@pytest.mark.parametrize("cursor", ["nonsense", "bnVsbA==", "WzEsIDJd", "W10=", "x" * 5000])
def test_a_forged_cursor_shows_the_first_page_and_says_so(shop: Site, cursor: str) -> None:
    page = shop.get(shop.address("instance_changelist"), cursor=cursor)
    assert shown(page) == ["held-1", "open-1", "failed-1", "done-1"]
    assert "here is the first one" in page.text


def test_a_page_asks_for_all_waits_at_once(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = views.current_waits

    def counted(durable: object, runs: list[object]) -> dict[str, str]:
        asked.append(len(runs))
        return real(durable, runs)

    monkeypatch.setattr(views, "current_waits", counted)
    shop.get(shop.address("instance_changelist"))
    assert asked == [4]


def test_ages_are_told_in_one_unit(site: Site) -> None:
    from datetime import UTC, datetime, timedelta

    from celery_durable.contrib.django.admin.pages import age_of

    now = datetime.now(UTC)
    assert re.fullmatch("3[01] seconds", age_of(now - timedelta(seconds=30)))
    assert age_of(now - timedelta(days=2, hours=3)) == "2\xa0days"
    assert age_of(now + timedelta(minutes=5)) == "0 seconds"
    assert "years" in age_of(EPOCH)


def test_a_user_without_permission_sees_no_list(shop: Site) -> None:
    shop.login()
    assert shop.client.get(shop.address("instance_changelist")).status_code == 403
    shop.login(is_staff=False, is_superuser=True)
    response = shop.client.get(shop.address("instance_changelist"))
    assert response.status_code == 302
    assert "/login/" in response["Location"]


def test_who_may_only_look_is_offered_nothing_to_do(shop: Site) -> None:
    shop.login("view_instance")
    page = shop.get(shop.address("instance_changelist"))
    assert shown(page) == ["held-1", "open-1", "failed-1", "done-1"]
    assert page.find("select", id="durable-verb") == []
    assert page.find("input", type="checkbox", name="id") == []


def test_each_verb_is_offered_to_whom_it_is_permitted(shop: Site) -> None:
    shop.login("view_instance", "suspend_instance", "purge_instance")
    page = shop.get(shop.address("instance_changelist"))
    assert [
        each["value"]
        for each in page.find("option")
        if each["value"] in ("suspend", "cancel", "purge")
    ] == ["suspend", "purge"]


def test_rows_are_not_added_changed_or_deleted(shop: Site) -> None:
    assert shop.client.get(shop.address("entity_add")).status_code == 403
    assert (
        shop.client.post(shop.address("instance_delete", "done-1"), {"post": "yes"}).status_code
        == 403
    )
    assert (
        shop.client.post(
            shop.address("instance_change", "done-1"), {"status": "FAILED"}
        ).status_code
        == 405
    )
    assert (
        shop.client.post(
            shop.address("instance_changelist"), {"action": "delete_selected"}
        ).status_code
        == 405
    )
    assert shop.status("done-1") == "COMPLETED"


def test_a_pause_says_why_and_until_when(site: Site) -> None:
    runtime = site.durable.runtime
    runtime.store.switches.count_failure("orders.charge", 1, 1, 60_000_000, "paused by itself: <b>")
    runtime.runner.switches.refresh()
    text = site.get(site.address("instance_changelist")).text
    assert "orders.charge is paused since" in text and "paused by itself: <b>" in text
    assert "It ends by itself at" in text


def test_who_may_suspend_may_unpause_from_the_list(site: Site) -> None:
    site.durable.pause(queue="imports", reason="stock count")
    url, pause = site.address("instance_unpause"), {"kind": "queue", "name": "imports"}
    site.login("view_instance")
    page = site.get(site.address("instance_changelist"))
    assert "stock count" in page.text and "Unpause" not in page.text
    assert site.client.post(url, pause).status_code == 403
    site.login("view_instance", "suspend_instance")
    page = site.get(site.address("instance_changelist"))
    assert page.find("form", action=url) and "Unpause" in page.text
    assert site.client.get(url).status_code == 405 and len(site.durable.pauses()) == 1
    assert site.client.post(url, {"kind": "what", "name": "imports"}).status_code == 400
    assert [site.client.post(url, pause).status_code for _ in range(2)] == [302, 302]
    assert site.durable.pauses() == []


def test_the_list_has_numbers_by_status_tags_and_custom_statuses(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1", tags={"customer": "7"})
    site.start(tasks.failing, "no card", id="order-2")
    page = site.get(site.address("instance_changelist"))
    assert page.find("p", id="durable-tally")
    links = {each["href"] for each in page.find("a") if "status=" in each.get("href", "")}
    assert links == {"?status=RUNNING", "?status=FAILED"}
    assert "customer=7" in page.text


def test_names_are_broken_at_their_separators_only(site: Site) -> None:
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="shop.<b>_1/x", tags={"a.b": "<i>"})
    for url in (
        site.address("instance_changelist"),
        site.address("instance_change", "shop.<b>_1/x".replace("_", "_5F").replace("/", "_2F")),
    ):
        text = site.client.get(url).content.decode()
        assert "shop.<wbr>&lt;b&gt;_<wbr>1/<wbr>x" in text
        assert "tests.<wbr>django.<wbr>project.<wbr>orders.<wbr>tasks.<wbr>approval" in text
        assert "a.<wbr>b=<wbr>&lt;i&gt;" in text
