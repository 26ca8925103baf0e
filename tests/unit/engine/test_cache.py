"""Live executions are dropped in good order, never by the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest


def test_an_engine_that_is_put_away_drops_its_executions(
    new_app: Callable[..., Any], sqlite_url: str, recwarn: pytest.WarningsRecorder
) -> None:
    app = new_app(task_always_eager=True)
    ended: list[str] = []

    @app.durable.orchestrator(name="waiting")
    async def waiting(ctx: Any) -> Any:
        try:
            return await ctx.wait_event("go")
        except BaseException as error:
            ended.append(type(error).__name__)
            await ctx.call(app.signature("elsewhere"))
            raise

    with app.durable.running_on(app.durable.runtime.store) as runtime:
        app.durable.start(waiting.s(), instance_id="i")
        runtime.runner.run("i")
        assert len(runtime.live._live) == 1
    assert not runtime.live._live
    assert len(ended) == 1
    del runtime
    gc.collect()
    assert len(ended) == 1
