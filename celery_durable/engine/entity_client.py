"""What clients do with entities: send, read, list, clean."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.entity import MESSAGE, orchestrator_of
from ..core.guard import refuse_inside_orchestrator
from ..core.history import EventKind
from ..core.names import parts_of_id
from ..core.ports import Codec
from .draft import new_execution_id
from .entities import entity_of, saved_in
from .listing import Filters, InstanceRecord
from .ports import Publisher
from .store_ports import Store
from .writes import CHECK_MESSAGE_AFTER, NewInbox

__all__ = ["Entities", "EntityRecord"]

_BATCH = 200


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """An entity as it was read."""

    #: ``@name@key``.
    id: str
    #: Of its class.
    name: str
    key: str
    #: None as long as no operation has succeeded.
    state: Any
    #: Whether it holds nothing: no state, no lock, no message.
    is_empty: bool
    #: The orchestration that holds its lock; None if it is free.
    locked_by: str | None
    #: How many messages wait for a lock or for their turn.
    waiting: int
    #: Microseconds since the epoch.
    updated_at: int
    execution: str


@dataclass(slots=True)
class Entities:
    """What clients can do with entities."""

    store: Store
    codec: Codec
    publisher: Publisher
    timer_horizon: int

    def message(self, instance_id: str, content: Mapping[str, Any], due: int | None) -> NewInbox:
        """Return the inbox row of an operation, which makes the entity if there is none.

        Raises:
            PayloadError: an argument cannot be encoded.
        """
        refuse_inside_orchestrator("durable.entity()")
        message_id = uuid.uuid4().hex[:16]  # a repeat after a lost answer is recognised by it
        dedup = f"event:{hashlib.sha256(message_id.encode()).hexdigest()[:48]}"
        is_far = due is not None and due - self.store.now() > self.timer_horizon
        return NewInbox(
            instance_id,
            EventKind.EVENT_RAISED,
            dedup,
            name=MESSAGE,
            payload=self.codec.encode({**content, "id": message_id}),
            visible_at=due,
            check_after=-self.timer_horizon if is_far else CHECK_MESSAGE_AFTER,
            creates=entity_of(instance_id, new_execution_id(), self.publisher),
        )

    def fetch(self, instance_id: str) -> EntityRecord | None:
        """Return an entity; None if there is none."""
        refuse_inside_orchestrator("durable.entity()")
        record = self.store.reads.fetch(instance_id)
        return None if record is None else self._record(record)

    def page(
        self, name: str | None, limit: int, cursor: str | None
    ) -> tuple[list[EntityRecord], str | None, str | None]:
        """Return entities of one class or of all, newest first, and the cursors of the next page
        and of the one before.
        """
        chosen = Filters(name=None if name is None else orchestrator_of(name), entities=True)
        find = self.store.reads.find_page
        records, following, before = find(chosen, limit, cursor, with_payloads=True)
        page = [found for record in records if (found := self._record(record)) is not None]
        return page, following, before

    def clean(self, name: str | None) -> int:
        """Delete the entities that are empty, and return how many there were."""
        refuse_inside_orchestrator("durable.clean_entities()")
        deleted, cursor = 0, None
        while True:
            records, cursor, _ = self.page(name, _BATCH, cursor)
            for record in records:
                if record.is_empty and record.locked_by is None and not record.waiting:
                    deleted += self.store.cleanup.clean_entity(record.id, record.execution)
            if cursor is None:
                return deleted

    def _record(self, record: InstanceRecord) -> EntityRecord | None:
        parts = parts_of_id(record.id)
        if parts is None or record.name != orchestrator_of(parts[0]) or record.status.is_terminal:
            return None
        saved = saved_in(record.input, self.codec)
        waiting: Sequence[Any] = saved.get("queue", ())
        _, shown, batches = saved.get("aside", (0, 0, ()))
        aside = shown + sum(count for _, count, _ in batches)
        lock: Sequence[Any] = saved.get("lock") or ()
        locked_by = str(lock[-1]) if lock else None
        return EntityRecord(
            record.id,
            *parts,
            saved.get("state"),
            bool(saved.get("empty", not saved)),
            locked_by,
            len(waiting) + aside,
            record.updated_at,
            record.execution,
        )
