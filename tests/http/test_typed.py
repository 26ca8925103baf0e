"""Typed values over HTTP, on the command line, and from a process that does not have the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from click.testing import CliRunner
from pydantic import BaseModel

from celery_durable import PayloadError, RuntimeStatus
from celery_durable.cli import durable as group
from celery_durable.http import application
from tests.conftest import wait_until

from .client import Client
from .conftest import ALL, TOKENS


class Item(BaseModel):
    sku: str
    price: Decimal


class Receipt(BaseModel):
    item: Item


TEA = {"sku": "tea", "price": "9.90"}
BAD = {"sku": "tea", "price": "dear"}
COMPLAINT = "argument 'item' does not fit: price: "


def make(new_app: Callable[..., Any], **conf: Any) -> Any:
    app = new_app(**conf)

    @app.task(name="doors.models", pydantic=True, durable=True)
    def models(item: Item) -> Receipt:
        assert isinstance(item, Item)
        return Receipt(item=item)

    @app.durable.orchestrator(name="doors.sell")
    async def sell(ctx: Any, item: Item) -> Receipt:
        assert isinstance(item, Item)
        if item.sku == "slow":
            request = await ctx.wait_request("replace", type=Item)
            request.reply(Receipt(item=request.data))
        return await ctx.call(models.s(item), type=Receipt)

    return app


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    return make(new_app, task_always_eager=True, task_ignore_result=True)


def test_over_http(app: Any) -> None:
    client = Client(application(app.durable, TOKENS, prefix="/durable"), ALL)
    answer = client.post("/durable/orchestrators/doors.sell", BAD)
    assert answer.status == 400 and COMPLAINT in answer.json["message"]
    assert app.durable.count() == 0
    answer = client.post("/durable/orchestrators/doors.sell?timeout=30&pollingInterval=0.1", TEA)
    assert (answer.status, answer.json) == (200, {"item": TEA})
    app.durable.start(app.signature("doors.sell", args=(TEA | {"sku": "slow"},)), instance_id="s")
    answer = client.post("/durable/instances/s/requests/replace", BAD)
    assert answer.status >= 400 and "the request 'replace' does not fit: price: " in answer.text
    assert app.durable.get("s").refresh().runtime_status is RuntimeStatus.FAILED


@pytest.mark.parametrize("name", ["doors.sell", "doors.models"])
def test_on_the_command_line(app: Any, name: str) -> None:
    def run(*args: str) -> Any:
        return CliRunner().invoke(group, list(args), obj=SimpleNamespace(app=app))

    refused = run("start", name, "--input", json.dumps(BAD), "--id", "a")
    assert refused.exit_code not in (0, 1) and COMPLAINT in refused.output, refused.output
    assert app.durable.count() == 0
    assert run("start", name, "--input", json.dumps(TEA), "--id", "a").exit_code == 0
    assert json.loads(run("result", "a").stdout) == {"item": TEA}


@pytest.mark.parametrize("name", ["doors.sell"])
def test_without_the_code_a_worker_suspends_what_does_not_fit(
    new_app: Callable[..., Any], name: str
) -> None:
    app, client = make(new_app), new_app()
    bad = client.durable.start(client.signature(name, args=(BAD,)), instance_id="bad")
    good = client.durable.start(client.signature(name, args=(TEA,)), instance_id="good")
    with pytest.raises(PayloadError):
        app.durable.start(app.signature(name, args=(BAD,)))
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        assert good.wait(timeout=300) == {"item": TEA}
        wait_until(
            lambda: bad.refresh().runtime_status is RuntimeStatus.SUSPENDED, 60, "suspension"
        )
    assert COMPLAINT in bad.reason
    assert app.durable.get("good").output == Receipt(item=Item(**TEA))
