"""What one process has of the engine, put together once; everything in ``worker`` reaches it through the app."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery import Celery
from celery.exceptions import Ignore

from ..conf import Settings
from ..engine.cache import LiveExecutions
from ..engine.client import Client
from ..engine.observation import Scope
from ..engine.records import ActivityTicket
from ..engine.registry import Registry
from ..engine.turn import TurnRunner
from ..payload import PayloadCodec
from .announcer import Announcer
from .events import EventSender
from .marks import TurnMarks

__all__ = ["OutcomeLost", "Runtime", "header_of", "runtime_of"]


class OutcomeLost(Ignore):  # type: ignore[misc]
    """An activity that must not run again has run, or may have, and the store could not be told."""


class Tracing(Protocol):
    """What makes the body of an activity visible while it runs."""

    def activity(self, scope: Scope, ticket: ActivityTicket, request: Any) -> AbstractContextManager[Any]:
        """Surround a body; what it raises passes through."""

    def sending(self, headers: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Surround the sending of an activity whose message has these headers."""


@dataclass(slots=True)
class Runtime:
    """The engine of this process. ``worker_id`` and ``queues`` are set in a worker before its pool forks."""

    app: Celery
    settings: Settings
    store: Any
    registry: Registry
    codec: PayloadCodec
    live: LiveExecutions
    publisher: Any
    runner: TurnRunner
    client: Client
    announcer: Announcer
    worker_id: str | None = None
    queues: frozenset[str] | None = None
    just_recorded: threading.local = field(default_factory=threading.local)
    lost: deque[ActivityTicket] = field(default_factory=deque)
    marks: TurnMarks = field(default_factory=TurnMarks)
    tracing: Tracing | None = None
    events: EventSender | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is still to be used: a worker keeps to the store that it has begun with."""
        return self.worker_id is not None or bool(self.store.database.is_current)


def runtime_of(app: Celery) -> Runtime:
    """Return the runtime of an app that ``Durable`` is installed in."""
    runtime: Runtime = app.durable.runtime
    return runtime


def header_of(request: Any) -> dict[str, Any] | None:
    """Return our header of a Celery request or context, or None for an ordinary message."""
    headers = getattr(request, "headers", None)
    found = headers.get("durable") if isinstance(headers, dict) else None
    if found is None:
        found = getattr(request, "durable", None)
    return found if isinstance(found, dict) else None
