"""How many countdown messages this process has sent that are not due yet.

A worker keeps each of them in memory and raises its prefetch by it, so only so many are sent; the
other timers fire by their rows, through recovery, a few seconds late and in bounded batches.
"""

from __future__ import annotations

import heapq
import threading
import time

from celery import Celery

from ..forks import renew_in_children

__all__ = ["Countdowns", "has_quorum_queue"]


def has_quorum_queue(app: Celery) -> bool:
    """Tell whether one of an app's queues is of a kind that delays messages natively."""
    return any(
        (getattr(queue, "queue_arguments", None) or {}).get("x-queue-type") == "quorum"
        for queue in app.amqp.queues.values()
    )


class Countdowns:
    """A bounded set of due times, of this process alone."""

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._renew()
        renew_in_children(self, Countdowns._renew)

    def _renew(self) -> None:
        self._due: list[float] = []
        self._lock = threading.Lock()

    def may_send(self, delay: float) -> bool:
        """Tell whether one more message, due in ``delay`` seconds, may be sent.

        It counts until then.
        """
        now = time.monotonic()
        with self._lock:
            while self._due and self._due[0] <= now:
                heapq.heappop(self._due)
            if len(self._due) >= self._most:
                return False
            heapq.heappush(self._due, now + delay)
            return True
