"""Entities in the store: how they are created, and what is left to others by an instance that is
ended from outside.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._errors import OrchestrationFailed, PayloadError
from ..core.entity import MESSAGE, ORCHESTRATORS, orchestrator_of
from ..core.history import Event, EventKind, load_events
from ..core.names import parts_of_id
from ..core.ports import Codec
from ..core.references import LOCKED, UNLOCKED
from .ports import Publisher
from .records import InstanceRow, Snapshot
from .writes import CHECK_MESSAGE_AFTER, NewInbox, NewInstance

__all__ = [
    "answers",
    "entity_of",
    "release_locks",
    "is_entity",
    "locks_in",
    "new_entity",
    "releases_in",
    "saved_in",
]

log: logging.Logger = logging.getLogger("celery_durable.entity")
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError)


# -- coming to be ----------------------------------------------------------------------------------


def new_entity(
    instance_id: str, execution: str, orchestrator: str, queue: str | None
) -> NewInstance:
    """Return the instance of an entity that has not been sent anything yet."""
    return NewInstance(
        instance_id, execution, orchestrator, None, "[[], {}]", queue, awaits_message=True
    )


def entity_of(instance_id: str, execution: str, publisher: Publisher) -> NewInstance | None:
    """Return the instance of an entity by its id alone; None if it is not the id of one."""
    if (parts := parts_of_id(instance_id)) is None:
        return None
    name = orchestrator_of(parts[0])
    return new_entity(instance_id, execution, name, publisher.route(name, {}))


# -- what is left by an end ------------------------------------------------------------------------


def is_entity(instance: InstanceRow) -> bool:
    """Tell whether an instance is an entity."""
    return instance.name.startswith(ORCHESTRATORS)


def release_locks(
    snapshot: Snapshot, codec: Codec, reason: str | None, undelivered: Iterable[str] = ()
) -> list[NewInbox]:
    """Return what an instance leaves to others when it is ended from outside: locks, and calls that
    will not be answered.

    ``undelivered`` are the payloads of all messages in the inbox of an entity.
    """
    instance = snapshot.instance
    left = releases_in(instance.id, snapshot.history, codec)
    if is_entity(instance):
        left += _answers(instance, codec, reason, _queued(instance.input, codec))
        left += answers(instance, codec, reason, undelivered)
    return left


def releases_in(instance_id: str, rows: Iterable[str], codec: Codec) -> list[NewInbox]:
    """Return the messages that release the entity locks which a history took, or asked for, and did
    not give back.
    """
    return [
        NewInbox(
            entity_id,
            EventKind.EVENT_RAISED,
            f"unlock:{lock}",
            name=MESSAGE,
            payload=codec.encode({"unlock": lock}),
            check_after=CHECK_MESSAGE_AFTER,
        )
        for lock, entity_id in locks_in(instance_id, rows).items()
    ]


def locks_in(instance_id: str, rows: Iterable[str]) -> dict[str, str]:
    """Return the entity locks that a history took, or asked for, and did not give back: the
    entity's id by the lock.
    """
    locks: dict[str, str] = {}
    for event in _sent_in(instance_id, rows):
        facts = event.facts or {}
        if isinstance(lock := facts.get(LOCKED), str):
            locks[lock] = str(facts.get("to"))
        elif isinstance(lock := facts.get(UNLOCKED), str):
            locks.pop(lock, None)
    return locks


def _sent_in(instance_id: str, rows: Iterable[str]) -> Iterator[Event]:
    for number, row in enumerate(rows, 1):
        if '"EventSent"' not in row:
            continue
        try:
            events = load_events(row)
        except _DAMAGE:
            log.warning(
                "history of %r is damaged at row %d: locks that it took there are not released",
                instance_id,
                number,
            )
            continue
        yield from (event for event in events if event.kind is EventKind.EVENT_SENT)


def answers(
    instance: InstanceRow, codec: Codec, reason: str | None, undelivered: Iterable[str]
) -> list[NewInbox]:
    """Return failures for the calls among the payloads of messages that an entity will not take any
    more.
    """
    return _answers(
        instance,
        codec,
        reason,
        [message for payload in undelivered for message in _decoded(payload, codec)],
    )


def _answers(
    instance: InstanceRow, codec: Codec, reason: str | None, messages: Iterable[Any]
) -> list[NewInbox]:
    failure = OrchestrationFailed(
        f"entity {instance.id!r} was terminated before it answered"
        + (f": {reason}" if reason else ""),
        instance_id=instance.id,
        status="TERMINATED",
        reason=reason,
    )
    payload = codec.encode({"failure": codec.encode_failure(failure)}, is_checked=True)
    found: list[NewInbox] = []
    for message in messages:
        match message:
            case {"reply": [str(caller), str(name)]}:
                dedup = f"end:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:48]}"
                found.append(
                    NewInbox(
                        caller,
                        EventKind.EVENT_RAISED,
                        dedup,
                        name=name,
                        payload=payload,
                        check_after=CHECK_MESSAGE_AFTER,
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
