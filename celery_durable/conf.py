"""The settings: every name, its default and what it means. They live in ``app.conf`` under the prefix ``durable_``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Protocol

from .core.retry import in_microseconds
from .errors import ConfigurationError

__all__ = ["Settings", "read_settings"]


@dataclass(frozen=True)
class Settings:
    """All settings; intervals are seconds."""

    #: Any SQLAlchemy URL. PostgreSQL (``postgresql+psycopg://``) is the store for production.
    backend_url: str = "sqlite:///celery-durable.db"
    #: Extra keyword arguments for ``sqlalchemy.create_engine``.
    backend_options: dict[str, Any] | None = None
    #: The kombu serializer of payloads in the store.
    serializer: str = "json"
    #: Top-level packages whose exceptions may be rebuilt, beside those of the registered tasks.
    exception_modules: tuple[str, ...] = ()
    #: The queue of orchestrators that name none; None leaves them to the app's routes.
    default_queue: str | None = None
    #: How many finished turns' coroutines a process keeps to spare replay; 0 replays every turn.
    cache_size: int = 500
    #: Whether the worker of an activity takes the next turn itself where it may.
    inline_turns: bool = True
    #: The hard time limit of a turn message.
    turn_timeout: float = 30.0
    #: How often a turn may crash its process before the instance is suspended.
    max_turn_crashes: int = 3
    #: How often a worker looks for what should exist and does not.
    recovery_interval: float = 1.0
    #: How often a worker says that it lives, and marks what it holds.
    heartbeat_interval: float = 2.0
    #: After how long without a heartbeat a worker is taken for dead.
    worker_lease: float = 10.0
    #: When a message that no worker was seen with is looked at first.
    resend_after: float = 5.0
    #: A timer becomes a countdown message when it is due within this time.
    timer_horizon: float = 30.0
    #: How long an outcome is kept in memory and tried again while the store is down.
    store_patience: float = 60.0
    #: Whether activities store their results in Celery's result backend too.
    store_activity_results: bool = False
    #: The size in bytes above which a payload is logged as a warning.
    payload_warning: int = 256 * 1024
    #: The size in bytes above which a payload is refused.
    payload_limit: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigurationError: an interval is not positive, or two settings contradict each other.
        """
        for name in ("turn_timeout", "recovery_interval", "heartbeat_interval", "worker_lease", "resend_after"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"durable_{name} must be more than 0 seconds", setting=f"durable_{name}")
        if self.worker_lease < 2 * self.heartbeat_interval:
            raise ConfigurationError("durable_worker_lease must be at least twice durable_heartbeat_interval")


class _Conf(Protocol):
    def get(self, key: str, default: Any = None) -> Any: ...


def read_settings(conf: _Conf) -> Settings:
    """Read the settings from ``app.conf``; with Django they are ``CELERY_DURABLE_...``.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range.
    """
    values: dict[str, Any] = {}
    for field in fields(Settings):
        value = conf.get(f"durable_{field.name}", field.default)
        if isinstance(value, timedelta):
            value = in_microseconds(value) / 1_000_000
        expected = type(field.default)
        if isinstance(field.default, bool) and not isinstance(value, bool):
            raise ConfigurationError(f"durable_{field.name} must be True or False, not {value!r}")
        if isinstance(field.default, (int, float)) and not isinstance(value, (int, float)):
            raise ConfigurationError(f"durable_{field.name} must be a number, not {value!r}")
        if expected is tuple:
            value = tuple(value)
        values[field.name] = value
    return Settings(**values)
