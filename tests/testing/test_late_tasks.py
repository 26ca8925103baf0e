"""Tasks that are declared when everything runs already: in a test's own function, in a module that
is imported late, at a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, durable_context
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.worker.request import DurableRequestMixin


@pytest.fixture
def env(tmp_path: Path) -> Iterator[DurableEnv]:
    app = Celery(tmp_path.name, broker="memory://", set_as_current=False)
    app.conf.durable_backend_url = f"sqlite:///{tmp_path / 'store.db'}"
    durable = Durable(app)
    app.finalize()
    with durable_environment(durable) as env:
        yield env


def test_it_is_an_activity_as_any_other(env: DurableEnv) -> None:
    app = env.durable.app

    @app.task(name="late.plain", shared=False)
    def plain(value: str) -> Any:
        context = durable_context()
        return [value, context and context.instance_id]

    @app.task(name="late.replaced", bind=True, shared=False)
    def replaced(task: Any, value: str) -> Any:
        raise task.replace(plain.s(value))

    @app.task(name="late.durable", durable=True, shared=False)
    def durably(value: str) -> Any:
        context = durable_context()
        return [value, context and context.instance_id]

    for task in (plain, replaced, durably):
        assert env.run(task.s("a"), instance_id=task.name) == ["a", task.name]
        assert issubclass(type(task).Request, DurableRequestMixin)
    run = durably.delay("b")
    env.run_until_idle()
    assert run.get(timeout=5) == ["b", run.id]


@pytest.mark.parametrize("is_async", [False, True])
def test_its_retries_wait_by_the_clock(env: DurableEnv, is_async: bool) -> None:
    tries: list[Any] = []

    def body(task: Any) -> str:
        tries.append(env.now)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    async def abody(task: Any) -> str:
        return body(task)

    options = {"autoretry_for": (ValueError,), "default_retry_delay": 60, "max_retries": 5}
    task = env.durable.app.task(name="late.again", bind=True, shared=False, **options)(
        abody if is_async else body
    )
    assert env.run(task.s()) == "done"
    assert len(tries) == 3
    assert tries[2] - tries[0] >= timedelta(seconds=120)
