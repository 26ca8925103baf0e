"""Methods for code that runs on an event loop: each that uses the store has a twin, whose name has
Django's prefix ``a``.

A twin runs its method in a thread, so that the loop is never kept waiting; in a Django project in
the thread that Django has for that, where the transaction around the caller is seen. Those that
wait for an end share one look at the store, however many they are.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from ..core.guard import refuse_inside_orchestrator
from .waiting import check_seconds, drivers

if TYPE_CHECKING:
    from ..core.status import RuntimeStatus
    from ..engine.runtime import Runtime

__all__ = ["in_thread", "of_this_thread", "twin", "wait_for_end_async"]

P = ParamSpec("P")
R = TypeVar("R")
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.05, 1.2, 1.0  # seconds


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that may wait for the store, in a thread."""
    if _is_django():
        from asgiref.sync import sync_to_async

        answer: R = await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)
        return answer
    return await asyncio.to_thread(function, *args, **kwargs)


def of_this_thread(session: Any) -> Any:
    """Return the session of this thread, or task, that a scoped session of SQLAlchemy stands for,
    and any other as it is: in the thread of a twin it would stand for another one.
    """
    return session() if hasattr(session, "registry") else session


def _is_django() -> bool:
    conf = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured)


def twin(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return the twin of a method: the same arguments, the same errors."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_inside_orchestrator(f"a{method.__name__}()")
        if (session := of_this_thread(kwargs.get("session"))) is not None:
            kwargs["session"] = session
        if hasattr(session, "run_sync"):  # SQLAlchemy's
            in_session: Any = functools.partial(method, *args)
            answer: R = await session.run_sync(
                lambda sync: in_session(**{**kwargs, "session": sync})
            )
            return answer
        return await in_thread(method, *args, **kwargs)

    call.__name__ = f"a{method.__name__}"
    call.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.{call.__name__}"
    call.__doc__ = (
        f"Do the same as ``{method.__name__}``, for code that runs on an event loop: ``await`` it."
    )
    call.durable_twin_of = method  # type: ignore[attr-defined]
    return call


# -- waiting ---------------------------------------------------------------------------------------


class _Watch:
    """Looks at the status of all that is waited for on one loop, in one read."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: dict[str, set[asyncio.Future[RuntimeStatus | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE
        self._woken = asyncio.Event()

    async def end_of(self, instance_id: str) -> RuntimeStatus | None:
        """Return the last status; None if there is no such instance."""
        future: asyncio.Future[RuntimeStatus | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(instance_id, set()).add(future)
        self._pause = _FIRST_PAUSE
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            return await future
        finally:
            waiting = self._waiting.get(instance_id, set())
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(instance_id, None)

    async def _look(self) -> None:
        while self._waiting:
            ids = sorted(self._waiting)
            try:
                found = await in_thread(self._runtime.store.reads.statuses_of, ids)
            except Exception as error:
                for id_ in ids:
                    for future in self._of(id_):
                        future.set_exception(error)
                continue
            for id_ in ids:
                status = found.get(id_)
                if status is None or status.is_terminal:
                    for future in self._of(id_):
                        future.set_result(status)
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), self._pause)
            except TimeoutError:
                self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)

    def _of(self, id_: str) -> list[asyncio.Future[RuntimeStatus | None]]:
        """Return who waits for an instance, and wait for it no more."""
        return [future for future in self._waiting.pop(id_, ()) if not future.done()]


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Watch]] = WeakKeyDictionary()


async def wait_for_end_async(runtime: Runtime, instance_id: str, timeout: float | None) -> None:
    """Return when an orchestration has ended, or is not there; no thread waits meanwhile.

    Raises:
        WaitTimeout: it has not ended in time.
        StoreError: the store cannot be reached.
    """
    from ..errors import WaitTimeout  # one of Celery's, too

    check_seconds(timeout)
    if drivers:
        reads = runtime.store.reads

        def is_over() -> bool:
            status = reads.status_of(instance_id)
            return status is None or status.is_terminal

        drivers[-1](timeout, is_over)  # what is awaited beside it may still bring the end
    watches = _watches.setdefault(asyncio.get_running_loop(), {})
    watch = watches.get(id(runtime))
    if watch is None or watch._runtime is not runtime:
        watch = watches[id(runtime)] = _Watch(runtime)
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout) as limit:
            await watch.end_of(instance_id)
    except TimeoutError:
        if not limit.expired():
            raise
        status = await in_thread(runtime.store.reads.status_of, instance_id)
        if status is not None and status.is_terminal:
            return
        raise WaitTimeout(
            f"orchestration {instance_id!r} is {status or 'not started'} after"
            f" {time.monotonic() - began:.3g} seconds",
            instance_id=instance_id,
            status=status,
            timeout=timeout,
        ) from None
