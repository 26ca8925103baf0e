"""Putting stand-ins in the place of tasks and orchestrators, and taking them away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import Celery

from ..core.context import OrchestrationContext
from ..engine.registry import Registry
from ..worker.activity import wrap_tasks
from .calls import Calls, StandIn

__all__ = ["name_of", "put"]


def name_of(task: Any) -> str:
    """Return the name of a task, an orchestrator, or a signature of one.

    Raises:
        TypeError: it is none of these, and no text.
    """
    found = task if isinstance(task, str) else getattr(task, "name", None)
    if found is None and isinstance(task, dict):
        found = task.get("task")
    if not isinstance(found, str) or not found:
        raise TypeError(f"a task, an orchestrator or a name is needed, not {task!r}")
    return found


def put(
    app: Celery, registry: Registry, stand_in: StandIn, calls: Callable[[], Calls]
) -> Callable[[], None]:
    """Let a stand-in answer in the place of its task, and return what undoes that."""
    if stand_in.task in registry:
        return _put_orchestrator(registry, stand_in, calls)

    def run(*args: Any, **kwargs: Any) -> Any:
        return stand_in.answer(calls().ticket or object(), args, kwargs)

    known = app.tasks.get(stand_in.task)
    if known is None:
        app.task(name=stand_in.task, shared=False, lazy=False)(run)
        wrap_tasks(app)
        return lambda: app.tasks.pop(stand_in.task, None) and None
    before = known.__dict__.get("run")
    known.run = run

    def undo() -> None:
        if before is None:
            del known.run
        else:
            known.run = before

    return undo


def _put_orchestrator(
    registry: Registry, stand_in: StandIn, calls: Callable[[], Calls]
) -> Callable[[], None]:
    name = stand_in.task

    async def run(ctx: OrchestrationContext, *args: Any, **kwargs: Any) -> Any:
        key = (ctx.instance_id, ctx.execution_id)

        def answer() -> Any:
            calls().note(name, args, kwargs, ctx.parent_id or ctx.instance_id, 1)
            return stand_in.answer(key, args, kwargs)

        return await ctx.run(answer)

    before = [registry.get(name, version) for version in registry.versions(name)]
    kept = [definition for definition in before if definition is not None]
    for definition in kept:
        registry.add(replace(definition, function=run))

    def undo() -> None:
        for definition in kept:
            registry.add(definition)

    return undo
