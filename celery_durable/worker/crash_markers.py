"""What a pool's child was doing when it died, told to the worker's main process.

An activity whose body has ended may die in the turn that follows it: that is no failure of the
activity. The child writes its task id into memory that it shares with its parent while such a turn
lasts.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CrashMarkers"]

_SLOTS, _WIDTH = 512, 64


class CrashMarkers:
    """One slot for each child, by its process id; made before the pool forks."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _WIDTH)

    @contextmanager
    def marking(self, task_id: str) -> Iterator[None]:
        """Mark this process as taking a turn after the body of an activity."""
        start = os.getpid() % _SLOTS * _WIDTH
        self._memory[start : start + _WIDTH] = task_id.encode()[:_WIDTH].ljust(_WIDTH, b"\0")
        try:
            yield
        finally:
            self._memory[start : start + _WIDTH] = bytes(_WIDTH)

    def take(self, task_id: str) -> bool:
        """Tell whether a process died in such a turn of this activity, and forget it."""
        at = self._memory.find(task_id.encode()[:_WIDTH].ljust(_WIDTH, b"\0"))
        if at < 0:
            return False
        self._memory[at : at + _WIDTH] = bytes(_WIDTH)
        return True
