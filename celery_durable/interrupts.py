"""Signals that end a task's body, held back while the engine works.

A soft time limit and ``revoke(terminate=True, signal="SIGUSR1")`` are exceptions that a signal
handler raises wherever the process happens to be. They are meant for the body of an activity, and
only there they may be raised: in a transaction they would leave it half done, in a turn an
orchestrator would take them for an answer. So the engine's work is *shielded*: a signal that comes
meanwhile is noted. It is raised when a body begins or continues, and forgotten if none does.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["defer", "exposed", "shielded"]


class _Thread(threading.local):
    """What holds for one thread; handlers of signals run in the main one."""

    depth = 0
    struck: Callable[[], Any] | None = None


_here = _Thread()


class _Deferred:
    """A signal handler that waits while the thread is shielded."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _here.depth:
            _here.struck = lambda: self.handler(number, frame)
        else:
            self.handler(number, frame)


def defer(number: int, handler: Callable[[int, FrameType | None], Any]) -> None:
    """Let a signal wait while the main thread is shielded, if ``handler`` is what handles it now.

    Cheap when it does already.
    """
    if (
        signal.getsignal(number) is handler
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(number, _Deferred(handler))


class shielded:  # noqa: N801
    """Surrounds work of the engine.

    What struck meanwhile is raised at the end, or forgotten with ``drops``.
    """

    __slots__ = ("_depth", "_drops")

    def __init__(self, *, drops: bool = False) -> None:
        self._drops = drops

    def __enter__(self) -> None:
        self._depth = _here.depth
        _here.depth += 1

    def __exit__(self, *_: object) -> None:
        _here.depth = self._depth
        if _here.struck is not None and not _here.depth:
            _raise_struck(drops=self._drops)


class exposed:  # noqa: N801
    """Surrounds a body within shielded work; what struck before it is raised as it begins."""

    __slots__ = ("_depth",)

    def __enter__(self) -> None:
        self._depth, _here.depth = _here.depth, 0
        try:
            _raise_struck()
        except BaseException:
            _here.depth = self._depth
            raise

    def __exit__(self, *_: object) -> None:
        _here.depth = self._depth


def _raise_struck(*, drops: bool = False) -> None:
    struck, _here.struck = _here.struck, None
    if struck is not None and not drops:
        struck()
