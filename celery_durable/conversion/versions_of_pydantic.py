"""Where the releases of pydantic differ."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["options", "release", "unshared"]

_building = threading.Lock()


def unshared(make: Any, schema: Any) -> Any:
    """Return a validator or serializer that takes no part of those that the models have."""
    if release() >= (2, 12):
        return make(schema, _use_prebuilt=False)
    if release() < (2, 11):  # which take none
        return make(schema)
    with _building:  # 2.11 asks each class
        classes = [cls for cls in set(_classes_in(schema)) if "__pydantic_complete__" in vars(cls)]
        known = {cls: cls.__pydantic_complete__ for cls in classes}
        try:
            for cls in classes:
                cls.__pydantic_complete__ = False
            return make(schema)
        finally:
            for cls, is_complete in known.items():
                cls.__pydantic_complete__ = is_complete


def _classes_in(node: Any) -> Iterator[Any]:
    """Yield the classes of models and dataclasses that a core schema names."""
    if isinstance(node, dict):
        if node.get("type") in ("model", "dataclass"):
            yield node["cls"]
        for name, part in node.items():
            if name != "metadata":
                yield from _classes_in(part)
    elif isinstance(node, (list, tuple)):
        for part in node:
            yield from _classes_in(part)


@functools.cache
def release() -> tuple[int, int]:
    """Return the release of pydantic that is installed."""
    import pydantic

    major, minor = pydantic.VERSION.split(".")[:2]
    return int(major), int(minor)


class Options(NamedTuple):
    """What pydantic is told beside a value."""

    reading: dict[str, bool]
    writing: dict[str, bool]


@functools.cache
def options() -> Options:
    """Return what lets a field with an alias be read by its name too, where pydantic can."""
    if release() >= (2, 11):
        return Options({"by_alias": True, "by_name": True}, {})
    return Options({}, {"by_alias": False})
