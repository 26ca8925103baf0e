"""One revision of the store's schema as an operation of a Django migration, run on Django's own
connection.

The tables are declared once, in ``celery_durable.store``; a Django migration only says up to which
revision they are brought.
"""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation

from ...store.migrate import make_revision, unmake_revision
from .database import is_supported
from .shared_connection import shared_engine

__all__ = ["StoreRevision"]


class StoreRevision(Operation):
    """Bring the store's tables to a revision.

    Those that are there already, also by ``durable.migrate()``, are left alone.
    """

    reduces_to_sql = False
    reversible = True

    def __init__(self, revision: str, before: str | None = None) -> None:
        self.revision = revision
        self.before = before

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: Django's models of these tables are unmanaged."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Upgrade."""
        if self._is_here(app_label, schema_editor):
            with shared_engine(schema_editor.connection).connect() as connection:
                make_revision(connection, self.revision)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Downgrade."""
        if self._is_here(app_label, schema_editor):
            with shared_engine(schema_editor.connection).connect() as connection:
                unmake_revision(connection, self.revision, self.before)

    def _is_here(self, app_label: str, schema_editor: Any) -> bool:
        connection = schema_editor.connection
        return is_supported(connection) and router.allow_migrate(connection.alias, app_label)

    def describe(self) -> str:
        """Return what ``migrate`` prints."""
        return f"Bring the tables of celery-durable to revision {self.revision}"

    @property
    def migration_name_fragment(self) -> str:
        """Return part of a file name."""
        return f"store_{self.revision}"
