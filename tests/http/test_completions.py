"""Ends of activities by their tokens: the token in the path is the permission."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from celery_durable import ActivityError, RuntimeStatus, durable_context
from celery_durable.http import application
from tests.conftest import wait_until

from .client import Client
from .conftest import TOKENS, Shop

URL = "/durable/completions"


@pytest.fixture
def tokens(shop: Shop) -> list[str]:
    """The tokens that were given out, by an application that runs all at once."""
    given: list[str] = []

    @shop.app.task(name="http.encode")
    def encode() -> None:
        given.append(durable_context().defer())

    @shop.durable.orchestrator(name="http.film")
    async def film(ctx: Any) -> Any:
        return await ctx.call(encode.s())

    shop.start(id_="a", name="http.film")
    shop.start(id_="b", name="http.film")
    wait_until(lambda: len(given) == 2, 30, "tokens")
    return given


@pytest.fixture(params=[True, False], ids=["raw path", "decoded path"])
def callers(request: pytest.FixtureRequest, shop: Shop) -> list[Client]:
    """Clients that have no permission, also where none can have one."""
    apps = [application(shop.durable, hook, prefix="/durable") for hook in (None, TOKENS)]
    return [
        Client(app, secret, tells_raw_path=request.param)
        for app in apps
        for secret in (None, "wrong-wrong-wrong-wrong")
    ]


def test_the_body_is_the_result_and_counts_once(
    shop: Shop, tokens: list[str], callers: list[Client]
) -> None:
    a, b = (shop.durable.get(id_) for id_ in "ab")
    assert a.runtime_status is RuntimeStatus.RUNNING
    assert callers[0].post(f"{URL}/{tokens[0]}", {"size": 3}).status == 202
    wait_until(lambda: a.refresh().output == {"size": 3}, 30, "the end")
    for caller in callers:
        answer = caller.post(f"{URL}/{tokens[0]}", {"size": 4})
        assert answer.status == 410 and "over already" in answer.json["message"]
        assert caller.post(f"{URL}/{tokens[0]}/fail", "late").status == 410
    assert callers[1].post(f"{URL}/{tokens[1]}").status == 202
    wait_until(lambda: b.refresh().runtime_status is RuntimeStatus.COMPLETED, 30, "the end")
    assert b.output is None


@pytest.mark.parametrize("body", ["bad codec", {"error": "bad codec"}])
def test_the_body_is_the_error(
    shop: Shop, tokens: list[str], callers: list[Client], body: Any
) -> None:
    assert callers[-1].post(f"{URL}/{tokens[0]}/fail", body).status == 202
    run = shop.durable.get("a")
    wait_until(lambda: run.refresh().runtime_status.is_terminal, 30, "the end")
    with pytest.raises(ActivityError, match="^bad codec"):
        run.get(timeout=1)


def test_what_cannot_be_used_changes_nothing(
    shop: Shop, tokens: list[str], callers: list[Client], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, damaged = tokens[0], tokens[0][:-1]
    for caller in callers:
        for body in (1, [], {}, {"error": 3}, "", None):
            assert caller.post(f"{URL}/{token}/fail", body).status == 400
        for end in ("", "/fail"):
            answer = caller.post(f"{URL}/{damaged}{end}", "x")
            assert (answer.status, answer.json["field"]) == (400, "token")
        assert caller.post(f"{URL}/{token}", raw=b"{").status == 400
        assert caller.post(f"{URL}/{token}", "x" * 200_000).status == 413
        assert caller.get(f"{URL}/{token}").status == 405
        assert caller.post(f"{URL}/", 1).status == 404
        assert caller.post(f"{URL}/{token}?x=1", 1).status == 400
        assert caller.post(f"{URL}/{token}", raw=b"1", CONTENT_TYPE="text/plain").status == 400
    assert shop.durable.get("a").runtime_status is RuntimeStatus.RUNNING
    known = callers[0].post(f"{URL}/{token}", 1, REMOTE_USER="ada")
    assert known.status == 202
    assert "completions/…" in caplog.text and token not in caplog.text
