"""The settings: every name, its default and what it means.

They live in ``app.conf`` under the prefix ``durable_``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Protocol

from ._errors import ConfigurationError
from .core.flags import is_number
from .core.limits import read_retention

__all__ = ["AUDIT", "Settings", "read_settings"]

#: The key in ``durable_retention`` that says how long the audit trail is kept.
AUDIT = "AUDIT"


@dataclass(frozen=True)
class Settings:
    """All settings; intervals are seconds."""

    #: Any SQLAlchemy URL, or ``django://alias``. PostgreSQL (``postgresql+psycopg://``) is the
    #: store for production.
    backend_url: str = field(default="sqlite:///celery-durable.db", repr=False)
    #: Extra keyword arguments for ``sqlalchemy.create_engine``.
    backend_options: dict[str, Any] | None = field(default=None, repr=False)
    #: The kombu serializer of payloads in the store.
    serializer: str = "json"
    #: Top-level packages whose exceptions may be rebuilt, beside those of the registered tasks.
    exception_modules: tuple[str, ...] = ()
    #: How many finished turns' coroutines a process keeps to spare replay; 0 replays every turn.
    cache_size: int = 500
    #: Whether the worker of an activity takes the next turn itself where it may.
    inline_turns: bool = True
    #: Whether the process that starts an orchestration takes its first turn itself, which saves a
    #: message. The orchestrator's code then runs there, up to its first await.
    start_inline: bool = False
    #: How long a turn may keep the processor busy before its instance is suspended. A turn
    #: message's hard time limit is a little longer.
    turn_timeout: float = 30.0
    #: The queue of turn messages, so that turns do not wait behind activities. With ``{queue}`` in
    #: it, one beside each queue: every worker that consumes that consumes it too. Without, one for
    #: orchestrators that declare none, consumed with ``task_default_queue``. None: turns go where
    #: Celery sends any task.
    turn_queue: str | None = "{queue}.turns"
    #: How many commands (calls, timers, ..) a turn may ask for at once before its instance is
    #: suspended.
    max_turn_commands: int = 50_000
    #: How many activities of one instance may be under way at a time; 0 for any number. An
    #: orchestrator's own ``max_activities`` comes first, and a ``ctx.map`` with a ``concurrency``
    #: keeps to that.
    max_instance_activities: int = 0
    #: How often a turn may crash its process before the instance is suspended.
    max_turn_crashes: int = 3
    #: How often the worker of one attempt of an activity may die before the attempt counts as
    #: failed.
    max_activity_crashes: int = 10
    #: How often a worker looks for what should exist and does not.
    recovery_interval: float = 1.0
    #: How often a worker says that it lives.
    heartbeat_interval: float = 2.0
    #: After how long without a heartbeat a worker is taken for dead.
    worker_lease: float = 10.0
    #: How long after it was sent a message that no worker has taken is looked for.
    resend_after: float = 5.0
    #: A timer becomes a countdown message when it is due within this time.
    timer_horizon: float = 30.0
    #: How long an outcome is kept in memory and tried again while the store is down.
    store_patience: float = 60.0
    #: How long finished orchestrations are kept whose orchestrator declares no ``retention``:
    #: seconds, ``timedelta``, a mapping of these by status, or None for ever. The key ``AUDIT`` of
    #: a mapping says it for entries of the audit trail.
    retention: Any = None
    #: What a finished orchestration is handed to before retention or a purge deletes it: a function
    #: of the document and its key, its import path, or a folder, which gets gzip files. None: it is
    #: just deleted.
    archive: Any = field(default=None, repr=False)
    #: The names of message headers that travel with an orchestration: captured where it is started,
    #: and in every message of its turns, activities and sub-orchestrations.
    propagate: tuple[str, ...] = ()
    #: What encodes, and decodes, all payloads, failures and reasons in the store, and arguments of
    #: activities in messages: an object with ``encode`` and ``decode`` from bytes to bytes, such as
    #: ``FernetCodec``, or its import path. None: they are kept as they are.
    codec: Any = field(default=None, repr=False)
    #: Where payloads are kept that are too large for the database: a folder's URL as fsspec takes
    #: it (``s3://bucket/durable``), a ``PayloadStore``, or its import path. None: in the database.
    payload_store: Any = field(default=None, repr=False)
    #: Names of tasks, or patterns as of ``fnmatch``, whose ``.delay()`` is a durable start, unless
    #: they say ``durable=False``.
    tasks: tuple[str, ...] = ()
    #: Whether workers run what ``beat_schedule`` declares, each entry as a schedule in the store.
    #: ``celery beat`` and ``worker -B`` refuse to start then.
    beat: bool = False
    #: Whether activities store their results in Celery's result backend too.
    store_activity_results: bool = False
    #: Whether orchestrations and activities become spans of OpenTelemetry; needs the extra
    #: ``[otel]``.
    tracing: bool = False
    #: The size in bytes above which a payload is logged as a warning.
    payload_warning: int = 256 * 1024
    #: The size in bytes above which a payload is refused.
    payload_limit: int = 8 * 1024 * 1024
    #: Whether an orchestrator's code is looked at while it runs, for what a replay would do
    #: otherwise: ``"warn"`` or ``"raise"``. For development and tests.
    guard: str = "off"
    #: Whether ``celery -A app flower`` shows the tab "Orchestrations".
    flower_tab: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigurationError: a value is of the wrong type or out of range, or two contradict each
                other.
        """
        for known in fields(self):
            value, default = getattr(self, known.name), known.default
            name = f"durable_{known.name}"
            if isinstance(default, bool):
                _demand(isinstance(value, bool), name, "True or False", value)
            elif isinstance(default, (int, float)):
                is_finite = is_number(value) and math.isfinite(value)
                _demand(is_finite and value >= 0, name, "a number of at least 0", value)
                _demand(value > 0 or known.name in _MAY_BE_ZERO, name, "more than 0", value)
            elif isinstance(default, str):
                may_be_none = known.name in _MAY_BE_NONE
                _demand(
                    (isinstance(value, str) and bool(value)) or (may_be_none and value is None),
                    name,
                    "a string that is not empty" + (", or None" if may_be_none else ""),
                    value,
                )
            elif isinstance(default, tuple):
                _demand(
                    isinstance(value, tuple) and all(isinstance(v, str) for v in value),
                    name,
                    "a list of names",
                    value,
                )
        _demand(self.guard in _GUARDS, "durable_guard", '"off", "warn" or "raise"', self.guard)
        _ = self._retention
        if self.worker_lease < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                "durable_worker_lease must be at least twice durable_heartbeat_interval",
                setting="durable_worker_lease",
            )

    @property
    def kept(self) -> dict[str, int]:
        """How many microseconds a finished orchestration is kept by default, by its status."""
        return {name: kept for name, kept in self._retention.items() if name != AUDIT}

    @property
    def audit_kept(self) -> int | None:
        """How many microseconds an entry of the audit trail is kept; None: for ever."""
        return self._retention.get(AUDIT)

    @property
    def _retention(self) -> dict[str, int]:
        if self.retention is None:
            return {}
        return read_retention(self.retention, "durable_retention", (AUDIT,))


_GUARDS = ("off", "warn", "raise")
_MAY_BE_NONE = frozenset({"turn_queue"})
_MAY_BE_ZERO = frozenset(
    {"cache_size", "max_instance_activities", "store_patience", "timer_horizon"}
)


def _demand(is_good: bool, name: str, what: str, value: object) -> None:
    if not is_good:
        raise ConfigurationError(f"{name} must be {what}, not {value!r}", setting=name)


class _Conf(Protocol):
    def get(self, key: str, default: Any = None) -> Any: ...


_MISSING: Any = object()


def _refuse_unread(conf: _Conf, name: str) -> None:
    """Refuse a setting that is there under a name that is not read, as of a Django project
    without a namespace.
    """
    for written in (f"CELERY_DURABLE_{name.upper()}", f"DURABLE_{name.upper()}"):
        if conf.get(written, _MISSING) is not _MISSING:
            raise ConfigurationError(
                f"{written} is set, and is not read: the app was configured without a"
                ' namespace. Write app.config_from_object("django.conf:settings",'
                f' namespace="CELERY"), or call it durable_{name} where the app is configured by a'
                " module",
                setting=f"durable_{name}",
            )


def read_settings(conf: _Conf) -> Settings:
    """Read the settings from ``app.conf``; with Django they are ``CELERY_DURABLE_...``.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    for known in fields(Settings):
        value = conf.get(f"durable_{known.name}", _MISSING)
        if value is _MISSING:
            _refuse_unread(conf, known.name)
            value = known.default
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(known.default, tuple) and isinstance(value, (list, set, frozenset)):
            value = tuple(value)
        values[known.name] = value
    return Settings(**values)
