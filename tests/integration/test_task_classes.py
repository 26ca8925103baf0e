"""The application's own task class is that of orchestrators too, however they are declared, and is
around each of their turns.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, _state
from celery.contrib.testing.worker import start_worker

from celery_durable import Durable, entity, orchestrator

CONTEXT: contextvars.ContextVar[str | None] = contextvars.ContextVar("context", default=None)


class Tenants(Task):  # type: ignore[misc]
    """As tenant libraries have it."""

    abstract = True
    tenant_cache_seconds = 3600


class Around(Tenants):
    """As in Flask's manual."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = CONTEXT.set(self.request.id or "directly")
        try:
            return self.run(*args, **kwargs)
        finally:
            CONTEXT.reset(token)


class Above(Around):
    """The same, by ``super()``."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = CONTEXT.set(self.request.id or "directly")
        try:
            return Task.__call__(self, *args, **kwargs)
        finally:
            CONTEXT.reset(token)


@pytest.fixture
def new_app_of(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    made: list[Celery] = []
    shared = set(_state._on_app_finalizers)

    def make(task_cls: type, **conf: Any) -> Any:
        app = Celery("classes", broker="memory://", set_as_current=False, task_cls=task_cls)
        app.conf.update(
            durable_backend_url=f"sqlite:///{tmp_path}/{len(made)}.db",
            task_default_queue=f"classes-{len(made)}",
            **conf,
        )
        Durable(app).migrate()
        made.append(app)
        return app

    yield make
    for app in made:
        app.durable._runtime.store.database.dispose()
        app.close()
    _state._on_app_finalizers.intersection_update(shared)


def test_every_form_of_declaration_takes_the_task_class_of_the_application(
    new_app_of: Callable[..., Any],
) -> None:
    @orchestrator(name="classes.early")
    async def early(ctx: Any) -> int:
        return 1

    other = new_app_of(Task)
    first, second = new_app_of(Tenants, task_always_eager=True), new_app_of(Task)

    @first.durable.orchestrator(name="classes.own", shared=False)
    async def own(ctx: Any) -> None: ...

    @orchestrator(name="classes.late")
    async def late(ctx: Any) -> int:
        return 2

    class Plain(Task):  # type: ignore[misc]
        abstract = True

    @orchestrator(name="classes.based", base=Plain)
    async def based(ctx: Any) -> None: ...

    @entity(name="classes.counter")
    class Counter:
        value: int = 0

    names = (
        "classes.early",
        "classes.own",
        "classes.late",
        "classes.based",
        "celery_durable.entity.classes.counter",
        "celery_durable.canvas",
    )
    found = {name: getattr(first.tasks[name], "tenant_cache_seconds", None) for name in names}
    assert found == {name: None if name == "classes.based" else 3600 for name in names}
    for app in (other, second):
        assert not any(
            hasattr(app.tasks[name], "tenant_cache_seconds")
            for name in ("classes.early", "celery_durable.canvas")
        )
    assert isinstance(first.tasks["classes.based"], Plain)
    assert [first.tasks[name].delay().get() for name in ("classes.early", "classes.late")] == [1, 2]


@pytest.mark.parametrize("cls", [Around, Above])
@pytest.mark.parametrize("is_eager", [True, False], ids=["eager", "worker"])
def test_a_call_of_the_task_class_is_around_every_turn(
    new_app_of: Callable[..., Any], cls: type, is_eager: bool
) -> None:
    app = new_app_of(cls, task_always_eager=is_eager, durable_start_inline=True)

    @app.task(name="classes.seen", shared=False)
    def seen() -> str | None:
        return CONTEXT.get()

    @app.durable.orchestrator(name="classes.child", shared=False)
    async def child(ctx: Any) -> Any:
        return await ctx.run(CONTEXT.get)

    @app.durable.orchestrator(name="classes.flow", shared=False)
    async def flow(ctx: Any) -> list[Any]:
        found = [await ctx.run(CONTEXT.get)]
        activity = await ctx.call(seen.s())
        found.append(await ctx.run(CONTEXT.get))
        await ctx.sleep(0.01)
        found.append(await ctx.run(CONTEXT.get))
        return [*found, await ctx.call(child.s().set(task_id="below")), activity.startswith("d-")]

    def run() -> Any:
        return app.durable.start(flow.s(), instance_id="it").wait(timeout=300)

    if is_eager:
        output = run()
    else:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
            output = run()
    assert output == ["it"] * 3 + ["below", True]
    assert CONTEXT.get() is None


def test_a_direct_call_is_within_it_too(new_app_of: Callable[..., Any]) -> None:
    app = new_app_of(Around)

    @app.durable.orchestrator(name="classes.plain", shared=False)
    def plain(ctx: Any, n: int) -> Any:
        return ctx, n, CONTEXT.get()

    app.finalize()
    assert app.tasks["classes.plain"]("a context", 7) == ("a context", 7, "directly")
