"""SQLite and forks: none happens while a connection is in use.

SQLite keeps its locks per process: a child that is forked while a connection is open here would
write without any, and the parent could delete the log under it. The drivers of servers leave a
parent's sockets alone (``Database.engine``), and need none of this.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

__all__ = ["ForkGate"]

_LONGEST_WAIT = 10.0


class _Use:
    """One use of a connection, while it lasts: it ends with the frame that holds it, whatever ends
    that.
    """

    __slots__ = ("__weakref__",)


class ForkGate:
    """Lets connections of one database be used, or a fork happen.

    Args:
        close: closes the connections that are open; called before a fork.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self.uses: WeakSet[_Use] = WeakSet()
        self._changed = threading.Condition()
        with _lock:
            _gates.add(self)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Surround one use of a connection, which no fork interrupts."""
        use = _Use()
        try:
            with self._changed:
                self.uses.add(use)
            yield
        finally:
            with self._changed:
                self.uses.discard(use)
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Close all connections, and let none be used until ``after_fork``."""
        self._changed.acquire()
        end = time.monotonic() + _LONGEST_WAIT
        while self.uses and time.monotonic() < end:
            self._changed.wait(0.05)
        self._close()

    def after_fork(self) -> None:
        """Let connections be used again."""
        self._changed.release()

    def renew(self) -> None:
        """Be open in a child that was just forked."""
        self._changed, self.uses = threading.Condition(), WeakSet()


# one hook for all, which keeps none of them alive; the lock is held from before a fork until after
# it
_gates: WeakSet[ForkGate] = WeakSet()
_held: list[ForkGate] = []
_lock = threading.Lock()


def _before_fork() -> None:
    _lock.acquire()
    for gate in list(_gates):
        gate.before_fork()
        _held.append(gate)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().after_fork()
    _lock.release()


def _after_fork_in_child() -> None:
    for gate in list(_gates):
        gate.renew()
    _held.clear()
    _lock.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
