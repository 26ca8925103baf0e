"""Keeping lists of what lives short: who has lived for a while is listed (``lists``), once.

``listed_until`` in ``durable_meta`` says up to which moment of creation all live instances are. It
moves on when these have been marked, so between two looks nothing is missing. Nor is what a
transaction inserted that was open then, and commits later: where the database numbers transactions,
those that were open are over before the moment is passed. Its text is that moment, the one that is
to be reached, and the number of the transaction that came next when that was chosen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .runner import Cursor, Runner
from .statements import Statement

__all__ = ["Upkeep", "listed_until"]

#: After how many microseconds an instance has lived for a while.
AFTER = 60_000_000
_EVERY = 30_000_000
LISTED = Statement(
    "SELECT value, {now}, {oldest}, {coming} FROM durable_meta WHERE name = 'listed_until'"
)
MOVE = Statement(
    "UPDATE durable_meta SET value = :text WHERE name = 'listed_until' AND value = :known_text"
)
# all rows of one moment go together
STRETCH = Statement(
    "SELECT COUNT(*), MAX(created_at) FROM (SELECT created_at FROM durable_instances WHERE"
    " created_at > :since AND created_at <= :until ORDER BY created_at LIMIT :limit) AS stretch"
)
_MAY_LIVE = "status IN ('PENDING', 'RUNNING', 'SUSPENDED', 'FAILED') AND is_lasting IS NULL"
UNLISTED = Statement(
    "SELECT id FROM durable_instances WHERE created_at > :since AND created_at <= :until AND"
    f" {_MAY_LIVE} ORDER BY created_at"
)
LIST = Statement(
    f"UPDATE durable_instances SET is_lasting = {{true}} WHERE id = :id AND {_MAY_LIVE}"
)


class _Progress(NamedTuple):
    since: int
    until: int
    gate: int

    def to_text(self) -> str:
        return ":".join(map(str, self))


def listed_until(database: Runner) -> int:
    """Return up to which moment of creation all that live are listed; 0 is none."""
    row = database.fetch_one(LISTED)
    if row is None:
        return 0
    text, now, *_ = row
    return min(_parse(text).since, int(now) - AFTER)  # the clock may have been set back


def _parse(text: Any) -> _Progress:
    """Read what is kept; damage lets all be looked at again."""
    try:
        since, *rest = map(int, str(text).split(":"))
        return _Progress(since, *rest) if len(rest) == 2 else _Progress(since, since, 0)
    except (ValueError, TypeError):
        return _Progress(0, 0, 0)


class Upkeep:
    """Lists who has lived for a while (``engine.store_ports.Upkeep``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def list_lasting(self, limit: int) -> bool:
        """List those that have lived for a while, of the next ``limit`` that were created.

        True if there may be more.
        """
        row = self.database.fetch_one(LISTED)
        if row is None:
            return False
        seen, now, oldest, coming = row
        progress = _parse(seen)
        if now - AFTER < progress.since:  # the clock was set back
            return self._move(seen, _Progress(now - AFTER, now - AFTER, 0))
        # numbers that are ahead are of another server, whose dump this was restored from
        if progress.until <= progress.since or progress.gate > coming:
            if now - AFTER - _EVERY < progress.since:
                return False
            return self._move(seen, progress._replace(until=now - AFTER, gate=coming))
        if oldest < progress.gate:
            return False
        reached = self._list(progress.since, progress.until, limit)
        return self._move(seen, progress._replace(since=reached)) and reached < progress.until

    def _move(self, seen: str, progress: _Progress) -> bool:
        return self.database.change_one(MOVE, known_text=seen, text=progress.to_text())

    def _list(self, since: int, until: int, limit: int) -> int:
        """List those that were created in a stretch of time; return how far it was gone through."""
        count, last = self.database.fetch_one(STRETCH, since=since, until=until, limit=limit)
        reached = until if count < limit else int(last)

        def unlisted(cursor: Cursor) -> list[Any]:
            bounds = {"since": since, "until": reached}
            return list(self.database.run(cursor, UNLISTED, **bounds).fetchall())

        for (id_,) in self.database.read(unlisted) if count else ():
            self.database.change_one(LIST, id=id_)
        return reached
