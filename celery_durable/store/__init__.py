"""The SQL store: what is true. No Celery here."""

from __future__ import annotations

from ..conf import Settings
from .database import Database
from .migrate import check_schema
from .postgres import PostgresStore
from .queries import Store

__all__ = ["Store", "open_store"]


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name; nothing is connected yet."""
    database = Database(settings.backend_url, settings.backend_options, on_first_use=check_schema)
    kind = PostgresStore if database.family == "postgresql" else Store
    return kind(
        database,
        resend_after=int(settings.resend_after * 1_000_000),
        timer_horizon=int(settings.timer_horizon * 1_000_000),
    )
