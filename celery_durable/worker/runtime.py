"""What one process has of the engine, put together once.

Everything in ``worker`` reaches it through the app.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery import Celery
from celery.exceptions import Ignore

from ..errors import ConfigurationError
from .crash_markers import CrashMarkers

if TYPE_CHECKING:  # who only declares tasks imports no engine
    from ..encryption import Codec
    from ..engine.cache import LiveExecutions
    from ..engine.client import Client
    from ..engine.engine import Engine
    from ..engine.registry import Registry
    from ..engine.store_ports import Store
    from ..payload import PayloadCodec
    from ..settings import Settings
    from .publisher import CeleryPublisher
    from .task_events import TaskEvents
    from .telemetry_events import EventSender
    from .tracing import Tracing

__all__ = ["OutcomeLost", "Runtime", "is_behind", "runtime_of"]


class OutcomeLost(Ignore):  # type: ignore[misc]
    """An activity that must not run again has run, or may have, and the store could not be told."""


@dataclass(slots=True)
class Runtime:
    """The engine of this process.

    ``worker_id`` is set in a worker before its pool forks.
    """

    app: Celery
    settings: Settings
    store: Store
    #: The orchestrators that this process knows.
    registry: Registry
    codec: PayloadCodec
    #: Machines that stayed in memory after their turn.
    live: LiveExecutions
    publisher: CeleryPublisher
    #: What moves instances.
    runner: Engine
    client: Client
    #: Celery's own events for orchestrations.
    task_events: TaskEvents
    #: The name of this worker in the store, random; None in a client.
    worker_id: str | None = None
    #: Which children of the pool are in a turn that follows a body.
    crash_markers: CrashMarkers = field(default_factory=CrashMarkers)
    #: None without ``durable_tracing``.
    tracing: Tracing | None = None
    #: Encodes the arguments in messages of activities; None where they are sent as they are.
    message_codec: Codec | None = None
    #: Our own events.
    events: EventSender | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is still to be used: a worker keeps to the store that it has begun with."""
        return self.worker_id is not None or self.store.is_current


def runtime_of(app: Celery) -> Runtime:
    """Return the runtime of an app that ``Durable`` is installed in."""
    runtime: Runtime = app.durable.runtime
    return runtime


def is_behind(error: BaseException) -> bool:
    """Tell whether this process lacks what the store needs: the tables are of another release, or
    a payload was encoded with another key. Another process, or a later moment, may do better.
    """
    return isinstance(error, ConfigurationError) and "needed" in error.facts
