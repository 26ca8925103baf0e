"""What Celery's tasks declare about limits and pauses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery import Celery

from ..core.flags import problem_of_flag
from ..core.limits import Limit, Rate, read_limits
from ..core.options import refuse, refuse_misspelt
from ..core.pause_after import PauseAfter, read_pause_after
from ..core.permits import TaskLimit, argument_of, dump_limits, task_limit
from ..core.retry import RetryPolicy
from ..engine.switches import SwitchKind
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..engine.engine import Engine

__all__ = ["CeleryTasks", "check_limits", "declared_limits", "keep_limits", "watch_declarations"]


_CHECKED = ("durable_limit", "durable_pause_after")
#: Our options of ``@app.task``.
_OPTIONS = (
    *_CHECKED,
    "at_most_once",
    "durable_retry",
    "durable_timeout",
    "durable_attempt_timeout",
    "durable_heartbeat_timeout",
    "durable_retention",
)
_FLAGS = ("at_most_once", "durable")
#: By what they are taken for where nothing of the task could read them.
_MEANT = {
    "limit": "durable_limit=",
    "limits": "durable_limit=",
    "pause_after": "durable_pause_after=",
    "retry": "durable_retry=",
    "timeout": "durable_timeout=",
    "attempt_timeout": "durable_attempt_timeout=",
    "heartbeat_timeout": "durable_heartbeat_timeout=",
    "start_timeout": "start_timeout= of ctx.call",
    "retention": "durable_retention=",
}
_OF_OUR_KINDS: tuple[tuple[type, str], ...] = (
    (Limit, "durable_limit="),
    (Rate, "durable_limit="),
    (PauseAfter, "durable_pause_after="),
    (RetryPolicy, "durable_retry="),
)


def declared_limits(given: Any, signature: inspect.Signature, what: str) -> tuple[TaskLimit, ...]:
    """Return the limits that ``durable_limit=`` gives to a task.

    Raises:
        ConfigurationError: they cannot be used, or a key names no argument of the task.
    """
    return tuple(
        task_limit(limit, None if limit.key is None else _argument(limit.key, signature, what))
        for limit in read_limits(given, f"{what}: durable_limit")
    )


def _argument(key: Any, signature: inspect.Signature, what: str) -> Any:
    if not isinstance(key, str):
        raise ConfigurationError(
            f"{what}: durable_limit: key is the name of an argument; a function of them is for"
            " limit= of ctx.call and ctx.map"
        )
    argument = argument_of(signature, key)
    if argument is None:
        names = ", ".join(signature.parameters) or "none"
        raise ConfigurationError(
            f"{what}: durable_limit: it has no argument {key!r}; it has {names}"
        )
    return argument


def check_limits(app: Celery) -> None:
    """Check what the tasks of an app declare, in whatever way.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    tasks = CeleryTasks(app)
    tasks.all_limits()
    for name, task in list(app._tasks.items()):
        tasks.pause_after_of(name)
        of_class = vars(type(task))
        is_plain = isinstance(of_class.get("run"), staticmethod) and _is_celerys(type(task), 1)
        _check_options(
            {**of_class, **{flag: getattr(task, flag, None) for flag in _FLAGS}},
            name,
            is_plain=is_plain,
        )


def watch_declarations(app: Celery) -> None:
    """Let ``app.task(durable_limit=...)`` refuse what cannot be used where it stands, not when
    Celery makes the task.
    """
    declare = app.task
    if getattr(declare, "checks_durable_limit", False):
        return

    @functools.wraps(declare)
    def task(*args: Any, **options: Any) -> Any:
        own = getattr(args[0], "__name__", None) if args else None
        is_plain = not options.get("bind") and _is_celerys(options.get("base") or app.Task)
        _check_options(options, options.get("name") or own, is_plain=is_plain)
        made = declare(*args, **options)
        if not any(options.get(name) is not None for name in _CHECKED):
            return made
        if args:
            _check_declared(args[0], options)
            return made

        def decorated(function: Any) -> Any:
            _check_declared(function, options)
            return made(function)

        return decorated

    task.checks_durable_limit = True  # type: ignore[attr-defined]
    app.task = task


def _is_celerys(cls: type, since: int = 0) -> bool:
    """Tell whether no code of the application's own is in a class of tasks, but for its body."""
    known = ("celery", "celery_durable", "builtins")
    return all(each.__module__.partition(".")[0] in known for each in cls.__mro__[since:])


def _check_options(options: Mapping[str, Any], task: str | None, *, is_plain: bool) -> None:
    """Refuse what would do nothing.

    Args:
        options: as they were given.
        task: its name, if it is known.
        is_plain: whether neither its body nor its class can read what Celery makes of an option: an
            attribute of the task.
    """
    what = f"task {task}" if task else "a task"
    for name, value in options.items():
        meant = next((of for kind, of in _OF_OUR_KINDS if isinstance(value, kind)), None)
        if meant is None and is_plain:
            meant = _MEANT.get(name)
        if meant not in (None, f"{name}="):
            raise ConfigurationError(f"{what} takes no {name}=. Is {meant} meant?")
    refuse_misspelt(options, _OPTIONS, what, ConfigurationError, likeness=0.8)
    refuse({"priority": options.get("priority")}, {}, what, ConfigurationError)
    for name in _FLAGS:
        flag = options.get(name)
        if flag is not None and (problem := problem_of_flag(name, flag)) is not None:
            raise ConfigurationError(f"{what}: {problem}")


def _check_declared(function: Any, options: Mapping[str, Any]) -> None:
    signature = inspect.signature(function)
    if options.get("bind"):
        _, *others = signature.parameters.values()
        signature = signature.replace(parameters=others)
    name = options.get("name") or getattr(function, "__name__", function)
    if options.get("durable_limit") is not None:
        declared_limits(options["durable_limit"], signature, f"task {name}")
    read_pause_after(options.get("durable_pause_after"), f"task {name}")


class CeleryTasks:
    """The tasks of an app (``engine.tasks.Tasks``)."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        #: By name, what was given and what that means.
        self._limits: dict[str, tuple[Any, tuple[TaskLimit, ...]]] = {}

    def signature_of(self, name: str) -> inspect.Signature | None:
        """Return the signature of a task's body; None where its code is not known."""
        task = self.app._tasks.get(name)
        return None if task is None else inspect.signature(task.run)

    def limits_of(self, name: str) -> tuple[TaskLimit, ...] | None:
        """Return the limits that a task declares; None where its code is not known."""
        task = self.app._tasks.get(name)
        if task is None:
            return None
        given = getattr(task, "durable_limit", None)
        if given is None:
            return ()
        known = self._limits.get(name)
        if known is None or known[0] is not given:
            limits = declared_limits(given, inspect.signature(task.run), f"task {name}")
            known = self._limits[name] = given, limits
        return known[1]

    def pause_after_of(self, name: str) -> PauseAfter | None:
        """Return after which failures a task is paused by itself."""
        given = getattr(self.app._tasks.get(name), "durable_pause_after", None)
        return None if given is None else read_pause_after(given, f"task {name}")

    def priority_of(self, name: str) -> int | None:
        """Return the priority that a task declares; None is none, or its code is not known."""
        priority = getattr(self.app._tasks.get(name), "priority", None)
        return priority if isinstance(priority, int) else None

    def all_limits(self) -> Mapping[str, tuple[TaskLimit, ...]]:
        """Return the limits of all tasks that declare any."""
        found = {name: self.limits_of(name) for name in list(self.app._tasks)}
        return {name: limits for name, limits in found.items() if limits}


def keep_limits(engine: Engine) -> None:
    """Write what the tasks of this worker declare into the store, for processes that do not have
    their code; what one declares no more is deleted.

    Raises:
        StoreError: the store cannot be reached.
    """
    kept = {
        row.name: row.value for row in engine.store.switches.read() if row.kind == SwitchKind.LIMIT
    }
    declared = {name: dump_limits(limits) for name, limits in engine.tasks.all_limits().items()}
    for name, value in declared.items():
        if kept.get(name) != value:
            engine.store.switches.set(SwitchKind.LIMIT, name, value, None)
    for name in kept:
        if name not in declared and engine.tasks.limits_of(name) is not None:
            engine.store.switches.delete(SwitchKind.LIMIT, name)
    if kept or declared:
        engine.switches.refresh()
