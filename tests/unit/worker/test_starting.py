"""Starts by signatures: what cannot be sent is refused before anything is written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu.serialization import dumps, loads, register, registry, unregister

from celery_durable import ConfigurationError
from tests.conftest import wait_until
from tests.witnesses import recovery_of

UNKNOWN = "jsno"


@pytest.fixture
def later() -> Iterator[tuple[str, Callable[[], None]]]:
    """The name of a serializer, and what registers it."""
    name = f"later{uuid.uuid4().hex[:8]}"

    def now() -> None:
        register(
            name,
            lambda value: dumps(value, serializer="json")[2],
            lambda text: loads(text, "application/json", "utf-8"),
            f"application/x-{name}",
            "utf-8",
        )

    yield name, now
    if name in registry.name_to_type:
        unregister(name)


def declared(app: Any, **options: Any) -> tuple[Any, Any]:
    @app.task(name="starting.task", **options)
    def task() -> int:
        return 1

    @app.durable.orchestrator(name="starting.flow", **options)
    async def flow(ctx: Any, **chosen: Any) -> int:
        return await ctx.call(task.s().set(**chosen))

    return task, flow


@pytest.mark.parametrize("kind", [0, 1], ids=["task", "orchestrator"])
@pytest.mark.parametrize("where", ["declared", "option", "setting"])
def test_a_start_by_a_serializer_that_there_is_not_writes_nothing(
    new_app: Callable[..., Any], kind: int, where: str
) -> None:
    app = new_app(**({"task_serializer": UNKNOWN} if where == "setting" else {}))
    started = declared(app, **({"serializer": UNKNOWN} if where == "declared" else {}))[kind]
    signature = started.s()
    if where == "option":
        signature = signature.set(serializer=UNKNOWN)
    for call in (
        lambda: app.durable.start(signature),
        lambda: app.durable.start_many([signature]),
        lambda: app.durable.schedule("nightly", signature, interval=60),
    ):
        with pytest.raises(ConfigurationError, match=f"nothing was written.*{UNKNOWN}.*Is 'json'"):
            call()
    assert app.durable.count() == 0
    assert app.durable.schedules() == []


def test_an_activity_waits_for_its_serializer(
    new_app: Callable[..., Any], later: tuple[str, Callable[[], None]]
) -> None:
    app = new_app(durable_start_inline=True, task_default_queue=later[0])
    _, flow = declared(app)
    name, register_it = later
    run = app.durable.start(flow.s(serializer=name))
    assert f"No encoder installed for {name}. It is tried again" in str(run.explain())
    assert run.refresh().runtime_status == "RUNNING"
    register_it()
    runtime = app.durable.runtime
    recovery = recovery_of(runtime)

    def is_sent() -> bool:
        recovery.tick(list, lambda tickets: None)
        with app.connection_for_read() as connection:
            return connection.SimpleQueue(app.conf.task_default_queue).qsize() > 0

    wait_until(is_sent)
