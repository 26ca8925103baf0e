"""Witnesses for recovery without a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from celery_durable.engine.inquiry import Hands

__all__ = ["Bystander"]


class Bystander:
    """Has no message, and says how many wait on each queue."""

    def __init__(
        self, depths: Callable[[], Mapping[str, int | None]] = lambda: {"celery": 0}
    ) -> None:
        self.depths = depths

    def ask(self, now: int) -> None:
        """Have looked at everything already."""

    def answer(self) -> Hands | None:
        """Have nothing."""
        return Hands()
