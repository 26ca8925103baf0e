"""Mixed orchestrations, each with the result that it must have: worked out here from its input,
without the engine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .chaosapp import next_of


@dataclass
class Job:
    """One orchestration to start, the events that it is to be told, and its right result."""

    id: str
    kind: str
    args: tuple[Any, ...]
    expected: Any
    events: list[int] = field(default_factory=list)


def chain_of(length: int, x: int) -> int:
    for k in range(length):
        x = next_of(x, k)
    return x


def _chained(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    length, x = 4 * size, dice.randrange(1000)
    return (length, x), chain_of(length, x)


def _spread(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    width, x = 5 * size, dice.randrange(1000)
    return (width, x), sum((x + n) ** 2 for n in range(width))


def _timed(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    naps = [dice.choice((0.1, 0.3, 0.7)) for _ in range(2 * size)]
    return (naps,), sum(naps)


def _family(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    children, length, x = 2, 2 * size, dice.randrange(1000)
    return (children, length, x), [chain_of(length, x + n) for n in range(children)]


def _stubborn(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    width, failures = 2 * size, 2
    return (width, failures), [n + 1 for n in range(width)]


def _windowed(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    return (5 * size, 2), sum(n * n for n in range(5 * size))


def _renewed(dice: random.Random, size: int) -> tuple[tuple[Any, ...], Any]:
    left, x = 3 * size, dice.randrange(1000)
    result = x
    for k in range(left, -1, -1):
        result = next_of(result, k)
    return (left, x), result


KINDS: dict[str, Callable[[random.Random, int], tuple[tuple[Any, ...], Any]]] = {
    "chained": _chained,
    "spread": _spread,
    "timed": _timed,
    "family": _family,
    "stubborn": _stubborn,
    "windowed": _windowed,
    "renewed": _renewed,
}


MIXED = (*KINDS, "told")


def mixed(
    seed: str, count: int, size: int = 1, kinds: Iterable[str] = MIXED, *, prefix: str = ""
) -> list[Job]:
    """``count`` orchestrations of all kinds in turn.

    ``told`` comes with a sister that tells it half of its events.
    """
    dice, jobs, names = random.Random(seed), list[Job](), list(kinds)
    for number in range(count):
        kind = names[number % len(names)]
        id_ = f"{prefix}{kind}-{number}"
        if kind in KINDS:
            jobs.append(Job(id_, kind, *KINDS[kind](dice, size)))
            continue
        events = list(range(6 * size))
        jobs.append(Job(id_, kind, (len(events),), events, events[::2]))
        jobs.append(
            Job(f"{prefix}telling-{number}", "telling", (id_, events[1::2]), len(events[1::2]))
        )
    return jobs
