"""The same orchestrator as plain Python under asyncio: only the order and the time of what happens
come from a history.

The loop is the standard library's. A timer waits until history says that a timer of that very due
time fired; a call waits until history holds an outcome of its label. Whatever else decides the
result is asyncio's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from celery_durable.core.history import Event, EventKind
from celery_durable.payload import PayloadCodec

from .clock import SECOND

CODEC = PayloadCodec()


class Diverged(AssertionError):
    """History has something for which this program does not wait."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set is the order of creation, which asyncio leaves to chance."""

    numbers = itertools.count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.number = next(self.numbers)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self.number


class PlainLoop(asyncio.SelectorEventLoop):
    """An ordinary loop whose timers are fired by hand."""

    def __init__(self) -> None:
        self.micros = self.origin = 0
        self.held: list[tuple[int, asyncio.TimerHandle]] = []
        super().__init__()
        self.set_task_factory(
            lambda loop, coro, **options: NumberedTask(_coroutine(coro), loop=loop, **options)
        )
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        return (self.micros - self.origin) / SECOND

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        due = self.origin + round(when * SECOND)
        if due <= self.micros:
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.held.append((due, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.held = [(due, held) for due, held in self.held if held is not handle]

    def fire(self, due: int) -> None:
        """Fire the oldest timer of that due time."""
        for entry in self.held:
            if entry[0] == due:
                self.held.remove(entry)
                self._ready.append(entry[1])  # type: ignore[attr-defined]
                return
        raise Diverged(f"a timer due at {due} fired; the timers here are {self.held}")

    def run_until_idle(self) -> None:
        while self._ready:  # type: ignore[attr-defined]
            self.call_soon(self.stop)
            self.run_forever()


async def _result_of(future: asyncio.Future[Any]) -> Any:
    return await future


def _coroutine(awaitable: Any) -> Any:
    return _result_of(awaitable) if isinstance(awaitable, asyncio.Future) else awaitable


class Call(asyncio.Future[Any]):
    """One call; a call that was cancelled is not waited for."""

    attempts = 1
    failed = 0
    interval = 0
    timer: Any = None

    def cancel(self, msg: Any = None) -> bool:
        if self.timer is not None:
            self.timer.cancel()
        return super().cancel(msg)


class First(asyncio.Future[Any]):
    """``ctx.any``: as the first of several.

    A cancel goes to all of them, and is over when the first is.
    """

    def __init__(
        self, members: Sequence[asyncio.Future[Any]], cancel_losers: bool, loop: Any
    ) -> None:
        super().__init__(loop=loop)
        self.members, self.cancel_losers, self.is_canceling = members, cancel_losers, False
        for member in members:
            member.add_done_callback(self.settle)
        self.settle()

    def settle(self, _: Any = None) -> None:
        winner = next((member for member in self.members if member.done()), None)
        if self.done() or winner is None:
            return
        if self.is_canceling:
            super().cancel()
        else:
            _copy(winner, self)
        if self.cancel_losers:
            for member in self.members:
                member.cancel()

    def cancel(self, msg: Any = None) -> bool:
        self.is_canceling = True
        for member in self.members:
            member.cancel()
        return True


class PlainContext:
    """What an orchestrator is given here."""

    def __init__(self, loop: PlainLoop) -> None:
        self.loop = loop
        self.waiting: dict[str, Call] = {}

    def call(self, signature: Any, *, retry: Any = None) -> Call:
        call = Call(loop=self.loop)
        if retry is not None:
            call.attempts, call.interval = retry.max_attempts, retry.first_interval
        label = signature["args"][0]
        assert label not in self.waiting, f"{label} is called twice"
        self.waiting[label] = call
        return call

    def all(self, awaitables: Any, *, fail_fast: bool = True) -> Any:
        if fail_fast or not awaitables:
            return asyncio.gather(*awaitables) if awaitables else self._done([])
        return self.loop.create_task(self._all_of(list(map(asyncio.ensure_future, awaitables))))

    async def _all_of(self, members: list[Any]) -> list[Any]:
        results = await asyncio.gather(*members, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def any(self, awaitables: Any, *, cancel_losers: bool = True) -> Any:
        return First(list(map(asyncio.ensure_future, awaitables)), cancel_losers, self.loop)

    def map(
        self, task: Any, items: list[Any], *, concurrency: int | None = None, tolerate: int = 0
    ) -> Any:
        calls = [self.call({"args": item}) for item in items]
        return self.loop.create_task(self._map(calls, tolerate))

    async def _map(self, calls: list[Call], tolerate: int) -> list[Any]:
        try:
            pending: set[Any] = set(calls)
            while pending:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                failed = [call for call in calls if call.done() and call.exception() is not None]
                if len(failed) > tolerate:
                    raise self._latest(failed)
        finally:
            for call in calls:
                call.cancel()
        return [call.exception() or call.result() for call in calls]

    def _latest(self, failed: list[Call]) -> BaseException:
        error = max(failed, key=lambda call: call.failed).exception()
        assert error is not None
        return error

    def sleep(self, duration: float) -> Any:
        future = self.loop.create_future()
        handle = self.loop.call_later(
            duration, lambda: None if future.done() else future.set_result(None)
        )
        future.add_done_callback(lambda done: handle.cancel())
        return future

    def _done(self, value: Any) -> Any:
        future = self.loop.create_future()
        future.set_result(value)
        return future


def _copy(source: asyncio.Future[Any], target: asyncio.Future[Any]) -> None:
    if source.cancelled():
        target.set_exception(asyncio.CancelledError())
    elif (error := source.exception()) is not None:
        target.set_exception(error)
    else:
        target.set_result(source.result())


def run_plain(function: Callable[[Any], Any], history: Sequence[Sequence[Event]]) -> Any:
    """Run an orchestrator in the order of a history, given turn by turn, and return how it ended.

    Raises:
        Diverged: it does not do what the history says that it did.
    """
    loop = PlainLoop()
    asyncio.set_event_loop(loop)
    try:
        return _Play(loop, function, history).run()
    finally:
        while leftover := asyncio.all_tasks(loop):
            for task in leftover:
                task.cancel()
            loop.run_until_idle()
        asyncio.set_event_loop(None)
        loop.close()


class _Play:
    def __init__(
        self, loop: PlainLoop, function: Callable[[Any], Any], history: Sequence[Sequence[Event]]
    ) -> None:
        self.loop, self.history = loop, history
        self.context = PlainContext(loop)
        self.function = function
        self.main: asyncio.Task[Any] | None = None
        self.labels: dict[int, str] = {}
        self.dues: dict[int, int] = {}
        self.failures = itertools.count(1)

    def run(self) -> Any:
        for turn in self.history:
            self.take(turn)
        return self.ending()

    def take(self, turn: Sequence[Event]) -> None:
        for event in turn:
            if event.kind is EventKind.ACTIVITY_SCHEDULED:
                args = CODEC.decode(event.payload or "")[0]
                self.labels[event.command] = args[0] if isinstance(args[0], str) else args[0][0]
            elif event.kind is EventKind.TIMER_CREATED:
                self.dues[event.command] = (event.facts or {})["due"]
            elif event.kind in _PLAYED:
                self.apply(event)

    def apply(self, event: Event) -> None:
        if self.main is not None and self.main.done():
            raise Diverged(f"it was over before {event}")
        overdue = [due for due, _ in self.loop.held if due < event.at]
        if overdue and event.kind is not EventKind.TIMER_FIRED:
            raise Diverged(f"{event} came before a timer that was due at {overdue}")
        self.loop.micros = max(self.loop.micros, event.at)
        _PLAYED[event.kind](self, event)
        self.loop.run_until_idle()

    def started(self, event: Event) -> None:
        self.loop.origin = event.at
        self.main = self.loop.create_task(self.function(self.context))

    def canceled(self, event: Event) -> None:
        assert self.main is not None
        self.main.cancel()
        for call in list(self.context.waiting.values()):
            call.cancel()

    def timer(self, event: Event) -> None:
        self.loop.fire(self.dues[event.command])

    def call_of(self, event: Event) -> Call:
        call = self.context.waiting.get(self.labels[event.command])
        if call is None or call.done():
            raise Diverged(f"nothing waits for {self.labels[event.command]}")
        return call

    def completed(self, event: Event) -> None:
        self.call_of(event).set_result(CODEC.decode(event.payload or "null"))

    def failed(self, event: Event) -> None:
        call = self.call_of(event)
        if event.attempt < call.attempts:
            call.timer = self.loop.call_later(call.interval, lambda: None)
            return
        call.failed = next(self.failures)
        call.set_exception(CODEC.decode_failure(event.payload or "")[0])

    def ending(self) -> Any:
        if self.main is None or not self.main.done():
            return ("goes on",)
        if self.main.cancelled():
            return ("canceled",)
        error = self.main.exception()
        return (
            ("failed", type(error).__name__, str(error))
            if error is not None
            else ("value", self.main.result())
        )


_PLAYED: dict[EventKind, Callable[[_Play, Event], None]] = {
    EventKind.EXECUTION_STARTED: _Play.started,
    EventKind.ACTIVITY_COMPLETED: _Play.completed,
    EventKind.ACTIVITY_FAILED: _Play.failed,
    EventKind.TIMER_FIRED: _Play.timer,
    EventKind.CANCEL_REQUESTED: _Play.canceled,
    EventKind.EXECUTION_RESUMED: lambda play, event: None,  # only time goes on
}
