"""A turn that does not come to an end is interrupted from a thread beside it.

An orchestrator computes nothing long: a turn that has kept the processor busy for ``limit`` seconds is a loop without an
end. An exception is thrown into its thread, again and again until it leaves. A process that was frozen, or waits, is
not busy: it is left alone.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import TurnLimitExceeded
from ..forks import renew_in_children

__all__ = ["Watchdog"]


class _TurnInterruptedError(BaseException):
    """Thrown into a turn; what it becomes is decided where the turn was begun."""


@dataclass(eq=False, slots=True)
class _Turn:
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=time.process_time)
    was_interrupted: bool = False

    def is_late(self, limit: float) -> bool:
        return time.monotonic() - self.began >= limit and time.process_time() - self.busy >= limit / 2


class Watchdog:
    """Watches the turns of this process. Greenlets cannot be interrupted; there the limit is not kept."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._renew()
        renew_in_children(self, Watchdog._renew)

    def _renew(self) -> None:
        self._turns: set[_Turn] = set()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, instance_id: str) -> Iterator[None]:
        """Watch one turn.

        Raises:
            TurnLimitExceeded: it was interrupted.
        """
        turn = _Turn()
        with self._lock:
            self._turns.add(turn)
            if self._thread is None and not _is_green():
                self._thread = threading.Thread(target=self._watch, name="durable-watchdog", daemon=True)
                self._thread.start()
        self._wanted.set()
        try:
            try:
                yield
            finally:
                with self._lock:
                    self._turns.discard(turn)
        except _TurnInterruptedError:
            pass
        except BaseException:
            if not turn.was_interrupted:
                raise
        if turn.was_interrupted:
            self._settle()
            raise TurnLimitExceeded(
                f"a turn of orchestration {instance_id!r} did not come to an end within {self.limit:g} s "
                "(durable_turn_timeout): does it loop, or compute what an activity should? Mend it, then resume it",
                instance_id=instance_id,
            )  # fmt: skip

    def _settle(self) -> None:
        """Let an interruption that is on its way arrive here, where it does no harm."""
        try:
            for _ in range(1000):
                pass
        except _TurnInterruptedError:
            pass

    def _watch(self) -> None:
        pause = min(1.0, self.limit / 4)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(pause)
            with self._lock:
                for turn in self._turns:
                    if turn.is_late(self.limit):
                        turn.was_interrupted = True
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(turn.thread), ctypes.py_object(_TurnInterruptedError)
                        )
                if self._turns:
                    self._wanted.set()


def _is_green() -> bool:
    monkey = sys.modules.get("gevent.monkey") or sys.modules.get("eventlet.patcher")
    if monkey is None:
        return False
    is_patched = getattr(monkey, "is_module_patched", None) or getattr(monkey, "is_monkey_patched", None)
    return bool(is_patched is not None and (is_patched("threading") or is_patched("thread")))
