"""Who is admitted of those that wait in lanes: the same for orchestrations and for activities."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["MOST_AT_ONCE", "choose"]

#: How many one pass admits, or one repair deletes.
MOST_AT_ONCE = 500


class Waiting(Protocol):
    """One that waits."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Tells who comes first; no two are alike."""


class First(Waiting, Protocol):
    """The first of a lane: all in it need the same places."""

    @property
    def lane(self) -> str:
        """Names the lane."""


W = TypeVar("W", bound=Waiting)


def choose(
    heads: Sequence[First],
    room: Callable[[Any], int],
    read_lane: Callable[[str, int], Sequence[W]],
    take: Callable[[W], None],
) -> list[W]:
    """Take the first of all lanes again and again, as long as there is room.

    Args:
        heads: the first of each lane.
        room: tells how many like it may be admitted now.
        read_lane: reads so many of a lane, in order.
        take: counts the places that one takes.
    """
    lanes: dict[str, list[W]] = {}
    chosen: list[W] = []
    queue: list[tuple[tuple[Any, ...], str, Any]] = [(one.order, one.lane, one) for one in heads]
    heapq.heapify(queue)
    while queue and len(chosen) < MOST_AT_ONCE:
        _, lane, first = heapq.heappop(queue)
        free = room(first)
        if free <= 0:
            continue
        if lane not in lanes:
            lanes[lane] = list(read_lane(lane, min(free, MOST_AT_ONCE - len(chosen))))[::-1]
        if not lanes[lane]:
            continue
        waiter = lanes[lane].pop()
        take(waiter)
        chosen.append(waiter)
        if lanes[lane]:
            then = lanes[lane][-1]
            heapq.heappush(queue, (then.order, lane, then))
    return chosen
