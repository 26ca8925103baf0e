"""The store's clock as this process knows it between two looks: no other clock decides when
anything happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["StoreClock"]

_TRUSTED_FOR = 10_000_000_000


class StoreClock:
    """Microseconds of the store's clock, asked for at most once in ten seconds and carried on by
    the monotonic clock. It may be late by the time that the answer took, and is never early: what
    is due by it is due in the store.
    """

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._known: tuple[int, int, int] | None = None

    def now(self) -> int:
        """Return the time.

        Raises:
            StoreError: the store cannot be reached.
        """
        monotonic = time.monotonic_ns()
        known = self._known
        if known is None or known[2] != os.getpid() or monotonic - known[0] > _TRUSTED_FOR:
            asked = self._ask()
            known = self._known = (time.monotonic_ns(), asked, os.getpid())
        return known[1] + (time.monotonic_ns() - known[0]) // 1000
