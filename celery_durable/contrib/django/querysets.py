"""Queries of the store's tables, which Django may only read."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from ...errors import DurableError

__all__ = ["ReadOnlyQuerySet", "refuse_writing"]


def refuse_writing(*_: Any, **__: Any) -> NoReturn:
    """Refuse a write.

    Raises:
        DurableError: always.
    """
    raise DurableError(
        "the tables of durable orchestrations are read-only in Django: start and steer them by"
        " durable.start(...) and the verbs of instance.run"
    )


class ReadOnlyQuerySet(models.QuerySet):
    """A query set that refuses to write."""

    create = get_or_create = update_or_create = bulk_create = bulk_update = update = delete = (
        refuse_writing
    )
    acreate = aget_or_create = aupdate_or_create = abulk_create = abulk_update = aupdate = (
        adelete
    ) = refuse_writing
    _raw_delete = _update = _insert = refuse_writing
    delete.queryset_only = True  # type: ignore[attr-defined]
