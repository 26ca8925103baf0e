"""Queries of the store's tables, which Django may only read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

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

    create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    get_or_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    update_or_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    bulk_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    bulk_update: ClassVar[Callable[..., NoReturn]] = refuse_writing
    update: ClassVar[Callable[..., NoReturn]] = refuse_writing
    delete: ClassVar[Callable[..., NoReturn]] = refuse_writing
    acreate: ClassVar[Callable[..., NoReturn]] = refuse_writing
    aget_or_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    aupdate_or_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    abulk_create: ClassVar[Callable[..., NoReturn]] = refuse_writing
    abulk_update: ClassVar[Callable[..., NoReturn]] = refuse_writing
    aupdate: ClassVar[Callable[..., NoReturn]] = refuse_writing
    adelete: ClassVar[Callable[..., NoReturn]] = refuse_writing
    _raw_delete = _update = _insert = refuse_writing
    delete.queryset_only = True  # type: ignore[attr-defined]
