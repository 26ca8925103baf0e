"""Fields of log records: which orchestration and activity a line belongs to.

``LogContext`` is a ``logging.Filter`` for handlers. It costs something only for records that are
written. Celery's own handlers get it by themselves; an own logging configuration names it as a
filter. ``add_durable_context`` is the same for structlog.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from ..engine.scope import Scope, here
from ..worker.activity_context import durable_context

__all__ = ["FIELDS", "LogContext", "add_durable_context", "install"]

#: What every record has; None where it does not apply.
FIELDS = (
    "durable_instance",
    "durable_orchestration",
    "durable_turn",
    "durable_activity",
    "durable_attempt",
)


class LogContext(logging.Filter):
    """Give every record the fields of what this thread works on; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields that the record has not got already."""
        for name, value in _context().items():
            if getattr(record, name, None) is None:
                setattr(record, name, value)
        return True


def add_durable_context(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the fields that apply to a structlog event; a processor."""
    for name, value in _context().items():
        if value is not None:
            event.setdefault(name, value)
    return event


def install(logger: logging.Logger | None = None, **_: Any) -> None:
    """Put the filter on the handlers of a logger; a receiver of Celery's ``after_setup_logger``."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(each, LogContext) for each in handler.filters):
            handler.addFilter(LogContext())


def _context() -> dict[str, Any]:
    scope = here()
    if scope is None:
        return dict.fromkeys(FIELDS) | _of_thread()
    return _fields(scope)


def _fields(scope: Scope) -> dict[str, Any]:
    values = (scope.instance_id, scope.orchestration, scope.turn, scope.activity, scope.attempt)
    return dict(zip(FIELDS, values, strict=True))


def _of_thread() -> dict[str, Any]:
    """Return the fields in a thread that an activity started with its context, as
    ``asyncio.to_thread`` does.
    """
    context = durable_context()
    return {} if context is None or context.scope is None else _fields(context.scope)
