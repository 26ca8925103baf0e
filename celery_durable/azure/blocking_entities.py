"""What durabletask's client does with entities, blocking."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..app.durable import Durable
from ..core.flags import check_flags
from ..handles.entity import Entity, seen_entity
from .entities import EntityMetadata, shown_state
from .entity_names import EntityInstanceId, arguments_of, aware, operation_of, spelled
from .states import CleanEntityStorageResult, EntityQuery, bounds_of, is_within, metadata_of

__all__ = ["EntityMethods"]


class EntityMethods:
    """The methods for entities of ``TaskHubGrpcClient``."""

    durable: Durable

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation_name: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Ask for an operation of an entity, one-way.

        Args:
            entity_instance_id: which.
            operation_name: the operation.
            input: its argument; none is given if that is None.
            signal_time: when it is to come; UTC, if naive.
        """
        signals = self.durable.entity(spelled(entity_instance_id), entity_instance_id.key).signal
        if signal_time is not None:
            signals = signals(at=aware(signal_time))
        operation_of(signals, operation_name)(*arguments_of(input))

    def get_entity(
        self, entity_instance_id: EntityInstanceId, include_state: bool = True
    ) -> EntityMetadata | None:
        """Return an entity; None if there is none, or it has no state."""
        check_flags(include_state=include_state)
        name = spelled(entity_instance_id)
        found = seen_entity(self.durable.runtime, f"@{name}@{entity_instance_id.key}")
        return (
            None
            if found is None or shown_state(found.state) is None
            else metadata_of(found, include_state)
        )

    def get_all_entities(self, entity_query: EntityQuery | None = None) -> list[EntityMetadata]:
        """Return entities, those made last first.

        Those without a state only with ``include_transient``.
        """
        query = EntityQuery() if entity_query is None else entity_query
        check_flags(include_state=query.include_state, include_transient=query.include_transient)
        first, last = bounds_of(query.last_modified_from, query.last_modified_to)
        return [
            metadata_of(each, query.include_state)
            for each in self._entities()
            if each.id.startswith(query.instance_id_starts_with or "")
            and is_within(each.updated_at, first, last)
            and (query.include_transient or shown_state(each.state) is not None)
        ]

    def _entities(self) -> Iterator[Entity]:
        cursor = None
        while True:
            page = self.durable.entities(limit=500, cursor=cursor)
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """Delete the entities that are empty; see ``durable.clean_entities``."""
        check_flags(
            remove_empty_entities=remove_empty_entities,
            release_orphaned_locks=release_orphaned_locks,
        )
        removed = self.durable.clean_entities() if remove_empty_entities else 0
        return CleanEntityStorageResult(removed, 0)
