"""How many slots of limits are taken, and which numbers hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.permits import Permit
from ..engine.activity_limits import Numbers
from .choosing import MOST_AT_ONCE

__all__ = ["PermitCount", "permits_of"]

log: logging.Logger = logging.getLogger("celery_durable.store")


def permits_of(limits: str) -> list[Permit]:
    """Decode what an attempt needs; a damaged one needs nothing, so that it holds no other up."""
    try:
        return [Permit(*fields) for fields in json.loads(limits)]
    except (ValueError, TypeError, RecursionError):
        log.error("the limits of a waiting activity are damaged, it is admitted: %.80r", limits)
        return []


class PermitCount:
    """How many slots are taken, and which numbers hold."""

    def __init__(self, rows: Iterable[Sequence[Any]], numbers: Numbers) -> None:
        self.numbers: dict[str, int] = dict(numbers)
        #: By scope.
        self.taken: dict[str, int] = {}
        self.permits: dict[str, Permit] = {}
        self._declared = numbers
        for scope, count, most, text in rows:
            self.taken[scope] = int(count)
            for permit in permits_of(f"[{text}]"):
                self.permits[scope] = permit
                if most is not None:
                    self._heed(permit.label, int(most))

    def heed(self, permits: Iterable[Permit]) -> None:
        """Let the numbers of calls count, too: of two, the smaller one holds."""
        for permit in permits:
            if not (permit.is_declared and permit.label in self._declared):
                self._heed(permit.label, permit.most)

    def _heed(self, label: str, most: int) -> None:
        self.numbers[label] = min(most, self.numbers.get(label, most))

    def slots(self, limits: str) -> list[tuple[Permit, int]]:
        """Return the slots that one needs, as the numbers are now, with how many are taken."""
        return [
            (
                permit._replace(most=self.numbers.get(permit.label, permit.most)),
                self.taken.get(permit.scope, 0),
            )
            for permit in permits_of(limits)
        ]

    def room(self, limits: str) -> int:
        """Return how many that need these slots may be admitted."""
        rooms = (permit.most - taken for permit, taken in self.slots(limits))
        return min(rooms, default=MOST_AT_ONCE)

    def take(self, limits: str) -> None:
        """Count one more."""
        for permit in permits_of(limits):
            self.taken[permit.scope] = self.taken.get(permit.scope, 0) + 1
