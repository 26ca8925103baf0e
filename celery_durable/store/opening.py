"""Opening the store."""

from __future__ import annotations

from ..engine import store_ports
from ..settings import Settings
from .database import Database
from .migrate import check_schema
from .postgres import use_fast_path
from .store import Store

__all__ = ["Store", "open_store", "sql_store"]


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name; nothing is connected yet."""
    database = Database(settings.backend_url, settings.backend_options, on_first_use=check_schema)
    store = Store(
        database,
        resend_after=int(settings.resend_after * 1_000_000),
        timer_horizon=int(settings.timer_horizon * 1_000_000),
    )
    if database.family == "postgresql":
        use_fast_path(store)
    return store


def sql_store(store: store_ports.Store) -> Store:
    """Return the SQL store behind a port, for work on its database itself: tables, connections.

    Raises:
        TypeError: it is another kind of store.
    """
    if not isinstance(store, Store):
        raise TypeError(f"this needs the SQL store, and the engine works on {type(store).__name__}")
    return store
