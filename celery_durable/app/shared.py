"""Orchestrators and entities of whatever app is current, as ``celery.shared_task`` makes tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from celery._state import _get_active_apps, connect_on_app_finalize, get_current_app
from celery.local import Proxy

from ..core.entity import Declaration, orchestrator_of, run_by
from ..engine.registry import refuse_another
from .declare import Declared, declared_entity, orchestrator_base, task_options, watch_active_apps

if TYPE_CHECKING:
    from celery import Celery

    from ..core.context import OrchestrationContext
    from .typed import (
        EntityOptions,
        OrchestratorDecorator,
        OrchestratorOptions,
        Plain,
        TypedOrchestrator,
    )

__all__ = ["entity", "orchestrator"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_shared: dict[str, Declared] = {}
_shared_entities: dict[str, Declaration] = {}


@overload
def entity(cls: type[T], /) -> type[T]: ...
@overload
def entity(
    cls: None = None, /, *, name: str | None = None, **options: Unpack[EntityOptions]
) -> Callable[[type[T]], type[T]]: ...
@overload
def entity(cls: type[T], /, *, name: str, **options: Unpack[EntityOptions]) -> type[T]: ...
def entity(cls: Any = None, *, name: str | None = None, **options: Any) -> Any:
    """Declare a class whose objects are entities of whatever app is current, as
    ``celery.shared_task`` does for tasks.

    See ``Durable.entity``.
    """
    if cls is None:
        return lambda each: entity(each, name=name, **options)
    declaration = declared_entity(_shared_entities, cls, name, options)
    orchestrator_name = orchestrator_of(declaration.name)
    if (shared := _shared.get(orchestrator_name)) is not None:
        _add_shared_version(
            shared, run_by(declaration), {"version": None, "max_activities": None, "queries": {}}
        )
    else:
        orchestrator(run_by(declaration), name=orchestrator_name, **options)
    return cls


@overload
def orchestrator(
    function: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, R]], /
) -> TypedOrchestrator[P, R]: ...
@overload
def orchestrator(
    function: Callable[Concatenate[OrchestrationContext, P], Generator[Any, Any, R]], /
) -> TypedOrchestrator[P, R]: ...
@overload
def orchestrator(
    function: None = None, /, **options: Unpack[OrchestratorOptions]
) -> OrchestratorDecorator: ...
@overload
def orchestrator(
    function: Callable[Concatenate[OrchestrationContext, P], Plain], /
) -> TypedOrchestrator[P, Plain]: ...
@overload
def orchestrator(
    function: Callable[..., Any], /, **options: Unpack[OrchestratorOptions]
) -> TypedOrchestrator[..., Any]: ...
def orchestrator(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function an orchestrator of whatever app is current, as ``celery.shared_task`` does
    for tasks.
    """
    if function is None:
        return lambda fn: orchestrator(fn, **options)
    chosen, own = task_options(function, options)
    name = chosen.get("name") or f"{function.__module__}.{function.__name__}"
    shared = _shared.get(name)
    for known, its in shared.options["durable_versions"] if shared is not None else ():
        if its["version"] == own["version"]:
            refuse_another(f"orchestrator {name!r}", own["version"], known, function)
    if shared is None:
        versions: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        task = _share(function, {**chosen, "durable_versions": versions})
        shared = _shared[name] = Declared(task, {**chosen, "durable_versions": versions})
    shared.add_version(name, own["version"], chosen)
    _add_shared_version(shared, function, own)
    return shared.task


def _share(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Do what ``celery.shared_task`` does, but with the task class of each app."""

    def make(app: Celery) -> None:
        app._task_from_fun(
            function, **{**options, "base": orchestrator_base(app, options.get("base"))}
        )

    connect_on_app_finalize(make)
    for app in _get_active_apps():
        if app.finalized:
            with app._finalize_mutex:
                make(app)

    def find() -> Any:
        app = get_current_app()
        return app.tasks[
            options.get("name") or app.gen_task_name(function.__name__, function.__module__)
        ]

    return Proxy(find)


def _add_shared_version(
    shared: Declared, function: Callable[..., Any], own: Mapping[str, Any]
) -> None:
    """Give a shared orchestrator a version, or another function for one, also where its task is
    registered already.
    """
    shared.put(function, own)
    watch_active_apps()
