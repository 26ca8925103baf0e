"""A verb of the table for one orchestration by its id, or for all that match filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.bulk import BulkResult, apply_to_all
from ..engine.client import Client
from ..engine.verbs import VERBS
from .filters import filters_of

__all__ = ["apply_verb"]


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
        InvalidState: it is refused for the one that is given by its id.
        InstanceNotFound: there is none of that id.
    """
    verb = VERBS[name]
    if instance_id is not None:
        if filters:
            raise TypeError(f"durable.{name}() takes an instance id or filters, not both")
        verb.apply(client, instance_id, given)
        return BulkResult(1, 1)
    chosen = dict(filters)
    limit = chosen.pop("limit", None)
    if not chosen:
        raise ValueError(
            f"durable.{name}() takes an instance id, or at least one filter, such as status="
        )
    return apply_to_all(
        client.store,
        filters_of({"status": verb.acts_in, **chosen}),
        lambda id_: verb.apply(client, id_, given),
        limit,
    )
