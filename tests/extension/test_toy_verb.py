"""A row added to the table of verbs is offered everywhere, without an edit anywhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_durable.app.bulk import apply_verb
from celery_durable.cli import durable as group
from celery_durable.core.history import EventKind
from celery_durable.engine.verbs import VERBS
from celery_durable.engine.verbs.reference import effect_table, meaning_table
from celery_durable.errors import ConfigurationError, InstanceNotFound, InvalidState
from celery_durable.http import BearerTokens, Token, application
from tests.django.admin.conftest import Site, migrated, site, store  # noqa: F401  fixtures
from tests.flower.test_tab import FlowerCase as FlowerTab
from tests.http.client import Client

from .toy_verb import HURRY

SECRET = "a-token-that-may-hurry"  # noqa: S105  of a test
ALLOWED = ["hurry", "view", "view_payload"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the row, as a plug-in would."""
    monkeypatch.setitem(VERBS, "hurry", HURRY)


@pytest.fixture
def durable(new_app: Callable[..., Any]) -> Any:
    """A shop whose orchestrations wait to be hurried."""
    found = new_app(task_always_eager=True, task_ignore_result=True).durable

    @found.orchestrator(name="toy.sale")
    async def sale(ctx: Any) -> Any:
        return await ctx.wait_event("hurry")

    for id_ in ("a", "b"):
        found.start(sale.s(), instance_id=id_)
    return found


def told(durable: Any, instance_id: str = "a") -> Any:
    return durable.get(instance_id).wait(timeout=300)


# -- code ------------------------------------------------------------------------------------------


def test_code_applies_it_with_its_defaults(durable: Any) -> None:
    durable.runtime.client.apply("hurry", "a", {"note": "now"})
    assert told(durable) == {"note": "now", "factor": 2, "reason": None}
    with pytest.raises(InvalidState, match="hurry needs one that is PENDING, RUNNING or SUSPENDED"):
        durable.runtime.client.apply("hurry", "a", {"note": "now"})
    with pytest.raises(InstanceNotFound):
        durable.runtime.client.apply("hurry", "gone", {"note": "now"})


def test_it_is_applied_to_all_that_match(durable: Any) -> None:
    given, filters = {"note": "all", "reason": "late"}, {"name": "toy.sale"}
    assert apply_verb(durable.runtime.client, "hurry", None, given, filters).done == 2
    assert told(durable, "b") == {"note": "all", "factor": 2, "reason": "late"}


def test_durable_has_a_method_of_it(durable: Any) -> None:
    assert durable.hurry("a", note="one", factor=7).done == 1
    assert told(durable) == {"note": "one", "factor": 7, "reason": None}
    found = durable.hurry(name="toy.sale", note="many", reason="late", status=["RUNNING"])
    assert (found.matched, found.done) == (1, 1)
    with pytest.raises(TypeError, match="unknown filters"):
        durable.hurry(colour="red", note="x")
    with pytest.raises(AttributeError, match="no attribute 'worry'"):
        durable.worry("a")


def test_the_reference_tells_of_it() -> None:
    assert "`hurry(note, factor=2, reason=, dry_run=False)` | They are told" in meaning_table()
    assert "| `hurry` | acts | acts | acts | refused |" in effect_table()


# -- the command line ------------------------------------------------------------------------------


def run(durable: Any, *args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(group, list(args), obj=SimpleNamespace(app=durable.app))
    assert result.exit_code == code, result.output
    return result


def test_it_is_a_command(durable: Any) -> None:
    assert "  hurry " in run(durable, "--help").stdout
    told_of = run(durable, "hurry", "--help").stdout
    assert "They are told to be faster." in told_of
    assert re.search(r"--factor INTEGER +How much faster", told_of)
    assert re.search(r"--note TEXT +What to say. +\[required\]", told_of)
    foreseen = run(durable, "hurry", "a", "--note", "now", "--dry-run").stdout
    assert foreseen == "a RUNNING\ntoy.sale would hear 'now'\n"
    done = run(durable, "hurry", "a", "--note", "now", "--factor", "3", "--reason", "late")
    assert done.stderr == "a: hurried\n"
    assert told(durable) == {"note": "now", "factor": 3, "reason": "late"}
    assert run(durable, "hurry", "--name", "toy.sale", "--note", "x", "--yes").stdout == (
        "1 of 1 done\n"
    )
    run(durable, "hurry", "a", "--note", "now", code=4)


# -- HTTP ------------------------------------------------------------------------------------------


def test_it_is_a_route_with_a_permission_of_its_own(durable: Any) -> None:
    client = Client(application(durable, BearerTokens(Token(SECRET, ALLOWED))), SECRET)
    described = client.get("/openapi.json").json["paths"]["/instances/{id}/hurry"]["post"]
    assert described["summary"] == "They are told to be faster."
    assert described["x-permission"] == "hurry"
    assert [(each["name"], each["required"]) for each in described["parameters"]] == [
        ("id", True),
        ("reason", False),
        ("note", True),
        ("factor", False),
    ]
    assert client.post("/instances/a/hurry").status == 400
    assert client.post("/instances/a/hurry?note=now&factor=x").status == 400
    assert client.post("/instances/gone/hurry?note=now").status == 404
    assert client.post("/instances/a/hurry?note=now&factor=4&reason=late").status == 202
    assert told(durable) == {"note": "now", "factor": 4, "reason": "late"}
    assert client.post("/instances/a/hurry?note=now").status == 410
    others = Client(application(durable, BearerTokens(Token(SECRET, ["suspend"]))), SECRET)
    assert others.post("/instances/b/hurry?note=now").status == 403
    with pytest.raises(ConfigurationError, match=r"unknown verbs: worry; .*\bhurry\b"):
        Token(SECRET, ["worry"])


# -- the admin -------------------------------------------------------------------------------------


def heard(durable: Any, instance_id: str) -> Iterator[Any]:
    for event in durable.get(instance_id).history():
        if event.kind is EventKind.EVENT_RAISED and event.name == "hurry":
            yield durable.runtime.codec.decode(event.payload)


def test_it_is_an_action_of_the_admin(site: Site) -> None:  # noqa: F811
    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1")
    buttons = [each["value"] for each in site.page("order-1").find("button", name="verb")]
    assert "hurry" in buttons
    page = site.apply("hurry", "order-1", code=200, reason="late")
    assert page.find("input", name="note") and page.find("input", name="factor")
    assert not list(heard(site.durable, "order-1"))
    page = site.apply("hurry", "order-1", reason="late", note="now", factor="5")
    assert "1 orchestration was hurried." in page.text
    assert list(heard(site.durable, "order-1")) == [
        {"note": "now", "factor": 5, "reason": "late (user0)"}
    ]


# -- Flower ----------------------------------------------------------------------------------------


class TestFlower(FlowerTab):
    def test_it_is_a_button(self) -> None:
        self.order.apply_async((1,), task_id="order-1")
        page = unescape(self.page_of("order-1"))
        assert 'name="verb" value="hurry"' in page
        assert "They are told to be faster." in page
        assert 'name="note" required' in page
        assert self.act("order-1", "hurry").code == 400
        assert self.act("order-1", "hurry", note="now", factor="some").code == 400
        assert self.act("order-1", "hurry", note="now", factor="6").code == 303
        assert list(heard(self.durable, "order-1")) == [
            {"note": "now", "factor": 6, "reason": "because (by ann, in Flower)"}
        ]
