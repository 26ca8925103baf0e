"""Our metrics on Flower's ``/metrics``: gauges from the store, counters from the event stream.

Flower serves that page to anybody, so no label holds an id or a payload. The store is asked in a
thread; when it is down, what Flower itself measures is still served.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ...errors import ConfigurationError
from . import flower_compat

__all__ = ["DurableMetrics", "Measures"]

log: logging.Logger = logging.getLogger("celery_durable.flower")


class Measures:
    """The metrics of one app, in a registry of their own.

    Without ``celery_durable.telemetry`` there are none.
    """

    def __init__(self, durable: Any) -> None:
        self._registry: Any = None
        self._events: Any = None
        try:
            source: Any = import_module("celery_durable.telemetry.prometheus")
            client: Any = import_module("prometheus_client")
        except (ImportError, ConfigurationError) as error:
            log.info("/metrics has nothing of orchestrations: %s", error)
            return
        self._registry = client.CollectorRegistry()
        self._registry.register(source.StoreCollector(durable))
        self._events = source.EventMetrics(registry=self._registry)
        self._render = client.generate_latest

    @property
    def are_there(self) -> bool:
        """Whether there is anything to measure with."""
        return self._registry is not None

    def note(self, event: Mapping[str, Any]) -> None:
        """Count one of our events."""
        try:
            self._events.receive(event)
        except Exception:
            log.debug("an event could not be counted: %r", event.get("type"), exc_info=True)

    def text(self) -> bytes:
        """Return all in Prometheus' text format; asks the store."""
        return bytes(self._render(self._registry))


class DurableMetrics(flower_compat.TabHandler, flower_compat.Metrics):
    """Flower's page of metrics, with ours after its own."""

    def initialize(self, durable: Any, executor: Any, **shared: Any) -> None:
        """Take what ``install`` gives."""
        super().initialize(durable, executor)
        self._measures: Measures = shared["measures"]

    async def get(self) -> None:
        """Serve both."""
        await flower_compat.Metrics.get(self)
        try:
            self.write(await self.off_loop(self._measures.text))
        except Exception as error:
            log.warning(
                "/metrics has nothing of orchestrations now: %s: %s", type(error).__name__, error
            )
