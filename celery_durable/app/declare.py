"""What one app declares, and checks of it: orchestrators with their versions, and entities."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, Task
from celery._state import _get_active_apps
from celery.app import base as celery_base

from ..core.entity import Declaration, declare, orchestrator_of, run_by
from ..core.flags import is_whole, problem_of_flag
from ..core.limits import read_retention
from ..core.options import (
    NEEDLESS_FOR_ORCHESTRATORS,
    REFUSED_BY_ORCHESTRATORS,
    refuse,
    refuse_misspelt,
)
from ..core.retry import run_timeout
from ..engine.admission_policy import declared_policy
from ..engine.query_declaration import QueryDeclaration
from ..engine.registry import Definition, Registry, refuse_another
from ..errors import ConfigurationError
from ..worker.activity import wrap_tasks
from ..worker.durable_tasks import make_durable
from ..worker.orchestrator import OrchestratorTask
from ..worker.request import hold_messages

__all__ = [
    "Declarations",
    "Declared",
    "declared_entity",
    "offer_queries",
    "orchestrator_base",
    "task_options",
    "watch_active_apps",
]

_OWN_OPTIONS = (
    "version",
    "max_activities",
    "limit",
    "debounce",
    "retention",
    "timeout",
    "upgrade",
    "queries",
)
#: What a declaration may name, beside what Celery's tasks have as attributes.
_NAMES = tuple({*_OWN_OPTIONS, "name", "queue", "priority"} - {"queries"})


class Declarations:
    """The orchestrators and entities of one app."""

    def __init__(self) -> None:
        #: What the engine knows of them.
        self.registry: Registry = Registry()
        self._declared: dict[str, Declared] = {}
        self._entities: dict[str, Declaration] = {}

    def orchestrator(
        self, app: Celery, function: Callable[..., Any], options: dict[str, Any]
    ) -> Any:
        """Declare an orchestrator, or one more version of one; return its Celery task."""
        chosen, own = task_options(function, options)
        name = chosen.get("name") or app.gen_task_name(function.__name__, function.__module__)
        if not isinstance(name, str):
            raise ConfigurationError(f"the name of an orchestrator is a text, not {name!r}")
        definition = Definition(name, function=function, **own)
        _refuse_plain_task(app, name)
        self.registry.declare(definition)
        declared = self._declared.get(name)
        if declared is None:
            declared = self._declared[name] = _new_task(app, function, chosen)
        declared.add_version(name, own["version"], chosen)
        declared.put(function, own)
        if celery_base.USING_EXECV:
            watch_active_apps()
        return declared.task

    def entity(
        self, cls: Any, name: str | None, options: dict[str, Any]
    ) -> tuple[str, Callable[..., Any]] | None:
        """Declare a class whose objects are entities.

        Return the name and the function of the orchestrator that is to be declared for it; None if
        there is one already, which has another function now.

        Raises:
            TypeError: that very class is declared, and nothing else is given: one of them is meant.
        """
        is_bare = name is None and not options
        if is_bare and any(known.cls is cls for known in self._entities.values()):
            raise TypeError(
                f"durable.entity({cls.__name__}) is declared already: one of them is"
                f' durable.entity({cls.__name__}, "key")'
            )
        declaration = declared_entity(self._entities, cls, name, options)
        orchestrator_name = orchestrator_of(declaration.name)
        if orchestrator_name in self._declared:
            self.registry.add(Definition(orchestrator_name, None, run_by(declaration)))
            return None
        return orchestrator_name, run_by(declaration)

    def watch(self, app: Celery) -> None:
        """Let the tasks that an app has now run on the engine; safe to call again."""
        wrap_tasks(app)
        make_durable(app)
        hold_messages(app)
        for task in list(app._tasks.values()):
            if isinstance(task, OrchestratorTask) and task.name not in self._declared:
                for function, own in task.durable_versions:
                    self.registry.add(Definition(task.name, function=function, **own))


def watch_active_apps() -> None:
    """Let each app of this process that is in use find orchestrators that it shares with others."""
    for app in _get_active_apps():
        declarations = getattr(getattr(app, "durable", None), "declarations", None)
        if app.finalized and isinstance(declarations, Declarations):
            declarations.watch(app)


def _new_task(app: Celery, function: Callable[..., Any], chosen: dict[str, Any]) -> Declared:
    base = orchestrator_base(app, chosen.pop("base", None))
    versions: list[tuple[Callable[..., Any], dict[str, Any]]] = []
    # Celery shares the tasks of a spawned process among the app that the module makes and the one
    # that its parent sent
    shared = {"durable_versions": versions} if celery_base.USING_EXECV else {}
    task = app.task(base=base, **shared, **chosen)(function)
    return Declared(task, {**chosen, "durable_versions": versions})


@dataclass
class Declared:
    """One orchestrator's Celery task, and the versions that share it."""

    #: The task, or a proxy that finds it in the current app.
    task: Any
    #: Its options, and under ``durable_versions`` the functions with the options of their own.
    options: dict[str, Any]
    versions: set[str | None] = field(default_factory=set)

    def add_version(self, name: str, version: str | None, options: Mapping[str, Any]) -> None:
        """Note one more version.

        Raises:
            ConfigurationError: it has other task options than the first one.
        """
        given = {key: value for key, value in options.items() if key not in ("name", "base")}
        if other := [key for key, value in given.items() if self.options.get(key) != value]:
            raise ConfigurationError(
                f"orchestrator {name}: version {version!r} is the same Celery task as the one"
                f" declared before, with other {', '.join(sorted(other))}. Give task options to the"
                " first version only, and restart to change them"
            )
        self.versions.add(version)

    def put(self, function: Callable[..., Any], own: Mapping[str, Any]) -> None:
        """Keep the function of a version, for other apps that get the task."""
        kept = self.options["durable_versions"]
        kept[:] = [
            *(each for each in kept if each[1]["version"] != own["version"]),
            (function, own),
        ]
        offer_queries(self.task, function, own["queries"])


def offer_queries(task: Any, function: Any, queries: dict[str, Callable[..., Any]]) -> None:
    """Give a task, or a proxy that has not made one yet, ``.query`` for its newest version.

    That makes no task, and so reads no settings, while the module is imported.
    """
    name = getattr(function, "__name__", type(function).__name__)
    object.__setattr__(task, "query", QueryDeclaration(name, queries))


def _refuse_plain_task(app: Celery, name: str) -> None:
    task = app._tasks.get(name)
    if task is not None and not isinstance(task, OrchestratorTask):
        raise ConfigurationError(
            f"{name!r} is a plain task already: give the orchestrator another name="
        )


def orchestrator_base(app: Celery, base: type | None) -> type:
    """Return the class that an orchestrator's task is made of: of ``base=``, or else of the app's
    own task class.
    """
    if base is not None and issubclass(base, OrchestratorTask):
        return base
    bases = (OrchestratorTask, app.Task if base is None else base)
    return type(
        "OrchestratorTask", bases, {"abstract": True, **({"app": app} if base is None else {})}
    )


def task_options(
    function: Callable[..., Any], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the options of a declaration; return those of the Celery task, and our own."""
    passed = {*_OWN_OPTIONS, *NEEDLESS_FOR_ORCHESTRATORS}
    chosen = {key: value for key, value in options.items() if key not in passed}
    refuse(
        chosen,
        REFUSED_BY_ORCHESTRATORS,
        f"orchestrator {chosen.get('name') or function.__name__}",
        ConfigurationError,
    )
    _refuse_misspelt(chosen, f"orchestrator {chosen.get('name') or function.__name__}")
    version = options.get("version")
    if version is not None and (not isinstance(version, str) or not version):
        raise ConfigurationError(f"version must be a string that is not empty, not {version!r}")
    limit = options.get("max_activities")
    if limit is not None and (not is_whole(limit) or limit < 1):
        raise ConfigurationError(f"max_activities must be a number of at least 1, not {limit!r}")
    upgrade = options.get("upgrade", False)
    if (problem := problem_of_flag("upgrade", upgrade)) is not None:
        raise ConfigurationError(problem)
    return chosen, {
        "version": version,
        "max_activities": limit,
        "flow": declared_policy(function, options),
        "timeout": run_timeout(options.get("timeout")),
        "upgrade": upgrade,
        "retention": read_retention(options["retention"]) if "retention" in options else None,
        "queries": options.get("queries", {}),
    }


def _refuse_misspelt(options: Mapping[str, Any], what: str) -> None:
    unknown = [name for name in options if not hasattr(Task, name)]
    refuse_misspelt(unknown, _NAMES, what, ConfigurationError, likeness=0.74)


def declared_entity(
    known: dict[str, Declaration], cls: Any, name: str | None, options: Mapping[str, Any]
) -> Declaration:
    """Check a class and note it among those that are known.

    Raises:
        ConfigurationError: it cannot be an entity's, or another one has that name.
    """
    if odd := sorted(
        {"version", "max_activities", "bind", "timeout", "upgrade"}.intersection(options)
    ):
        raise ConfigurationError(f"an entity takes no {', '.join(odd)}=")
    _refuse_misspelt(options, f"entity {name or getattr(cls, '__name__', cls)}")
    chosen = getattr(cls, "__name__", None) if name is None else name
    other = known.get(str(chosen))
    if other is not None and inspect.isclass(cls):
        refuse_another(f"entity {chosen!r}", None, other.cls, cls)
    declaration = declare(cls, name)
    known[declaration.name] = declaration
    return declaration
