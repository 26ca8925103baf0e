"""Which workers live: this one's heartbeat, and the eviction of those that went silent.

The store's clock may be set forward or back, so silence of others is measured by this process's own
clock, from when it first saw that another worker is silent. And it counts only after this worker
could speak for a whole lease itself: one that was cut off from the store must not judge others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from .._errors import DurableError
from ..settings import Settings
from .records import ActivityAttemptId
from .store_ports import Workers

__all__ = ["Membership"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")
_SECOND = 1_000_000


@dataclass(slots=True)
class Membership:
    """What one worker says of itself and sees of the others."""

    workers: Workers
    settings: Settings
    worker_id: str
    hostname: str
    #: This process's own clock, in seconds.
    monotonic: Callable[[], float]
    #: Since when heartbeats have reached the store without a gap; None: the last one did not.
    _beating_since: float | None = None
    _last_heartbeat: float = -math.inf
    _last_eviction: float = -math.inf
    #: Of each silent worker: when the store saw it last, and since when it is known to be silent.
    _sightings: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: What this worker has taken and did not run, at the last look.
    _not_run: set[ActivityAttemptId] = field(default_factory=set)

    @property
    def has_suspects(self) -> bool:
        """Whether something that it had taken did not run at the last look."""
        return bool(self._not_run)

    def is_heartbeat_due(self, now: float) -> bool:
        """Tell whether it is time to say that this worker lives."""
        return now - self._last_heartbeat >= self.settings.heartbeat_interval

    def is_eviction_due(self, now: float, *, is_idle: bool) -> bool:
        """Tell whether it is time to look for silent workers, without a sign of any."""
        leases = (now - self._last_eviction) / self.settings.worker_lease
        return self._may_evict() and (leases >= 6 or (leases >= 3 and is_idle))

    def heartbeat(self, now: float) -> None:
        """Say that this worker lives.

        Raises:
            StoreError: the store cannot be reached.
        """
        try:
            self.workers.heartbeat(self.worker_id, self.hostname)
        except DurableError:
            self._beating_since = None
            raise
        if self._beating_since is None or self._is_cut_off:
            self._beating_since = self.monotonic()
            self._sightings.clear()
        self._last_heartbeat = now

    def free_not_run(
        self, held: Collection[ActivityAttemptId], running: Collection[ActivityAttemptId]
    ) -> None:
        """Free what this worker has taken, by the store, and does not run, at two looks in a row:
        until then no other worker may run it.
        """
        idle = {ticket for ticket in held if ticket not in running}
        for ticket in sorted(idle & self._not_run):
            if self.workers.free_claimed(ticket, self.worker_id):
                log.warning(
                    "activity %s was taken by this worker, which does not run it: it will run"
                    " again",
                    ticket.task_id,
                )
        self._not_run = idle

    @property
    def _is_cut_off(self) -> bool:
        """Whether the last beat is so long ago that the store, or this process, must have stood
        still.
        """
        usual = self.settings.heartbeat_interval + 2 * self.settings.recovery_interval
        return self.monotonic() - self._last_heartbeat > max(self.settings.worker_lease / 2, usual)

    def _may_evict(self) -> bool:
        """Silence of others counts only after this worker could speak for a whole lease itself, and
        still can.
        """
        since = self._beating_since
        return (
            since is not None
            and self.monotonic() - since >= self.settings.worker_lease
            and not self._is_cut_off
        )

    def evict_stale_workers(self) -> bool:
        """Free what workers hold that have been silent for a whole lease; tell whether any did.

        What the store says of a silence before this worker saw it counts only while it is shorter
        than a lease.
        """
        now = self._last_eviction = self.monotonic()
        lease, seen = self.settings.worker_lease, dict[str, tuple[int, float]]()

        def is_dead(worker: str, last_seen: int | None, silent_for: int) -> bool:
            if last_seen is None:
                return self._may_evict()
            known = self._sightings.get(worker)
            if known is None or known[0] != last_seen:
                silence = silent_for / _SECOND
                known = last_seen, now - (silence if 0 <= silence < lease else 0)
            seen[worker] = known
            return self._may_evict() and now - known[1] >= lease

        freed = self.workers.free_abandoned(int(lease * _SECOND), is_dead)
        self._sightings = seen
        if freed:
            log.warning("%d activities of workers that went silent will run again", freed)
        return bool(freed)
