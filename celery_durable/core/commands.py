"""What an orchestrator asks for. Each command is confirmed by one event (``events.CONFIRMATIONS``).

A command knows how to write its confirmation and how to compare itself with a recorded one: that
comparison is the whole of the check that code still agrees with history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .events import CONFIRMATIONS, Event

__all__ = [
    "CancelActivity",
    "CancelChild",
    "CancelExecution",
    "CancelTimer",
    "Command",
    "CompleteExecution",
    "ContinueAsNew",
    "CreateTimer",
    "FailExecution",
    "RecordPatch",
    "RecordRun",
    "ReviveChild",
    "ScheduleActivity",
    "SendEvent",
    "StartChild",
    "shown_in",
]


_OWN = "celery_durable."
_LONGEST_SHOWN = 1024  # as in celery.app.amqp
_EXECUTION = re.compile("[0-9a-f]{20}")


@dataclass(slots=True)
class Command:
    """The common part: its number in the execution, and what history says of it."""

    command: int
    is_final: ClassVar[bool] = False
    takes_arguments: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """Return the command's name, the key of the grammar's tables."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """Return what tells two commands of one kind apart: a task name, an event name."""
        return ""

    def confirmation(self, at: int) -> Event:
        """Return the event that records this command."""
        return Event(
            CONFIRMATIONS[self.kind], at, self.command, self._attempt(), self.label, self._payload(), self._facts()
        )

    def agrees_with(self, event: Event) -> bool:
        """Tell whether ``event`` is the confirmation of this very command."""
        return (
            event.kind is CONFIRMATIONS[self.kind]
            and event.command == self.command
            and event.attempt == self._attempt()
            and event.name == self.label
        )

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded command was given the same arguments; True for kinds that have none."""
        return not self.takes_arguments or event.payload == self._payload()

    def describe(self) -> str:
        """Return the command in a few words, for messages to people."""
        return " ".join(filter(None, (self.kind, repr(self.label) if self.label else "")))

    def _attempt(self) -> int:
        return 0

    def _payload(self) -> str | None:
        return None

    def _facts(self) -> dict[str, Any] | None:
        return None


def shown_in(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return how a caller wants arguments to be shown, by Celery's own options, which the event of a call keeps as facts."""
    return {key: str(facts[key])[:_LONGEST_SHOWN] for key in ("argsrepr", "kwargsrepr") if facts.get(key) is not None}


@dataclass(slots=True)
class ScheduleActivity(Command):
    """Run a Celery task. Times are microseconds; ``input`` is the encoded ``[args, kwargs]``.

    ``title`` is a name for people; ``redo`` is the number of the rewind that has it done again after a saga had undone it.
    """

    takes_arguments: ClassVar[bool] = True
    attempt: int
    task: str
    input: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    timeout: int | None = None
    start_timeout: int | None = None
    heartbeat_timeout: int | None = None
    window: int | None = None
    is_held: bool = False
    title: str | None = None
    redo: int = 0

    @property
    def label(self) -> str:
        """Return the task's name."""
        return self.task

    def _attempt(self) -> int:
        return self.attempt

    def _payload(self) -> str | None:
        return self.input

    def _facts(self) -> dict[str, Any] | None:
        return {**({"label": self.title} if self.title else {}), **shown_in(self.options)} or None


@dataclass(slots=True)
class CancelActivity(Command):
    """The activity is no longer wanted: it does not start, and its outcome is dropped."""

    attempt: int

    def _attempt(self) -> int:
        return self.attempt


@dataclass(slots=True)
class CreateTimer(Command):
    """Wake the orchestrator at ``due`` (microseconds since the epoch); ``event`` is the name of what it waits for until then."""

    due: int
    event: str = ""

    def _facts(self) -> dict[str, Any] | None:
        return {"due": self.due}


@dataclass(slots=True)
class CancelTimer(Command):
    """The timer is no longer wanted."""


@dataclass(slots=True)
class StartChild(Command):
    """Start a sub-orchestration."""

    takes_arguments: ClassVar[bool] = True
    attempt: int
    name: str
    child_id: str
    input: str
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None

    @property
    def label(self) -> str:
        """Return the orchestrator's name."""
        return self.name

    def _attempt(self) -> int:
        return self.attempt

    def _payload(self) -> str | None:
        return self.input

    def _facts(self) -> dict[str, Any] | None:
        return {"id": self.child_id, **({"label": self.title} if self.title else {}), **shown_in(self.options)}


@dataclass(slots=True)
class CancelChild(Command):
    """Ask a sub-orchestration to cancel; its outcome is dropped."""

    attempt: int
    child_id: str

    def _attempt(self) -> int:
        return self.attempt


@dataclass(slots=True)
class ReviveChild(Command):
    """Ask a sub-orchestration of before a rewind for its outcome; ``rewinds`` asks it to rewind if it has failed."""

    attempt: int
    child_id: str
    rewinds: bool

    def _attempt(self) -> int:
        return self.attempt

    def _facts(self) -> dict[str, Any] | None:
        return {"id": self.child_id, "rewinds": self.rewinds}


@dataclass(slots=True)
class RecordRun(Command):
    """Journal what a function run inline gave: an encoded result, or an encoded failure."""

    name: str
    result: str | None
    has_failed: bool

    @property
    def label(self) -> str:
        """Return the function's name."""
        return self.name

    def _payload(self) -> str | None:
        return self.result

    def _facts(self) -> dict[str, Any] | None:
        return {"failed": True} if self.has_failed else None


@dataclass(slots=True)
class RecordPatch(Command):
    """Note that this execution takes the new way of a change."""

    change: str

    @property
    def label(self) -> str:
        """Return the change's id."""
        return self.change


@dataclass(slots=True)
class SendEvent(Command):
    """Raise an external event on another instance, one-way.

    ``due`` is when it is to be seen (microseconds since the epoch, None is now). ``creates`` is the orchestrator of an entity
    that comes to be by it. ``note`` is what history keeps of it beside the receiver.
    """

    takes_arguments: ClassVar[bool] = True
    instance_id: str
    name: str
    payload: str
    due: int | None = None
    creates: str | None = None
    note: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """Return the event's name."""
        return self.name

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded event had the same payload; that to an entity names its sender, in a fork another one."""
        if event.payload == self.payload or event.payload is None:
            return event.payload == self.payload
        return self.name.startswith(_OWN) and _essence(event.payload) == _essence(self.payload)

    def _payload(self) -> str | None:
        return self.payload

    def _facts(self) -> dict[str, Any] | None:
        return {"to": self.instance_id, **(self.note or {})}


def _essence(payload: str) -> str:
    """Return what a message to an entity says, without who sent it."""
    try:
        message = json.loads(payload)
        message.pop("reply", None)
    except (ValueError, AttributeError, RecursionError):
        return payload
    return _EXECUTION.sub("", json.dumps(message))


@dataclass(slots=True)
class CompleteExecution(Command):
    """The orchestrator returned; ``output`` is encoded."""

    output: str
    is_final: ClassVar[bool] = True

    def _payload(self) -> str | None:
        return self.output


@dataclass(slots=True)
class FailExecution(Command):
    """The orchestrator raised; ``failure`` is encoded."""

    failure: str
    is_final: ClassVar[bool] = True

    def _payload(self) -> str | None:
        return self.failure


@dataclass(slots=True)
class CancelExecution(Command):
    """The orchestrator let ``CancelledError`` pass; ``reason`` is that of the wish to cancel."""

    reason: str | None = None
    is_final: ClassVar[bool] = True


@dataclass(slots=True)
class ContinueAsNew(Command):
    """End this execution and start a fresh one under the same id; ``input`` is encoded.

    One that ``rests`` begins with the next message, not before.
    """

    input: str
    events: list[Event] = field(default_factory=list)
    rests: bool = False
    is_final: ClassVar[bool] = True

    def _payload(self) -> str | None:
        return self.input
