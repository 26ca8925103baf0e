"""A verb of the table for one orchestration by its id, or for all that match filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.flags import is_whole
from ..engine.bulk import BulkResult, apply_to_all
from ..engine.client import Client
from ..engine.listing import Filters
from ..engine.verb import Verb
from ..engine.verbs import VERBS
from .filters import filters_of

__all__ = ["apply_verb", "raise_event_on_all"]


def apply_verb(
    client: Client,
    name: str,
    instance_id: str | None,
    given: Mapping[str, Any],
    filters: Mapping[str, Any],
) -> BulkResult:
    """Apply a verb, and return what came of it.

    Args:
        client: of the engine.
        name: of the verb.
        instance_id: of the only one; None chooses by the filters.
        given: the verb's arguments, and the reason.
        filters: those of ``durable.find``, and ``limit``: at most so many, newest first. Without
            ``status`` they choose those on which the verb acts.

    Raises:
        TypeError: both an id and filters are given, or there is no such filter.
        ValueError: neither is given.
        TypeError, ValueError: an argument of the verb cannot be used.
        InvalidState: it is refused for the one that is given by its id.
        InstanceNotFound: there is none of that id.
    """
    verb = VERBS[name]
    verb.filled(given)  # refused now: there may be none that matches
    if instance_id is not None:
        if filters:
            raise TypeError(f"durable.{name}() takes an instance id or filters, not both")
        verb.apply(client, instance_id, given)
        return BulkResult(1, 1)
    wanted, limit = _wanted(verb, filters)
    if wanted is None:
        raise ValueError(
            f"durable.{name}() takes an instance id, or at least one filter, such as status="
        )
    return apply_to_all(client.store, wanted, lambda id_: verb.apply(client, id_, given), limit)


def raise_event_on_all(
    client: Client, name: str, data: Any, event_id: str | None, session: Any, given: dict[str, Any]
) -> BulkResult:
    """Raise an event on all that match filters; see ``engine.broadcast``.

    Args:
        client: of the engine.
        name, data, event_id: of the event.
        session: whose transaction it joins.
        given: the filters, as of ``apply_verb``.

    Raises:
        TypeError: there is no such filter.
        ValueError: no filter is given, or ``limit`` is less than 1.
    """
    filters, limit = _wanted(VERBS["raise_event"], given)
    if filters is None:
        raise ValueError("durable.raise_event_many() takes at least one filter, such as tags=")
    return client.raise_event_many(filters, name, data, event_id, limit=limit, session=session)


def _wanted(verb: Verb, given: Mapping[str, Any]) -> tuple[Filters | None, int | None]:
    """Return the filters of a verb for many, and how many it is for at most; None if no filter is
    given.
    """
    chosen = dict(given)
    limit = chosen.pop("limit", None)
    if limit is not None and not is_whole(limit):
        raise TypeError(f"limit must be a whole number, or None for all, not {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all, not {limit!r}")
    return filters_of({"status": verb.acts_in, **chosen}) if chosen else None, limit
