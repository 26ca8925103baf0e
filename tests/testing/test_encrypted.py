"""A codec and a payload store under the test kit: a worker may die anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, RetryPolicy
from celery_durable.payload_store import PayloadStore
from celery_durable.testing import DurableEnv, durable_environment
from tests.contract.encoded_world import Scrambled

LARGE = "x" * 3_000


@pytest.fixture
def durable(tmp_path: Path) -> Durable:
    app = Celery(tmp_path.name, broker="memory://", set_as_current=False)
    app.conf.durable_codec = Scrambled()
    app.conf.durable_payload_store = PayloadStore(str(tmp_path / "large"), above=1_000)
    durable = Durable(app)

    @app.task(name="sealed.echo", shared=False)
    def echo(value: str) -> str:
        return value

    @app.task(name="sealed.fails", shared=False)
    def fails(value: str) -> None:
        raise ValueError(value)

    @durable.orchestrator(name="sealed.child", shared=False)
    async def child(ctx: Any, value: str) -> str:
        return str(await ctx.call(echo.s(value)))

    @durable.orchestrator(name="sealed.all", shared=False)
    async def everything(ctx: Any, value: str) -> Any:
        ctx.set_status(value)
        found = [await ctx.call(echo.s(value)), await ctx.call(child.s(value))]
        try:
            await ctx.call(fails.s("bad"), retry=RetryPolicy(max_attempts=2, first_interval=1))
        except ValueError as error:
            found.append(str(error))
        found.append(await ctx.wait_event("go"))
        return [len(each) for each in found]

    return durable


@pytest.fixture
def env(durable: Durable) -> Iterator[DurableEnv]:
    with durable_environment(durable) as env:
        yield env


@pytest.mark.full
def test_a_worker_may_die_anywhere(env: DurableEnv) -> None:
    everything = env.durable.app.tasks["sealed.all"]

    def scenario(env: DurableEnv) -> Any:
        run = env.start(everything.s(LARGE), instance_id="a")
        env.event("a", "go", LARGE)
        env.advance(seconds=5)
        return run.get(timeout=5)

    assert env.crash_everywhere(scenario) > 20
