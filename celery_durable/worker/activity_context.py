"""What an activity may know of the orchestration that asked for it."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ..engine.records import ActivityAttemptId
from ..engine.scope import Scope
from .runtime import Runtime

__all__ = ["ActivityContext", "current", "current_attempt", "durable_context"]

#: None, for type checkers not to ask for a check in tasks that run in orchestrations only.
MaybeNone = Any
#: The activity that runs in this thread, greenlet or task.
current: contextvars.ContextVar[ActivityContext | None] = contextvars.ContextVar(
    "durable_activity", default=None
)


@dataclass
class ActivityContext:
    """What an activity may know of the orchestration that asked for it."""

    #: Of the orchestration.
    instance_id: str
    #: Which attempt this is, from 1.
    attempt: int
    #: The same for all attempts of one call; another one once a saga has undone it.
    idempotency_key: str
    #: When the attempt times out, aware, UTC; None: never.
    deadline: datetime | None
    #: What the last heartbeat of an attempt gave whose worker was lost; None: nothing.
    details: Any
    _runtime: Runtime = field(repr=False)
    _ticket: ActivityAttemptId = field(repr=False)
    _asked_at: float = field(default=0.0, repr=False)
    _is_canceled: bool = field(default=False, repr=False)
    _attempt: Any = field(default=None, repr=False)
    scope: Scope | None = field(default=None, repr=False)
    #: What was captured at the orchestration's start: headers and values, by name; read-only.
    context: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def cancelled(self) -> bool:
        """True once the orchestration does not want the result any more.

        Asks the store at most once a second.
        """
        if not self._is_canceled and time.monotonic() - self._asked_at >= 1.0:
            self._asked_at = time.monotonic()
            find = self._runtime.store.attempts.find_instance_of
            self._is_canceled = find(self._ticket) is None
        return self._is_canceled

    def defer(self) -> str:
        """Let the activity be over not when this function returns, but when ``durable.complete`` or
        ``durable.fail`` is called with the token that this returns.

        What the function returns is dropped then; its slot in the worker is free. If it raises, the
        attempt has failed, and the token is void. Time-outs hold on.

        The token is URL-safe and has at most 200 characters. Every call of one attempt gives the
        same, also when the attempt runs again because its worker was lost; another attempt has
        another one. Who has it can end the activity: treat it as a password.

        Raises:
            StoreError: the store cannot be reached.
            InvalidState: the function has returned already.

        Example:
            >>> @app.task
            ... def encode(url):
            ...     token = durable_context().defer()
            ...     encoder.submit(url, callback=f"https://shop.example/hook/{token}")
        """
        token: str = self._attempt.defer()
        return token

    def heartbeat(self, details: Any = None) -> None:
        """Say that the activity makes progress.

        Args:
            details: what the next attempt finds if this one's worker is lost.

        Raises:
            StoreError: the store cannot be reached.
            PayloadError: ``details`` cannot be encoded.
        """
        payload = None if details is None else self._runtime.codec.encode(details)
        self._is_canceled = not self._runtime.store.attempts.heartbeat(self._ticket, payload)
        self._asked_at = time.monotonic()


def current_attempt() -> Any:
    """Return the attempt whose body runs here, or None."""
    context = current.get()
    return None if context is None else context._attempt


def durable_context() -> ActivityContext | MaybeNone:
    """Return the context of the activity that runs here, or None outside an orchestration.

    Type checkers let a task that runs nowhere else use it without a check for None.

    Example:
        >>> @app.task
        ... def resize(path):
        ...     if (context := durable_context()) is not None:
        ...         context.heartbeat({"path": path})
    """
    return current.get()
