"""An activity that is called with arguments which it does not take fails, as any other: it is not
sent in vain for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker


def make(new_app: Callable[..., Any], **conf: Any) -> Any:
    app = new_app(**conf)

    @app.task(name="mismatched.charge")
    def charge(order: int) -> int:
        return order

    @app.durable.orchestrator(name="mismatched.sale")
    async def sale(ctx: Any) -> str:
        try:
            return await ctx.call(charge.s(1, more=2))
        except TypeError as error:
            return str(error)

    return app


@pytest.mark.parametrize("routes", [None, {"mismatched.charge": {"queue": "celery"}}])
def test_by_message(new_app: Callable[..., Any], routes: Any) -> None:
    app = make(new_app, task_routes=routes)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        run = app.tasks["mismatched.sale"].apply_async()
        assert "unexpected keyword argument 'more'" in run.wait(timeout=300)


def test_eagerly(new_app: Callable[..., Any]) -> None:
    app = make(new_app, task_always_eager=True, task_ignore_result=True)
    run = app.tasks["mismatched.sale"].apply_async()
    assert "unexpected keyword argument 'more'" in run.wait(timeout=300)
