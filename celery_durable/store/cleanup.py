"""Deleting what is over."""

from __future__ import annotations

from . import answers, archiving, audit, history, inbox, instances, outbox
from .faults import Undone
from .runner import Cursor, Runner
from .sweeping import check_after_purge

__all__ = ["Cleanup"]


class Cleanup:
    """Deleting what is over (``engine.store_ports.Cleanup``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def clean_entity(self, instance_id: str, execution: str) -> bool:
        """Delete an entity that still is as it was seen, and that no message waits for.

        False if that is not so.
        """
        run, key = self.database.run, {"id": instance_id, "execution": execution}

        def delete(cursor: Cursor) -> bool:
            if not run(cursor, instances.CLEAN_ENTITY, **key).rowcount:
                return False
            run(cursor, inbox.CLEAR_EXECUTION, **key)
            return True

        return self.database.transact(delete)

    def purge(self, instance_id: str, execution: str, sequence: int | None = None) -> bool:
        """Delete a terminal instance with all its rows; False if it has moved meanwhile.

        One that was archived is deleted only at the ``sequence`` at which it was read for that. The
        outbox goes first: that is the row which recorders of late outcomes take.
        """
        run, key = self.database.run, {"id": instance_id, "execution": execution}
        lock = instances.LOCK_EXECUTION if sequence is None else instances.LOCK_END
        at = {} if sequence is None else {"sequence": sequence}

        def delete(cursor: Cursor) -> None:
            is_there = run(cursor, lock, **key, **at).fetchone() is not None
            waiting = inbox.IS_TO_REWIND
            if not is_there or run(cursor, waiting, id=instance_id).fetchone() is not None:
                raise _HasMovedError
            run(cursor, outbox.PURGE_OUTBOX, execution=execution)
            run(cursor, inbox.CLEAR_INBOX, id=instance_id)
            run(cursor, answers.CLEAR_ANSWERS, id=instance_id)
            run(cursor, history.CLEAR_HISTORY, id=instance_id)
            if not run(cursor, instances.PURGE_INSTANCE, **key).rowcount:
                raise _HasMovedError
            if sequence is not None:
                run(cursor, archiving.FORGET, id=instance_id)
            check_after_purge(self.database, cursor, [instance_id])
            audit.leave(self.database, cursor)

        try:
            self.database.transact(delete)
        except _HasMovedError:
            audit.forget()
            return False
        return True

    def purge_due(self, limit: int) -> bool:
        """Delete finished instances whose time has come, children before their parents.

        True if there may be more.

        Those of which Celery has not been told yet wait, and so do their parents. Rows that another
        worker has are skipped.
        """
        run, run_many = self.database.run, self.database.run_many

        def delete(cursor: Cursor) -> int:
            due = run(cursor, instances.DUE_PURGES, limit=limit).fetchall()
            keys = [
                {"id": id_, "execution": execution} for id_, execution in sorted(map(tuple, due))
            ]
            ids = [{"id": key["id"]} for key in keys]
            run_many(cursor, inbox.CLEAR_INBOX, ids)
            run_many(cursor, answers.CLEAR_ANSWERS, ids)
            run_many(cursor, history.CLEAR_HISTORY, ids)
            run_many(cursor, instances.PURGE_INSTANCE, keys)
            check_after_purge(self.database, cursor, [key["id"] for key in keys])
            return len(keys)

        count = self.database.transact(delete)
        parents = self.database.read(
            lambda cursor: run(cursor, instances.DUE_PARENTS, limit=limit).fetchall()
        )
        marked = 0
        # each by itself: no transaction waits for a child while it has a parent
        for (parent,) in parents:
            marked += self._mark_children(parent)
        return count + marked > 0

    def _mark_children(self, parent_id: str) -> int:
        run = self.database.run
        return self.database.read(
            lambda cursor: int(run(cursor, instances.PURGE_CHILDREN, id=parent_id).rowcount)
        )


class _HasMovedError(Undone):
    """Rolls a purge back: the instance is not what it was."""
