"""Futures that mean something to the engine: of one call, and composites of several."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from .._errors import ForbiddenOperation
from .loop import ReplayLoop
from .tasks import ReplayFuture

__all__ = [
    "SKIPPED",
    "AllFuture",
    "AnyFuture",
    "CallFuture",
    "MapFuture",
    "as_future",
    "done_future",
]

_FOREIGN_FUTURE = (
    "{!r} belongs to another event loop and cannot be replayed. Await ctx.call(...), other ctx"
    " methods or asyncio's own primitives; put real I/O in an activity"
)


def done_future(loop: ReplayLoop, value: Any) -> asyncio.Future[Any]:
    """Return a future that has its result already."""
    future = loop.create_future()
    future.set_result(value)
    return future


def as_future(loop: ReplayLoop, awaitable: Any) -> asyncio.Future[Any]:
    """Return a future of this loop for anything an orchestrator may await.

    Raises:
        ForbiddenOperation: it is a future of another loop.
        TypeError: it cannot be awaited.
    """
    if isinstance(awaitable, asyncio.Future):
        if awaitable.get_loop() is not loop:
            raise ForbiddenOperation(_FOREIGN_FUTURE.format(awaitable))
        return awaitable
    if inspect.iscoroutine(awaitable):
        return loop.create_task(awaitable)
    if isinstance(awaitable, Awaitable):
        return loop.create_task(_await(awaitable))
    raise TypeError(
        f"{awaitable!r} cannot be awaited; yield or pass what ctx.call(...) and its like return"
    )


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class CallFuture(ReplayFuture):
    """The result of one activity or child; cancelling it takes the call back."""

    def __init__(
        self, command: int, *, loop: ReplayLoop, is_activity: bool, take_back: Callable[[int], None]
    ) -> None:
        super().__init__(loop=loop)
        self.command = command
        self.is_activity = is_activity
        self._take_back = take_back

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, and take the call back."""
        was_pending = super().cancel(msg)
        if was_pending:
            self._take_back(self.command)
        return was_pending


class _Composite(ReplayFuture):
    """A future over others, in order; cancelling it cancels them."""

    def __init__(self, members: Sequence[asyncio.Future[Any]], *, loop: ReplayLoop) -> None:
        super().__init__(loop=loop)
        self.members: list[asyncio.Future[Any]] = list(members)
        self._cancel_message: Any = None
        self._is_canceling = False
        self._settle()
        for member in dict.fromkeys(self.members):
            if not self.done() and not member.done():
                member.add_done_callback(self._member_done)

    def _member_done(self, member: asyncio.Future[Any]) -> None:
        if not self.done():
            self._settle()
        elif not member.cancelled():
            member.exception()  # seen: the composite has its answer already

    def _settle(self) -> None:
        raise NotImplementedError

    def _give(self, result: Any = None, error: BaseException | None = None) -> None:
        if self._is_canceling:
            super().cancel(self._cancel_message)
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(result)

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        pending = [member for member in self.members if not member.done()]
        if not pending:
            return super().cancel(msg)
        self._is_canceling, self._cancel_message = True, msg
        for member in pending:
            member.cancel(msg)
        return True


def _outcome(member: asyncio.Future[Any]) -> tuple[Any, BaseException | None]:
    if member.cancelled():
        return None, asyncio.CancelledError()
    error = member.exception()
    return (None, error) if error is not None else (member.result(), None)


def _found(member: asyncio.Future[Any]) -> Any:
    result, error = _outcome(member)
    return result if error is None else error


class AllFuture(_Composite):
    """Every result in order; the first failure at once, or after all are done."""

    def __init__(
        self, members: Sequence[asyncio.Future[Any]], *, loop: ReplayLoop, fail_fast: bool = True
    ) -> None:
        self._fail_fast = fail_fast
        self._left = -1
        super().__init__(members, loop=loop)

    def _member_done(self, member: asyncio.Future[Any]) -> None:
        self._left -= 1
        if (
            self._left
            and not self.done()
            and not (self._fail_fast and _outcome(member)[1] is not None)
        ):
            return  # a batch of N is looked at twice, not N times
        super()._member_done(member)

    def _settle(self) -> None:
        if self._left < 0:
            self._left = sum(1 for member in dict.fromkeys(self.members) if not member.done())
        is_done = self._left == 0
        if self._fail_fast and not is_done:
            for member in self.members:
                if member.done() and (error := _outcome(member)[1]) is not None:
                    return self._give(error=error)
        if is_done:
            outcomes = [_outcome(member) for member in self.members]  # every failure counts as seen
            error = next((error for _, error in outcomes if error is not None), None)
            self._give([result for result, _ in outcomes], error)


class _Skipped:
    """The place of an item without a result in those of ``ctx.map``; there is one such object."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SKIPPED"

    def __reduce__(self) -> str:
        return "SKIPPED"

    def __json__(self) -> None:
        """Be null in a payload."""


#: In the place of a result that ``ctx.map(stop_when=)`` did not wait for.
SKIPPED: Final = _Skipped()


class MapFuture(_Composite):
    """Results or exceptions in order, while at most ``tolerate`` members fail.

    With ``stop_when`` it is over when so many have succeeded: the others are cancelled, and are
    ``SKIPPED``.
    """

    def __init__(
        self,
        members: Sequence[asyncio.Future[Any]],
        *,
        loop: ReplayLoop,
        tolerate: int,
        stop_when: int | None = None,
    ) -> None:
        self._tolerate = tolerate
        self._stop_when = stop_when
        #: In the order in which they came.
        self._ended: list[asyncio.Future[Any]] = []
        self._failed = 0
        super().__init__(members, loop=loop)

    @property
    def waits_for_all(self) -> bool:
        """Whether no single success is of interest before all are over."""
        return self._stop_when is None

    def _member_done(self, member: asyncio.Future[Any]) -> None:
        error = _outcome(member)[1]  # seen
        if self.done():
            return
        self._ended.append(member)
        self._failed += error is not None
        if error is not None and self._failed > self._tolerate:
            self._take_rest_back()
            self._give(error=error)
        elif len(self._ended) - self._failed == self._stop_when:
            self._give(self._results())
            self._take_rest_back()
        elif len(self._ended) == len(self.members):
            self._give(self._results())

    def _take_rest_back(self) -> None:
        for member in self.members:
            member.cancel()

    def _results(self) -> list[Any]:
        ended = set(self._ended)
        return [_found(member) if member in ended else SKIPPED for member in self.members]

    def _settle(self) -> None:
        if not self.members:
            self._give([])
        for member in self.members:
            if member.done():
                self._member_done(member)


class AnyFuture(_Composite):
    """The first member to be done decides; the losers may be taken back."""

    def __init__(
        self, members: Sequence[asyncio.Future[Any]], *, loop: ReplayLoop, cancel_losers: bool
    ) -> None:
        self._cancel_losers = cancel_losers
        super().__init__(members, loop=loop)

    def _settle(self) -> None:
        winner = next((member for member in self.members if member.done()), None)
        if winner is None:
            return
        result, error = _outcome(winner)
        self._give(result, error)
        if self._cancel_losers:
            for member in self.members:
                if member is not winner:
                    member.cancel()
