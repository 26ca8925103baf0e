"""Azure's tasks: what its orchestrators yield, over the futures that ``ctx`` gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from ..core.futures import AllFuture
from .errors import NotSupported, TaskCancelledError, as_task_failure
from .values import Reader

__all__ = [
    "CancellableTask",
    "CompletableTask",
    "CompositeTask",
    "Mailbox",
    "RetryableTask",
    "Task",
    "TimerTask",
    "WhenAllTask",
    "WhenAnyTask",
    "all_of",
    "first_of",
    "relayed",
    "when_all",
    "when_any",
]

T = TypeVar("T")


class Task(Generic[T]):
    """A call, a timer, a wait for an event, or several of these: to be yielded, any number of
    times.

    Two tasks are equal only if they are the same. ``.result`` of durabletask's raises the failure;
    of a lenient one, which is Azure Functions', it is None before the end, and the exception of one
    that failed.
    """

    def __init__(
        self, future: asyncio.Future[Any], read: Reader | None = None, *, is_lenient: bool = False
    ) -> None:
        self.future = future
        self._read = read
        self._values: list[T] = []
        self._is_lenient = is_lenient
        self._is_withdrawn = False

    @property
    def is_cancelled(self) -> bool:
        """True once it was cancelled, or the orchestration was while it waited for this."""
        return self._is_withdrawn or self.future.cancelled()

    @property
    def is_complete(self) -> bool:
        """True once it is done, has failed or was cancelled."""
        return self.future.done()

    @property
    def is_completed(self) -> bool:
        """True once it is done or has failed."""
        return self.future.done() and not self.is_cancelled

    @property
    def is_failed(self) -> bool:
        """True once it has failed."""
        return self.is_completed and self.future.exception() is not None

    @property
    def result(self) -> T:
        """The same as ``get_result()``.

        In Azure Functions None before the end, and the exception of one that failed.
        """
        if not self._is_lenient:
            return self.get_result()
        if not self.is_completed:
            return None  # type: ignore[return-value]
        return self.future.exception() or self.value()  # type: ignore[return-value]

    def get_result(self) -> T:
        """Return the result.

        Raises:
            ValueError: it is not done yet.
            TaskFailedError: it failed.
            TaskCancelledError: it was cancelled.
        """
        if not self.future.done():
            raise ValueError("the task is not done yet: yield it first")
        if self.is_cancelled:
            raise TaskCancelledError("the task was cancelled")
        if (error := self.future.exception()) is not None:
            raise as_task_failure(error)
        return self.value()

    def get_exception(self) -> BaseException:
        """Return the failure.

        Raises:
            ValueError: it has not failed.
        """
        if not self.is_failed or (error := self.future.exception()) is None:
            raise ValueError("the task has not failed")
        return as_task_failure(error)

    def value(self) -> T:
        """Return the result of one that is done, made of what was received.

        Always the same object.
        """
        if not self._values:
            received = self.future.result()
            self._values.append(received if self._read is None else self._read(received))
        return self._values[0]

    def cancel(self) -> bool:
        """Raise ``NotSupported``: only timers and waits for events can be cancelled."""
        raise NotSupported(
            "only timers and waits for events can be cancelled; an activity continues, ignore it"
        )


class CompletableTask(Task[T]):
    """A call of an activity, of a sub-orchestration or of an entity."""


class RetryableTask(CompletableTask[T]):
    """A call that is made again if it fails."""


class CancellableTask(CompletableTask[T]):
    """A wait for an event, or a timer."""

    def __init__(
        self,
        future: asyncio.Future[Any],
        read: Reader | None = None,
        *,
        withdraw: Callable[[], object] = lambda: None,
        is_lenient: bool = False,
    ) -> None:
        super().__init__(future, read, is_lenient=is_lenient)
        self._withdraw = withdraw

    def cancel(self) -> bool:
        """Cancel it; False if it is done, or was cancelled already.

        Raises:
            ValueError: (in Azure Functions) it is over.
        """
        if self._is_lenient and self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        if self.future.done():
            return False
        self._withdraw()
        self._is_withdrawn = True
        self.future.set_exception(TaskCancelledError("the task was cancelled"))
        self.future.exception()  # seen: a cancelled timer that is not awaited is no problem
        return True


class TimerTask(CancellableTask[None]):
    """A timer."""


class CompositeTask(Task[T]):
    """Several tasks."""

    def __init__(
        self,
        future: asyncio.Future[Any],
        tasks: Sequence[Task[Any]],
        read: Reader | None,
        *,
        is_lenient: bool = False,
    ) -> None:
        super().__init__(future, read, is_lenient=is_lenient)
        self._tasks = list(tasks)

    def get_tasks(self) -> list[Task[Any]]:
        """Return the tasks that it is made of."""
        return list(self._tasks)


class WhenAllTask(CompositeTask[list[T]]):
    """All of several tasks; its result is theirs, in order."""

    def __init__(
        self, tasks: Sequence[Task[T]], *, fail_fast: bool, is_lenient: bool = False
    ) -> None:
        def read(_: Any) -> list[T]:
            return [task.value() for task in tasks]

        super().__init__(all_of(tasks, fail_fast=fail_fast), tasks, read, is_lenient=is_lenient)

    @property
    def pending_tasks(self) -> int:
        """How many are not done yet."""
        return len(self._tasks) - self.get_completed_tasks()

    def get_completed_tasks(self) -> int:
        """Return how many are done, failed ones too."""
        return sum(task.is_complete for task in self._tasks)


class WhenAnyTask(CompositeTask[Task[T]]):
    """The first of several tasks that is done; its result is that task.

    Raises:
        ValueError: there are none.
    """

    def __init__(
        self,
        tasks: Sequence[Task[T]],
        is_wanted: Callable[[Task[Any]], bool],
        *,
        is_lenient: bool = False,
    ) -> None:
        super().__init__(first_of(tasks, is_wanted), tasks, None, is_lenient=is_lenient)


def relayed(source: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Return a future that gets the result of a timer or an event, and may be ended without it."""
    target: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def relay(_: object) -> None:
        if not target.done() and not source.cancelled():
            target.set_result(source.result())

    source.add_done_callback(relay)
    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    return target


def first_of(
    tasks: Sequence[Task[Any]], is_wanted: Callable[[Task[Any]], bool]
) -> asyncio.Future[Task[Any]]:
    """Return a future of the first task to be done, failed ones too; the others go on."""
    if not tasks:
        raise ValueError("the first of no tasks would never be done")
    winner: asyncio.Future[Task[Any]] = asyncio.get_running_loop().create_future()

    def ended(task: Task[Any], _: object = None) -> None:
        if not winner.done() and is_wanted(task):
            if not task.future.cancelled():
                task.future.exception()  # seen: who gets the task asks for its result
            winner.set_result(task)

    for task in tasks:
        if task.future.done():
            ended(task)
    if not winner.done():
        for task in tasks:
            task.future.add_done_callback(partial(ended, task))
    return winner


def all_of(tasks: Sequence[Task[Any]], *, fail_fast: bool) -> asyncio.Future[list[Any]]:
    """Return a future of every result, in order."""
    loop: Any = asyncio.get_running_loop()
    return AllFuture([task.future for task in tasks], loop=loop, fail_fast=fail_fast)


def when_all(tasks: Iterable[Task[T]]) -> WhenAllTask[T]:
    """Return a task of every result, in order.

    It fails, once all are done, by the first failure in that order.
    """
    return WhenAllTask(list(tasks), fail_fast=False)


def when_any(tasks: Iterable[Task[T]]) -> WhenAnyTask[T]:
    """Return a task whose result is the first of these tasks that is done, failed or cancelled.

    Raises:
        ValueError: there are none.
    """
    return WhenAnyTask(list(tasks), lambda task: True)


class Mailbox:
    """The waits for one event name. The newest gets the next event, as in Azure Functions.

    A wait that lost against a timer and was forgotten must not swallow an event that a later one
    waits for.
    """

    def __init__(self, wait: Callable[[], asyncio.Future[Any]]) -> None:
        self._wait = wait
        self._arrivals: list[asyncio.Future[Any]] = []
        self._waits: list[asyncio.Future[Any]] = []

    def open(self) -> asyncio.Future[Any]:
        """Return a future of an event; cancelling it gives the event back to the next who waits."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arrival = self._wait()
        self._waits.append(future)
        self._arrivals.append(arrival)
        arrival.add_done_callback(self._deliver)
        future.add_done_callback(self._close)
        return future

    def _deliver(self, arrival: asyncio.Future[Any]) -> None:
        self._arrivals.remove(arrival)
        if not arrival.cancelled() and self._waits:
            self._waits.pop().set_result(arrival.result())

    def _close(self, future: asyncio.Future[Any]) -> None:
        if future in self._waits:
            self._waits.remove(future)
            self._arrivals[-1].cancel()
