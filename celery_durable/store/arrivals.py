"""How messages arrive in inboxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..engine.writes import NewInbox
from . import audit, clock, creation, inbox, inbox_reads, instances
from .runner import Cursor, Runner

__all__ = ["Inbox"]


class Inbox:
    """Messages to instances (``engine.store_ports.Inbox``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def put(self, messages: Sequence[NewInbox]) -> int:
        """Insert messages for instances that can still take them; return how many were new."""
        return self.database.transact(lambda cursor: self.put_within(cursor, messages))

    def put_into(self, message: NewInbox, execution: str) -> bool:
        """Insert a message under the lock of its instance.

        False if that is over, another execution, or held just now.
        """
        database, id_ = self.database, message.instance

        def put(cursor: Cursor) -> bool:
            values = {"id": id_, "execution": execution}
            if database.run(cursor, instances.TRY_INSTANCE, **values).fetchone() is None:
                return False
            self.put_within(cursor, [message])
            status = instances.status_of(database, cursor, id_)
            return status is not None and not status.is_terminal

        return database.transact(put)

    def put_within(self, cursor: Cursor, messages: Sequence[NewInbox]) -> int:
        """Insert messages on a cursor inside a caller's transaction."""
        now = clock.now(self.database, cursor)
        # always in the same order: two transactions cannot wait for each other
        ordered = sorted(messages, key=lambda message: (message.instance, message.dedup))
        sent = sum(creation.send(self.database, cursor, message, now) for message in ordered)
        if sent:
            audit.leave(self.database, cursor)
        return sent

    def put_to_all(self, message: NewInbox, ids: Sequence[str]) -> int:
        """Insert a message for each of these instances that can still take it; return for how many
        it was new.
        """
        return self.database.transact(lambda cursor: self.put_to_all_within(cursor, message, ids))

    def put_to_all_within(self, cursor: Cursor, message: NewInbox, ids: Sequence[str]) -> int:
        """Do the same on a cursor inside a caller's transaction."""
        now = clock.now(self.database, cursor)
        if audit.is_wanted():  # for each that gets it
            sent = [
                id_
                for id_ in sorted(ids)
                if inbox.send(self.database, cursor, replace(message, instance=id_), now)
            ]
            audit.leave_each(self.database, cursor, sent)
            return len(sent)
        return inbox.send_to_all(self.database, cursor, message, ids, now)

    def whole(self, instance_id: str, name: str) -> list[tuple[int, str | None]]:
        """Return the rows of a whole inbox, also what is not due or not shown yet, with the
        payloads of the events of a name.
        """
        return inbox_reads.whole(self.database, instance_id, name)
