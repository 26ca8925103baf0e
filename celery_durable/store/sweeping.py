"""Deleting from the payload store what no row refers to any more.

A row that is deleted or written again leaves its payload behind. Each payload is looked at an hour
after it came, later the longer it has been there, and soon after its instance was purged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .._errors import StoreError
from . import large_payloads, queries
from .runner import Cursor, Runner
from .statements import Statement
from .values import reference

__all__ = ["LargePayloadRows", "abandoned", "check_after_purge"]

_DAY = 86_400_000_000
#: For so many microseconds a payload is one worker's to look at.
_LEASE = 600_000_000
#: One that is younger may belong to a row that is about to be committed.
_YOUNG = 600_000_000
DUE = Statement(
    "SELECT id, instance, size, created_at, check_at, {now} FROM durable_objects WHERE check_at <="
    " {once} ORDER BY check_at LIMIT :limit"
)
SET_CHECK = Statement(
    "UPDATE durable_objects SET check_at = {now} + :after WHERE id = :key AND check_at = :check_at"
)
_OF_INSTANCE = ("input", "output", "failure", "custom_status", "canvas")
IS_USED = Statement(
    "SELECT 1 FROM durable_instances WHERE id = :id AND ("
    + " OR ".join(f"{name} = :data" for name in _OF_INSTANCE)
    + ") UNION ALL SELECT 1 FROM durable_history WHERE instance = :id AND events = :data UNION ALL"
    " SELECT 1 FROM durable_inbox WHERE instance = :id AND payload = :data UNION ALL SELECT 1 FROM"
    " durable_answers WHERE instance = :id AND payload = :data UNION ALL SELECT 1 FROM"
    " durable_outbox o JOIN durable_instances i ON i.execution = o.execution WHERE i.id = :id AND"
    " (o.message = :data OR o.details = :data)"
)
IS_KNOWN = Statement("SELECT 1 FROM durable_objects WHERE id = :key")
DROP = Statement("DELETE FROM durable_objects WHERE id = :key")
CHECK_SOON = Statement(
    "UPDATE durable_objects SET check_at = {now} WHERE instance = :id AND created_at <= {now} -"
    f" {_YOUNG}"
)


def check_after_purge(database: Runner, cursor: Cursor, ids: Sequence[str]) -> None:
    """Let the payloads of instances be deleted soon, whose rows are."""
    if database.vault is not None and database.vault.large is not None:
        for id_ in ids:
            database.run(cursor, CHECK_SOON, id=id_)


class LargePayloadRows:
    """What lies in the payload store (``engine.store_ports.LargePayloadRows``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def sweep(self, limit: int) -> bool:
        """Delete what nothing refers to; see ``engine.store_ports``."""
        database = self.database
        if database.vault is None or database.vault.large is None:
            return False
        due = database.read(lambda cursor: database.run(cursor, DUE, limit=limit).fetchall())
        unused = [key for key in map(self._looked_at, due) if key is not None]
        if unused:
            try:
                database.vault.large.delete(unused)
            except Exception as error:
                raise StoreError(
                    f"the payload store {database.vault.large!r} did not delete"
                    f" {len(unused)} payloads; they are tried again: {type(error).__name__}:"
                    f" {error}"
                ) from error
            for key in unused:
                database.change_one(DROP, key=key)
        return len(due) == limit

    def _looked_at(self, row: Sequence[Any]) -> str | None:
        """Return the key of a payload that is to be deleted, which no other worker deletes then."""
        key, instance, size, created_at, check_at, now = row
        # as it is in the column: what is passed as a parameter would be sealed
        data = reference(size, key)
        used = self.database.read(
            lambda cursor: self.database.run_unsealed(
                cursor, IS_USED, {"id": instance, "data": data}
            ).fetchone()
        )
        is_used = used is not None
        age = now - created_at
        after = _LEASE
        if is_used:
            after = max(large_payloads.FIRST_CHECK, min(age, _DAY))
        is_mine = self.database.change_one(SET_CHECK, key=key, check_at=check_at, after=after)
        return key if is_mine and not is_used else None


def abandoned(database: Runner, keys: Iterable[tuple[str, float]], age: float) -> Iterator[str]:
    """Give the keys of this store's payloads that no row knows: of transactions that were rolled
    back.

    Args:
        database: of the store.
        keys: of payloads, each with when it was written, in seconds since the epoch.
        age: only those that are older than so many seconds.
    """
    now = queries.now(database)
    for key, written in keys:
        if written <= now / 1_000_000 - age and database.fetch_one(IS_KNOWN, key=key) is None:
            yield key
