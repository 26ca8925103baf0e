"""The rows of ends that Celery has been notified of, deleted many at a time.

What a process leaves behind when it dies is found by recovery, which notifies once more.
"""

from __future__ import annotations

import logging
from collections import deque

from ..engine.store_ports import Store
from ..forks import renew_in_children
from .later import Later

__all__ = ["ReportedEnds"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")
_PAUSE = 0.05


class ReportedEnds:
    """The ends that one process has notified Celery of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._later = Later("durable-ends", _PAUSE, self.flush)
        self._renew()
        renew_in_children(self, ReportedEnds._renew)

    def _renew(self) -> None:
        self._ends: deque[tuple[str, str]] = deque()

    def add(self, instance_id: str, execution: str) -> None:
        """Have the row of one deleted, soon."""
        self._ends.append((instance_id, execution))
        self._later.wake()

    def flush(self) -> None:
        """Delete the rows of all that were added."""
        ends: list[tuple[str, str]] = []
        while self._ends:
            ends.append(self._ends.popleft())
        if not ends:
            return
        try:
            self._store.recovery.drop_finishes(ends)
        except Exception:
            log.info("%d ends may be told to Celery once more", len(ends), exc_info=True)
