"""Entities in the store: how they come to be, and what is left to others by an instance that is ended from outside."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.entity import MESSAGE, ORCHESTRATORS, orchestrator_of, parts_of_id
from ..core.events import Event, EventKind, load_events
from ..core.references import LOCKED, UNLOCKED
from ..core.replay import Codec
from ..errors import OrchestrationFailed, PayloadError
from .protocols import Publisher
from .records import NewInbox, NewInstance, Snapshot

__all__ = ["entity_of", "farewell", "locks_in", "new_entity", "releases_in", "saved_in"]

log = logging.getLogger("celery_durable.entity")
_CHECK_AFTER = 4_000_000
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError)


# -- coming to be -----------------------------------------------------------------------------------------------------


def new_entity(instance_id: str, execution: str, orchestrator: str, queue: str | None) -> NewInstance:
    """Return the instance of an entity that nobody has sent anything yet."""
    return NewInstance(instance_id, execution, orchestrator, None, "[[], {}]", queue, rests=True)


def entity_of(instance_id: str, execution: str, publisher: Publisher) -> NewInstance | None:
    """Return the instance of an entity by its id alone; None if it is not the id of one."""
    if (parts := parts_of_id(instance_id)) is None:
        return None
    name = orchestrator_of(parts[0])
    return new_entity(instance_id, execution, name, publisher.route(name, {}))


# -- what is left by an end -----------------------------------------------------------------------------------------------


def farewell(snapshot: Snapshot, codec: Codec, reason: str | None) -> list[NewInbox]:
    """Return what an instance leaves to others when it is ended from outside: locks, and calls that nobody answers."""
    instance = snapshot.instance
    releases = releases_in(instance.id, snapshot.history, codec)
    return [*releases, *_answers(snapshot, codec, reason)] if instance.name.startswith(ORCHESTRATORS) else releases


def releases_in(instance_id: str, rows: Iterable[str], codec: Codec) -> list[NewInbox]:
    """Return the messages that release the entity locks which a history took, or asked for, and did not give back."""
    return [
        NewInbox(
            entity_id, EventKind.EVENT_RAISED, f"unlock:{wish}", name=MESSAGE, payload=codec.encode({"unlock": wish}),
            check_after=_CHECK_AFTER,
        )
        for wish, entity_id in locks_in(instance_id, rows).items()
    ]  # fmt: skip


def locks_in(instance_id: str, rows: Iterable[str]) -> dict[str, str]:
    """Return the entity locks that a history took, or asked for, and did not give back: the entity's id by the wish."""
    wishes: dict[str, str] = {}
    for event in _sent_in(instance_id, rows):
        facts = event.facts or {}
        if isinstance(wish := facts.get(LOCKED), str):
            wishes[wish] = str(facts.get("to"))
        elif isinstance(wish := facts.get(UNLOCKED), str):
            wishes.pop(wish, None)
    return wishes


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
    return list(saved_in(payload, codec).get("queue", ()))


def saved_in(payload: str | None, codec: Codec) -> Mapping[str, Any]:
    """Return what an entity has kept; nothing if it has not taken a message yet."""
    match _decoded(payload or "null", codec):
        case [[[dict(saved)], _]]:
            return saved
    return {}
