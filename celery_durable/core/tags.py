"""Tags: strings by which orchestrations are found, and changes to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .names import check_text

__all__ = ["TagChanges", "check_tags", "tag_changes"]

#: By name the new value; None takes the tag away.
TagChanges = Mapping[str, str | None]


def check_tags(tags: Mapping[Any, Any]) -> None:
    """Refuse what cannot be tags.

    Raises:
        TypeError: they are no mapping, or a name or a value is no string.
        ValueError: a tag cannot be stored.
    """
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags are a mapping such as {{'batch': 'monday'}}, not {tags!r}")
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"tags are strings, not {key!r}: {value!r}")
        check_text("a tag", key + value)


def tag_changes(tags: Mapping[str, str] | None, remove: Iterable[str] | str) -> TagChanges:
    """Return what setting some tags and removing others changes.

    Raises:
        TypeError: these are no tags, or no names.
        ValueError: a tag cannot be stored, or is to be both set and removed.
    """
    check_tags({} if tags is None else tags)
    names = [remove] if isinstance(remove, str) else list(remove)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"remove takes names of tags, not {wrong[0]!r}")
    for name in names:
        check_text("the name of a tag", name)
    if both := [name for name in names if name in (tags or {})]:
        raise ValueError(f"tag {both[0]!r} is to be set and to be removed: say one of both")
    return {**(tags or {}), **dict.fromkeys(names)}
