"""The store's clock."""

from __future__ import annotations

from .runner import Cursor, Runner
from .statements import Statement

__all__ = ["NOW", "now"]

NOW = Statement("SELECT {now}")


def now(database: Runner, cursor: Cursor) -> int:
    """Return microseconds since the epoch, by the clock of the database."""
    (moment,) = database.run(cursor, NOW).fetchone()
    return int(moment)
