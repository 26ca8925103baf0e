"""Who is admitted of those that wait: the same for orchestrations and for activities."""

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
    """The first of a partition: all in it need the same slots."""

    @property
    def partition(self) -> str:
        """Names the partition."""


W = TypeVar("W", bound=Waiting)


def choose(
    heads: Sequence[First],
    room: Callable[[Any], int],
    read_partition: Callable[[str, int], Sequence[W]],
    take: Callable[[W], None],
) -> list[W]:
    """Take the first of all partitions again and again, as long as there is room.

    Args:
        heads: the first of each partition.
        room: tells how many like it may be admitted now.
        read_partition: reads so many of a partition, in order.
        take: counts the slots that one takes.
    """
    partitions: dict[str, list[W]] = {}
    chosen: list[W] = []
    queue: list[tuple[tuple[Any, ...], str, Any]] = [
        (one.order, one.partition, one) for one in heads
    ]
    heapq.heapify(queue)
    while queue and len(chosen) < MOST_AT_ONCE:
        _, partition, first = heapq.heappop(queue)
        free = room(first)
        if free <= 0:
            continue
        if partition not in partitions:
            partitions[partition] = list(
                read_partition(partition, min(free, MOST_AT_ONCE - len(chosen)))
            )[::-1]
        if not partitions[partition]:
            continue
        waiter = partitions[partition].pop()
        take(waiter)
        chosen.append(waiter)
        if partitions[partition]:
            then = partitions[partition][-1]
            heapq.heappush(queue, (then.order, partition, then))
    return chosen
