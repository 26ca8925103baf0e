"""What is wrong, or risky, with the configuration: one list, which ``celery durable check`` and
Django's checks show.

No server is asked. Each finding has an id of its own, as Django's have; one is silenced by
``SILENCED_SYSTEM_CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

from .core.misspelt import which_is_meant
from .encoding import missing_serializer
from .errors import ConfigurationError
from .settings import Settings, read_settings
from .store.addresses import address_of

__all__ = ["Finding", "add_finder", "findings"]


@dataclass(frozen=True)
class Finding:
    """One of them: an error cannot work, a warning is a risk that may be meant, a note is for those
    who do not know it.

    Attributes:
        id: ``celery_durable.E001``, ``celery_durable.W001``, ``celery_durable.I005``, ...
        message: what is so.
        hint: what to do.
    """

    id: str
    message: str
    hint: str

    @property
    def is_error(self) -> bool:
        """Whether it cannot work."""
        return self.kind == "error"

    @property
    def kind(self) -> str:
        """What it is: "error", "warning" or "note"."""
        return {"E": "error", "W": "warning", "I": "note"}[self.id.rpartition(".")[2][0]]


Finder = Callable[[Any, Settings | None], Iterable[Finding]]
_more: list[Finder] = []


def add_finder(finder: Finder) -> None:
    """Ask ``finder`` too.

    It is given the app's ``Durable``, and the settings if they can be read.
    """
    if finder not in _more:
        _more.append(finder)


def findings(durable: Any) -> list[Finding]:
    """Return all findings about the configuration, by id."""
    settings, found = None, list[Finding]()
    try:
        settings = read_settings(durable.app.conf)
    except ConfigurationError as error:
        found.append(Finding("celery_durable.E004", str(error), "Change the setting."))
    if settings is not None:
        found += [*_about_store(settings), *_about_conf(settings, durable.app.conf)]
    found += _about_names(durable.app.conf)
    found += _about_serializers(durable.app, settings)
    for finder in _more:
        found += finder(durable, settings)
    return sorted(found, key=lambda finding: finding.id)


def _about_store(settings: Settings) -> Iterator[Finding]:
    try:
        url = address_of(settings.backend_url).url
    except ConfigurationError as error:
        yield Finding("celery_durable.E001", str(error), "Change durable_backend_url.")
        return
    if url.get_backend_name() == "sqlite":
        yield Finding(
            "celery_durable.W001",
            "the store is SQLite: good for one machine",
            "Let durable_backend_url name a PostgreSQL database in production.",
        )


def _about_serializers(app: Any, settings: Settings | None) -> Iterator[Finding]:
    app.finalize()  # so that all tasks are there
    written = {
        "durable_serializer": None if settings is None else settings.serializer,
        "task_serializer": app.conf.task_serializer,
        "result_serializer": app.conf.result_serializer,
    }
    for name, task in sorted(app._tasks.items()):
        if task.serializer != app.conf.task_serializer:
            written[f"task {name}: serializer"] = task.serializer
    for what, name in written.items():
        if name and (problem := missing_serializer(str(name))) is not None:
            yield Finding(
                "celery_durable.E005",
                f"{what} is {name!r}, by which nothing can be written: {problem}",
                "Correct the name, or install or register the serializer in all processes.",
            )


def _about_names(conf: Any) -> Iterator[Finding]:
    known = {field.name for field in fields(Settings)}
    yield from _misspelt(conf, "durable_", known)
    if conf.prefix:  # of a namespace, as CELERY_ in Django, whose names are in upper case
        yield from _misspelt(conf, f"{conf.prefix}DURABLE_", {name.upper() for name in known})


def _misspelt(conf: Any, prefix: str, known: set[str]) -> Iterator[Finding]:
    given = {str(key).removeprefix(prefix) for key in conf if str(key).startswith(prefix)}
    for name in sorted(given - known):
        yield Finding(
            "celery_durable.W008",
            f"there is no setting {prefix}{name}: it is ignored",
            which_is_meant(name, known, f"{prefix}{{}}") or "Take it away.",
        )


def _about_conf(settings: Settings, conf: Any) -> Iterator[Finding]:
    if settings.serializer == "pickle":
        yield Finding(
            "celery_durable.E003",
            "payloads are pickled: what can write to the store can run code in the workers",
            'Set durable_serializer to "json".',
        )
    if settings.tracing and find_spec("opentelemetry") is None:
        yield Finding(
            "celery_durable.E004",
            "durable_tracing needs the package opentelemetry-api",
            "pip install 'celery-durable[otel]'.",
        )
    if str(conf.broker_url or "").startswith("memory:"):
        yield Finding(
            "celery_durable.W003",
            "the broker is in the memory of this process: no worker sees its messages",
            "Set broker_url to Redis, RabbitMQ, or durable:// on one machine.",
        )
    if conf.task_always_eager:
        yield Finding(
            "celery_durable.W004",
            "task_always_eager is set: activities run in the process that starts the orchestration",
            "Set it in tests only.",
        )
    if settings.retention is None:
        yield Finding(
            "celery_durable.I005",
            "durable_retention is not set: finished orchestrations without a retention of their own"
            " are kept for ever",
            "Set durable_retention, for example to timedelta(days=30).",
        )
    if not conf.result_backend and not conf.task_ignore_result:
        yield Finding(
            "celery_durable.I007",
            "there is no result backend: AsyncResult of other processes sees no orchestration end",
            "Set result_backend, or task_ignore_result where no code asks for results.",
        )
