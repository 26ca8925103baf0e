"""Reads that SQLAlchemy Core builds: cold paths, each a statement by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from . import clock
from .runner import Runner

__all__ = ["fetch", "now"]


def fetch(database: Runner, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
    """Return the rows of a statement.

    Raises:
        StoreError: the store cannot be reached.
    """
    with database.cursor():  # the first use of a process checks the schema
        pass
    for attempt in (1, 2):
        try:
            with database.using() as engine, engine.connect() as connection:
                rows = connection.execute(statement).fetchall()
            return rows if database.vault is None else database.vault.opened_rows(rows)
        except sa.exc.DBAPIError as error:
            if attempt == 2 or not error.connection_invalidated:
                raise database.store_error(error) from error
    raise AssertionError("unreachable")


def now(database: Runner) -> int:
    """Return the store's clock."""
    return database.read(lambda cursor: clock.now(database, cursor))
