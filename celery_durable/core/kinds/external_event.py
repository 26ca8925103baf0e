"""External events: raised from outside, or by another orchestration; first in, first out by name.

The answers of entities come as events too, under names of their own (``entity_call``).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

from ..commands import Command
from ..entity_names import REPLY, RESERVED
from ..futures import done_future
from ..guard import in_turn
from ..history import Event, EventKind
from ..names import LONGEST_EVENT, check_instance_id, checked_text
from ..ports import Host
from ..retry import Interval, in_microseconds
from ..typed import Annotation
from .entity_call import EntityCalls
from .kind import ContextPart, Kind
from .mailbox import Mailbox
from .typed_payload import as_type

__all__ = ["ExternalEventContext", "ExternalEvents", "SendEvent"]

T = TypeVar("T")
_EXECUTION = re.compile("[0-9a-f]{20}")


@dataclass(slots=True)
class SendEvent(Command):
    """Raise an external event on another instance, one-way."""

    confirmed_by: ClassVar[str] = EventKind.EVENT_SENT
    takes_arguments: ClassVar[bool] = True
    is_one_shot: ClassVar[bool] = True
    #: The receiver.
    instance_id: str
    #: The name of the event.
    name: str
    #: Its value, encoded.
    payload: str
    #: When it is to be seen, microseconds since the epoch; None is now.
    due: int | None = None
    #: The orchestrator of an entity that this message creates; None if it creates none.
    creates: str | None = None
    #: What history keeps of it beside the receiver; None for nothing.
    note: Mapping[str, Any] | None = None
    #: Tells messages under one number apart, which has several only after a rewind; None is one
    #: of this very commit.
    again: int | None = 0

    @property
    def label(self) -> str:
        """Return the event's name."""
        return self.name

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded event had the same payload.

        That to an entity names its sender, in a fork another one.
        """
        if event.payload == self.payload or event.payload is None:
            return event.payload == self.payload
        return self.name.startswith(RESERVED) and _essence(event.payload) == _essence(self.payload)

    def _payload(self) -> str | None:
        return self.payload

    def _facts(self) -> dict[str, Any] | None:
        return {"to": self.instance_id, **(self.note or {})}

    def repeat(self) -> None:
        """Get ready to be sent once more: it is told from what was sent before."""
        self.again = None


def _essence(payload: str) -> str:
    """Return what a message to an entity says, without who sent it."""
    try:
        message = json.loads(payload)
        message.pop("reply", None)
    except (ValueError, AttributeError, RecursionError):
        return payload
    return _EXECUTION.sub("", json.dumps(message))


class ExternalEvents(Kind):
    """The events that have come and not been taken, and who waits for which."""

    name = "external event"
    message = "event"
    commands: ClassVar[tuple[type[Command], ...]] = (SendEvent,)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {EventKind.EVENT_RAISED: None}

    @classmethod
    def is_outcome(cls, event: Event) -> bool:
        """Tell whether it is the answer of an entity to a call."""
        return bool(event.command)

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._mailbox = Mailbox(host, self.message)

    @property
    def awaited(self) -> list[str]:
        """The names of the events that the code waits for now."""
        return self._mailbox.awaited

    def waits_for(self) -> list[str]:
        """Return the events that the code waits for now, in words."""
        return [f"event {name!r}" for name in self.awaited]

    def wait(self, name: str, timeout: int | None) -> asyncio.Future[Any]:
        """Return a future of the next event of that name."""
        return self._mailbox.wait(name, timeout)

    def left(self) -> list[Event]:
        """Return what was not taken, in the order of arrival, for the next execution."""
        return self._mailbox.left()

    # -- what the machine asks ---------------------------------------------------------------------

    def is_wanted(self, event: Event) -> bool:
        """Tell whether it is no copy of an event that was taken."""
        return not self._mailbox.knows(event)

    def prepare(self, event: Event) -> Event:
        """Say which call an entity answers."""
        if not event.name.startswith(REPLY):
            return event
        return self.host.of(EntityCalls).prepare(event)

    def resolve(self, event: Event) -> None:
        """Give the event to the first that waits for it, or keep it."""
        self._mailbox.note(event)
        # now: damage must not come up in the user's code
        value = self.host.codec.decode(event.payload or "null")
        if event.name.startswith(REPLY):
            self.host.of(EntityCalls).answer(event, value)
        else:
            self._mailbox.put(event, value)

    def is_waiting(self) -> bool:
        """Tell whether the code waits for an event."""
        return bool(self.awaited)


class ExternalEventContext(ContextPart):
    """Waiting for events, and raising them elsewhere."""

    @overload
    def wait_event(
        self, name: str, *, timeout: Interval | None = None, type: type[T]
    ) -> asyncio.Future[T]: ...
    @overload
    def wait_event(
        self, name: str, *, timeout: Interval | None = None, type: Annotation | None = None
    ) -> asyncio.Future[Any]: ...
    @in_turn
    def wait_event(
        self, name: str, *, timeout: Interval | None = None, type: Any = None
    ) -> asyncio.Future[Any]:
        """Wait for the payload of the next external event of that name, first in first out.

        ``type`` is any annotation, to which the payload is decoded.

        Raises:
            TimeoutError: (when awaited) none came within ``timeout``; 0 takes a buffered one or
                raises.
            PayloadError: (when awaited) the payload does not fit ``type``; the event is used up.

        Example:
            >>> answer = await ctx.wait_event("approved", timeout=timedelta(days=3))
        """
        name = checked_text(name, "an event name", LONGEST_EVENT)
        micros = None if timeout is None else in_microseconds(timeout, "timeout")
        future = self._host.of(ExternalEvents).wait(name, micros)
        return as_type(self._host, future, type, f"the event {name!r}")

    @in_turn
    def signal_event(self, instance_id: str, name: str, data: Any = None) -> asyncio.Future[None]:
        """Raise an external event on another instance, one-way: dropped if there is no such
        instance.

        Example:
            >>> await ctx.signal_event("order-43", "restocked", {"count": 2})
        """
        host = self._host
        receiver = check_instance_id(instance_id)
        event = checked_text(name, "an event name", LONGEST_EVENT)
        if event.startswith(RESERVED):
            raise ValueError(
                f"event names that begin with {RESERVED!r} are reserved; {event[:60]!r} does"
            )
        host.ask(SendEvent(host.next_number(), receiver, event, host.codec.encode(data)))
        return done_future(host.loop, None)
