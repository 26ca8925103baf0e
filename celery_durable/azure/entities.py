"""Azure's names of entities, and their locks as context managers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ..core.references import EntityLock

__all__ = ["EntityId", "EntityInstanceId", "EntityStateResponse", "entered", "arguments_of", "operation_of"]


@dataclass(frozen=True)
class EntityId:
    """Azure's name of an entity: that of its class, as ``@durable.entity`` registered it, and its key."""

    name: str
    key: str


@dataclass(frozen=True)
class EntityInstanceId:
    """The same in ``durabletask``."""

    entity: str
    key: str

    @property
    def name(self) -> str:
        """The name of the entity's class."""
        return self.entity


@dataclass(frozen=True)
class EntityStateResponse:
    """What ``read_entity_state`` gives; ``entity_state`` is a dict of the entity's public attributes."""

    entity_exists: bool
    entity_state: Any = None


def arguments_of(value: Any) -> tuple[Any, ...]:
    """Return an operation's arguments: one, or none if there is no input."""
    return () if value is None else (value,)


def operation_of(operations: Any, name: str) -> Callable[..., Any]:
    """Return the operation of a name, of a reference to an entity or of its signals.

    Raises:
        AttributeError: it is private.
    """
    if name.startswith("_"):
        raise AttributeError(f"{name!r} is private: an operation of an entity is a public method")
    operation: Callable[..., Any] = getattr(operations, name)
    return operation


async def entered(lock: EntityLock) -> AbstractContextManager[EntityLock]:
    """Acquire a lock, and return what releases it at the end of a ``with``."""
    await lock.acquire()
    return _released_after(lock)


@contextmanager
def _released_after(lock: EntityLock) -> Iterator[EntityLock]:
    try:
        yield lock
    finally:
        lock.release()
