"""Plain tasks that are declared durable: their ``.delay()`` is a durable start.

The class of such a task gets an ``apply_async`` that starts it as an orchestration of one activity.
What Celery and the engine send of an attempt (its message, its own retries, its replacement) goes
past that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any

from celery import Celery
from celery.app.registry import TaskRegistry

from ..handles.orchestration import Orchestration
from .context_headers import look_instead
from .headers import HEADER, PART, ticket_in
from .orchestrator import OrchestratorTask, end_of, started_here
from .runtime import runtime_of
from .sending import NamedTask, watch_sending
from .starting import declared_of, plain_request_of

__all__ = ["is_durable", "is_durable_name", "make_durable", "watch_registry"]

_OURS = ("celery.", "celery_durable.")
#: Celery's own tasks that run the body of another one several times.
_MAPS = frozenset({"celery.map", "celery.starmap"})


def is_durable(task: Any, app: Celery) -> bool:
    """Tell whether a task is durable: as it declares, else as ``durable_tasks`` says."""
    if isinstance(task, OrchestratorTask):
        return False
    return is_durable_name(task.name, app, getattr(task, "durable", None))


def is_durable_name(name: str, app: Celery, declared: Any = None) -> bool:
    """Tell whether the task of a name is durable, that declares this."""
    if name.startswith(_OURS):
        return False
    if declared is not None:
        return bool(declared)
    patterns = app.conf.get("durable_tasks") or ()
    several = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, pattern) for pattern in several)


def watch_registry(app: Celery, complete: Callable[[Any], None]) -> None:
    """Let each task of an app be durable from its first use on, if it is declared so, and
    ``app.send_task`` start it.

    Celery makes tasks when they are first used, which may be long before the app is finalized.

    Args:
        app: the app.
        complete: is given each task that comes after the app was finalized.
    """
    watch_sending(app, _start_named)
    registry = app._tasks
    if isinstance(registry, _Watched):
        return
    watched = _Watched(registry)
    watched.app, watched.complete = app, complete
    app._tasks = watched


class _Watched(TaskRegistry):  # type: ignore[misc]
    """The tasks of an app, each of which is looked at when it comes."""

    app: Celery
    complete: Callable[[Any], None]

    def __setitem__(self, name: str, task: Any) -> None:
        """Keep a task."""
        super().__setitem__(name, task)
        _make_one_durable(self.app, task)
        if self.app.finalized:
            self.complete(self[name])


def make_durable(app: Celery) -> None:
    """Let the tasks of an app be durable that are declared so; safe to call again.

    Raises:
        ConfigurationError: what one declares cannot be used.
    """
    for task in list(app._tasks.values()):
        _make_one_durable(app, task)


def _make_one_durable(app: Celery, task: Any) -> None:
    cls: Any = type(task)
    if "_durable_start" in cls.__dict__:
        return
    if task.name in _MAPS:
        _give_start(cls, cls.apply_async, cls.apply, _map_of)
    elif is_durable(task, app):
        declared_of(task)
        _give_start(cls, cls.apply_async, cls.apply, _itself)


@dataclass(frozen=True)
class _Body:
    """What is started durably by a call of ``apply_async``."""

    #: Declares how it is run.
    declares: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


_Reader = Callable[[Any, Sequence[Any], Mapping[str, Any]], _Body | None]


def _itself(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Body | None:
    return _Body(task, args, kwargs)


def _map_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Body | None:
    """Return a ``.map()``, ``.starmap()`` or a part of ``.chunks()``, if it is of a durable task:
    Celery runs the bodies within one message, which is one attempt.
    """
    mapped = kwargs.get("task")
    if not isinstance(mapped, Mapping) or (one := task.app.tasks.get(mapped.get("task"))) is None:
        return None
    if not is_durable(one, task.app):
        return None
    return _Body(one, args, {**kwargs, "task": dict(mapped), "it": list(kwargs.get("it") or ())})


def _give_start(
    cls: Any, own: Callable[..., Any], own_apply: Callable[..., Any], read: _Reader
) -> None:
    """Let ``.delay()`` of a class of tasks be a durable start; ``own`` sends a message."""

    def apply_async(
        self: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Start the task durably; see ``celery.Task.apply_async`` for the options."""
        options.update(link=link, link_error=link_error, shadow=shadow)
        body = None
        if "_durable_start" in type(self).__dict__ and not _is_of_attempt(task_id, options):
            body = read(self, args or (), kwargs or {})
        if body is None:
            return own(self, args, kwargs, task_id=task_id, producer=producer, **options)
        return _start(self, body, task_id, options)

    def apply(
        self: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run the body; as a member of a canvas that runs eagerly, start the task durably."""
        look_instead(options.get("headers"))
        body = None
        # for a canvas Celery calls this one, where it would call ``apply_async`` otherwise
        is_member = self.app.conf.task_always_eager and _is_within_canvas(sys._getframe(1))
        if is_member and "_durable_start" in type(self).__dict__:
            body = read(self, args or (), kwargs or {})
        if body is None:
            return own_apply(self, args, kwargs, **options)
        throw, task_id = options.pop("throw", None), options.pop("task_id", None)
        with runtime_of(self.app).publisher.at_once():
            run = _started(self, body, task_id, options)
        propagates = self.app.conf.task_eager_propagates
        return end_of(run, throw=propagates if throw is None else throw)

    cls.apply_async, cls.apply = apply_async, apply
    # by these the engine sends the messages of attempts
    cls.publish = own
    cls.sends_by = property(lambda self: own)
    cls._durable_start = True


def _is_within_canvas(frame: FrameType | None) -> bool:
    """Tell whether ``apply`` was called by ``apply_async`` of a chain, group or chord, not by hand.

    Celery says it in no other way.
    """
    while frame is not None and frame.f_globals.get("__name__") == "celery.canvas":
        if frame.f_code.co_name == "apply_async":
            return True
        frame = frame.f_back
    return False


def _is_of_attempt(task_id: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a message belongs to an attempt: it is ours, Celery's own retry, or a part of
    what an attempt has replaced itself by.
    """
    headers = options.get("headers") or {}
    if HEADER in headers or PART in headers or options.get("retries"):
        return True
    return bool(ticket_in(task_id, None, options.get("replaced_task_nesting")))


def _start(
    task: Any, body: _Body, task_id: str | None, options: Mapping[str, Any]
) -> Orchestration:
    result = _started(task, body, task_id, options)
    conf, publisher = task.app.conf, runtime_of(task.app).publisher
    if conf.task_always_eager and conf.task_eager_propagates and not publisher.is_draining:
        end_of(result, throw=True)
    return result


def _started(
    task: Any, body: _Body, task_id: str | None, options: Mapping[str, Any]
) -> Orchestration:
    runtime = runtime_of(task.app)
    request = plain_request_of(
        runtime,
        task,
        body.args,
        body.kwargs,
        options,
        *declared_of(body.declares),
        instance_id=task_id,
    )
    return started_here(task, runtime.client.start(request), options)


def _start_named(
    app: Celery, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
) -> Orchestration | None:
    """Start a task for ``app.send_task``, if it is durable; None if it is not."""
    if _is_of_attempt(options.get("task_id"), options):
        return None
    if not app.finalized and app.autofinalize:
        app.finalize(auto=True)  # what is declared is known from then on
    task = app._tasks.get(name)
    given = {key: value for key, value in options.items() if value is not None}
    if task is None:
        if not is_durable_name(name, app):
            return None
        named, task_id = NamedTask(app, name), given.pop("task_id", None)
        return _start(named, _Body(named, args, kwargs), task_id, given)
    if "_durable_start" not in type(task).__dict__:
        return None
    if name in _MAPS and _map_of(task, args, kwargs) is None:
        return None
    started: Orchestration = task.apply_async(tuple(args), dict(kwargs), **given)
    return started
