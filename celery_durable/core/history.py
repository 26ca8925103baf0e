"""What has happened: the vocabulary of history, and how a turn's events are stored.

An event is stored as a short JSON list. Stored names are API: changing one is a migration of every
history there is. *Inputs* resume the orchestrator, *confirmations* record a command that it gave,
*notes* are for people and for bookkeeping. Which kind of command an event belongs to is told by
``kinds``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

__all__ = [
    "NOTES",
    "Event",
    "EventKind",
    "add_event_kind",
    "event_kind",
    "dump_events",
    "load_events",
]


class EventKind(StrEnum):
    """The kinds of events that the engine itself records."""

    # inputs
    EXECUTION_STARTED = "ExecutionStarted"
    ACTIVITY_COMPLETED = "ActivityCompleted"
    ACTIVITY_FAILED = "ActivityFailed"
    ACTIVITY_DEFERRED = "ActivityDeferred"
    TIMER_FIRED = "TimerFired"
    CHILD_COMPLETED = "ChildCompleted"
    CHILD_FAILED = "ChildFailed"
    EVENT_RAISED = "EventRaised"
    REQUEST_RECEIVED = "RequestReceived"
    CANCEL_REQUESTED = "CancelRequested"
    EXECUTION_RESUMED = "ExecutionResumed"
    WORK_RENEWED = "WorkRenewed"
    # confirmations
    ACTIVITY_SCHEDULED = "ActivityScheduled"
    ACTIVITY_CANCELED = "ActivityCanceled"
    TIMER_CREATED = "TimerCreated"
    TIMER_CANCELED = "TimerCanceled"
    CHILD_STARTED = "ChildStarted"
    CHILD_CANCELED = "ChildCanceled"
    CHILD_REVIVED = "ChildRevived"
    RUN_RECORDED = "RunRecorded"
    PATCH_RECORDED = "PatchRecorded"
    PAYLOAD_REFUSED = "PayloadRefused"
    EVENT_SENT = "EventSent"
    REQUEST_ANSWERED = "RequestAnswered"
    EXECUTION_COMPLETED = "ExecutionCompleted"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_CANCELED = "ExecutionCanceled"
    CONTINUED_AS_NEW = "ContinuedAsNew"
    # notes
    EXECUTION_SUSPENDED = "ExecutionSuspended"
    EXECUTION_TERMINATED = "ExecutionTerminated"
    EXECUTION_REWOUND = "ExecutionRewound"
    HISTORY_REWRITTEN = "HistoryRewritten"
    ACTIVITY_ABANDONED = "ActivityAbandoned"
    JOIN_FORMED = "JoinFormed"
    JOIN_DISSOLVED = "JoinDissolved"


K = EventKind
#: Events for people and for bookkeeping: the code is not given them, and asks for none of them.
NOTES = frozenset(
    {
        K.EXECUTION_SUSPENDED,
        K.EXECUTION_TERMINATED,
        K.EXECUTION_REWOUND,
        K.HISTORY_REWRITTEN,
        K.ACTIVITY_ABANDONED,
        K.JOIN_FORMED,
        K.JOIN_DISSOLVED,
    }
)


class Event(NamedTuple):
    """One thing that happened."""

    #: An ``EventKind``, or a name that ``add_event_kind`` was given.
    kind: str
    #: Microseconds since the epoch, by the database's clock.
    at: int
    #: The number of the command that it is about; 0 if it is about none.
    command: int = 0
    #: Which attempt of it, from 1; 0 where there are none.
    attempt: int = 0
    #: Of a task, an orchestrator, a function, an event; empty where there is none.
    name: str = ""
    #: An encoded value; None where there is none.
    payload: str | None = None
    #: What else is kept of it; None if nothing is.
    facts: dict[str, Any] | None = None

    def describe(self) -> str:
        """Return the event in a few words, for messages to people."""
        return " ".join(filter(None, (str(self.kind), repr(self.name) if self.name else "")))


_DEFAULTS = (0, 0, "", None, None)


def _trimmed(event: Event) -> list[Any]:
    row = list(event)
    while len(row) > 2 and row[-1] == _DEFAULTS[len(row) - 3]:
        row.pop()
    return row


def dump_events(events: Iterable[Event]) -> str:
    """Encode the events of one turn as the JSON text of one history row."""
    return json.dumps([_trimmed(event) for event in events], separators=(",", ":"))


def load_events(text: str | bytes) -> list[Event]:
    """Decode a history row.

    Raises ``ValueError``, ``TypeError``, ``KeyError`` or ``IndexError`` when it is not one. An
    event of a kind that only a later release knows is a ``ValueError`` that says so.
    """
    try:
        rows = json.loads(text)
    except RecursionError as error:
        raise ValueError("a history row is nested too deeply") from error
    events = [Event(_KINDS[row[0]], *row[1:]) for row in rows]
    if any(event.facts is not None and type(event.facts) is not dict for event in events):
        raise TypeError("facts are no JSON object")
    return events


class _Kinds(dict[str, str]):
    """Every name that a stored event may have -> the one object that it is compared by."""

    def __missing__(self, name: str) -> str:
        raise ValueError(
            f"this release knows no kind of event {name!r:.60}. If a later release wrote it, resume"
            " the orchestration once only workers of that one are left"
        )


_KINDS = _Kinds({str(kind): kind for kind in EventKind})


def event_kind(name: str) -> str:
    """Return the kind of event that is stored under a name.

    Raises:
        ValueError: there is none.
    """
    return _KINDS[name]


def add_event_kind(name: str) -> str:
    """Let histories hold events of a kind that is defined elsewhere, and return its name.

    Every process that reads such a history has to do so before.

    Raises:
        ValueError: there is such a kind.
    """
    if name in _KINDS:
        raise ValueError(f"there is a kind of event {name!r} already")
    _KINDS[name] = name
    return name
