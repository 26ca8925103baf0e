"""The names of entities and of their operations, as Azure has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .values import outgoing

__all__ = [
    "STATE",
    "TAKEN",
    "EntityId",
    "EntityInstanceId",
    "arguments_of",
    "aware",
    "check_operation",
    "declare_name",
    "operation_of",
    "spelled",
]

STATE = "azure_state"
TAKEN = frozenset({"id", "signal", "state", STATE})


class EntityInstanceId:
    """The name of an entity: that under which its class or function is registered, and its key.

    Two are equal whatever the case of the names, as there. A key may contain "@".

    Raises:
        ValueError: the name or the key is empty, or the name contains "@".
    """

    def __init__(self, entity: str, key: str) -> None:
        self.validate_entity_name(entity)
        if not key:
            raise ValueError("the key of an entity is not empty")
        self.entity = entity
        self.key = key

    @property
    def name(self) -> str:
        """The name of the entity's class or function."""
        return self.entity

    @staticmethod
    def parse(entity_id: str) -> EntityInstanceId:
        """Read ``@name@key``.

        Raises:
            ValueError: it is of another form.
        """
        at, _, rest = entity_id.partition("@")
        name, second, key = rest.partition("@")
        if at or not second:
            raise ValueError(f"an entity id is '@name@key', not {entity_id!r}")
        return EntityInstanceId(name, key)

    @staticmethod
    def validate_entity_name(name: str) -> None:
        """Refuse a name that is empty or contains "@", by ``ValueError``."""
        if not name or "@" in name:
            raise ValueError(f"the name of an entity is not empty and has no '@'; {name!r} is none")

    @staticmethod
    def validate_key(key: str) -> None:
        """Refuse a key that is empty or contains "@", by ``ValueError``."""
        if not key or "@" in key:
            raise ValueError(f"the key of an entity is not empty and has no '@'; {key!r} is none")

    def __str__(self) -> str:
        return f"@{self.entity}@{self.key}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entity!r}, {self.key!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EntityInstanceId) and self._compared() == other._compared()

    def __lt__(self, other: EntityInstanceId) -> bool:
        return self._compared() < other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple[str, str]:
        return self.entity.lower(), self.key


class EntityId(EntityInstanceId):
    """The same in Azure Functions."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(name, key)

    @staticmethod
    def get_scheduler_id(entity_id: EntityInstanceId) -> str:
        """Return the id of the entity's instance, ``@name@key``."""
        return str(entity_id)

    @staticmethod
    def get_entity_id(scheduler_id: str) -> EntityId:
        """Read ``@name@key``."""
        found = EntityInstanceId.parse(scheduler_id)
        return EntityId(found.entity, found.key)

    @staticmethod
    def get_entity_id_url_path(entity_id: EntityInstanceId) -> str:
        """Return ``entities/name/key``, where ``celery_durable.http`` has the entity."""
        return f"entities/{entity_id.entity}/{entity_id.key}"


_declared: set[str] = set()
_spellings: dict[str, str] = {}


def spelled(entity: EntityInstanceId) -> str:
    """Return the name of an entity as this process has declared it, whatever the case.

    Else as it is given.
    """
    name = entity.entity
    return name if name in _declared else _spellings.get(name.lower(), name)


def declare_name(name: str) -> None:
    """Let the names that differ from this one by their case find it."""
    _declared.add(name)
    _spellings[name.lower()] = name


def arguments_of(value: Any) -> tuple[Any, ...]:
    """Return an operation's arguments: one, or none if there is no input."""
    return () if value is None else (outgoing(value),)


def check_operation(name: str) -> None:
    """Refuse the name of an operation that is private, or that references have for something else.

    Raises:
        AttributeError: it is.
    """
    if name.startswith("_"):
        raise AttributeError(f"{name!r} is private: an operation of an entity is a public method")
    if name in TAKEN:
        raise AttributeError(
            f"no operation of an entity can be called {name!r}: a reference has that; rename it"
        )


def operation_of(operations: Any, name: str) -> Callable[..., Any]:
    """Return the operation of a name, of a reference to an entity or of its signals.

    Raises:
        AttributeError: it is private, or of a name that references have for something else.
    """
    check_operation(name)
    operation: Callable[..., Any] = getattr(operations, name)
    return operation


def aware(moment: datetime) -> datetime:
    """Return a time with its zone, which is UTC if it has none."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
