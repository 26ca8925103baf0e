"""A verb for all orchestrations that match filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .._errors import DurableError, InstanceNotFound, InvalidState
from .listing import Filters
from .store_ports import Store

__all__ = ["BulkResult", "apply_to_all"]

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
    cursor: str | None = None
    while limit is None or result.done + len(result.refused) < limit:
        left = _BATCH if limit is None else min(_BATCH, limit - result.done - len(result.refused))
        page, cursor = store.reads.find(filters, left, cursor)
        for record in page:
            try:
                verb(record.id)
                result.done += 1
            except (InvalidState, InstanceNotFound) as error:
                result.refused[record.id] = error
        if cursor is None:
            break
    return result
