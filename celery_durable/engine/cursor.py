"""The one object of a database driver that passes through the engine."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Cursor"]


class Cursor(Protocol):
    """A cursor of the store's database, inside a transaction, as any driver has it."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement met."""

    def execute(self, sql: Any, parameters: Any = ..., /) -> Any:
        """Run a statement."""

    def executemany(self, sql: Any, parameters: Any, /) -> Any:
        """Run a statement for each of many parameters."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> Any:
        """Return all rows that are left."""
