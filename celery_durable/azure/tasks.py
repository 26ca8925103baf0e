"""Azure's tasks: what its orchestrators yield, over the futures that ``ctx`` gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..core.waits import AllFuture
from .errors import NotSupported, TaskCancelledError, as_task_failure

__all__ = ["FunctionsTask", "Mailbox", "Task", "all_of", "first_of", "relayed", "when_all", "when_any"]


class Task:
    """A call, a timer, a wait for an event, or several of these: to be yielded, any number of times.

    Two tasks are equal only if they are the same. This is durabletask's; ``.result`` raises the failure.
    """

    def __init__(self, future: asyncio.Future[Any], withdraw: Callable[[], object] | None = None) -> None:
        self.future = future
        self._withdraw = withdraw
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
    def result(self) -> Any:
        """The same as ``get_result()``."""
        return self.get_result()

    def get_result(self) -> Any:
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
        return self.future.result()

    def get_exception(self) -> BaseException:
        """Return the failure.

        Raises:
            ValueError: it has not failed.
        """
        if not self.is_failed or (error := self.future.exception()) is None:
            raise ValueError("the task has not failed")
        return as_task_failure(error)

    def cancel(self) -> bool:
        """Cancel a timer or a wait for an event; False if it is done already.

        Raises:
            NotSupported: it is neither of these.
        """
        if self._withdraw is None:
            raise NotSupported("only timers and waits for events can be cancelled; an activity goes on, ignore it")
        if self.future.done():
            return False
        self._withdraw()
        self._is_withdrawn = True
        self.future.set_exception(TaskCancelledError("the task was cancelled"))
        self.future.exception()  # seen: a cancelled timer that nobody awaits is no problem
        return True


class FunctionsTask(Task):
    """A task of Azure Functions: ``.result`` is None before the end, and the exception of one that failed."""

    @property
    def result(self) -> Any:
        """The result, or the exception; None before that."""
        if not self.is_completed:
            return None
        return self.future.exception() or self.future.result()

    def cancel(self) -> bool:
        """Cancel a timer or a wait; False if it was withdrawn already.

        Raises:
            ValueError: it is over.
        """
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        return super().cancel()


def relayed(source: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Return a future that gets the result of a timer or an event, and may be ended without it."""
    target: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def relay(_: object) -> None:
        if not target.done() and not source.cancelled():
            target.set_result(source.result())

    source.add_done_callback(relay)
    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    return target


def first_of(tasks: list[Task], is_wanted: Callable[[Task], bool]) -> asyncio.Future[Task]:
    """Return a future of the first task to be done, failed ones too; the others go on."""
    if not tasks:
        raise ValueError("the first of no tasks would never be done")
    winner: asyncio.Future[Task] = asyncio.get_running_loop().create_future()

    def ended(task: Task, _: object = None) -> None:
        if not winner.done() and is_wanted(task):
            if not task.future.cancelled():
                task.future.exception()  # seen: whoever gets the task asks for its result
            winner.set_result(task)

    for task in tasks:
        if task.future.done():
            ended(task)
    if not winner.done():
        for task in tasks:
            task.future.add_done_callback(partial(ended, task))
    return winner


def all_of(tasks: list[Task], *, fail_fast: bool) -> asyncio.Future[list[Any]]:
    """Return a future of every result, in order."""
    loop: Any = asyncio.get_running_loop()
    return AllFuture([task.future for task in tasks], loop=loop, fail_fast=fail_fast)


def when_all(tasks: Iterable[Task]) -> Task:
    """Return a task of every result, in order; it fails, once all are done, by the first failure in that order."""
    return Task(all_of(list(tasks), fail_fast=False))


def when_any(tasks: Iterable[Task]) -> Task:
    """Return a task whose result is the first of these tasks that is done, failed or cancelled.

    Raises:
        ValueError: there are none.
    """
    return Task(first_of(list(tasks), lambda task: True))


class Mailbox:
    """The waits for one event name. The newest gets the next event, as in Azure Functions.

    A wait that lost against a timer and was forgotten must not swallow an event that a later one waits for.
    """

    def __init__(self, wait: Callable[[], asyncio.Future[Any]]) -> None:
        self._wait = wait
        self._arrivals: list[asyncio.Future[Any]] = []
        self._waits: list[asyncio.Future[Any]] = []

    def open(self) -> asyncio.Future[Any]:
        """Return a future of an event; cancelling it gives the event back to whoever waits next."""
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
