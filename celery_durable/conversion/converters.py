"""What an application has told of its own classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Converter", "Converters", "fields_of"]

#: What JSON writes by itself: a converter for such a class is asked before.
_NATIVE = (dict, list, tuple, str, int, float)


class Converter(NamedTuple):
    """How values of a class become JSON, and come back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class Converters:
    """The converters of one application; the one of the nearest class holds."""

    def __init__(self) -> None:
        self._by_class: dict[type, Converter] = {}
        #: Whether one is for a class that JSON writes by itself.
        self.walks: bool = False
        #: How often one was added: what was made of fewer is out of date.
        self.changes: int = 0
        #: Class of a model -> what writes its objects; None where it does so by itself.
        self.writers: dict[type, Any] = {}

    def add(self, cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        """Let values of a class and its subclasses be encoded and decoded so.

        Raises:
            TypeError: ``cls`` is no class, or a function is none.
        """
        if not isinstance(cls, type):
            raise TypeError(f"a converter is for a class, not {cls!r}")
        if not callable(encode) or not callable(decode):
            raise TypeError(f"the converter of {cls.__qualname__} needs two functions")
        self._by_class[cls] = Converter(encode, decode)
        self.walks = self.walks or issubclass(cls, _NATIVE)
        self.changes += 1
        self.writers.clear()

    def __bool__(self) -> bool:
        return bool(self._by_class)

    def of(self, cls: Any) -> Converter | None:
        """Return the converter for values of a class; None if there is none."""
        if not self._by_class or not isinstance(cls, type):
            return None
        return next((self._by_class[each] for each in cls.__mro__ if each in self._by_class), None)

    def walked(self, value: Any) -> Any:
        """Return a value in which nothing is left that a converter is for, but within models."""
        if (own := self.of(type(value))) is not None:
            return self.walked(own.encode(value))
        if isinstance(value, dict):
            return {key: self.walked(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.walked(part) for part in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.walked(fields_of(value))
        return value


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of an object of a dataclass."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
