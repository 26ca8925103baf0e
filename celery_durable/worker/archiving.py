"""The thread of a worker that hands ended orchestrations to the archive: a slow archive keeps
neither recovery nor the worker.
"""

from __future__ import annotations

import logging
import threading

from ..engine.archive import Archiver
from ..errors import DurableError

__all__ = ["ArchiveThread"]

log: logging.Logger = logging.getLogger("celery_durable.archive")
_PAUSE = 5.0


class ArchiveThread:
    """Archives and deletes what is due, when recovery has seen that there is something."""

    def __init__(self, archiver: Archiver, stop: threading.Event) -> None:
        self._archiver = archiver
        self._stop = stop
        self._wanted = threading.Event()

    def start(self) -> None:
        """Start the thread; it ends with the process, or after the batch at hand."""
        threading.Thread(target=self._run, name="durable-archive", daemon=True).start()

    def wake(self) -> None:
        """Tell that something is due; returns at once, whatever the archive does."""
        self._wanted.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._wanted.wait(_PAUSE):
                continue
            self._wanted.clear()
            try:
                while not self._stop.is_set() and self._archiver.run():
                    pass
            except DurableError as error:
                log.error("the archive waits for the store: %s", error)
            except Exception:
                log.exception("archiving failed; it is tried again")
