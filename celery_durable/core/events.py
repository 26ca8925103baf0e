"""What has happened: the vocabulary of history, and the grammar that ties it to commands.

An event is stored as a short JSON list. Stored names are API: changing one is a migration of every
history there is. Three groups, told apart by the tables below: *inputs* resume the orchestrator,
*confirmations* record a command that it gave, *notes* are for people and for bookkeeping.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

__all__ = ["CONFIRMATIONS", "INPUTS", "NOTES", "RESOLUTIONS", "Event", "EventKind", "dump_events", "load_events"]


class EventKind(StrEnum):
    """Every kind of event that history can hold."""

    # inputs
    EXECUTION_STARTED = "ExecutionStarted"
    ACTIVITY_COMPLETED = "ActivityCompleted"
    ACTIVITY_FAILED = "ActivityFailed"
    TIMER_FIRED = "TimerFired"
    CHILD_COMPLETED = "ChildCompleted"
    CHILD_FAILED = "ChildFailed"
    EVENT_RAISED = "EventRaised"
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
    EVENT_SENT = "EventSent"
    EXECUTION_COMPLETED = "ExecutionCompleted"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_CANCELED = "ExecutionCanceled"
    CONTINUED_AS_NEW = "ContinuedAsNew"
    # notes
    EXECUTION_SUSPENDED = "ExecutionSuspended"
    EXECUTION_TERMINATED = "ExecutionTerminated"
    EXECUTION_REWOUND = "ExecutionRewound"
    HISTORY_REWRITTEN = "HistoryRewritten"
    JOIN_FORMED = "JoinFormed"
    JOIN_DISSOLVED = "JoinDissolved"


K = EventKind
INPUTS = frozenset(
    {
        K.EXECUTION_STARTED,
        K.ACTIVITY_COMPLETED,
        K.ACTIVITY_FAILED,
        K.TIMER_FIRED,
        K.CHILD_COMPLETED,
        K.CHILD_FAILED,
        K.EVENT_RAISED,
        K.CANCEL_REQUESTED,
        K.EXECUTION_RESUMED,
        K.WORK_RENEWED,
    }
)
NOTES = frozenset(
    {
        K.EXECUTION_SUSPENDED,
        K.EXECUTION_TERMINATED,
        K.EXECUTION_REWOUND,
        K.HISTORY_REWRITTEN,
        K.JOIN_FORMED,
        K.JOIN_DISSOLVED,
    }
)

# command -> the one event that confirms it
CONFIRMATIONS: dict[str, EventKind] = {
    "ScheduleActivity": K.ACTIVITY_SCHEDULED,
    "CancelActivity": K.ACTIVITY_CANCELED,
    "CreateTimer": K.TIMER_CREATED,
    "CancelTimer": K.TIMER_CANCELED,
    "StartChild": K.CHILD_STARTED,
    "CancelChild": K.CHILD_CANCELED,
    "ReviveChild": K.CHILD_REVIVED,
    "RecordRun": K.RUN_RECORDED,
    "RecordPatch": K.PATCH_RECORDED,
    "SendEvent": K.EVENT_SENT,
    "CompleteExecution": K.EXECUTION_COMPLETED,
    "FailExecution": K.EXECUTION_FAILED,
    "CancelExecution": K.EXECUTION_CANCELED,
    "ContinueAsNew": K.CONTINUED_AS_NEW,
}

# event -> the command that it resolves; a command is resolved at most once
RESOLUTIONS: dict[EventKind, str] = {
    K.ACTIVITY_COMPLETED: "ScheduleActivity",
    K.ACTIVITY_FAILED: "ScheduleActivity",
    K.TIMER_FIRED: "CreateTimer",
    K.CHILD_COMPLETED: "StartChild",
    K.CHILD_FAILED: "StartChild",
}


class Event(NamedTuple):
    """One thing that happened.

    ``at`` is microseconds since the epoch by the database's clock; ``payload`` is encoded; ``command``
    and ``attempt`` are 0 where they do not apply.
    """

    kind: EventKind
    at: int
    command: int = 0
    attempt: int = 0
    name: str = ""
    payload: str | None = None
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
    """Decode a history row; raises ``ValueError``, ``TypeError``, ``KeyError`` or ``IndexError`` when it is not one."""
    try:
        rows = json.loads(text)
    except RecursionError as error:
        raise ValueError("a history row is nested too deeply") from error
    events = [Event(_KINDS[row[0]], *row[1:]) for row in rows]
    if any(event.facts is not None and type(event.facts) is not dict for event in events):
        raise TypeError("facts are no JSON object")
    return events


_KINDS = {str(kind): kind for kind in EventKind}
