"""What moves instances: looks without locks, and commits that compare before they write.

A turn reads a snapshot, runs the orchestrator with no transaction open, and commits only if the
instance is still at the sequence it was read at; so user code never holds a lock, and a frozen
process holds nothing. A transaction locks the row of one instance (when that is rewound, those of
its children, too), tries and never waits for it, and takes outbox rows only after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.tags import TagChanges
from ..engine.records import ReplayPosition, Snapshot
from ..engine.writes import Committed, TurnCommit
from . import audit, history, inbox, inbox_reads, instances, outbox
from .commit_steps import Work, carry_out
from .creation import LockedError
from .instances import INSTANCE
from .runner import Cursor, Runner
from .timing import Timing
from .values import readable, status_in

__all__ = ["Turns"]


class Turns:
    """What a turn reads, and its commit (``engine.store_ports.Turns``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    def load(self, instance_id: str, known: ReplayPosition | None) -> Snapshot | None:
        """Look at an instance, its inbox that is due, and the history beyond ``known``."""
        database = self.database

        def read(cursor: Cursor) -> Snapshot | None:
            row = database.run(cursor, instances.LOAD_INSTANCE, id=instance_id).fetchone()
            if row is None:
                return None
            # no lock, and no one moment: a turn that commits between these reads moves the
            # sequence, and this one's commit fails
            part = inbox_reads.load(database, cursor, instance_id)
            rows = history.unknown(database, cursor, instance_id, known)
            instance, (now,) = INSTANCE.take(row)
            texts = history.texts(rows, instance.sequence)
            return Snapshot(instance, texts, part.inbox, now, part.has_more, part.is_due)

        return database.read(read)

    def commit(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn; None if the instance has moved meanwhile, and nothing was changed."""
        try:
            return self.database.transact(lambda cursor: self.commit_within(cursor, commit))
        except LockedError:
            audit.forget()
            return None

    def commit_within(self, cursor: Cursor, commit: TurnCommit) -> Committed | None:
        """Commit a turn on a cursor inside a transaction.

        Raises:
            LockedError: another transaction holds an instance that this one needs; it is to be
                rolled back.
        """
        database, run, id_ = self.database, self.database.run, commit.instance_id
        # the lock of the instance: from here on no other turn of it can commit
        values = {"id": id_, "execution": commit.execution, "sequence": commit.sequence}
        row = run(cursor, instances.GATE, **values).fetchone()
        if row is None:
            return None
        status, now = row
        if status_in(status) not in commit.statuses:
            return None
        # a message that came in meanwhile is to be heard in order with the outcome of this turn
        if (
            commit.requires_empty_inbox
            and run(cursor, inbox_reads.HAS_VISIBLE, id=id_).fetchone() is not None
        ):
            return None
        if commit.outcome is not None and not outbox.delete(database, cursor, commit.outcome):
            return None  # it is in an inbox already, or not wanted any more
        # nothing was written so far, and from here on all is written
        work = Work(database, cursor, self.timing, commit, now)
        carry_out(work)
        audit.leave(database, cursor)
        return work.result()

    def has_untaken(self, instance_id: str) -> bool:
        """Tell whether anything visible lies in the inbox."""
        return self.database.fetch_one(inbox_reads.HAS_UNTAKEN, id=instance_id) is not None

    def discard(self, instance_id: str, execution: str, rows: Sequence[int]) -> None:
        """Delete inbox rows that no turn will take: this very execution of the instance is over."""
        for start in range(0, len(rows), 500):
            statement = inbox.discarding(rows[start : start + 500])
            self.database.change_one(statement, id=instance_id, execution=execution)

    def choose_version(
        self, instance_id: str, execution: str, old: str, version: str | None
    ) -> bool:
        """Set the version of an instance; see ``engine.store_ports``."""
        values = {"id": instance_id, "execution": execution, "old": old, "version": version}
        return self.database.change_one(instances.CHOOSE_VERSION, **values)

    def note_waiting(self, instance_id: str, reason: str) -> None:
        """Let people see what an instance waits for that no turn can tell."""
        values = {"id": instance_id, "wait": readable(reason)}
        self.database.transact(
            lambda cursor: self.database.run(cursor, instances.NOTE_WAITING, **values)
        )

    def change_tags(self, instance_id: str, changes: TagChanges) -> bool:
        """Set and remove tags of an instance; False if it is gone, or held just now."""
        return self.database.transact(
            lambda cursor: instances.lock_and_change_tags(
                self.database, cursor, instance_id, changes
            )
        )

    def count_crash(self, instance_id: str, by: int = 1) -> int:
        """Count a turn that may have crashed its process, or take that back.

        Return how many in a row there were.
        """
        run = self.database.run

        def count(cursor: Cursor) -> int:
            run(cursor, instances.CRASHED, id=instance_id, by=by)
            row = run(cursor, instances.CRASHES, id=instance_id).fetchone()
            if row is None:
                return 0
            (crashes,) = row
            return int(crashes)

        return self.database.transact(count)
