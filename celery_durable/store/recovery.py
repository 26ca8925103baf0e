"""What recovery reads and marks: rows whose ``check_at`` is due.

Everything here touches inbox and outbox rows only, never instance rows, and skips what another
sweeper has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from ..engine.due import Backlog, DueActivity, DueWake, Lost
from ..engine.writes import CHECK_MESSAGE_AFTER
from . import checks, inbox, outbox
from .runner import Cursor, ManyRows, Runner
from .statements import Statement
from .timing import Timing
from .values import full_portions

__all__ = ["RecoveryRows"]

T = TypeVar("T")
K = TypeVar("K")


class RecoveryRows:
    """What is due to be looked at (``engine.store_ports.RecoveryRows``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    def read_backlog(self, lease: int, worker: str = "") -> Backlog:
        """Tell what there is to repair; see ``engine.store_ports``."""
        is_apart = self.database.family != "mysql"
        look = checks.LOOK if is_apart else checks.LOOK_BY_ONE_INDEX
        now, inbox, checked, deadline, start_by, *rest = self.database.fetch_one(
            look, worker=worker
        )
        queued, unplaced, seen, latest, schedule, ready, slot, lifted, purge, held, *rest = rest
        limited, limited_slot = rest
        has_others = _has_come(now, checked, deadline, start_by)
        return Backlog(
            has_wakes=_has_come(now, inbox),
            has_activities=has_others or _has_come(now, queued, unplaced),
            has_silent_workers=seen is not None and (seen <= now - lease // 2 or latest > now),
            schedule_in=None if schedule is None else schedule - now,
            ready_in=None if ready is None else ready - now,
            has_slots=slot is not None or limited_slot is not None,
            has_purges=purge is not None and purge <= now,
            now=now,
            has_claimed=held is not None,
            has_lifted=lifted is not None,
            has_limited=limited is not None,
            has_others=has_others if is_apart else None,
        )

    def check_sooner(self, most: int) -> None:
        """Let nothing wait longer for recovery that does not wait for its time.

        See ``engine.store_ports``.
        """
        for statement in (inbox.CHECK_SOONER, outbox.CHECK_SOONER):
            self.database.change_one(statement, most=most)

    # -- messages ----------------------------------------------------------------------------------

    def due_wakes(self, limit: int, lost: Lost | None = None) -> list[DueWake]:
        """Return inbox rows whose ``check_at`` has come, those that only lack a message if it is
        lost; see ``engine.store_ports``.
        """
        statement, bounds = (
            (inbox.DUE_WAKES, {})
            if lost is None
            else (_due_wakes(len(lost.by_queue)), _bounds(lost))
        )
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, statement, limit=limit, **bounds).fetchall()
        )
        return [inbox.due_wake(row) for row in rows]

    def has_fresh_wakes(self, after: int) -> bool:
        """Tell whether turn messages were sent so lately that nothing is proven of them."""
        return self._has_fresh(inbox.FRESH_WAKES, after, CHECK_MESSAGE_AFTER)

    def has_fresh_activities(self, after: int) -> bool:
        """Tell the same of activities."""
        return self._has_fresh(outbox.FRESH_ACTIVITIES, after, self.timing.resend_after)

    def _has_fresh(self, statement: Statement, after: int, ahead: int) -> bool:
        return self.database.fetch_one(statement, after=after, ahead=ahead) is not None

    def move_wake(self, due: DueWake, after: int | None, *, sends: int | None = None) -> bool:
        """Look at the row again ``after`` microseconds, ``sends`` having been sent.

        False if another sweeper was first.
        """
        values = {
            "id": due.id,
            "seen": due.check_at,
            "next": None if after is None else due.now + after,
            "sends": due.sends if sends is None else sends,
        }
        return self.database.change_one(inbox.MOVE_WAKE, **values)

    def resend_wakes(self, due: Sequence[DueWake], back_off: Callable[[int], int]) -> list[DueWake]:
        """Take rows whose turn messages are to be sent again; see ``engine.store_ports``."""
        keys = {(wake.id, wake.check_at): wake for wake in due}

        def resend(cursor: Cursor) -> list[DueWake]:
            taken = self._lock(cursor, inbox.LOCK_WAKES, keys)
            for sends, group in _by_sends(taken, lambda wake: max(wake.sends, 0)):
                later = group[0].now + back_off(sends)
                values = {"next": later, "sends": sends + 1}
                for part in full_portions([(wake.id,) for wake in group]):
                    inbox.RESEND_WAKES.run(self.database, cursor, part, **values)
            return taken

        return self.database.transact(resend) if due else []

    def drop_wake(self, due: DueWake) -> None:
        """Delete a row whose instance is gone or over."""
        self.database.transact(lambda cursor: self.database.run(cursor, inbox.DROP_WAKE, id=due.id))

    # -- activities --------------------------------------------------------------------------------

    def due_activities(self, limit: int, lost: Lost | None = None) -> list[DueActivity]:
        """Return outbox rows whose ``check_at`` has come, those that only lack a message if it is
        lost; see ``engine.store_ports``.
        """
        number = None if lost is None else len(lost.by_queue)
        if self.database.family == "mysql":
            statement = checks.due_by_one_index(number)
        else:
            statement = checks.DUE_ACTIVITIES if number is None else checks.due_if_lost(number)
        bounds = {} if lost is None else _bounds(lost)
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, statement, limit=limit, **bounds).fetchall()
        )
        return [outbox.due_activity(row) for row in rows]

    def move_activity(
        self, due: DueActivity, after: int | None, *, sends: int = 0, is_sent: bool = False
    ) -> bool:
        """Look at the row again ``after`` microseconds, or at its deadline.

        False if another was first.
        """
        later = None if after is None else due.now + after
        moments = (due.deadline_at, due.start_by, due.beat_by, later)
        values = {
            **due.row.ticket._asdict(),
            "seen": due.check_at,
            "next": min((moment for moment in moments if moment is not None), default=None),
            "sends": sends,
            "sent_at": due.now if is_sent else None,
        }
        return self.database.change_one(outbox.MOVE_ACTIVITY, **values)

    def resend_activities(
        self, due: Sequence[DueActivity], back_off: Callable[[int], int]
    ) -> list[DueActivity]:
        """Take activities that are to be sent again; see ``engine.store_ports``."""
        keys = {(*activity.row.ticket, activity.check_at): activity for activity in due}

        def resend(cursor: Cursor) -> list[DueActivity]:
            taken = self._lock(cursor, outbox.LOCK_ACTIVITIES, keys)
            for (sends, is_again), group in _by_sends(taken, _sends_of):
                now = group[0].now
                values = {"later": now + back_off(sends), "sends": int(is_again), "sent_at": now}
                tickets = [activity.row.ticket for activity in group]
                for part in full_portions(tickets):
                    outbox.RESEND_ACTIVITIES.run(self.database, cursor, part, **values)
            return taken

        return self.database.transact(resend) if due else []

    def _lock(self, cursor: Cursor, these: ManyRows, keys: Mapping[tuple[Any, ...], T]) -> list[T]:
        """Lock the rows that are unchanged, as far as no other sweeper has them."""
        free: set[tuple[Any, ...]] = set()
        for part in full_portions(sorted(keys)):
            free.update(map(tuple, these.run(self.database, cursor, part).fetchall()))
        return [row for key, row in keys.items() if key in free]

    def drop_finish(self, instance_id: str, execution: str) -> bool:
        """Delete the last message of an instance: it has done its work."""
        return self.database.change_one(outbox.FINISH_DONE, id=instance_id, execution=execution)

    def drop_finishes(self, ends: Sequence[tuple[str, str]]) -> None:
        """Do the same for many; each that has another execution stays."""
        database = self.database

        def drop(cursor: Cursor) -> None:
            for part in full_portions(sorted(ends)):
                outbox.FINISHES_DONE.run(database, cursor, part)

        database.transact(drop, is_lasting=False)


def _has_come(now: int, *moments: int | None) -> bool:
    return any(moment is not None and moment <= now for moment in moments)


def _bounds(lost: Lost) -> dict[str, Any]:
    """Return the parameters of a statement for what is lost."""
    bounds: dict[str, Any] = {"rest": lost.rest}
    for number, (name, bound) in enumerate(sorted(lost.by_queue.items())):
        bounds |= {f"queue{number}": name, f"bound{number}": bound}
    return bounds


def _by_sends(rows: Sequence[T], sends_of: Callable[[T], K]) -> Iterable[tuple[K, list[T]]]:
    """Group rows by how often their messages were sent: each group is changed alike."""
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(sends_of(row), []).append(row)
    return groups.items()


def _sends_of(activity: DueActivity) -> tuple[int, bool]:
    return activity.row.sends, activity.sent_at is not None


@cache
def _due_wakes(number: int) -> Statement:
    is_lost = checks.lost_if(number, "i.queue", "b.check_at")
    return Statement(inbox.DUE_WAKES_IF.replace("{lost}", is_lost))
