"""Futures and tasks that hash by the order of their creation, so that the sets inside ``asyncio``
iterate alike in every process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from contextvars import copy_context
from typing import Any

from .refusals import RefusingLoop, forbidden

__all__ = ["Abandoned", "NumberingLoop", "ReplayFuture", "ReplayTask"]

#: How often code that is dropped may await once more, before it is kept as it is.
_THROWS = 10
#: Code that did not let itself be ended: the garbage collector would finish it at any moment.
_PARKED: list[object] = []


class NumberingLoop(RefusingLoop):
    """A loop that numbers what is made for it."""

    def next_number(self) -> int:
        """Return the next number in order of creation."""
        raise NotImplementedError


class Abandoned(BaseException):
    """Thrown into what is left of an execution that is dropped."""


class ReplayFuture(asyncio.Future[Any]):
    """A future that hashes by its number in the loop."""

    def __init__(self, *, loop: NumberingLoop) -> None:
        super().__init__(loop=loop)
        self.number: int = loop.next_number()

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class ReplayTask(asyncio.Task[Any]):
    """A task that hashes by its number in the loop."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: NumberingLoop,
        name: str | None,
        context: ContextVars | None,
    ) -> None:
        self.number: int = loop.next_number()
        self.coroutine = coro
        self.context: ContextVars = copy_context() if context is None else context
        #: Whether it closes an async generator that was left early.
        self.closes = False
        super().__init__(coro, loop=loop, name=name or f"task-{self.number}", context=self.context)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def add_done_callback(
        self, fn: Callable[..., object], /, *, context: ContextVars | None = None
    ) -> None:
        """Add a callback.

        A thread that is to live as long as this task (anyio's ``to_thread``) is sent away.

        Raises:
            ForbiddenOperation: it is a thread's.
        """
        if isinstance(getattr(fn, "__self__", None), threading.Thread):
            fn(self)
            raise forbidden("to_thread", "threads")
        super().add_done_callback(fn, context=context)

    def abandon(self) -> bool:
        """End a task that will never run again, without asyncio's warning about it.

        False if it does not let itself be ended.

        Its ``finally`` blocks may await once more; it is thrown out again, a few times. Nothing may
        be left of it for the garbage collector, which would finish it later, while another
        orchestrator runs on this thread.
        """
        self._log_destroy_pending = False
        loop = self.get_loop()
        for _ in range(_THROWS):
            asyncio.tasks._enter_task(loop, self)
            try:
                self.context.run(self.coroutine.throw, Abandoned())
            except BaseException:  # user code in a dying frame has no say any more
                return True
            finally:
                asyncio.tasks._leave_task(loop, self)
        _PARKED.append(self.coroutine)
        return False
