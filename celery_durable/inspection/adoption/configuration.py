"""What an application's configuration, tasks and receivers of signals say."""

from __future__ import annotations

import inspect
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import fields
from datetime import timedelta
from types import FunctionType
from typing import Any

from celery import signals

from ...settings import Settings
from .code import Known, Place
from .kinds import Item
from .sources import is_own

__all__ = ["about_configuration", "longest_wait", "own_tasks", "place_of", "plain_function"]

_HOUR = 3_600.0
_RABBITMQ = 1_800.0
_OFTEN = 300
_SIGNALS = (
    "before_task_publish",
    "after_task_publish",
    "task_received",
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_internal_error",
)


def own_tasks(app: Any) -> list[Any]:
    """Return the tasks of an application, those of Celery and of libraries left out."""
    found = [
        task
        for name, task in sorted(app.tasks.items())
        if not name.startswith(("celery.", "celery_durable."))
    ]
    return [task for task in found if (place := place_of(task)) is not None and is_own(place[0])]


def plain_function(task: Any) -> FunctionType | None:
    """Return the function of a task, as it is written."""
    found: Any = getattr(task, "_orig_run", None) or task.run
    if (definition := getattr(task, "durable_versions", None)) is not None:
        versions = list(definition.values()) if hasattr(definition, "values") else []
        found = getattr(versions[-1], "function", found) if versions else found
    found = inspect.unwrap(getattr(found, "__func__", found))
    found = getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) else None


def place_of(task: Any) -> Place | None:
    """Return where the function of a task begins, with its decorators."""
    function = plain_function(task)
    if function is None:
        return None
    return os.path.realpath(function.__code__.co_filename), function.__code__.co_firstlineno


def longest_wait(conf: Any) -> float | None:
    """Return how many seconds the broker leaves a message unacknowledged; None for ever."""
    scheme = str(conf.broker_url or "amqp://").partition(":")[0].partition("+")[0]
    given = (conf.broker_transport_options or {}).get("visibility_timeout")
    if scheme in ("redis", "rediss", "sentinel", "valkey", "valkeys"):
        return float(given or _HOUR)
    if scheme == "sqs":
        return float(given or _RABBITMQ)
    return _RABBITMQ if scheme in ("amqp", "amqps", "pyamqp") else None


def about_configuration(
    app: Any, known: Known, tasks: Iterable[Any], files: Container[str]
) -> Iterator[Item]:
    """Return what to look at, at the lines where it is said.

    Args:
        app: the application.
        known: what its files say.
        tasks: its own tasks.
        files: the application's, by their paths.
    """
    tasks = list(tasks)
    yield from _about_namespace(app, known)
    yield from _about_values(app.conf, known)
    yield from _about_delivery(app.conf, known, tasks)
    yield from _about_retries(known, tasks)
    yield from _about_ignored(app.conf, known, tasks)
    yield from _about_beat(app.conf, known)
    yield from _about_signals(files)


def _line(known: Known, *names: str) -> Place:
    """Return where a setting is given its value, by whichever name; else where the app is made."""
    for name in names:
        for written in (name, f"celery_{name}", f"celery_{name.removeprefix('task_')}"):
            if written in known.settings:
                return known.settings[written]
    return known.made[0] if known.made else ("app.conf", 1)


def _about_namespace(app: Any, known: Known) -> Iterator[Item]:
    namespace = getattr(app, "namespace", None) or ""
    unread = [
        name
        for each in fields(Settings)
        for name in (f"celery_durable_{each.name}", f"durable_{each.name}")
        if name in known.settings and not _is_read(app.conf, each.name, namespace, name)
    ]
    for name in unread:
        yield Item(
            "unread-setting",
            *known.settings[name],
            f"{name.upper()}, and the app's namespace is {namespace or 'not set'}",
        )
    if os.environ.get("DJANGO_SETTINGS_MODULE") and namespace != "CELERY":
        found = f"namespace={namespace!r}" if namespace else "no namespace"
        yield Item("namespace", *_line(known, "namespace"), found)


def _is_read(conf: Any, setting: str, namespace: str, written: str) -> bool:
    """Tell whether the configuration has a setting, or the name belongs to something else."""
    if conf.get(f"durable_{setting}") is not None:
        return True
    return written == f"{namespace.lower()}_durable_{setting}".lstrip("_")


def _about_values(conf: Any, known: Known) -> Iterator[Item]:
    for name in ("task_serializer", "result_serializer"):
        if conf.get(name) == "pickle":
            yield Item("pickle", *_line(known, name), f"{name} = 'pickle'")
    if any("pickle" in str(each) for each in conf.accept_content or ()):
        found = f"accept_content = {list(conf.accept_content)!r}"
        yield Item("pickle", *_line(known, "accept_content"), found)
    if conf.task_ignore_result:
        yield Item("no-results", *_line(known, "task_ignore_result"), "task_ignore_result = True")
    elif not conf.result_backend or str(conf.result_backend).startswith("disabled"):
        yield Item("no-results", *_line(known, "result_backend"), "no result_backend")


def _about_delivery(conf: Any, known: Known, tasks: list[Any]) -> Iterator[Item]:
    for name in ("task_acks_late", "task_reject_on_worker_lost"):
        if conf.get(name):
            yield Item("acks", *_line(known, name), f"{name} = {conf.get(name)!r}")
    if conf.task_always_eager and "task_always_eager" not in known.settings:
        yield Item("eager", *_line(known, "task_always_eager"), "task_always_eager = True")
    early = [task.name for task in tasks if not task.acks_late and not _is_ours(task)]
    if early:
        some = ", ".join(early[:3]) + (", …" if len(early) > 3 else "")
        number = f"{len(early)} task{'s' if len(early) > 1 else ''}"
        yield Item(
            "at-least-once", *_line(known, "task_acks_late"), f"{number} without acks_late: {some}"
        )


def _about_retries(known: Known, tasks: list[Any]) -> Iterator[Item]:
    for task in tasks:
        delay, place = task.default_retry_delay, place_of(task)
        if place is not None and known.longest is not None and delay > known.longest:
            found = f"default_retry_delay={delay:,}: the broker waits {known.longest:,.0f} s"
            yield Item("long-countdown", *place, found)


def _is_ours(task: Any) -> bool:
    return hasattr(task, "durable_versions") or bool(getattr(task, "at_most_once", False))


def _about_ignored(conf: Any, known: Known, tasks: list[Any]) -> Iterator[Item]:
    for task in tasks:
        function, place = plain_function(task), place_of(task)
        if function is None or place is None or not task.ignore_result or _is_ours(task):
            continue
        used = known.members.get(function.__name__)
        if used is not None:
            where = f"{os.path.relpath(used[0])}:{used[1]}"
            yield Item("ignored-result", *place, f"{task.name} is in the canvas of {where}")


def _about_beat(conf: Any, known: Known) -> Iterator[Item]:
    for name, entry in (conf.beat_schedule or {}).items():
        task = entry.get("task") if isinstance(entry, dict) else getattr(entry, "task", None)
        when = entry.get("schedule") if isinstance(entry, dict) else getattr(entry, "schedule", "?")
        place = known.keys.get(str(name)) or _line(known, "beat_schedule")
        seconds = _interval(when)
        often = ": does it look for what is due?" if seconds and seconds <= _OFTEN else ""
        yield Item("beat", *place, f"{name!r} sends {task} {_spoken(when, seconds)}{often}")


def _interval(when: Any) -> float | None:
    when = getattr(when, "run_every", when)
    if isinstance(when, timedelta):
        return when.total_seconds()
    if isinstance(when, (int, float)):
        return float(when)
    minute = getattr(when, "minute", None)
    is_often = isinstance(minute, set) and len(minute) > 1 and len(getattr(when, "hour", ())) == 24
    return 3_600 / len(minute) if is_often and minute else None


def _spoken(when: Any, seconds: float | None) -> str:
    if hasattr(when, "minute"):
        return f"by {when}"
    return f"every {seconds:g} s" if seconds is not None else f"by {when}"


def _about_signals(files: Container[str]) -> Iterator[Item]:
    for name in _SIGNALS:
        for _, receiver in list(getattr(signals, name).receivers or ()):
            function = receiver() if hasattr(receiver, "__callback__") else receiver
            function = inspect.unwrap(getattr(function, "__func__", function))
            code = getattr(function, "__code__", None)
            if code is not None and (file := os.path.realpath(code.co_filename)) in files:
                yield Item("signals", file, code.co_firstlineno, f"{function.__name__} of {name}")
