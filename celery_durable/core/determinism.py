"""Where asyncio lets memory addresses decide an order, or has a loop wait for a thread, and how it
is kept from that.

``asyncio.as_completed`` puts coroutines into a set before it makes tasks of them, and what
``asyncio.gather`` returns hashes by address, which shows in ``asyncio.wait``. They are amended for
our loop only; on any other loop nothing changes. The name ``set`` is shadowed in ``asyncio.tasks``,
not the function replaced: a module may have imported that already. So is ``_chain_future`` in
``asyncio.futures``, by which ``asyncio.wrap_future`` waits for a future of ``concurrent.futures``:
it would be told in the thread that the loop takes nothing from threads, and the code that waits
would never know. (CPython 3.11 to 3.14: ``as_completed`` and ``_GatheringFuture`` in
asyncio/tasks.py, ``_chain_future`` in asyncio/futures.py.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from .._errors import ConfigurationError
from .loop import ReplayLoop
from .refusals import forbidden

__all__ = ["expect_installed", "install"]

_installed: list[bool] = []


def expect_installed() -> None:
    """Refuse to run an orchestrator whose order would depend on memory addresses.

    Raises:
        ConfigurationError: ``install`` was not called in this process.
    """
    if not _installed:
        raise ConfigurationError(
            "asyncio is not prepared for replaying in this process, so the order of some tasks"
            " would depend on memory addresses. Call celery_durable.core.determinism.install()"
            " before the first machine is made"
        )


def install() -> None:
    """Amend asyncio for the whole process; without effect when done before."""
    if _installed:
        return
    _installed.append(True)
    tasks: Any = asyncio.tasks
    tasks.set = _ordered_set
    if (gathering := getattr(tasks, "_GatheringFuture", None)) is not None:
        gathering.__hash__ = _hash
    futures: Any = asyncio.futures
    if (chain := getattr(futures, "_chain_future", None)) is not None and not hasattr(
        chain, "durable"
    ):
        futures._chain_future = _refusing_threads(chain)


def _ordered_set(items: Iterable[Any] = ()) -> Any:
    items = list(items)
    if isinstance(asyncio._get_running_loop(), ReplayLoop) and any(
        asyncio.iscoroutine(item) for item in items
    ):
        return dict.fromkeys(items)
    return set(items)


def _refusing_threads(chain: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def chain_future(source: Any, destination: Any) -> None:
        is_ours = asyncio.isfuture(destination) and isinstance(destination.get_loop(), ReplayLoop)
        if is_ours and not asyncio.isfuture(source):
            raise forbidden("wrap_future", "a future of another thread (asyncio.wrap_future)")
        chain(source, destination)

    chain_future.durable = True  # type: ignore[attr-defined]
    return chain_future


def _hash(self: Any) -> int:
    loop = self.get_loop()
    if not isinstance(loop, ReplayLoop):
        return object.__hash__(self)
    if not hasattr(self, "_durable_number"):
        self._durable_number = loop.next_number()
    number: int = self._durable_number
    return number
