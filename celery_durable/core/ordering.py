"""Two places where asyncio lets memory addresses decide an order, and how it is kept from doing so on a replaying loop.

``asyncio.as_completed`` puts coroutines into a set before it makes tasks of them, and what ``asyncio.gather`` returns
hashes by address, which shows in ``asyncio.wait``. Both are amended for our loop only; on any other loop nothing changes.
(CPython 3.11 to 3.14: ``as_completed`` in asyncio/tasks.py; ``_GatheringFuture`` in the same file.)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Any

from .loop import ReplayLoop

__all__ = ["keep_order"]


def keep_order() -> None:
    """Amend asyncio; without effect when done before."""
    if getattr(asyncio.as_completed, "_durable", False):
        return
    original = asyncio.as_completed

    @functools.wraps(original)
    def as_completed(fs: Iterable[Any], **options: Any) -> Any:
        loop = asyncio._get_running_loop()
        if isinstance(loop, ReplayLoop) and not (asyncio.isfuture(fs) or asyncio.iscoroutine(fs)):
            fs = [asyncio.ensure_future(awaitable, loop=loop) for awaitable in dict.fromkeys(fs)]
        return original(fs, **options)

    as_completed._durable = True  # type: ignore[attr-defined]
    asyncio.as_completed = asyncio.tasks.as_completed = as_completed  # type: ignore[assignment]
    gathering: Any = getattr(asyncio.tasks, "_GatheringFuture", None)
    if gathering is not None:
        gathering.__hash__ = _hash


def _hash(self: Any) -> int:
    loop = self.get_loop()
    if not isinstance(loop, ReplayLoop):
        return object.__hash__(self)
    if not hasattr(self, "_durable_number"):
        self._durable_number = loop.next_number()
    number: int = self._durable_number
    return number
