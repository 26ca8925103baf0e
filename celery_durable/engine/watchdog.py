"""A turn that does not come to an end is interrupted from a thread beside it.

An orchestrator computes nothing long: a turn that has kept the processor busy for ``limit`` seconds
is a loop without an end. An exception is thrown into its thread, again and again until it leaves;
code that catches it and awaits again is stopped by its event loop, which looks at the turn now and
then. A process that was frozen, or waits, is not busy: it is left alone.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from .._errors import TurnLimitExceeded
from ..core.loop import TurnInterrupted, watched
from ..forks import renew_in_children

__all__ = ["Watchdog"]

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Watch:
    limit: float
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=time.process_time)
    was_interrupted: bool = False
    is_over: bool = False

    def is_late(self) -> bool:
        return (
            time.monotonic() - self.began >= self.limit
            and time.process_time() - self.busy >= self.limit / 2
        )

    def check(self) -> None:
        """Raise ``TurnInterrupted`` if this turn was interrupted, or is late."""
        if self.was_interrupted or self.is_late():
            self.was_interrupted = True
            raise TurnInterrupted


class Watchdog:
    """Watches the turns of this process.

    Greenlets cannot be interrupted: there only a turn that awaits again and again is stopped, not
    one that computes.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._renew()
        renew_in_children(self, Watchdog._renew)

    def _renew(self) -> None:
        self._watches: set[_Watch] = set()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, instance_id: str, turn: Callable[[], T]) -> T:
        """Take a turn, or a part of one, and return what it gives.

        It is a function that takes a function: an interruption could meet a ``with`` on its way to
        ``__exit__``.

        Raises:
            TurnLimitExceeded: it was interrupted.
        """
        watch, outer = _Watch(self.limit), watched.turn
        try:
            try:
                watched.turn = watch
                self._begin(watch)
                result = turn()
            finally:
                # first: an interruption may arrive at any later step of this block
                watch.is_over = True
                self._end(watch)
        except BaseException:
            if not watch.was_interrupted:
                raise
        finally:
            watched.turn = outer
        if not watch.was_interrupted:
            return result
        self._end(watch)
        raise TurnLimitExceeded(
            f"a turn of orchestration {instance_id!r} did not come to an end within {self.limit:g}"
            " s (durable_turn_timeout): does it loop, or compute what an activity should? Fix it,"
            " then resume it",
            instance_id=instance_id,
        )

    def _begin(self, watch: _Watch) -> None:
        with self._lock:
            self._watches.add(watch)
            if self._thread is None and not _is_green():
                self._thread = threading.Thread(
                    target=self._run, name="durable-watchdog", daemon=True
                )
                self._thread.start()
        self._wanted.set()

    def _end(self, watch: _Watch) -> None:
        """End a watch that is over: from here on nothing is thrown into its thread, nor on its way
        there.
        """
        is_out = False
        while not is_out:
            try:
                with self._lock:
                    self._watches.discard(watch)
                is_out = True
                if watch.was_interrupted and _throw(
                    watch.thread
                ):  # it takes the place of one on its way, and ends here
                    for _ in range(1_000):
                        pass
            except TurnInterrupted:
                continue

    def _run(self) -> None:
        pause = min(1.0, self.limit / 4)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(pause)
            with self._lock:
                self._interrupt_late()
                if self._watches:
                    self._wanted.set()

    def _interrupt_late(self) -> None:
        for watch in self._watches:
            if not watch.is_over and watch.is_late():
                watch.was_interrupted = True
                _throw(watch.thread)


def _throw(thread: int) -> bool:
    """Have the exception raised in a thread as soon as that runs Python.

    False if there is no such thread.

    It is never taken back: CPython 3.11 keeps looking for it.
    """
    return bool(
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread), ctypes.py_object(TurnInterrupted)
        )
    )


def _is_green() -> bool:
    monkey = sys.modules.get("gevent.monkey") or sys.modules.get("eventlet.patcher")
    if monkey is None:
        return False
    is_patched = getattr(monkey, "is_module_patched", None) or getattr(
        monkey, "is_monkey_patched", None
    )
    return bool(is_patched is not None and (is_patched("threading") or is_patched("thread")))
