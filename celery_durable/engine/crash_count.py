"""Counting turns that may have killed their process, so that they end some day.

A turn message that was sent again may follow a turn whose process died. Each such try adds one to a
count in the store before anything dangerous happens; a commit sets the count to zero. After
``durable_max_turn_crashes`` in a row the instance is suspended.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from .._errors import DurableError
from .lifecycle import Lifecycle
from .parts import Parts
from .records import Snapshot

__all__ = ["CrashCount"]

log: logging.Logger = logging.getLogger("celery_durable.turn")


@dataclass(slots=True)
class CrashCount:
    """The count of one call of ``TurnRunner.run``, which adds at most one to it."""

    parts: Parts
    lifecycle: Lifecycle
    instance_id: str
    #: Whether this call has added its one.
    is_counted: bool = False

    def stops_unread(self, sends: int) -> bool:
        """Count a try whose message recovery has sent so many times, before its history is read.

        True once there were too many in a row: the instance is suspended.
        """
        crashes = self._add()
        if not self._are_too_many(crashes, sends):
            return False
        return self.lifecycle.suspend_unread(self.instance_id, self._reason(crashes))

    def stops(self, snapshot: Snapshot) -> bool:
        """Count a try whose messages were sent again, unless it was counted before.

        True once there were too many in a row: the instance is suspended.
        """
        sends = max((row.sends for row in snapshot.inbox), default=0)
        if sends <= 0 or self.is_counted:
            return False
        crashes = self._add()
        if not self._are_too_many(crashes, sends):
            return False
        return self.lifecycle.suspend(snapshot, self._reason(crashes))

    def take_back(self) -> None:
        """Take this call's one back: its process lives."""
        if self.is_counted:
            with suppress(DurableError):
                self.parts.store.turns.count_crash(self.instance_id, -1)

    def _add(self) -> int:
        crashes = self.parts.store.turns.count_crash(self.instance_id)
        self.is_counted = True
        return crashes

    def _are_too_many(self, crashes: int, sends: int) -> bool:
        # copies that run side by side all count, but they share one number of sends, whose
        # intervals grow
        return min(crashes - 1, sends) >= self.parts.settings.max_turn_crashes

    def _reason(self, crashes: int) -> str:
        record = self.parts.store.reads.fetch(self.instance_id)
        noted = record.reason if record is not None else None
        reason = (
            f"{crashes} tries of a turn in a row came to no end: it may crash its worker."
            f" Fix it, then resume it{f'. Before that: it {noted}' if noted else ''}"
        )
        log.error("orchestration %r is suspended: %s", self.instance_id, reason)
        return reason
