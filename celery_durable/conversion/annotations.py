"""Which annotations count, and how those of a function or a class are read."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from .converters import Converters

__all__ = ["hints_of", "is_looked_at"]

log: logging.Logger = logging.getLogger("celery_durable.payload")
_BUILT_IN = (
    Enum,
    timedelta,
    PurePath,
    set,
    frozenset,
    tuple,
    datetime,
    date,
    time,
    Decimal,
    UUID,
    bytes,
)


def is_looked_at(
    annotation: Any, converters: Converters, seen: frozenset[int] = frozenset()
) -> bool:
    """Tell whether values are decoded to a type: whether there is a class in it that JSON does not
    give back by itself.
    """
    if id(annotation) in seen:
        return False
    inner = seen | {id(annotation)}
    if typing.is_typeddict(annotation):
        hints = hints_of(annotation).values()
        return any(is_looked_at(part, converters, inner) for part in hints)
    for name in ("__supertype__", "__value__"):  # of a NewType, of a type alias
        if (meant := getattr(annotation, name, None)) is not None:
            return is_looked_at(meant, converters, inner)
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return (
            (issubclass(annotation, _BUILT_IN) and annotation is not tuple)
            or dataclasses.is_dataclass(annotation)
            or hasattr(annotation, "model_validate")
            or converters.of(annotation) is not None
        )
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, (set, frozenset, tuple)):
        return True
    if origin is typing.Literal:
        return any(isinstance(each, Enum) for each in typing.get_args(annotation))
    parts = (origin, *typing.get_args(annotation))
    return any(is_looked_at(part, converters, inner) for part in parts if part is not None)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, but for those whose names are not known at run time."""
    inner = inspect.unwrap(function)
    inner = getattr(inner, "__func__", inner)
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except Exception:
        found: dict[str, Any] = {}
        for name, hint in getattr(inner, "__annotations__", {}).items():
            try:
                known = {"__annotations__": {name: hint}, "__module__": inner.__module__}
                holder = type("_One", (), known)
                found |= typing.get_type_hints(
                    holder, getattr(inner, "__globals__", {}), include_extras=True
                )
            except Exception:
                log.debug("an annotation of %r cannot be read", function, exc_info=True)
        return found
