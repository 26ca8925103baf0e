"""What pauses keep from beginning: attempts of activities, and turns of instances.

A pause does not reach into queues. The worker that receives the message of what is paused notes in
the store that it is held, and drops the message; recovery does the same with what it was to send.
Once the pause is lifted, recovery lets go of what it held, in portions, the oldest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ..core.times import EPOCH
from .parts import Parts
from .records import ActivityAttemptId, InstanceRow
from .switches import Switch, until_of

__all__ = ["Pausing", "paused_in_words"]

_SECOND = 1_000_000


@dataclass(slots=True)
class Pausing:
    """Pauses, as they hold what comes up in this process."""

    parts: Parts

    def hold_turns(self, instance: InstanceRow, pause: Switch) -> bool:
        """Leave the messages of an instance to the end of a pause; False if that has come."""
        rows = self.parts.store.switches
        return self._is_held(rows.hold_turns(instance.id, instance.execution, pause))

    def holds(
        self, ticket: ActivityAttemptId, task: str, queue: Callable[[], str | None] | None = None
    ) -> bool:
        """Keep an attempt from beginning if its task or its queue is paused; tell whether it is
        kept.

        Args:
            ticket: of the attempt.
            task: its name.
            queue: tells where its messages go; asked only if a queue is paused.
        """
        rows = self.parts.store.switches
        where = queue or (lambda: rows.queue_of(ticket))
        pause = self.parts.switches.current().of_activity(task, where)
        if pause is None:
            return False
        lease = int(self.parts.settings.worker_lease * _SECOND)
        return self._is_held(rows.hold_activity(ticket, pause, lease))

    def _is_held(self, is_held: bool) -> bool:
        if not is_held:
            self.parts.switches.refresh()
        return is_held


def paused_in_words(pause: Switch) -> str:
    """Say since when something is paused, and why.

    Example:
        >>> from celery_durable.engine.switches import Switch
        >>> paused_in_words(Switch("task", "shop.charge", None, "the bank is down", 0, None))
        "task 'shop.charge' is paused since 1970-01-01 00:00:00+00:00: the bank is down"
    """
    end = until_of(pause)
    until = "" if end is None else f", until {_moment(end)}"
    why = f": {pause.reason}" if pause.reason else ""
    return f"{pause.kind} {pause.name!r} is paused since {_moment(pause.since)}{until}{why}"


def _moment(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(" ", "seconds")
