"""``async def`` tasks: one event loop for each process, which lives as long as it.

A slot of the pool runs one at a time, and waits for it. What would interrupt the body of a plain
task, a soft time limit, is raised at its ``await``.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from celery._state import _task_stack

from ..errors import ActivityError

__all__ = ["run_async"]

#: How often it is asked whether the outcome is still wanted, in seconds.
_POLL_INTERVAL = 1.0
_lock = threading.Lock()
#: The loop of each process; that of a parent is of no use in a forked one.
_loops: dict[int, _Loop] = {}


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="durable-async", daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        """End it."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@contextmanager
def _a_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give the loop of this process; a body that waits for another task gives that one a loop of
    its own, for this one is busy with it.
    """
    with _lock:
        own = _loops.get(os.getpid())
        if own is None:
            _loops.clear()
            own = _loops[os.getpid()] = _Loop()
    if own.thread is not threading.current_thread():
        yield own.loop
        return
    other = _Loop()
    try:
        yield other.loop
    finally:
        other.stop()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class _Body:
    """A body that runs on the loop of this process."""

    def __init__(self, task: Any, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._task, self._request = task, task.request_stack.top
        self._coroutine = coroutine
        #: What is to be raised at its ``await`` instead of a cancellation.
        self.interruption: BaseException | None = None
        self.done = threading.Event()
        self.runner: asyncio.Task[Any] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        """Begin, in the thread of the loop."""
        self.runner = loop.create_task(self._run(), context=context)
        self.runner.add_done_callback(lambda _: self.done.set())

    def cancel(self) -> None:
        """Raise at its ``await`` what interrupts it, in the thread of the loop."""
        if self.runner is not None:
            self.runner.cancel()

    async def _run(self) -> Any:
        return await self._steps()

    @types.coroutine
    def _steps(self) -> Generator[Any, Any, Any]:
        step: Callable[..., Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                waited_for = self._take(step, given)
            except StopIteration as stop:
                return stop.value
            try:
                given = yield waited_for
                step = self._coroutine.send
            except asyncio.CancelledError as error:
                asked, self.interruption = self.interruption, None
                given, step = error if asked is None else asked, self._coroutine.throw
            except BaseException as error:
                given, step = error, self._coroutine.throw

    def _take(self, step: Callable[..., Any], given: Any) -> Any:
        """Take one step, in which Celery's current task is this one: other slots take theirs."""
        _task_stack.push(self._task)
        self._task.request_stack.push(self._request)
        try:
            return step(given)
        finally:
            self._task.request_stack.pop()
            _task_stack.pop()


def run_async(
    task: Any, coroutine: Coroutine[Any, Any, Any], is_unwanted: Callable[[], bool] | None = None
) -> Any:
    """Run the body of an ``async def`` task on the loop of this process, and return its result.

    Args:
        task: whose body.
        coroutine: a call of it.
        is_unwanted: asked each second: once it says so, ``CancelledError`` is raised in the body.

    Raises:
        ActivityError: the body ended by a ``CancelledError``.
        BaseException: what it raises; what is raised here while it runs is raised at its ``await``
            as well.
    """
    body = _Body(task, coroutine)
    with _a_loop() as loop:
        return _result(loop, body, is_unwanted)


def _result(
    loop: asyncio.AbstractEventLoop, body: _Body, is_unwanted: Callable[[], bool] | None
) -> Any:
    loop.call_soon_threadsafe(body.begin, loop, contextvars.copy_context())
    is_cancelled = False
    while not body.done.is_set():
        try:
            if body.done.wait(_POLL_INTERVAL) or is_cancelled or is_unwanted is None:
                continue
            if is_unwanted():
                is_cancelled = True
                loop.call_soon_threadsafe(body.cancel)
        except BaseException as struck:  # such as a soft time limit, by a signal
            body.interruption = struck
            loop.call_soon_threadsafe(body.cancel)
    assert body.runner is not None
    if body.runner.cancelled():
        raise _cancelled()
    if (raised := body.runner.exception()) is not None:
        raise raised
    return body.runner.result()


def _cancelled() -> ActivityError:
    name = "asyncio.exceptions.CancelledError"
    return ActivityError("the task was cancelled", type=name, message="the task was cancelled")
