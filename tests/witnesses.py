"""Recovery without a worker, and witnesses for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.exceptions import WorkerLostError

from celery_durable.engine.inquiry import Hands
from celery_durable.engine.recovery import Recovery

__all__ = ["Bystander", "recovery_of"]


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


def recovery_of(runtime: Any, worker: str = "sweeper", witness: Any = None) -> Recovery:
    """Return the recovery of a worker that has this runtime; its ticks are taken by hand."""
    return Recovery(
        runtime.store,
        runtime.runner,
        runtime.publisher,
        runtime.registry,
        runtime.codec,
        runtime.settings,
        worker,
        "host",
        witness or Bystander(),
        WorkerLostError,
    )
