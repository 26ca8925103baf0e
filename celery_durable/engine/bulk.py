"""A verb for all orchestrations that match filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .._errors import DurableError, InstanceNotFound, InvalidState
from .listing import Filters
from .store_ports import Store

__all__ = ["BulkResult", "apply_to_all", "pages"]

_BATCH = 200


@dataclass
class BulkResult:
    """What came of a verb for all orchestrations that matched: how many there were, how many took
    it, and which did not.
    """

    #: How many there were before the first was taken.
    matched: int
    #: How many took it, with or without effect.
    done: int = 0
    #: Why the others did not, by their ids.
    refused: dict[str, DurableError] = field(default_factory=dict)


def apply_to_all(
    store: Store, filters: Filters, verb: Callable[[str], object], limit: int | None = None
) -> BulkResult:
    """Apply a verb to every orchestration that matches, newest first, page by page.

    Each is a commit of its own. When it breaks off, call it again: those that are done do not match
    any more, or take the verb without effect.
    """
    result = BulkResult(store.reads.count(filters))
    for page in pages(store, filters, limit):
        for id_ in page:
            try:
                verb(id_)
                result.done += 1
            except (InvalidState, InstanceNotFound) as error:
                result.refused[id_] = error
    return result


def pages(store: Store, filters: Filters, limit: int | None = None) -> Iterator[list[str]]:
    """Yield the ids of all that match, newest first, at most ``limit``, page by page."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = _BATCH if left is None else min(_BATCH, left)
        page, cursor = store.reads.find(filters, size, cursor)
        yield [record.id for record in page]
        left = None if left is None else left - len(page)
        if cursor is None:
            return
