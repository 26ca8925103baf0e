"""Inserting many instances in one transaction, by a few statements for each five hundred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from ..engine.records import Resident, TakenIdsError
from ..engine.writes import NewInstance
from . import admission, audit, clock, inbox, instances
from .faults import Undone
from .runner import Cursor, Runner
from .values import portions, text_of

__all__ = ["insert_all", "insert_all_within"]

#: So many rows have one statement, and about so many bytes.
_MOST_ROWS, _MOST_BYTES = 500, 1_000_000
#: So often a part is tried that others insert some of at the same moment.
_TRIES = 20


class _TakenError(Undone, TakenIdsError):
    """Ids are taken, and all are to be new."""


def insert_all(
    database: Runner, news: Sequence[NewInstance], *, expects_new: bool = False
) -> Mapping[str, Resident]:
    """Insert orchestrations with their start messages in one transaction.

    Return who has the ids that are taken. Those of this very call that a commit has inserted whose
    answer was lost count as new.

    Raises:
        TakenIdsError: some are taken and ``expects_new``; nothing was inserted.
    """
    tries = 0

    def insert(cursor: Cursor) -> Mapping[str, Resident]:
        nonlocal tries
        tries += 1
        # a transaction that is repeated may meet what its first try has committed
        work = _Work(database, cursor, expects_new=expects_new, looks_first=tries > 1)
        return work.insert(news)

    return database.transact(insert)


def insert_all_within(
    database: Runner, cursor: Cursor, news: Sequence[NewInstance], *, expects_new: bool = False
) -> Mapping[str, Resident]:
    """Do the same on a cursor inside a caller's transaction, which may be open for long: all or
    nothing, also if the caller continues after an error.
    """
    cursor.execute("SAVEPOINT durable_starts")
    is_listed = database.family != "postgresql"
    try:
        work = _Work(database, cursor, expects_new=expects_new, is_listed=is_listed)
        found = work.insert(news)
    except Exception:
        with suppress(Exception):  # the whole transaction may be undone already
            cursor.execute("ROLLBACK TO SAVEPOINT durable_starts")
        raise
    cursor.execute("RELEASE SAVEPOINT durable_starts")
    return found


class _Work:
    """The inserts of one transaction."""

    def __init__(
        self,
        database: Runner,
        cursor: Cursor,
        *,
        expects_new: bool,
        looks_first: bool = False,
        is_listed: bool = False,
    ) -> None:
        self.database = database
        self.cursor = cursor
        self.expects_new = expects_new
        #: Whether some may be there already that are ours.
        self.looks_first = looks_first
        self.statement = instances.INSERT_MANY_LISTED if is_listed else instances.INSERT_MANY
        #: Who has ids that are taken.
        self.residents: dict[str, Resident] = {}

    def insert(self, news: Sequence[NewInstance]) -> Mapping[str, Resident]:
        """Insert them; return who has the ids that are taken."""
        now = clock.now(self.database, self.cursor)
        for part in _parts(news):
            inserted = self._insert_instances(part)
            messages = [inbox.inbox_values(inbox.start_message(new), now) for new in inserted]
            if messages:
                inbox.INSERT_INBOXES.run(self.database, self.cursor, messages)
            waiting = [new for new in inserted if new.admission is not None]
            admission.insert_all_waiting(self.database, self.cursor, waiting, now)
            audit.leave_each(self.database, self.cursor, [new.id for new in inserted])
        return self.residents

    def _insert_instances(self, part: Sequence[NewInstance]) -> Sequence[NewInstance]:
        """Insert the rows of instances; return those that are new."""
        rest = self._not_there(part) if self.looks_first else part
        for _ in range(_TRIES):
            if not rest:
                return rest
            values = [instances.insert_values(new) for new in rest]
            if self.statement.run(self.database, self.cursor, values) == len(rest):
                return rest
            if self.database.family != "mysql":  # all that are new were inserted
                return self._ours(rest)
            rest = self._not_there(rest)  # none was
        raise TakenIdsError([new.id for new in rest])

    def _not_there(self, news: Sequence[NewInstance]) -> list[NewInstance]:
        """Return those whose ids are free."""
        found = self._look(news)
        return [new for new in news if new.id not in found]

    def _ours(self, news: Sequence[NewInstance]) -> list[NewInstance]:
        """Return those that were inserted just now."""
        self._look(news)
        return [new for new in news if new.id not in self.residents]

    def _look(self, news: Sequence[NewInstance]) -> set[str]:
        """Return which ids are taken, by us or by others, and note the others."""
        own, found = {new.id: new.execution for new in news}, set()
        for part in portions(news):
            keys = [(new.id,) for new in part]
            rows = instances.WHO_HAS.run(self.database, self.cursor, keys).fetchall()
            for id_, execution, name, given in rows:
                found.add(id_)
                if execution != own.get(id_):
                    self.residents[id_] = Resident(name, text_of(given))
        if self.expects_new and self.residents:
            raise _TakenError(sorted(self.residents))
        return found


def _parts(news: Sequence[NewInstance]) -> Iterator[Sequence[NewInstance]]:
    """Cut what is inserted into what one statement takes."""
    first, size = 0, 0
    for number, new in enumerate(news):
        own = len(new.input) + len(new.canvas or "")
        if number - first == _MOST_ROWS or (number > first and size + own > _MOST_BYTES):
            yield news[first:number]
            first, size = number, 0
        size += own
    if first < len(news):
        yield news[first:]
