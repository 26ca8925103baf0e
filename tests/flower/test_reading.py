"""What the tab reads, without a Flower around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("flower")
from celery_durable.contrib.flower import reading_instance as reading


def test_arguments_of_calls_that_their_caller_hides(new_app: Callable[..., Any]) -> None:
    app = new_app(task_always_eager=True)

    @app.task(name="charge")
    def charge(card: str, secret: str = "") -> str:
        return "charged"

    @app.durable.orchestrator(name="part")
    async def part(ctx: Any, card: str) -> str:
        return "done"

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(
            charge.s("4111", secret="hunter2").set(argsrepr="('****',)", kwargsrepr="{}")
        )
        await ctx.call(part.s("4222").set(argsrepr="('++++',)"))
        await ctx.call(charge.s("open"))

    app.durable._watch_tasks()
    app.durable.start(order.s(), instance_id="o").get(timeout=300)
    shown = str(reading.read_instance(app.durable, "o"))
    assert not any(secret in shown for secret in ("4111", "hunter2", "4222"))
    assert all(text in shown for text in ("('****',)", "('++++',)", "open"))
