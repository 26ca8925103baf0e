"""How the store's columns look in Django: moments are aware datetimes, payloads are bytes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from ...core.times import EPOCH, as_microseconds
from ...store import sql_store
from .project import durable_of_project

__all__ = ["EncodedTextField", "MomentField", "PayloadField"]


def _opened(value: Any) -> Any:
    """Return what a column holds as it was before ``durable_codec`` or ``durable_payload_store``
    made something else of it.
    """
    if value is None:
        return None
    vault = sql_store(durable_of_project().runtime.store).database.vault
    return value if vault is None else vault.opened(value)


class PayloadField(models.BinaryField):
    """A payload, as its codec made it."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Return the payload of a column; a large one is fetched when it is decoded.

        Raises:
            StoreError: it cannot be decoded here.
        """
        return _opened(value)

    def deconstruct(self) -> Any:
        """Describe it to migrations as the field that it is in the database."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.BinaryField", args, kwargs


class EncodedTextField(models.TextField):
    """Text for people, which ``durable_codec`` may have encoded."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Return the text; one that cannot be decoded here says so."""
        return _opened(value) if isinstance(value, str) and "!encoded:" in value else value

    def deconstruct(self) -> Any:
        """Describe it to migrations as the field that it is in the database."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs


class MomentField(models.Field):
    """A moment: microseconds since the epoch in the column, an aware UTC ``datetime`` in Python and
    in lookups.

    One below zero is of a message that was visible at once: the same moment, and in lookups before
    all others.
    """

    description = "A moment, in microseconds since the epoch"

    def get_internal_type(self) -> str:
        """Return the kind of column."""
        return "BigIntegerField"

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> datetime | None:
        """Return the moment of a column."""
        return None if value is None else EPOCH + timedelta(microseconds=abs(int(value)))

    def to_python(self, value: Any) -> datetime | None:
        """Return the moment of a value that a person or a fixture gave.

        Raises:
            ValidationError: it is none.
        """
        if value is None or isinstance(value, datetime):
            return value
        try:
            return EPOCH + timedelta(microseconds=int(value))
        except (TypeError, ValueError, OverflowError):
            raise ValidationError(f"{value!r} is no moment") from None

    def get_prep_value(self, value: Any) -> int | None:
        """Return what the column holds for an aware ``datetime``."""
        value = super().get_prep_value(value)
        return (
            as_microseconds(value)
            if isinstance(value, datetime)
            else None
            if value is None
            else int(value)
        )

    def value_to_string(self, obj: Any) -> str:
        """Return the moment as a serializer writes it."""
        moment = self.value_from_object(obj)
        return "" if moment is None else moment.isoformat()
