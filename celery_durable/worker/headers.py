"""The header that says what one of our messages is, and the only code that knows its letters.

A message of ours has the header ``durable``, a small JSON object:

===========  =======  ================================================================
letter       on       meaning
===========  =======  ================================================================
``t``        turn,    ``"turn"`` or ``"finish"``; an activity's message has none
             finish
``s``        all      the first 12 characters of the store's id
``n``        all      how often it was sent before; left out if never, but of activities
``x``        finish   the execution that has ended
``due``      turn     microseconds by the store's clock; left out if it is due at once
===========  =======  ================================================================

Anyone who may write to the broker may forge one, so reading never raises: what cannot be read
counts as not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..engine.records import ActivityAttemptId

__all__ = [
    "HEADER",
    "PART",
    "MessageHeader",
    "header_in",
    "message_of",
    "sender_of",
    "store_tag",
    "ticket_in",
    "ticket_of",
]

#: The name of the header.
HEADER = "durable"
#: Marks messages of what an attempt has replaced itself by.
PART = "durable_part"
_TAG = 12


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """What a message of ours says about itself."""

    #: ``unknown`` is of a later release, or forged: it is treated like a turn.
    kind: Literal["activity", "turn", "finish", "unknown"]
    #: First 12 characters of the id of its store; any other puts it back. None: not said.
    store: str | None
    #: How often it was sent before.
    tries: int = 0
    #: The execution that has ended; finish only.
    execution: str | None = None
    #: Microseconds; a turn that comes early waits or is sent again. None: due at once.
    due: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the header as it is sent."""
        if self.kind == "activity":
            return {"n": self.tries, "s": self.store}
        wire: dict[str, Any] = {"t": self.kind}
        if self.execution is not None:
            wire["x"] = self.execution
        wire["s"] = self.store
        if self.due is not None:
            wire["due"] = self.due
        if self.tries:
            wire["n"] = self.tries
        return wire

    @classmethod
    def from_wire(cls, wire: Any) -> MessageHeader | None:
        """Return what a header says; None if it is not one of ours."""
        if not isinstance(wire, Mapping):
            return None
        tries, store = wire.get("n"), wire.get("s")
        tries = tries if isinstance(tries, int) else int(bool(tries))
        store = store if store is None or isinstance(store, str) else repr(store)
        if "t" not in wire:
            return cls("activity", store, tries)
        kind, execution, due = wire["t"], wire.get("x"), wire.get("due")
        return cls(
            kind if kind in ("turn", "finish") else "unknown",
            store,
            tries,
            execution if isinstance(execution, str) else None,
            due if isinstance(due, int) else None,
        )

    @classmethod
    def from_request(cls, request: Any) -> MessageHeader | None:
        """Return the header of a Celery request or context; None for an ordinary message."""
        return cls.from_wire(header_in(request, HEADER))

    def is_of(self, store_id: str) -> bool:
        """Tell whether the message belongs to this store, as far as it says."""
        return self.store is None or self.store == store_tag(store_id)


def store_tag(store_id: str) -> str:
    """Return what a header says of the store."""
    return store_id[:_TAG]


def sender_of(task: Any) -> Any:
    """Return what sends a message of a task; the ``apply_async`` of some starts them durably."""
    return getattr(task, "publish", task.apply_async)


def header_in(request: Any, name: str) -> Any:
    """Return a header of a Celery request or context by its name, or None."""
    headers = getattr(request, "headers", None)
    found = headers.get(name) if isinstance(headers, dict) else None
    return getattr(request, name, None) if found is None else found


def message_of(
    request: Any, task_id: str | None = None
) -> tuple[MessageHeader | None, ActivityAttemptId | None]:
    """Return what the message of a Celery request or context says of itself, and whose attempt it
    is; twice None for an ordinary message, whatever its id.
    """
    header = MessageHeader.from_request(request)
    own_id = request.id if task_id is None else task_id
    return header, ticket_in(own_id, header, getattr(request, "replaced_task_nesting", 0))


def ticket_of(request: Any, task_id: str | None = None) -> ActivityAttemptId | None:
    """Return whose attempt the message of a Celery request or context is; see ``message_of``."""
    return message_of(request, task_id)[1]


def ticket_in(task_id: Any, header: MessageHeader | None, nesting: Any) -> ActivityAttemptId | None:
    """Return the ticket in a task id, if the message says that it is ours.

    That is our header, of the kind activity. What a task has replaced itself by (``nesting``) has
    its id alone: Celery drops the header there.
    """
    is_ours = bool(nesting) if header is None else header.kind == "activity"
    return ActivityAttemptId.parse(task_id) if is_ours else None
