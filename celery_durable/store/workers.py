"""The table of workers: which live, and what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from itertools import chain

import sqlalchemy as sa

from ..engine.records import ActivityAttemptId
from . import attempts, inbox, outbox, queries
from .runner import Cursor, Runner
from .schema import workers
from .statements import Statement
from .values import full_portions

__all__ = ["Workers"]

HEARTBEAT = Statement("UPDATE durable_workers SET last_seen = {now} WHERE id = :id")
REGISTER = Statement(
    "INSERT INTO durable_workers (id, hostname, started_at, last_seen) VALUES (:id, :hostname,"
    " {now}, {now}) {if_new}"
)
UNREGISTER = Statement("DELETE FROM durable_workers WHERE id = :id")
DECLARE = Statement("UPDATE durable_workers SET declares = :declares WHERE id = :id")
# mostly all workers declare the same
DECLARES = Statement(
    "SELECT declares, MAX(CASE WHEN id = :id THEN 1 ELSE 0 END) FROM durable_workers"
    " WHERE declares IS NOT NULL GROUP BY declares"
)
REPORT = Statement("UPDATE durable_workers SET told_at = :moment WHERE id = :id")
# what was told in the future, by a clock that has stepped back since, is of no use
REPORTED = Statement(
    "SELECT MIN(CASE WHEN COALESCE(told_at, started_at) > {now} THEN 0 ELSE COALESCE(told_at,"
    " started_at) END) FROM durable_workers WHERE last_seen > {now} - :lease"
)
ABANDONED = Statement(
    "SELECT w.id, w.last_seen, {once} FROM durable_workers w WHERE w.last_seen <= {once} - :silence"
    " OR w.last_seen > {once} UNION ALL SELECT DISTINCT o.holder, CAST(NULL AS {bigint}), 0 FROM"
    " durable_outbox o LEFT JOIN durable_workers w ON w.id = o.holder WHERE o.holder IS NOT NULL"
    " AND w.id IS NULL LIMIT 40"
)
UNREGISTER_SILENT = Statement("DELETE FROM durable_workers WHERE id = :id AND last_seen = :seen")


class Workers:
    """Which workers live, and what they hold (``engine.store_ports.Workers``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def heartbeat(self, worker: str, hostname: str) -> None:
        """Say that a worker lives; registers it again if its row was taken for dead."""
        if not self.database.change_one(HEARTBEAT, id=worker):
            self.database.change_one(REGISTER, id=worker, hostname=hostname[:200])

    def unregister(self, worker: str) -> None:
        """Forget a worker that stops in good order; what it held is free at once."""
        self.database.transact(lambda cursor: self.database.run(cursor, UNREGISTER, id=worker))

    def declare(self, worker: str, names: Sequence[str]) -> None:
        """Note which schedules a worker declares, for as long as it lives."""
        self.database.change_one(DECLARE, id=worker, declares=json.dumps(sorted(names)))

    def declared_by(self, worker: str = "") -> tuple[frozenset[str], bool]:
        """Return the schedules that living workers declare, and whether this one has said what it
        does.
        """
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, DECLARES, id=worker).fetchall()
        )
        names = (json.loads(declares) for declares, _ in rows)
        return frozenset(chain.from_iterable(names)), any(is_own for _, is_own in rows)

    def claimed_by(self, worker: str) -> list[ActivityAttemptId]:
        """Return the activities that a worker has taken."""
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, attempts.CLAIMED_BY, worker=worker).fetchall()
        )
        return [ActivityAttemptId._make(row) for row in rows]

    def living_workers(self, lease: int) -> list[str]:
        """Return the host names of workers that were seen within ``lease`` microseconds."""
        w = workers.c
        since = queries.now(self.database) - lease
        rows = queries.fetch(self.database, sa.select(w.hostname).where(w.last_seen > since))
        return [row.hostname for row in rows]

    # -- whose message is where --------------------------------------------------------------------

    def keep(
        self,
        activities: Collection[ActivityAttemptId],
        instances: Collection[str],
        delay: int,
        *,
        is_due: bool = True,
    ) -> None:
        """Look at rows that are due, or will be within ``delay``, ``delay`` microseconds later:
        a worker has their messages.
        """
        if not activities and not instances:
            return
        ahead = 0 if is_due else delay

        def keep(cursor: Cursor) -> None:
            for part in full_portions(sorted(activities)):
                outbox.KEEP_ACTIVITIES.run(self.database, cursor, part, delay=delay, ahead=ahead)
            for names in full_portions([(name,) for name in sorted(instances)]):
                inbox.KEEP_WAKES.run(self.database, cursor, names, delay=delay)

        self.database.transact(keep)

    def report(self, worker: str, moment: int) -> None:
        """Note that a worker has said what it has, as of a moment of the store's clock."""
        self.database.change_one(REPORT, id=worker, moment=moment)

    def reported_since(self, lease: int) -> int | None:
        """Return up to when all living workers have said what they have; None if none lives."""
        (reported,) = self.database.fetch_one(REPORTED, lease=lease)
        return None if reported is None else int(reported)

    # -- whose worker is gone ----------------------------------------------------------------------

    def free_abandoned(
        self, lease: int, is_dead: Callable[[str, int | None, int], bool] | None = None
    ) -> int:
        """Free what dead and forgotten workers hold; see ``engine.store_ports``.

        By itself the store goes by its clock.
        """
        run = self.database.run
        rows = self.database.read(
            lambda cursor: run(cursor, ABANDONED, silence=lease // 2).fetchall()
        )

        def is_late(worker: str, seen: int | None, silence: int) -> bool:
            return seen is None or silence >= lease

        judge = is_late if is_dead is None else is_dead
        found = [
            (worker, seen)
            for worker, seen, now in rows
            if judge(worker, seen, 0 if seen is None else now - seen)
        ]
        if not found:
            return 0

        def free(cursor: Cursor) -> int:
            # one that has shown a sign of life since it was judged keeps its row, and what it holds
            gone = {
                worker
                for worker, seen in found
                if seen is None or run(cursor, UNREGISTER_SILENT, id=worker, seen=seen).rowcount
            }
            return sum(
                run(cursor, attempts.FREE_CLAIMED, worker=worker).rowcount
                for worker in sorted(gone)
            )

        return self.database.transact(free)

    def free_claimed(self, ticket: ActivityAttemptId, worker: str) -> bool:
        """Free an activity that a living worker is marked with and does not run.

        False if there is none such.
        """
        return self.database.change_one(attempts.FREE_ONE, **ticket._asdict(), worker=worker)
