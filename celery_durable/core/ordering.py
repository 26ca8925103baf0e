"""Two places where asyncio lets memory addresses decide an order, and how it is kept from doing so on a replaying loop.

``asyncio.as_completed`` puts coroutines into a set before it makes tasks of them, and what ``asyncio.gather`` returns
hashes by address, which shows in ``asyncio.wait``. Both are amended for our loop only; on any other loop nothing changes.
The name ``set`` is shadowed in ``asyncio.tasks``, not the function replaced: a module may have imported that already.
(CPython 3.11 to 3.14: ``as_completed`` and ``_GatheringFuture`` in asyncio/tasks.py.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from .loop import ReplayLoop

__all__ = ["keep_order"]


def keep_order() -> None:
    """Amend asyncio; without effect when done before."""
    tasks: Any = asyncio.tasks
    tasks.set = _ordered_set
    if (gathering := getattr(tasks, "_GatheringFuture", None)) is not None:
        gathering.__hash__ = _hash


def _ordered_set(items: Iterable[Any] = ()) -> Any:
    items = list(items)
    if isinstance(asyncio._get_running_loop(), ReplayLoop) and any(asyncio.iscoroutine(item) for item in items):
        return dict.fromkeys(items)
    return set(items)


def _hash(self: Any) -> int:
    loop = self.get_loop()
    if not isinstance(loop, ReplayLoop):
        return object.__hash__(self)
    if not hasattr(self, "_durable_number"):
        self._durable_number = loop.next_number()
    number: int = self._durable_number
    return number
