"""What a process had better do a moment later, for all that has come by then."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import signals

from ..forks import renew_in_children

__all__ = ["Later"]


class Later:
    """A thread that does a piece of work a moment after it was asked to: once for all who ask until
    then. Each process has its own, from when it is first needed; when it ends in good order, the
    work is done for the last time.

    Args:
        name: of the thread.
        pause: how many seconds a moment has.
        work: what to do; it raises nothing.
    """

    def __init__(self, name: str, pause: float, work: Callable[[], object]) -> None:
        self._name, self._pause, self._work = name, pause, work
        self._renew()
        renew_in_children(self, Later._renew)

    def _renew(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Ask for it; returns at once."""
        if self._thread is None:
            self._begin()
        self._wanted.set()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
                signals.worker_process_shutdown.connect(
                    self._leave, weak=False, dispatch_uid=f"{self._name}-{id(self)}"
                )
                atexit.register(self._leave)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(self._pause)
            self._work()

    def _leave(self, **_: Any) -> None:
        atexit.unregister(self._leave)
        self._work()
