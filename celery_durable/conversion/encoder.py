"""Values to JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .._errors import PayloadError
from .converters import Converters, fields_of
from .models import dumped

if TYPE_CHECKING:  # kombu has no types
    from json import JSONEncoder
else:
    from kombu.utils.json import JSONEncoder

__all__ = ["Encoder"]

#: A value without what a subclass adds.
_EXACT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}


class Encoder(JSONEncoder):
    """Writes what kombu's JSON does, and what this module says."""

    def __init__(self, converters: Converters | None = None) -> None:
        super().__init__()
        self._converters = Converters() if converters is None else converters
        #: Whether something was written that does not come back by itself.
        self.has_converted: bool = False

    def default(self, o: Any) -> Any:
        """Return JSON for a value that JSON does not know."""
        if (own := self._converters.of(type(o))) is not None:
            found = own.encode(o)
        else:
            try:
                return super().default(o)  # type: ignore[no-untyped-call]
            except TypeError:
                found = self._converted(o)
        self.has_converted = True
        return self._converters.walked(found) if self._converters.walks else found

    def plain(self, value: Any) -> Any:
        """Return a value made of what JSON and kombu know, and of nothing else.

        Raises:
            TypeError: a part of it is of another type.
        """
        if (own := self._converters.of(type(value))) is not None:
            return self.plain(own.encode(value))
        if isinstance(value, dict):
            found = {_key(key): self.plain(part) for key, part in value.items()}
            if len(found) < len(value):
                raise PayloadError("a dict with keys that are the same in JSON: one would be lost")
            return found
        if isinstance(value, (list, tuple)):
            return [self.plain(part) for part in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.plain(value.value)
        for native, exact in _EXACT.items():
            if isinstance(value, native):
                return exact(value)
        if hasattr(value, "__json__"):
            return self.plain(value.__json__())
        try:
            super().default(value)  # type: ignore[no-untyped-call]
        except TypeError:
            return self.plain(self._converted(value))
        return value

    def _converted(self, o: Any) -> Any:
        if isinstance(o, Enum):
            return o.value
        if isinstance(o, timedelta):
            return o.total_seconds()
        if isinstance(o, PurePath):
            return str(o)
        if isinstance(o, (set, frozenset)):  # in an order that no hash seed changes
            return sorted(o, key=self._text_of)
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            return fields_of(o)
        if hasattr(type(o), "model_dump"):  # of the class: a mock has every attribute
            return dumped(o, self._converters, self.plain)
        raise TypeError(f"Object of type {type(o).__name__} is not JSON serializable")

    def _text_of(self, part: Any) -> str:
        return type(self)(self._converters).encode(part)


def _key(key: Any) -> Any:
    """Return the key of a dict as JSON writes it, of the types that have a text."""
    if isinstance(key, Enum):
        return key.value
    return str(key) if isinstance(key, (UUID, PurePath)) else key
