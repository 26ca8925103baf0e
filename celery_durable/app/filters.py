"""The filters of ``durable.find``, ``count`` and the verbs for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.status import RuntimeStatus
from ..core.tags import check_tags
from ..core.times import as_microseconds
from ..engine.listing import Filters

__all__ = ["filters_of"]

_KNOWN = frozenset(
    {
        "status",
        "name",
        "version",
        "tags",
        "id_prefix",
        "created_after",
        "created_before",
        "parent_id",
        "stuck",
        "roots",
        "tasks",
    }
)


#: What a filter may be, beside None; times, tags and statuses are checked where they are read.
_TYPES = {
    "version": (str, "a text"),
    "id_prefix": (str, "a text"),
    "parent_id": (str, "an id"),
    "stuck": (bool, "True or False"),
    "roots": (bool, "True or False"),
    "tasks": (bool, "True or False"),
}


def filters_of(given: Mapping[str, Any]) -> Filters:
    """Return the filters that keyword arguments choose.

    Without a name and an id prefix, entities are left out.

    Raises:
        TypeError: there is no such filter, or its value is of another type.
        ValueError: a status is none.
    """
    if unknown := set(given) - _KNOWN:
        raise TypeError(
            f"unknown filters: {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KNOWN))}"
        )
    for key, (kind, words) in _TYPES.items():
        if given.get(key) is not None and not isinstance(given[key], kind):
            raise TypeError(f"{key}= takes {words}, not {given[key]!r}")
    status = given.get("status")
    several: Sequence[Any] = (
        () if status is None else ([status] if isinstance(status, str) else list(status))
    )
    moments = {
        key: None if given.get(key) is None else as_microseconds(given[key])
        for key in ("created_after", "created_before")
    }
    name = given.get("name")
    tags = {} if given.get("tags") is None else given["tags"]
    check_tags(tags)
    if name is not None and not isinstance(getattr(name, "name", name), str):
        raise TypeError(f"name= takes a name, an orchestrator or a task, not {name!r}")
    chooses = name is not None or given.get("id_prefix") is not None
    return Filters(
        statuses=tuple(RuntimeStatus(value) for value in several),
        name=getattr(name, "name", name),
        version=given.get("version"),
        tags=tuple(sorted(tags.items())),
        id_prefix=given.get("id_prefix"),
        parent_id=given.get("parent_id"),
        stuck=given.get("stuck"),
        roots=given.get("roots"),
        tasks=given.get("tasks"),
        entities=None if chooses else False,
        **moments,
    )
