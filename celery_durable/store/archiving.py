"""What waits for the archive: instances whose time to be deleted has come, and the table of those
at which the archive failed.
"""

from __future__ import annotations

from ..engine.archive_rows import ArchiveState, DueInstance
from ..engine.listing import InstanceRecord
from . import instances
from .runner import Cursor, Runner
from .statements import Statement
from .values import readable

__all__ = ["ArchiveRows"]

TRIES = Statement(
    "SELECT tries FROM durable_archiving WHERE instance = :id AND execution = :execution"
)
INSERT_FAILURE = Statement(
    "INSERT INTO durable_archiving (instance, execution, tries, failed_at, error) VALUES (:id,"
    " :execution, 1, {now}, :error) {if_new}"
)
CHANGE_FAILURE = Statement(
    "UPDATE durable_archiving SET tries = CASE WHEN execution = :execution THEN tries + 1 ELSE 1"
    " END, execution = :execution, failed_at = {now}, error = :error WHERE instance = :id"
)
_STAYS = (
    "EXISTS (SELECT 1 FROM durable_instances i WHERE i.id = durable_archiving.instance AND"
    " i.execution = durable_archiving.execution AND i.purge_at IS NOT NULL)"
)
FORGET_GONE = Statement(f"DELETE FROM durable_archiving WHERE NOT {_STAYS}")
HAS_FAILED = Statement("SELECT 1 FROM durable_archiving LIMIT 1")
FORGET = Statement("DELETE FROM durable_archiving WHERE instance = :id")
# each is counted up to a limit
COUNT_DUE = Statement(
    "SELECT COUNT(*) FROM (SELECT 1 FROM durable_instances i WHERE i.purge_at <= {once} AND"
    " i.status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED') AND NOT EXISTS (SELECT 1 FROM"
    " durable_archiving f WHERE f.instance = i.id) LIMIT :most) AS due"
)
COUNT_FAILED = Statement(
    f"SELECT COUNT(*) FROM (SELECT 1 FROM durable_archiving WHERE {_STAYS} LIMIT :most) AS failed"
)
LAST_FAILED = Statement(
    f"SELECT instance, error, failed_at FROM durable_archiving WHERE {_STAYS} ORDER BY failed_at"
    " DESC LIMIT 1"
)


class ArchiveRows:
    """What waits for the archive (``engine.archive_rows.ArchiveRows``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def due(self, limit: int) -> list[DueInstance]:
        """Return instances that are due."""
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, instances.DUE_ARCHIVES, limit=limit).fetchall()
        )
        return [DueInstance(*row) for row in rows]

    def claim(self, due: DueInstance, lease: int) -> bool:
        """Set the time of an instance ahead; see ``engine.archive_rows``."""
        return self.database.change_one(instances.CLAIM_END, lease=lease, **due._asdict())

    def tries(self, instance_id: str, execution: str) -> int:
        """Return how often the hook has failed at an instance."""
        row = self.database.fetch_one(TRIES, id=instance_id, execution=execution)
        return 0 if row is None else int(row[0])

    def note_failure(self, record: InstanceRecord, error: str, delay: int) -> bool:
        """Keep why an instance could not be archived; see ``engine.archive_rows``."""
        run = self.database.run
        values = {"id": record.id, "execution": record.execution}
        text = (readable(error) or "")[:2000]

        def note(cursor: Cursor) -> bool:
            moved = run(
                cursor, instances.POSTPONE_PURGE, delay=delay, sequence=record.sequence, **values
            )
            if not moved.rowcount:
                return False
            if not run(cursor, INSERT_FAILURE, error=text, **values).rowcount:
                run(cursor, CHANGE_FAILURE, error=text, **values)
            return True

        return self.database.transact(note)

    def mark_children(self, limit: int) -> bool:
        """Let the finished children of instances that are due be due as well."""
        run = self.database.run
        parents = self.database.read(
            lambda cursor: run(cursor, instances.DUE_PARENTS, limit=limit).fetchall()
        )
        # each by itself: no transaction waits for a child while it has a parent
        return sum(self._mark(parent) for (parent,) in parents) > 0

    def _mark(self, parent: str) -> int:
        run = self.database.run
        return self.database.read(
            lambda cursor: int(run(cursor, instances.PURGE_CHILDREN, id=parent).rowcount)
        )

    def forget_gone(self) -> None:
        """Drop what is kept of instances that were deleted or live again."""
        if self.database.fetch_one(HAS_FAILED) is not None:
            self.database.read(lambda cursor: self.database.run(cursor, FORGET_GONE))

    def state(self, most: int) -> ArchiveState:
        """Return what waits, counted up to ``most``."""
        (due,) = self.database.fetch_one(COUNT_DUE, most=most)
        (failed,) = self.database.fetch_one(COUNT_FAILED, most=most)
        last = self.database.fetch_one(LAST_FAILED) or (None, None, None)
        return ArchiveState(int(due) + int(failed), int(failed), *last)
