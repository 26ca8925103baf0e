"""Live executions of this process, kept to spare replay.

Correctness never depends on it: what is found is validated by execution and sequence against the store, and whoever
takes one out has it alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..core.replay import Execution
from ..forks import renew_in_children
from .records import Known

__all__ = ["LiveExecutions"]


class LiveExecutions:
    """A bounded map of executions, least recently used out first; empty again in a forked child."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._live: OrderedDict[str, Execution] = OrderedDict()
        self._instances: dict[str, str] = {}
        self._lock = threading.Lock()
        renew_in_children(self, LiveExecutions._start_empty)

    def _start_empty(self) -> None:
        self._live, self._instances, self._lock = OrderedDict(), {}, threading.Lock()

    def take(self, execution_id: str) -> Execution | None:
        """Take an execution out, by its id."""
        with self._lock:
            live = self._live.pop(execution_id, None)
            if live is not None:
                self._instances.pop(live.facts.instance_id, None)
            return live

    def take_instance(self, instance_id: str) -> Execution | None:
        """Take an instance's execution out."""
        execution_id = self._instances.get(instance_id)
        return None if execution_id is None else self.take(execution_id)

    def put(self, live: Execution) -> None:
        """Keep an execution that is where the store is, or was a moment ago."""
        evicted: list[Execution] = []
        with self._lock:
            if self._size > 0:
                previous = self._instances.pop(live.facts.instance_id, None)
                if previous is not None and (old := self._live.pop(previous, None)) is not None:
                    evicted.append(old)
                self._live[live.facts.execution_id] = live
                self._instances[live.facts.instance_id] = live.facts.execution_id
                if len(self._live) > self._size:
                    _, old = self._live.popitem(last=False)
                    self._instances.pop(old.facts.instance_id, None)
                    evicted.append(old)
            else:
                evicted.append(live)
        for old in evicted:
            if old is not live or self._size <= 0:
                old.abandon()


def known_of(live: Execution | None) -> Known | None:
    """Return up to where an execution has been replayed."""
    return None if live is None else Known(live.facts.execution_id, live.sequence)
