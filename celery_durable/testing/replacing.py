"""Putting stand-ins in the place of tasks and orchestrators, and taking them away again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from celery import Celery

from ..core.context import OrchestrationContext
from ..core.misspelt import which_is_meant
from ..engine.registry import Registry
from ..worker.activity import wrap_tasks
from .calls import Calls, StandIn

__all__ = ["Replacement", "StandIns", "name_of"]


def name_of(task: Any, app: Celery) -> str:
    """Return the name of a task, an orchestrator, or a signature of one.

    Raises:
        TypeError: it is none of these, and no text.
        ValueError: it is a text that names none of the app's tasks, but the end of one's name.
    """
    found = task if isinstance(task, str) else getattr(task, "name", None)
    if found is None and isinstance(task, dict):
        found = task.get("task")
    if not isinstance(found, str) or not found:
        raise TypeError(f"a task, an orchestrator or a name is needed, not {task!r}")
    if found not in app.tasks and (
        question := which_is_meant(found, sorted(app.tasks), likeness=1)
    ):
        raise ValueError(f"no task is called {found!r}. {question}")
    return found


class StandIns:
    """The stand-ins of one test: of several for one name the newest answers, and when the last of
    them has ended, the task itself does.

    Args:
        calls: gives where calls are noted.
    """

    def __init__(self, calls: Callable[[], Calls]) -> None:
        self._calls = calls
        self._of: dict[str, list[StandIn]] = {}
        self._undo: dict[str, Callable[[], object]] = {}

    def put(self, app: Celery, registry: Registry, stand_in: StandIn) -> Callable[[], None]:
        """Let a stand-in answer in the place of its task, and return what ends that."""
        name = stand_in.task
        standing = self._of.setdefault(name, [])
        standing.append(stand_in)
        if len(standing) == 1:
            is_code = name in registry
            self._undo[name] = (
                self._put_orchestrator(registry, name) if is_code else self._put_task(app, name)
            )

        def end() -> None:
            standing.remove(stand_in)
            if not standing:
                self._undo.pop(name)()

        return end

    def _put_task(self, app: Celery, name: str) -> Callable[[], object]:
        def run(*args: Any, **kwargs: Any) -> Any:
            calls = self._calls()
            # one that the body of another activity calls is a call of its own
            is_attempt = calls.ticket is not None and calls.task == name
            key = (calls.ticket, app.tasks[name].request.retries) if is_attempt else object()
            return self._of[name][-1].answer(key, args, kwargs)

        known = app.tasks.get(name)
        if known is None:
            app.task(name=name, shared=False, lazy=False)(run)
            wrap_tasks(app)
            return lambda: app.tasks.pop(name, None)
        # with ``autoretry_for``, ``run`` is Celery's and calls the other
        place = "_orig_run" if hasattr(known, "_orig_run") else "run"
        before = known.__dict__.get(place)
        run.__signature__ = inspect.signature(known.run)  # type: ignore[attr-defined]
        setattr(known, place, run)
        return (
            (lambda: delattr(known, place))
            if before is None
            else lambda: setattr(known, place, before)
        )

    def _put_orchestrator(self, registry: Registry, name: str) -> Callable[[], object]:
        async def run(ctx: OrchestrationContext, *args: Any, **kwargs: Any) -> Any:
            key = (ctx.instance_id, ctx.execution_id)

            def answer() -> Any:
                calls = self._calls()
                calls.stood_in.add(ctx.instance_id)
                calls.note(name, args, kwargs, ctx.parent_id or ctx.instance_id, 1)
                return self._of[name][-1].answer(key, args, kwargs)

            return await ctx.run(answer)

        before = [registry.get(name, version) for version in registry.versions(name)]
        kept = [definition for definition in before if definition is not None]
        for definition in kept:
            registry.add(replace(definition, function=run))

        def undo() -> None:
            for definition in kept:
                registry.add(definition)

        return undo


class Replacement:
    """A stand-in for a task: for the rest of the test, or for a ``with`` block."""

    def __init__(self, stand_in: StandIn, undo: Callable[[], None]) -> None:
        self.stand_in = stand_in
        self._undo: Callable[[], None] | None = undo

    def end(self) -> None:
        """Let the task itself run again."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
