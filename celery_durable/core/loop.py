"""A deterministic event loop: ready callbacks in order, a clock that only history moves.

It offers what the standard library's own ``gather``, ``wait``, ``timeout``, ``TaskGroup``,
``Queue`` and so on need, and refuses everything that would reach outside. Futures and tasks hash by
the order of their creation, so that the sets inside ``asyncio`` iterate alike in every process.

A loop is *open* while its execution takes an event, to the thread that does so. What comes from
elsewhere (another thread, a finalizer that the garbage collector happens to run) would come at
another moment in a replay, and is refused. Once an execution is dropped its loop is *dead*: nothing
that is asked of it ever comes.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context as ContextVars
from types import AsyncGeneratorType
from typing import Any, NoReturn, Protocol

from .._errors import ForbiddenOperation
from .endings import is_own
from .generators import OpenGenerators
from .refusals import forbidden
from .tasks import ReplayFuture, ReplayTask
from .timed_loop import TimedLoop, TimerHost

__all__ = ["ReplayLoop", "TurnInterrupted", "Watched", "thread_of_turn", "watched"]

_LOOK_AFTER = 1_024
_collecting: set[int] = set()
_get_ident = threading.get_ident


def _note_collection(phase: str, _: dict[str, int]) -> None:
    """Know which thread runs finalizers at a moment that no replay repeats."""
    (_collecting.add if phase == "start" else _collecting.discard)(_get_ident())


gc.callbacks.append(_note_collection)


def is_collecting() -> bool:
    """Tell whether this thread runs finalizers, within a collection of garbage."""
    return _get_ident() in _collecting


def thread_of_turn() -> int:
    """Return the thread that is about to run an orchestrator's code: it is in no collection.

    The end of the last one may not have been heard: where the stack is nearly full, Python cannot
    call who listens.
    """
    thread = _get_ident()
    if _collecting:
        _collecting.discard(thread)
    return thread


class TurnInterrupted(BaseException):
    """Thrown into a turn that does not come to an end.

    What it becomes is decided where the turn was begun.
    """


class Watched(Protocol):
    """The turn that is taken, as its watchdog sees it."""

    was_interrupted: bool

    def check(self) -> None:
        """Raise ``TurnInterrupted`` if the turn was interrupted, or takes too long."""


class _Watched(threading.local):
    turn: Watched | None = None


#: The turn of this thread.
watched: _Watched = _Watched()


async def _result_of(future: asyncio.Future[Any]) -> Any:
    return await future


async def _close(generator: AsyncGeneratorType[Any, Any]) -> None:
    await generator.aclose()


class ReplayLoop(TimedLoop):
    """The loop of one execution. Times inside it are seconds since the execution began."""

    def __init__(self, host: TimerHost, log_problem: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(host)
        self._log_problem = log_problem
        self._ready: deque[asyncio.Handle] = deque()
        self._numbers = itertools.count(1)
        self._tasks: dict[int, ReplayTask] = {}
        self._is_running = False
        self._is_dead = False
        self._generators = OpenGenerators(self._numbers)
        #: The thread to which the loop is open; 0 if it is to none.
        self.owner = 0
        #: What was refused to code outside, which the code that waits for it will not learn.
        self.trespass: str | None = None

    def next_number(self) -> int:
        """Return the next number in order of creation."""
        return next(self._numbers)

    @property
    def tasks(self) -> list[ReplayTask]:
        """Return the unfinished tasks in order of creation."""
        return list(self._tasks.values())

    # -- who may use it ----------------------------------------------------------------------------

    def is_open(self) -> bool:
        """Tell whether the caller is the orchestrator's code, in its turn."""
        return self.owner == _get_ident() and not (_collecting and self.owner in _collecting)

    def refuse(self, what: str) -> asyncio.Future[Any]:
        """Answer what is asked while the loop is not open: what is left of dropped code gets a
        future that never ends.

        Raises:
            ForbiddenOperation: it may not be asked.
        """
        if self.is_dying or (self._is_dead and is_collecting()):
            return self.create_future()
        if self._is_dead:
            raise ForbiddenOperation(
                f"{what}: this orchestration is no longer in use here", operation=what
            )
        raise ForbiddenOperation(f"{what} {_OUT_OF_TURN}", operation=what)

    def _keep_out(self, what: str) -> None:
        """Refuse what would change something outside a turn, and remember that: who waits for it
        will wait in vain.

        Raises:
            ForbiddenOperation: always, except on a dead loop, where nothing has effects.
        """
        if self._is_dead:
            return
        self.trespass = self.trespass or what
        raise ForbiddenOperation(f"{what} {_OUT_OF_TURN}", operation=what)

    def keeps_out(self, what: str) -> bool:
        """Tell whether what is asked is to have no effect, as the loop is dead.

        Raises:
            ForbiddenOperation: it is asked from outside a turn.
        """
        if self.is_open():
            return False
        self._keep_out(what)
        return True

    # -- running -----------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run what is ready, and what becomes ready, until nothing is.

        Raises:
            TurnInterrupted: the turn takes too long.
        """
        ready, turn, count = self._ready, watched.turn, 0
        outer = self._enter()
        try:
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    self._run(handle)
                count += 1
                if turn is not None and (turn.was_interrupted or not count % _LOOK_AFTER):
                    turn.check()
        finally:
            self._leave(*outer)

    def _run(self, handle: asyncio.Handle) -> None:
        try:
            handle._run()
        # its task has it already; of all exceptions asyncio lets only this one through
        except SystemExit as error:
            if not is_own(error):
                raise

    def _enter(self) -> tuple[Any, Any]:
        """Make this the running loop of the thread; return what was before."""
        outer = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generators.note, self._generator_left)
        self._is_running = True
        return outer

    def _leave(self, loop: Any, hooks: Any) -> None:
        self._is_running = False
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)

    def abandon(self) -> bool:
        """Close every unfinished task; nothing of this loop runs afterwards.

        False if some do not let themselves be closed.
        """
        self._is_dead = self.is_dying = True
        self._ready.clear()
        tasks = self.tasks
        self._tasks.clear()
        outer = self._enter()
        try:
            ended = [task.abandon() for task in tasks]
        finally:
            self.is_dying: bool = False
            self._leave(*outer)
        self._generators.clear()
        return all(ended)

    # -- async generators --------------------------------------------------------------------------

    def _generator_left(self, generator: Any) -> None:
        """Close a generator that nothing holds any more: at once if its last reference has gone,
        which every replay repeats.

        The garbage collector finds one at any moment; such a one is kept for the end.
        """
        number = self._generators.drop(generator)
        if self._is_dead:
            return  # it goes without running
        if not self.is_open():
            self._generators.keep_for_the_end(generator, number)
            return
        self.create_task(_close(generator)).closes = True
        if not self._is_running:
            return
        current = asyncio.current_task(self)
        if current is not None:
            asyncio.tasks._leave_task(self, current)
        try:
            self._run(self._ready.pop())
        finally:
            if current is not None:
                asyncio.tasks._enter_task(self, current)

    def close_generators(self) -> bool:
        """Close all async generators that were left early, as ``asyncio.run`` does at the end.

        False while one is not closed.
        """
        while left := self._generators.take_left():
            for generator in left:
                self.create_task(_close(generator)).closes = True
            self.run_until_idle()
        return not self.closing

    @property
    def closing(self) -> list[ReplayTask]:
        """Return the tasks that close async generators."""
        return [task for task in self._tasks.values() if task.closes]

    # -- what asyncio asks of a loop ---------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if (self.owner != _get_ident() or _collecting) and self.keeps_out("call_soon()"):
            return handle
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> NoReturn:
        if not self._is_dead and self.owner != _get_ident():
            self.trespass = self.trespass or "call_soon_threadsafe()"
        raise forbidden("call_soon_threadsafe")

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
        # ctx.call() and its kind: futures here, coroutines to their users
        if isinstance(coro, asyncio.Future):
            coro = _result_of(coro)
        if not self.is_open():
            with suppress(BaseException):
                coro.close()
        is_inert = self.keeps_out("create_task()")
        task = ReplayTask(coro, loop=self, name=name, context=context)
        if is_inert:
            task._log_destroy_pending = False
            return task
        self._tasks[task.number] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(task.number, None)  # type: ignore[attr-defined]

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_dead

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self._log_problem(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # that one is meant for the turn, which knows
        if not isinstance(context.get("exception"), TurnInterrupted):
            self._log_problem(context)


_OUT_OF_TURN = (
    "was used outside a turn of its orchestration: by another thread, by a finalizer that the"
    " garbage collector ran, or after the orchestrator had gone. Only the orchestrator's own code"
    " may do that, while it runs; put work of threads in an activity"
)


ReplayLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
