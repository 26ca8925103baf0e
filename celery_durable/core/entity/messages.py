"""What entities are sent, and what they send. A message is a JSON object with one of these keys:
``op`` (an operation), ``lock`` (the request for a lock), ``unlock`` (a release, or a request that
is withdrawn), ``look`` (a lease may be over), ``shown`` (the last of a batch that was put aside).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..entity_names import MESSAGE, orchestrator_of
from ..names import parts_of_id
from ..ports import Codec

__all__ = ["Operation", "Outgoing", "current_operation", "is_sound", "running_operation"]


class Outgoing(NamedTuple):
    """An event to send, encoded; ``due`` is microseconds since the epoch, None is now.

    ``creates`` is the orchestrator of the entity that it makes, if there is none yet.
    """

    to: str
    name: str
    payload: str
    due: int | None = None
    creates: str | None = None


@dataclass(slots=True)
class Operation:
    """The operation that is being run: of which entity, and what it sends if it succeeds."""

    entity_id: str
    name: str
    codec: Codec
    #: What its caller's context is.
    context: Mapping[str, Any] | None = None
    sent: list[Outgoing] = field(default_factory=list)

    def signal(self, entity_id: str, message: Mapping[str, Any], due: int | None = None) -> None:
        """Send a message to an entity, one-way, in the transaction that commits this operation.

        Raises:
            ValueError: it is not the id of an entity.
            PayloadError: the message cannot be encoded.
        """
        if (parts := parts_of_id(entity_id)) is None:
            raise ValueError(f"{entity_id!r} is not the id of an entity")
        if self.context:
            message = {**message, "context": dict(self.context)}
        self.sent.append(
            Outgoing(entity_id, MESSAGE, self.codec.encode(message), due, orchestrator_of(parts[0]))
        )


#: The operation that this thread runs.
running_operation: ContextVar[Operation] = ContextVar("celery_durable_operation")


def current_operation() -> Operation:
    """Return the operation that is being run.

    Raises:
        LookupError: none is.
    """
    return running_operation.get()


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "op": lambda value: isinstance(value, str),
    "lock": lambda value: isinstance(value, str),
    "unlock": lambda value: isinstance(value, str),
    "look": lambda value: isinstance(value, int),
    "shown": lambda value: isinstance(value, int),
}
_DETAILS: Mapping[str, Callable[[Any], bool]] = {
    "args": lambda value: isinstance(value, (list, tuple)),
    "kwargs": (
        lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value)
    ),
    "reply": lambda value: (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(each, str) for each in value)
    ),
    "lease": lambda value: isinstance(value, int) and value > 0,
    "held": lambda value: isinstance(value, str),
    "id": lambda value: isinstance(value, str),
    "was_aside": lambda value: value is True,
    "context": lambda value: isinstance(value, dict),
}


def is_sound(message: Any) -> bool:
    """Tell whether this is a message to an entity, with nothing in it of another type."""
    if not isinstance(message, dict) or sum(kind in message for kind in _SHAPES) != 1:
        return False
    return all(
        check(message[name]) for name, check in {**_SHAPES, **_DETAILS}.items() if name in message
    )
