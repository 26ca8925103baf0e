"""The rows that cross the border between the engine and a store, and the store's protocol.

Payloads are text here; times are microseconds since the epoch by the store's clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.history import EventKind
from ..core.kinds import LAPSING, Activities
from ..core.names import ActivityAttemptId
from ..core.status import RuntimeStatus

__all__ = [
    "CARRIED_OVER",
    "UNANSWERED",
    "ActivityRow",
    "ActivityStart",
    "ActivityAttemptId",
    "Answer",
    "Asked",
    "Deferral",
    "InboxKind",
    "InboxRow",
    "InstanceEnd",
    "InstanceRow",
    "ReplayPosition",
    "Outcome",
    "Recorded",
    "Resident",
    "Snapshot",
    "TakenIdsError",
    "TurnAddress",
]


#: The attempt of an inbox row that holds an event which one execution has left to the next.
CARRIED_OVER = -1


class InboxKind:
    """Kinds of inbox rows beside the kinds of events."""

    JOIN = "Join"
    TERMINATE = "TerminateRequested"
    REWIND = "RewindRequested"

    #: What a parent tells a child that it does not want any more.
    ENDING = (TERMINATE, "CancelRequested")

    @classmethod
    def lapsing(cls) -> list[str]:
        """Return the kinds of rows that an instance drops when it fails.

        It keeps all others for a rewind, also those that only another release or plug-in knows.
        """
        return sorted({*LAPSING, cls.JOIN, cls.TERMINATE, cls.REWIND})

    @classmethod
    def is_kept(cls, kind: str) -> bool:
        """Tell whether an instance that has failed keeps such a row for a rewind."""
        return kind not in cls.lapsing()


class ReplayPosition(NamedTuple):
    """Up to where a live execution has been replayed."""

    execution: str
    sequence: int


@dataclass(slots=True)
class InstanceRow:
    """What a turn needs to know of its instance."""

    #: Given by its starter, or made.
    id: str
    #: Which of its executions; another one after each continue-as-new.
    execution: str
    #: Of the orchestrator.
    name: str
    #: That its code had at the start; None if it names none.
    version: str | None
    status: RuntimeStatus
    #: How many turns were committed in this execution.
    sequence: int
    #: The instance that called it; None if none did.
    parent_id: str | None
    #: That one's execution, as it called.
    parent_execution: str | None
    #: The number of the call there.
    parent_command: int | None
    #: And its attempt.
    parent_attempt: int | None
    #: The id of the Celery task that all of it comes from.
    root_id: str | None
    #: Where its turns are sent; None is the orchestrator's own queue.
    queue: str | None
    #: How often in a row a turn may have crashed its process.
    crashes: int
    #: The encoded arguments.
    input: str | None
    #: The encoded options of its Celery signature; None if there are none.
    canvas: str | None
    #: What was agreed at its start, encoded; None is the default.
    policy: str | None = None


@dataclass(slots=True)
class InboxRow:
    """A message to an instance that is not in history yet.

    ``facts`` is text if the store could not decode it.

    ``visible_at`` is when it arrived, and ``is_at_once`` says so, or when it was due.
    """

    id: int
    kind: str
    execution: str | None
    command: int
    attempt: int
    name: str | None
    payload: str | None
    facts: dict[str, Any] | str | None
    visible_at: int
    wake_at: int | None
    sends: int = 0
    is_at_once: bool = False

    @property
    def is_carried_over(self) -> bool:
        """Whether it is an event that an execution had received, and left to the next one."""
        return self.attempt == CARRIED_OVER


@dataclass(slots=True)
class Snapshot:
    """One consistent look at an instance; ``history`` holds only the rows that are not known yet.

    ``inbox`` is of bounded size: joins and requests of operators, and of all else what came first.
    ``has_more`` tells that something came after that, ``is_due_later`` that some of it is to wake
    the instance.
    """

    #: Its row.
    instance: InstanceRow
    #: Texts of events, a row for each turn.
    history: list[str]
    #: What a turn takes, in order.
    inbox: list[InboxRow]
    #: The store's clock, microseconds.
    now: int
    has_more: bool = False
    is_due_later: bool = False


@dataclass(slots=True)
class ActivityStart:
    """One look at an activity that is about to run, with its instance and unknown history.

    ``is_claimed`` is False where another living worker has it; ``wants_turn`` is True where a turn
    of the instance is overdue.
    """

    instance: InstanceRow
    history: list[str]
    join_command: int | None
    window_command: int | None
    name: str
    is_delegated: bool
    details: str | None
    deadline_at: int | None
    wants_turn: bool
    now: int
    is_claimed: bool = False
    read_at: int = field(default_factory=time.monotonic_ns)

    def time_now(self) -> int:
        """Return the store's clock, as far as it has moved on since this look."""
        return self.now + (time.monotonic_ns() - self.read_at) // 1000


class InstanceEnd(NamedTuple):
    """How an instance stands, for a parent that asks; the rest is None while it is not over."""

    status: RuntimeStatus
    output: str | None
    failure: str | None
    reason: str | None


@dataclass(slots=True)
class ActivityRow:
    """An outbox row, as recovery or a released slot publishes it."""

    ticket: ActivityAttemptId
    instance: str
    kind: str
    name: str
    message: str
    queue: str | None
    sends: int
    root_id: str | None = None
    signature: Any = None


@dataclass(slots=True)
class Outcome:
    """How one attempt of an activity ended.

    ``ran`` is how many microseconds its body took, None if no worker saw it.

    ``added`` are the encoded signatures that it adds to its chord; ``worker`` is who ran it, where
    the task wants that to be kept.
    """

    ticket: ActivityAttemptId
    payload: str
    has_failed: bool
    ran: int | None = None
    added: str | None = None
    worker: str | None = None

    @property
    def kind(self) -> str:
        """The kind of its event."""
        return Activities.failed if self.has_failed else Activities.completed

    @property
    def facts(self) -> dict[str, Any] | None:
        """What its event notes beside the payload."""
        noted = {"ran": self.ran, "added": self.added, "worker": self.worker}
        return {name: value for name, value in noted.items() if value is not None} or None


class Deferral(NamedTuple):
    """What the body of an attempt leaves in the place of an outcome: that comes by its token.

    ``ran`` is how many microseconds the body took.
    """

    ticket: ActivityAttemptId
    ran: int | None = None

    @property
    def kind(self) -> str:
        """The kind of its event."""
        return EventKind.ACTIVITY_DEFERRED


@dataclass(slots=True)
class Recorded:
    """An outcome, or a deferral, that was recorded: whose it is, and what may follow."""

    #: Whose outcome it is.
    instance: str
    #: The join that it is a member of; None is none.
    join_command: int | None
    #: Whether its instance is to take a turn.
    wakes: bool
    #: Activities that waited for its slot, and are to be sent.
    released: list[ActivityRow] = field(default_factory=list)


@dataclass(frozen=True)
class TurnAddress:
    """Where a turn message goes."""

    id: str
    name: str
    queue: str | None
    canvas: str | None
    root_id: str | None = None


class Answer(NamedTuple):
    """How a request was answered: by a value or a failure, encoded; by neither if the execution
    that had it continued as new.
    """

    payload: str | None
    has_failed: bool


#: What is told of a request that an execution has left without an answer, and continued as new.
UNANSWERED = Answer(None, True)


class Asked(NamedTuple):
    """How a request stands: the status of its instance, and the answer, if there is one."""

    status: RuntimeStatus
    answer: Answer | None


class Claim(NamedTuple):
    """Who takes an activity; None is a process that is no worker.

    ``is_again``: a try before may have succeeded undelivered.
    """

    #: Who takes it; None is a process that is no worker.
    worker: str | None
    #: Microseconds without a heartbeat after which a worker counts as dead.
    lease: int
    is_again: bool = False


class Resident(NamedTuple):
    """Who has an id that a start was to have."""

    #: Of its orchestrator.
    name: str
    #: Its arguments, encoded.
    input: str | None


class TakenIdsError(Exception):
    """Ids are taken that are to be new; nothing was inserted."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(ids)
        self.ids: Sequence[str] = ids
