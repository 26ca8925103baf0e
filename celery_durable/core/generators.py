"""Async generators that the code left early: asyncio closes them, and so must the replaying loop,
at moments that every replay repeats.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import AsyncGeneratorType
from typing import Any

__all__ = ["OpenGenerators"]

Generator = AsyncGeneratorType[Any, Any]


class OpenGenerators:
    """The async generators of one execution that are not closed, by the order of first use."""

    __slots__ = ("_left", "_limit", "_numbers", "_open")

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        #: By identity: the number of each, and a reference that does not keep it alive.
        self._open: dict[int, tuple[int, weakref.ref[Generator]]] = {}
        #: By number: those that the garbage collector found; they are kept for the end.
        self._left: dict[int, Generator] = {}
        #: How many are noted before dead references are swept.
        self._limit = 64

    def __len__(self) -> int:
        return len(self._open)

    def note(self, generator: Any) -> None:
        """Keep one that is used for the first time."""
        if len(self._open) >= self._limit:
            self._open = {key: each for key, each in self._open.items() if each[1]() is not None}
            self._limit = 2 * len(self._open) + 64
        self._open[id(generator)] = next(self._numbers), weakref.ref(generator)

    def drop(self, generator: Generator) -> int:
        """Forget one that has lost its last reference, and return its number."""
        return self._open.pop(id(generator), (0, None))[0]

    def keep_for_the_end(self, generator: Generator, number: int) -> None:
        """Keep one that was found at a moment which no replay repeats."""
        self._left[number] = generator

    def take_left(self) -> list[Generator]:
        """Return those that can be closed now, by number."""
        left, self._left = self._left, {}
        for key, (number, reference) in list(self._open.items()):
            generator = reference()
            if generator is None or generator.ag_frame is None:
                del self._open[key]
            elif not generator.ag_running:
                del self._open[key]
                left[number] = generator
        return [generator for _, generator in sorted(left.items(), key=lambda item: item[0])]

    def clear(self) -> None:
        """Forget all: nothing of the loop runs any more."""
        self._open.clear()
        self._left.clear()
