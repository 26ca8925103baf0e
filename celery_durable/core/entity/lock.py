"""The lock of an entity, and what waits for its end.

What waits stays in the state, as long as that is little. The rest is put aside, in order: as
messages of the entity to itself that no turn sees, which are shown, a batch at a time, once the
lock is free and all before them is done. As long as any of them is left, whatever arrives goes
behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..kinds import Aside
from ..ports import Codec

__all__ = ["Lock", "Waiting"]

#: How much waits in the state, in characters, and how much a batch holds that was put aside.
MOST_KEPT = 64_000

Message = Mapping[str, Any]


@dataclass(slots=True)
class Lock:
    """A lock that is held."""

    #: Who has asked for it: the execution and its command.
    request: str
    #: The fencing number: higher than that of every grant before.
    number: int
    #: When its lease is over, microseconds; None holds it until it is released.
    until: int | None = None
    #: Whether the entity has sent itself a message for the end of the lease.
    is_watched: bool = False
    #: The instance that holds it; None if it wants no answers.
    holder: str | None = None

    def saved(self) -> list[Any]:
        """Return it as a value."""
        return [self.request, self.number, self.until, self.is_watched, self.holder]


@dataclass(slots=True)
class _Batch:
    """Messages that were put aside together."""

    #: The number of the last one.
    last: int
    #: How many they are, and how long all of them.
    count: int
    size: int


class Waiting:
    """The messages that wait, in the order in which they came."""

    __slots__ = ("_aside", "_batches", "_codec", "_last", "_queue", "_shown", "_size")

    def __init__(
        self,
        codec: Codec,
        queue: Iterable[Message] = (),
        aside: tuple[int, int, Iterable[Any]] = (0, 0, ()),
    ) -> None:
        self._codec = codec
        self._queue = deque(queue)
        #: How long the messages in the queue are; None is not known.
        self._size: int | None = None
        #: The number of the last message put aside, and how many of a batch are shown now.
        self._last, self._shown, batches = aside
        self._batches = deque(_Batch(*batch) for batch in batches)
        #: What this turn puts aside, withdraws and shows.
        self._aside = Aside()

    @property
    def has_aside(self) -> bool:
        """Whether anything was put aside and is not done."""
        return bool(self._batches or self._shown)

    @property
    def has_queue(self) -> bool:
        """Whether anything waits in the state."""
        return bool(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue) or self.has_aside

    def saved_queue(self) -> list[Message]:
        """Return what waits in the state."""
        return list(self._queue)

    def saved_aside(self) -> list[Any] | None:
        """Return what is known of messages put aside, as a value; None if there are none."""
        if not self.has_aside:
            return None
        batches = [[batch.last, batch.count, batch.size] for batch in self._batches]
        return [self._last, self._shown, batches]

    def has_request(self, request: str) -> bool:
        """Tell whether this request for the lock waits in the state."""
        return any(message.get("lock") == request for message in self._queue)

    def was_withdrawn(self, message: Message) -> bool:
        """Tell whether a message that was aside is a request withdrawn in this very turn."""
        return "was_aside" in message and message.get("lock") in self._aside.withdrawn

    def note_shown(self) -> None:
        """Take note that a whole batch has been seen."""
        self._shown = 0

    def next(self) -> Message:
        """Take the first message out of the state."""
        self._size = None
        return self._queue.popleft()

    def keep(self, message: Message, *, is_free: bool) -> None:
        """Let a message wait its turn: in the state, or aside if there is much, or anything before
        it is aside.
        """
        if is_free and not self.has_aside:
            self._queue.append(message)  # it is its turn
            return
        if "was_aside" in message:
            self._queue.append(message)
            self._size = None
            return
        size = len(self._codec.encode(message, is_checked=True))
        if self.has_aside or self._size_of_queue() + size > MOST_KEPT:
            self._put_aside(message, size)
        else:
            self._queue.append(message)
            self._size = self._size_of_queue() + size

    def _size_of_queue(self) -> int:
        if self._size is None:
            self._size = sum(
                len(self._codec.encode(message, is_checked=True)) for message in self._queue
            )
        return self._size

    def _put_aside(self, message: Message, size: int) -> None:
        self._last += 1
        if not self._batches or self._batches[-1].size + size > MOST_KEPT:
            self._batches.append(_Batch(self._last, 0, 0))
        batch = self._batches[-1]
        batch.last, batch.count, batch.size = self._last, batch.count + 1, batch.size + size
        again = {
            **{name: value for name, value in message.items() if name != "id"},
            "was_aside": True,
        }
        self._aside.put.append(
            (self._last, message.get("lock"), self._codec.encode(again, is_checked=True))
        )

    def withdraw(self, request: str) -> None:
        """Forget a request for the lock that was put aside, if anything was."""
        if self.has_aside:
            self._aside.withdraw(request)

    def drop(self, request: str) -> None:
        """Forget a request for the lock that waits in the state."""
        self._queue = deque(each for each in self._queue if each.get("lock") != request)
        self._size = None

    def take_aside(self, *, is_free: bool) -> Aside | None:
        """Return, once at the end of a turn, what the commit puts aside, withdraws, and shows."""
        if is_free and self._batches and not self._shown:
            batch = self._batches.popleft()
            self._shown, self._aside.shows = batch.count, batch.last
            self._aside.end = self._codec.encode({"shown": batch.last})
        aside, self._aside = self._aside, Aside()
        return aside if aside.put or aside.withdrawn or aside.shows else None
