"""How instances are inserted: by themselves, with a history, with a first turn, or in the place of
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..engine.records import Resident
from ..engine.writes import AlreadyWaitsError, Committed, NewInbox, NewInstance, TurnCommit
from . import admission, audit, clock, creation, history, inbox, instances, many_starts, upkeep
from .creation import LockedError, ReleaseLocks
from .runner import Cursor, Runner
from .turns import Turns

__all__ = ["Starts"]


class Starts:
    """How an instance is inserted (``engine.store_ports.Starts``)."""

    def __init__(self, database: Runner, turns: Turns) -> None:
        self.database = database
        self.turns = turns

    def insert(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""

        def insert(cursor: Cursor) -> bool:
            return self._insert(cursor, instance)

        return self.database.transact(insert) or self.is_ours(instance)

    def insert_within(self, cursor: Cursor, instance: NewInstance) -> bool:
        """Insert an orchestration on a cursor inside a caller's transaction.

        That may be open for long. Where transactions have no numbers (``upkeep``), it is listed.
        """
        is_new = self._insert(cursor, instance)
        if is_new and self.database.family != "postgresql":
            self.database.run(cursor, upkeep.LIST, id=instance.id)
        return is_new

    def insert_all(
        self, instances: Sequence[NewInstance], *, expects_new: bool = False
    ) -> Mapping[str, Resident]:
        """Insert orchestrations with their start messages in one transaction.

        Return who has the ids that are taken.

        Raises:
            TakenIdsError: some are, and ``expects_new``; nothing was inserted.
        """
        return many_starts.insert_all(self.database, instances, expects_new=expects_new)

    def insert_all_within(
        self, cursor: Cursor, instances: Sequence[NewInstance], *, expects_new: bool = False
    ) -> Mapping[str, Resident]:
        """Do the same on a cursor inside a caller's transaction."""
        return many_starts.insert_all_within(
            self.database, cursor, instances, expects_new=expects_new
        )

    def _insert(self, cursor: Cursor, instance: NewInstance) -> bool:
        now = clock.now(self.database, cursor)
        is_new = creation.insert_instance(self.database, cursor, instance, now)
        if is_new:
            audit.leave(self.database, cursor, instance.id)
        return is_new

    def insert_fork(self, instance: NewInstance, history: Sequence[str], message: NewInbox) -> bool:
        """Insert an orchestration that has a history already, and the message that moves it.

        False if the id is taken.
        """
        is_new = self.database.transact(
            lambda cursor: self._insert_fork(cursor, instance, history, message)
        )
        return is_new or self.is_ours(instance)

    def _insert_fork(
        self, cursor: Cursor, new: NewInstance, events: Sequence[str], message: NewInbox
    ) -> bool:
        database = self.database
        now = clock.now(database, cursor)
        if not instances.insert(database, cursor, new):
            return False
        database.run(cursor, instances.BEGIN_FORK, id=new.id, sequence=len(events))
        history.insert_whole(database, cursor, new.id, new.execution, events)
        inbox.insert(database, cursor, message, now)
        audit.leave(database, cursor, new.id)
        return True

    def insert_with_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn; None if the id is taken."""
        commit.canceled_dedups.append(inbox.start_message(instance).dedup)

        def start(cursor: Cursor) -> Committed | None:
            if not self._insert(cursor, instance):
                return None
            return self.turns.commit_within(cursor, commit)

        try:
            return self.database.transact(start) or self.repeated_start(instance, commit)
        except LockedError:
            audit.forget()
            return None

    def repeated_start(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Return what a commit whose answer was lost would have returned, if it took place."""
        if not self.is_ours(instance):
            return None
        now = self.database.read(lambda cursor: clock.now(self.database, cursor))
        return Committed(now, [], commit.children)

    def is_ours(self, instance: NewInstance) -> bool:
        """Tell whether the instance there is this very one: a commit whose answer was lost may have
        been ours.
        """
        row = self.database.fetch_one(instances.EXECUTION_OF, id=instance.id)
        if row is None:
            return False
        (execution,) = row
        return bool(execution == instance.execution)

    def replace(
        self, new: NewInstance, release_locks: ReleaseLocks | None = None
    ) -> list[NewInbox] | None:
        """Put a new execution in the place of an instance, and return what was sent to others.

        None if it moved meanwhile.

        The old one ends undelivered: its children are asked to end, its history and messages are
        deleted. ``release_locks`` is given its execution and history, and returns what it leaves to
        others.
        """

        def replace(cursor: Cursor) -> list[NewInbox] | None:
            left = creation.replace(self.database, cursor, new, release_locks)
            if left is not None:
                audit.leave(self.database, cursor, new.id)
            return left

        return self.database.transact(replace)

    def merge(self, new: NewInstance) -> str | None:
        """Let the instance that waits under the same debounce key have this input.

        Return its id, or None if none waits.

        Raises:
            AlreadyWaitsError: there is one, and it is locked for the moment.
        """
        return self.database.transact(lambda cursor: self._merge(cursor, new))

    def _merge(self, cursor: Cursor, new: NewInstance) -> str | None:
        run = self.database.run
        assert new.admission is not None
        row = run(cursor, admission.OF_DEBOUNCE, debounce=new.admission.debounce).fetchone()
        if row is None:
            return None
        id_, execution, first, now = row
        if run(cursor, instances.TRY_INSTANCE, id=id_, execution=execution).fetchone() is None:
            raise AlreadyWaitsError
        run(cursor, instances.CHANGE_INPUT, id=id_, input=new.input.encode(), now=now)
        admission.change_waiting(self.database, cursor, new, (id_, execution), first, now)
        audit.leave(self.database, cursor, str(id_))
        return str(id_)
