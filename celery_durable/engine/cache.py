"""Live executions of this process, kept to spare replay.

Correctness never depends on it: what is found is validated by execution and sequence against the
store, and who takes one out has it alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..core.machine import Machine
from ..forks import renew_in_children
from .records import ReplayPosition

__all__ = ["LiveExecutions"]


_of_parents: list[OrderedDict[str, Machine]] = []


class LiveExecutions:
    """A bounded map of executions, least recently used out first; empty again in a forked child."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._live: OrderedDict[str, Machine] = OrderedDict()
        self._instances: dict[str, str] = {}
        self._lock = threading.Lock()
        renew_in_children(self, LiveExecutions._start_empty)

    def _start_empty(self) -> None:
        # dropped, they would end here: their code would run in a process that is not theirs
        _of_parents.append(self._live)
        self._live, self._instances, self._lock = OrderedDict(), {}, threading.Lock()

    def clear(self) -> None:
        """Drop all executions, before the cache itself is dropped: nothing is left to the
        garbage collector.
        """
        with self._lock:
            dropped = list(self._live.values())
            self._live.clear()
            self._instances.clear()
        for live in dropped:
            live.abandon()

    def take(self, execution_id: str) -> Machine | None:
        """Take an execution out, by its id."""
        with self._lock:
            live = self._live.pop(execution_id, None)
            if live is not None:
                self._instances.pop(live.info.instance_id, None)
            return live

    def take_instance(self, instance_id: str) -> Machine | None:
        """Take an instance's execution out."""
        execution_id = self._instances.get(instance_id)
        return None if execution_id is None else self.take(execution_id)

    def put(self, live: Machine | None) -> None:
        """Keep an execution that is where the store is, or was a moment ago; None is none."""
        if live is None:
            return
        evicted: list[Machine] = []
        with self._lock:
            if self._size > 0:
                previous = self._instances.pop(live.info.instance_id, None)
                if previous is not None and (old := self._live.pop(previous, None)) is not None:
                    evicted.append(old)
                self._live[live.info.execution_id] = live
                self._instances[live.info.instance_id] = live.info.execution_id
                if len(self._live) > self._size:
                    _, old = self._live.popitem(last=False)
                    self._instances.pop(old.info.instance_id, None)
                    evicted.append(old)
            else:
                evicted.append(live)
        for old in evicted:
            if old is not live or self._size <= 0:
                old.abandon()


def known_of(live: Machine | None) -> ReplayPosition | None:
    """Return up to where an execution has been replayed."""
    return None if live is None else ReplayPosition(live.info.execution_id, live.sequence)
