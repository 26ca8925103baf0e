"""What the models of the store's tables have in common: they are read from the database that the
store lives in, and never written.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from ...store.values import text_of
from .database import store_alias
from .project import durable_of_project
from .querysets import ReadOnlyQuerySet, refuse_writing

__all__ = ["StoreManager", "StoreModel"]


class StoreManager(models.Manager.from_queryset(ReadOnlyQuerySet)):  # type: ignore[misc]
    """Reads the store's database, and leaves payloads there until they are asked for."""

    use_in_migrations = False

    def get_queryset(self) -> Any:
        """Return a query of the store's database, without payloads."""
        queryset = super().get_queryset().defer(*self.model.payloads)
        return queryset if self._db else queryset.using(store_alias())


class StoreModel(models.Model):
    """What all of them have: no way to write."""

    payloads: tuple[str, ...] = ()
    objects: Any = StoreManager()

    class Meta:
        abstract: bool = True
        managed: bool = False
        default_permissions: tuple[str, ...] = ("view",)

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        refuse_writing()

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        refuse_writing()

    def _decoded(self, data: Any) -> Any:
        text = text_of(data)
        return None if text is None else durable_of_project().runtime.codec.decode(text)
