"""What entities, their orchestrators and their messages are called. All of it is stored."""

from __future__ import annotations

from typing import Any

from .names import ENTITY_NAME, checked_text

__all__ = [
    "LONGEST_NAME",
    "MESSAGE",
    "ORCHESTRATORS",
    "REPLY",
    "RESERVED",
    "entity_id",
    "orchestrator_of",
]

#: How the names of events begin that users cannot raise.
RESERVED = "celery_durable."
#: The event by which an entity is sent a message.
MESSAGE = "celery_durable.entity"
#: How the event is called by which it answers; what follows tells which command it answers.
REPLY = "celery_durable.reply:"
#: How the orchestrators are called that run entities.
ORCHESTRATORS = "celery_durable.entity."
#: Of a class of entities.
LONGEST_NAME = 60


def entity_id(name: str, key: Any) -> str:
    """Return the instance id of an entity.

    Raises:
        TypeError: the key is no string.
        ValueError: it is empty or too long, or contains NUL or half a character.
    """
    if not isinstance(name, str) or not ENTITY_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(f"{str(name)[:80]!r} is no name of an entity")
    key = checked_text(key, "the key of an entity", 148 - len(name))
    return f"@{name}@{key}"


def orchestrator_of(name: str) -> str:
    """Return the name of the orchestrator that runs the entities of a class."""
    return ORCHESTRATORS + name
