"""Which external events and requests an orchestration waits for now, and the sub-orchestrations
that it waits for: what a form may offer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..engine.explain import awaited_from_outside
from ..engine.listing import InstanceRecord
from ..engine.runtime import Runtime
from ..handles.fields import record_of, runtime_of_handle
from ..handles.orchestration import Orchestration

__all__ = ["EVENT", "REQUEST", "Awaited", "awaited_by", "awaited_of"]

EVENT, REQUEST = "event", "request"
#: So many orchestrations are looked at: each may be replayed.
_MOST = 20


@dataclass(frozen=True)
class Awaited:
    """Something from outside that an orchestration waits for."""

    #: "event" or "request".
    noun: str
    name: str
    #: Of the orchestration that waits for it.
    instance_id: str
    #: Of its orchestrator.
    orchestrator: str

    @property
    def value(self) -> str:
        """What stands for it in a form."""
        return json.dumps([self.instance_id, self.name])


def awaited_by(run: Orchestration, noun: str | None = None) -> list[Awaited]:
    """Return what an orchestration waits for from outside, its own first, then that of the
    sub-orchestrations that it waits for, nearest first; of 20 orchestrations at most.

    What the code alone knows is found where the code is; elsewhere only waits with a time-out are.

    Args:
        run: the handle.
        noun: "event" or "request" alone; None is both.

    Raises:
        StoreError: the store cannot be reached.

    Example:
        >>> [(each.name, each.instance_id) for each in awaited_by(run, "event")]
        [('decision', 'approval-7')]
    """
    runtime, left = runtime_of_handle(run), [record_of(run)]
    found, seen = list[Awaited](), 0
    while left and seen < _MOST:
        record, seen = left.pop(0), seen + 1
        if record.status.is_terminal:
            continue
        found += [
            Awaited(kind, name, record.id, record.name)
            for kind, name in _awaited(runtime, record)
            if noun in (None, kind)
        ]
        left += runtime.store.reads.pending(record.id).children
    return found


def awaited_of(value: str, offered: Iterable[Awaited]) -> Awaited | None:
    """Return which of those that are offered a form has chosen; None if none."""
    return next((each for each in offered if each.value == value), None)


def _awaited(runtime: Runtime, record: InstanceRecord) -> list[tuple[str, str]]:
    found = awaited_from_outside(runtime.store, runtime.runner, record)
    if not found:
        waits = runtime.store.reads.waits([record]).get(record.id)
        found = [] if waits is None or waits.awaits is None else [waits.awaits]
    return list(dict.fromkeys(found))
