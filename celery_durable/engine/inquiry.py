"""Which messages are lost: the proof without which nothing is sent again.

A message that was sent is on the broker's queue, or a worker has it: runs it, keeps it for its time
or its rate, or has not yet looked at what came over the wire. So a row that waits for a worker has
lost its message if, after its look was due, the queue was found empty, and every living worker has
since said what it has. Each worker measures the queues that it consumes, and gives its own
testimony; both only while some row is due.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .due import Lost
from .records import ActivityAttemptId
from .store_ports import Workers

__all__ = ["Hands", "Inquiry", "Witness"]

_SECOND = 1_000_000
_KEPT = 10 * _SECOND
#: A worker that could say nothing for so long is not waited for: it may be busy with one long task
#: in its only thread.
_DEAF = 60 * _SECOND
#: Without a proof a message is sent again only when its look is overdue by this, and then rarely.
_UNKNOWN, _HOPELESS = 60 * _SECOND, 3_600 * _SECOND


class Hands(NamedTuple):
    """What a worker has: activities, and the instances of turns, whose messages it has received and
    not acknowledged.
    """

    activities: Collection[ActivityAttemptId] = ()
    instances: Collection[str] = ()


class Witness(Protocol):
    """What one worker knows of messages."""

    def ask(self, now: int) -> None:
        """Let the worker look at everything that has come over the wire by ``now``, a moment of the
        store's clock.
        """

    def answer(self) -> Hands | None:
        """Return what it has, once it has looked at everything that had come when it was asked.

        Else None.

        What is not due before then, it need not name.
        """

    def depths(self) -> Mapping[str, int | None]:
        """Return how many messages wait on each queue that it consumes.

        None where that cannot be told.

        Nothing at all if this worker is cut off from the broker.
        """


@dataclass(slots=True)
class Inquiry:
    """One worker's part; ``advance`` is called about once a second while some row is due."""

    workers: Workers
    witness: Witness
    worker_id: str
    lease: int
    _asked_at: int | None = None
    _empty: dict[str, list[int]] = field(default_factory=dict)
    _proven: dict[str, int] = field(default_factory=dict)
    _last_now: int = 0
    #: The queue on which most messages were found when they were last counted; None: on none.
    longest: str | None = None
    #: Whether the one that was that before is no more found to have any.
    has_turned: bool = False
    #: Whether the worker has said what it has, the last time that ``advance`` was called.
    has_testified: bool = False

    def advance(self, now: int) -> Lost:
        """Give testimony, measure, and return what is lost for certain, or for so long that it has
        to be supposed.

        Args:
            now: the store's clock, in microseconds, read before this call.
        """
        if now < self._last_now:  # the clock has stepped back: no earlier moment can be compared
            self.rest()
            self._proven.clear()
        self._last_now = now
        self._testify(now)
        depths = self._measure(now)
        reported = (self.workers.reported_since(self.lease) or 0) if self._empty else 0
        for queue, moments in self._empty.items():
            heard = [moment for moment in moments if moment <= max(reported, now - _DEAF)]
            if heard:
                self._proven[queue] = heard[-1]
                del moments[: len(heard) - 1]
        bounds = {
            queue: max(self._proven.get(queue, 0), now - (_UNKNOWN if depth is None else _HOPELESS))
            for queue, depth in depths.items()
        }
        return Lost(bounds, min(bounds.values(), default=0))

    @property
    def has_empty(self) -> bool:
        """Whether some queue was found empty: what is looked for there may be lost."""
        return bool(self._empty)

    def rest(self) -> None:
        """Nothing is due: what was measured is too old to be of use when something is."""
        self._asked_at = None
        self._empty.clear()

    def _testify(self, now: int) -> None:
        hands = self.witness.answer() if self._asked_at is not None else None
        self.has_testified = hands is not None
        if hands is not None and self._asked_at is not None:
            self.workers.keep(hands.activities, hands.instances, _KEPT)
            self.workers.report(self.worker_id, self._asked_at)
            self._asked_at = None
        if self._asked_at is None:
            self._ask(now)

    def watch(self, now: int) -> bool:
        """Measure without a question to the store, and tell whether that may wait: the queue that
        was the longest is not empty.

        What the worker has, it is asked all the same: its answer is to be a fresh one.
        """
        if now < self._last_now:
            return False
        self._last_now = now
        self._ask(now)
        self._measure(now)
        return not self.has_turned

    def _ask(self, now: int) -> None:
        self._asked_at = now
        self.witness.ask(now)

    def _measure(self, now: int) -> Mapping[str, int | None]:
        """Count the messages, and note when each queue was empty: moments of the store's clock, as
        long as nothing was found on it in between.
        """
        depths, longest = self.witness.depths(), self.longest
        self.has_turned = longest is not None and not depths.get(longest)
        found = {queue: depth for queue, depth in depths.items() if depth}
        self.longest = max(found, key=found.__getitem__, default=None)
        for queue in self._empty.keys() - depths.keys():
            del self._empty[queue]
        for queue, depth in depths.items():
            if depth == 0:
                self._empty.setdefault(queue, []).append(now)
            else:
                self._empty.pop(queue, None)
        return depths
