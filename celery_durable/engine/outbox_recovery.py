"""Activities that are late, whose workers died, or whose messages should exist and do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .._errors import ActivityInterrupted, ActivityTimeout
from ..core.ports import Codec
from ..settings import Settings
from .at_most_once import counted_crashes, is_begun
from .due import DueActivity, Found, Lost
from .engine import Engine
from .inbox_recovery import back_off
from .outcome import Verdict
from .ports import Publisher
from .records import ActivityRow, Outcome
from .store_ports import Store

__all__ = ["OutboxRecovery"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")
_SECOND = 1_000_000
# Celery hears of most ends without a message, whose queue could be proven empty
_FINISH_OVERDUE = 60 * _SECOND


@dataclass(slots=True)
class OutboxRecovery:
    """Times activities out, gives them up, or sends them again."""

    store: Store
    engine: Engine
    publisher: Publisher
    codec: Codec
    settings: Settings
    #: Makes the error of an attempt whose workers died, of the text: its type is stored.
    worker_lost: Callable[[str], Exception]

    def repair(self, limit: int) -> int:
        """Time out what is late, send what may be lost; return how many rows were looked at."""
        found = self.find(limit, None)
        self.send(found.lacking)
        return found.looked_at

    def find(self, limit: int, lost: Lost | None) -> Found[DueActivity]:
        """Time out what is late, and return what is to be sent: what is lost, without ``lost`` all
        that may be.
        """
        # each row is taken by the first case that it is in
        lacking = list[DueActivity]()
        due = self.store.recovery.due_activities(limit, lost)
        for activity in due:
            if self._is_held(activity):
                continue
            if (kind := _time_out(activity)) is not None:
                self._expire(activity, kind)
            # a run that must not be repeated had begun, and no worker runs it any more
            elif (
                is_begun(activity.crashes) and activity.holder is None and not activity.is_delegated
            ):
                self._interrupt(activity, "its worker is gone, or runs it no more")
            # worker after worker died of it
            elif (
                activity.holder is None
                and not activity.is_delegated
                and counted_crashes(activity.crashes) >= self.settings.max_activity_crashes
            ):
                self._give_up(activity)
            # it runs, or what has replaced it does: only its time limits matter
            elif activity.holder is not None or activity.is_delegated:
                self.store.recovery.move_activity(activity, None)
            elif self._may_send(activity, lost):
                lacking.append(activity)
        return Found(len(due), lacking)

    def _is_held(self, activity: DueActivity) -> bool:
        """Leave an attempt that is to begin, or begin again, to the end of a pause."""
        row = activity.row
        waits = activity.holder is None and not activity.is_delegated
        if row.kind != "activity" or not waits or is_begun(activity.crashes):
            return False
        return self.engine.pausing.holds(row.ticket, row.name, lambda: row.queue)

    def send(self, activities: Sequence[DueActivity]) -> None:
        """Send activities and last messages, those that no other recovery has taken."""
        # counted and moved before anything is sent: a crash here sends it later, not twice
        taken = self.store.recovery.resend_activities(activities, back_off)
        for activity in taken:
            activity.row.sends += activity.sent_at is not None
        rows = [activity.row for activity in taken]
        self.engine.dispatcher.activities([row for row in rows if row.kind == "activity"])
        for row in rows:
            if row.kind == "finish":
                self.publisher.finish_again(row)

    def _may_send(self, activity: DueActivity, lost: Lost | None) -> bool:
        if activity.sent_at is None:
            return True
        is_lost = lost is None or lost.has(activity.row.queue, activity.check_at)
        if activity.row.kind == "finish":
            return is_lost or activity.now - activity.check_at >= _FINISH_OVERDUE
        return is_lost and self.publisher.knows_task(activity.row.name)

    def _give_up(self, activity: DueActivity) -> None:
        """Take an attempt for failed that took worker after worker with it."""
        self._record(
            activity.row,
            self.worker_lost(
                f"activity {activity.row.name} of {activity.row.instance!r}: {activity.crashes}"
                " workers died while they ran it (durable_max_activity_crashes)"
            ),
        )

    def _interrupt(self, activity: DueActivity, why: str) -> None:
        """Take an attempt for lost that must not run again."""
        row, attempt = activity.row, activity.row.ticket.attempt
        self._record(
            row,
            ActivityInterrupted(
                f"activity {row.name} (attempt {attempt}) of {row.instance!r} runs at most once and"
                f" was interrupted: {why}",
                instance_id=row.instance,
                task=row.name,
                attempt=attempt,
            ),
        )

    def _expire(self, activity: DueActivity, kind: str) -> None:
        ticket = activity.row.ticket
        if is_begun(activity.crashes):
            self._interrupt(activity, f"it ran out of its {kind}")
            return
        error = ActivityTimeout(
            f"activity {activity.row.name} (attempt {ticket.attempt}) of {activity.row.instance!r}"
            f" ran out of its {kind}",
            instance_id=activity.row.instance,
            kind=kind,
            task=activity.row.name,
            attempt=ticket.attempt,
        )
        self._record(activity.row, error)

    def _record(self, row: ActivityRow, error: Exception) -> None:
        outcome = Outcome(row.ticket, self.codec.encode_failure(error), has_failed=True)
        if self.engine.outcomes.accept(outcome) is not Verdict.LATE:
            log.debug("%s", error)
            self.engine.breakers.note_failure(row.name, error)


def _time_out(activity: DueActivity) -> str | None:
    """Return which of its limits an activity has passed."""
    is_under_way = activity.holder is not None or activity.is_deferred
    limits = {
        "timeout": activity.deadline_at,
        "heartbeat_timeout": activity.beat_by if is_under_way else None,
        "start_timeout": None if is_under_way else activity.start_by,
    }
    return next(
        (kind for kind, moment in limits.items() if moment is not None and moment <= activity.now),
        None,
    )
