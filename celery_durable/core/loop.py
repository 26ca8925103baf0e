"""A deterministic event loop: ready callbacks in order, a clock that only history moves.

It offers what the standard library's own ``gather``, ``wait``, ``timeout``, ``TaskGroup``, ``Queue`` and so on need,
and refuses everything that would reach outside. Futures and tasks hash by the order of their creation, so that the
sets inside ``asyncio`` iterate alike in every process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from typing import Any, NoReturn, Protocol

from ..errors import ForbiddenOperation

_THROWS = 1_000
_UNENDING: list[object] = []

__all__ = ["ReplayFuture", "ReplayLoop", "ReplayTask", "TimerHost"]


class TimerHost(Protocol):
    """Who keeps the timers: the execution, which turns them into commands."""

    def timer_created(self, handle: asyncio.TimerHandle, due: int) -> None:
        """Take note of a timer due at ``due`` microseconds since the epoch."""

    def timer_canceled(self, handle: asyncio.TimerHandle) -> None:
        """Take note that the timer is not wanted any more; it may have fired already."""


class ReplayFuture(asyncio.Future[Any]):
    """A future that hashes by its number in the loop."""

    def __init__(self, *, loop: ReplayLoop) -> None:
        super().__init__(loop=loop)
        self.number = loop.next_number()

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class ReplayTask(asyncio.Task[Any]):
    """A task that hashes by its number in the loop."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: ReplayLoop, name: str | None, context: Any) -> None:
        self.number = loop.next_number()
        self.coroutine = coro
        super().__init__(coro, loop=loop, name=name or f"task-{self.number}", context=context)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def abandon(self) -> None:
        """End a task that will never run again, without asyncio's warning about it.

        Its ``finally`` blocks may await once more; it is thrown out again until it ends. Nothing may be left of it for the
        garbage collector, which would finish it later, while another orchestrator runs on this thread.
        """
        self._log_destroy_pending = False
        for _ in range(_THROWS):
            try:
                self.coroutine.throw(_Abandoned())
            except BaseException:  # user code in a dying frame has no say any more
                return
        _UNENDING.append(self.coroutine)


class _Abandoned(BaseException):
    """Thrown into what is left of an execution that is dropped."""


async def _result_of(future: asyncio.Future[Any]) -> Any:
    return await future


class ReplayLoop(asyncio.AbstractEventLoop):
    """The loop of one execution. Times inside it are seconds since the execution began."""

    def __init__(self, host: TimerHost, log_problem: Callable[[dict[str, Any]], None]) -> None:
        self._host = host
        self._log_problem = log_problem
        self._ready: deque[asyncio.Handle] = deque()
        self._numbers = itertools.count(1)
        self._tasks: dict[int, ReplayTask] = {}
        self._is_running = False
        self.origin = 0
        self.now = 0

    def next_number(self) -> int:
        """Return the next number in order of creation."""
        return next(self._numbers)

    @property
    def tasks(self) -> list[ReplayTask]:
        """Return the unfinished tasks in order of creation."""
        return list(self._tasks.values())

    def run_until_idle(self) -> None:
        """Run what is ready, and what becomes ready, until nothing is."""
        ready, outer = self._ready, asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            self._is_running = False
            asyncio._set_running_loop(outer)

    def abandon(self) -> None:
        """Close every unfinished task; nothing of this loop runs afterwards."""
        self._ready.clear()
        for task in self.tasks:
            self.call_soon(task.abandon)
        self._tasks.clear()
        self.run_until_idle()

    # -- what asyncio asks of a loop ----------------------------------------------------------------

    def time(self) -> float:
        return (self.now - self.origin) / 1_000_000

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> asyncio.Handle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> asyncio.Handle:
        due = self.origin + round(when * 1_000_000)
        if due <= self.now:
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._host.timer_created(handle, due)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._host.timer_canceled(handle)

    def fire(self, handle: asyncio.TimerHandle) -> None:
        """Make a timer's callback ready."""
        self._ready.append(handle)

    def create_future(self) -> ReplayFuture:
        return ReplayFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any] | asyncio.Future[Any],
        *,
        name: str | None = None,
        context: ContextVars | None = None,
        **_: Any,
    ) -> ReplayTask:
        if isinstance(coro, asyncio.Future):  # ctx.call() and its kind: futures here, coroutines to their users
            coro = _result_of(coro)
        task = ReplayTask(coro, loop=self, name=name, context=context)
        self._tasks[task.number] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(task.number, None)  # type: ignore[attr-defined]

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        pass

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self._log_problem(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._log_problem(context)


_OUTSIDE = (
    "run_in_executor",
    "call_soon_threadsafe",
    "set_default_executor",
    "getaddrinfo",
    "getnameinfo",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "start_tls",
    "sendfile",
    "sock_sendfile",
    "subprocess_exec",
    "subprocess_shell",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "add_signal_handler",
    "remove_signal_handler",
    "run_forever",
    "run_until_complete",
    "stop",
    "close",
    "set_task_factory",
    "set_exception_handler",
    "shutdown_asyncgens",
    "shutdown_default_executor",
)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def forbidden(self: ReplayLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise ForbiddenOperation(
            f"an orchestrator cannot use the event loop's {name}(): real I/O, threads and subprocesses "
            "cannot be replayed; put it in an activity (a Celery task) and await ctx.call(...)",
            operation=name,
        )

    return forbidden


for _name in _OUTSIDE:
    setattr(ReplayLoop, _name, _refuse(_name))
ReplayLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
