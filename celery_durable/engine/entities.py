"""Entities in the store: how they come to be, what clients do with them, and what is left to others by one that ends."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.context import refuse_inside_orchestrator
from ..core.entity import MESSAGE, ORCHESTRATORS, orchestrator_of, parts_of_id
from ..core.events import Event, EventKind, load_events
from ..core.references import LOCKED, UNLOCKED
from ..core.replay import Codec
from ..errors import OrchestrationFailed, PayloadError
from .protocols import Publisher
from .records import Filters, InstanceRecord, NewInbox, NewInstance, Snapshot

__all__ = ["Entities", "EntityRecord", "entity_of", "farewell", "new_entity", "new_execution_id", "releases_in"]

log = logging.getLogger("celery_durable.entity")
_CHECK_AFTER = 4_000_000
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError)
_BATCH = 200


def new_execution_id() -> str:
    """Return a random id for one life of an instance."""
    return uuid.uuid4().hex[:20]


# -- coming to be -----------------------------------------------------------------------------------------------------


def new_entity(instance_id: str, orchestrator: str, queue: str | None) -> NewInstance:
    """Return the instance of an entity that nobody has sent anything yet."""
    return NewInstance(instance_id, new_execution_id(), orchestrator, None, "[[], {}]", queue, rests=True)


def entity_of(instance_id: str, publisher: Publisher) -> NewInstance | None:
    """Return the instance of an entity by its id alone; None if it is not the id of one."""
    if (parts := parts_of_id(instance_id)) is None:
        return None
    name = orchestrator_of(parts[0])
    return new_entity(instance_id, name, publisher.route(name, {}))


# -- what is left by an end -----------------------------------------------------------------------------------------------


def farewell(snapshot: Snapshot, codec: Codec, reason: str | None) -> list[NewInbox]:
    """Return what an instance leaves to others when it is ended from outside: locks, and calls that nobody answers."""
    instance = snapshot.instance
    releases = releases_in(instance.id, snapshot.history, codec)
    return [*releases, *_answers(snapshot, codec, reason)] if instance.name.startswith(ORCHESTRATORS) else releases


def releases_in(instance_id: str, rows: Iterable[str], codec: Codec) -> list[NewInbox]:
    """Return the messages that release the entity locks which a history took, or asked for, and did not give back."""
    wishes: dict[str, str] = {}
    for event in _sent_in(instance_id, rows):
        facts = event.facts or {}
        if isinstance(wish := facts.get(LOCKED), str):
            wishes[wish] = str(facts.get("to"))
        elif isinstance(wish := facts.get(UNLOCKED), str):
            wishes.pop(wish, None)
    return [
        NewInbox(
            entity_id, EventKind.EVENT_RAISED, f"unlock:{wish}", name=MESSAGE, payload=codec.encode({"unlock": wish}),
            check_after=_CHECK_AFTER,
        )
        for wish, entity_id in wishes.items()
    ]  # fmt: skip


def _sent_in(instance_id: str, rows: Iterable[str]) -> Iterator[Event]:
    for number, row in enumerate(rows, 1):
        if '"EventSent"' not in row:
            continue
        try:
            events = load_events(row)
        except _DAMAGE:
            log.warning(
                "history of %r is damaged at row %d: locks that it took there are not released", instance_id, number
            )
            continue
        yield from (event for event in events if event.kind is EventKind.EVENT_SENT)


def _answers(snapshot: Snapshot, codec: Codec, reason: str | None) -> list[NewInbox]:
    """Return failures for the calls that an entity will not answer any more."""
    instance = snapshot.instance
    failure = OrchestrationFailed(
        f"entity {instance.id!r} was terminated before it answered" + (f": {reason}" if reason else ""),
        instance_id=instance.id, status="TERMINATED", reason=reason,
    )  # fmt: skip
    payload = codec.encode({"failure": codec.encode_failure(failure)})
    waiting = _queued(instance.input, codec)
    for row in snapshot.inbox:
        if row.name == MESSAGE and row.payload is not None:
            waiting += _decoded(row.payload, codec)
    found: list[NewInbox] = []
    for message in waiting:
        match message:
            case {"reply": [str(caller), str(name)]}:
                dedup = f"sent:{instance.execution}:end:{len(found)}"
                found.append(
                    NewInbox(
                        caller, EventKind.EVENT_RAISED, dedup, name=name, payload=payload, check_after=_CHECK_AFTER
                    )
                )
    return found


def _decoded(payload: str, codec: Codec) -> list[Any]:
    try:
        return [codec.decode(payload)]
    except PayloadError:
        return []


def _queued(payload: str | None, codec: Codec) -> list[Any]:
    return list(_saved(payload, codec).get("queue", ()))


def _saved(payload: str | None, codec: Codec) -> Mapping[str, Any]:
    """Return what an entity has kept; nothing if it has not taken a message yet."""
    match _decoded(payload or "null", codec):
        case [[[dict(saved)], _]]:
            return saved
    return {}


# -- for clients ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """An entity as it was seen; ``state`` is None as long as no operation has succeeded."""

    id: str
    name: str
    key: str
    state: Any
    is_empty: bool
    is_locked: bool
    waiting: int
    updated_at: int
    execution: str


@dataclass(slots=True)
class Entities:
    """What clients can do with entities."""

    store: Any
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
            instance_id, EventKind.EVENT_RAISED, dedup, name=MESSAGE, payload=self.codec.encode({**content, "id": message_id}),
            visible_at=due, check_after=-self.timer_horizon if is_far else _CHECK_AFTER,
            creates=entity_of(instance_id, self.publisher),
        )  # fmt: skip

    def fetch(self, instance_id: str) -> EntityRecord | None:
        """Return an entity; None if there is none."""
        refuse_inside_orchestrator("durable.entity()")
        record = self.store.fetch(instance_id)
        return None if record is None else self._record(record)

    def page(self, name: str | None, limit: int, cursor: str | None) -> tuple[list[EntityRecord], str | None]:
        """Return entities of one class or of all, newest first, and the cursor of the next page."""
        chosen = Filters(name=None if name is None else orchestrator_of(name), entities=True)
        records, next_cursor = self.store.find(chosen, limit, cursor, with_payloads=True)
        return [found for record in records if (found := self._record(record)) is not None], next_cursor

    def clean(self, name: str | None) -> int:
        """Delete the entities that are empty, and return how many there were."""
        refuse_inside_orchestrator("durable.clean_entities()")
        deleted, cursor = 0, None
        while True:
            records, cursor = self.page(name, _BATCH, cursor)
            for record in records:
                if record.is_empty and not record.is_locked and not record.waiting:
                    deleted += self.store.clean_entity(record.id, record.execution)
            if cursor is None:
                return deleted

    def _record(self, record: InstanceRecord) -> EntityRecord | None:
        parts = parts_of_id(record.id)
        if parts is None or record.name != orchestrator_of(parts[0]) or record.status.is_terminal:
            return None
        saved = _saved(record.input, self.codec)
        waiting: Sequence[Any] = saved.get("queue", ())
        return EntityRecord(
            record.id, *parts, saved.get("state"), bool(saved.get("empty", not saved)), bool(saved.get("lock")), len(waiting),
            record.updated_at, record.execution,
        )  # fmt: skip
