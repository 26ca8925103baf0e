"""What a commit writes: new rows, and the commit of a turn as a whole.

Payloads are text; times are microseconds since the epoch by the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.history import EventKind
from ..core.permits import Permit
from ..core.status import RuntimeStatus
from ..core.tags import TagChanges
from .records import ActivityAttemptId, ActivityRow, Answer, InstanceEnd

__all__ = [
    "CHECK_MESSAGE_AFTER",
    "DEADLINE",
    "EXPIRES",
    "Admission",
    "AlreadyWaitsError",
    "ChildInstance",
    "Committed",
    "NewActivity",
    "NewAnswer",
    "NewInbox",
    "NewInstance",
    "Revival",
    "Slot",
    "TurnCommit",
    "Waiting",
    "child_reply",
    "refused_request",
]


#: When recovery looks whether a message to an instance has had its turn, in microseconds.
CHECK_MESSAGE_AFTER = 4_000_000


@dataclass(slots=True)
class NewInbox:
    """A message to put into an inbox. ``visible_at`` None is at once; ``wakes`` False rides along.

    ``since`` is when one arrived that is visible at once, if not now. One that is put ``aside``,
    under a number, is not seen until a commit shows it.

    ``creates`` is the receiver, made if there is none, or if the one there is over.

    ``check_after`` is microseconds from ``visible_at`` (negative: before it) until recovery looks;
    None is never.
    """

    instance: str
    kind: str
    dedup: str
    execution: str | None = None
    command: int = 0
    attempt: int = 0
    name: str | None = None
    payload: str | None = None
    facts: dict[str, Any] | None = None
    visible_at: int | None = None
    wakes: bool = True
    check_after: int | None = None
    creates: NewInstance | None = None
    since: int | None = None
    aside: int | None = None


class NewAnswer(NamedTuple):
    """An answer to a request, under the request's key, as a turn decides it."""

    request: str
    answer: Answer


@dataclass(slots=True)
class NewActivity:
    """A message to Celery that a turn decides; times are microseconds from the commit."""

    command: int
    attempt: int
    kind: str
    name: str
    message: str
    queue: str | None
    join_command: int | None = None
    window_command: int | None = None
    is_held: bool = False
    is_sent: bool = True
    timeout: int | None = None
    start_timeout: int | None = None
    heartbeat_timeout: int | None = None
    signature: Any = None
    #: The slots that it needs before it is sent; its time limits count from then.
    permits: tuple[Permit, ...] = ()
    #: Of those that wait for slots, higher ones are admitted first.
    priority: int = 0


class Slot(NamedTuple):
    """A slot that an instance needs in order to begin: of which limit, for which key, out of how
    many, and for how long.

    ``period`` None is until it is over; else so many microseconds from its beginning.
    """

    label: str
    key: str | None
    most: int
    period: int | None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new orchestration waits for before it begins.

    Higher priorities first, then the older ones.

    ``debounce`` names the starts that become one: it begins ``quiet`` microseconds after the last
    of them, and not later than ``max_wait`` after the first.
    """

    slots: tuple[Slot, ...]
    priority: int = 0
    debounce: str | None = None
    quiet: int = 0
    max_wait: int | None = None


class AlreadyWaitsError(Exception):
    """Another orchestration of the same debounce key waits already; nothing was inserted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where an instance stands that waits for admission: its slots, how many of each are taken,
    how many come first.
    """

    name: str
    slots: list[tuple[Slot, int]]
    before: int
    ready_at: int


#: The facts of the timer that ends the time of a whole run.
DEADLINE = {"deadline": True}

#: The fact of a start until when it is worth something: what has not begun by then is canceled.
EXPIRES = "expires"


@dataclass(slots=True)
class NewInstance:
    """An orchestration to begin, with its start message.

    One that ``awaits_message`` begins with its first other message.

    ``facts`` are what its start notes beside the input; ``is_notified`` once observers know of it.
    """

    id: str
    execution: str
    name: str
    version: str | None
    input: str
    queue: str | None
    canvas: str | None = None
    tags: dict[str, str] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    parent_execution: str | None = None
    parent_command: int | None = None
    parent_attempt: int | None = None
    start_at: int | None = None
    check_after: int | None = None
    policy: str | None = None
    admission: Admission | None = None
    awaits_message: bool = False
    facts: dict[str, Any] | None = None
    is_notified: bool = False


@dataclass(slots=True)
class ChildInstance(NewInstance):
    """A sub-orchestration; if its id is taken, ``refusal`` is what the parent gets.

    It takes the place of one that an earlier execution of its parent left: ``release_locks`` gets
    that one's execution and history, and returns what it leaves to others.
    """

    refusal: NewInbox | None = None
    release_locks: Callable[[str, Sequence[str]], Sequence[NewInbox]] | None = None


@dataclass(slots=True)
class Revival:
    """A question to a child that was called before a rewind.

    ``request`` makes it rewind if it has failed, else ``answer`` tells its parent.

    A request that cannot be granted any more, as the child is purged or replaced, is answered, too
    (``refused_request``).

    A child that still runs is left alone, and one that is gone is answered for.
    """

    child_id: str
    request: NewInbox | None
    answer: Callable[[InstanceEnd | None], NewInbox]


def child_reply(
    parent_id: str, execution: str, command: int, attempt: int, kind: str, payload: str | None
) -> NewInbox:
    """Return the message by which a parent hears of the one outcome of a child."""
    return NewInbox(
        parent_id,
        kind,
        f"child:{execution}:{command}:{attempt}",
        execution=execution,
        command=command,
        attempt=attempt,
        payload=payload,
        check_after=CHECK_MESSAGE_AFTER,
    )


def refused_request(payload: str | None, facts: dict[str, Any] | str | None) -> NewInbox | None:
    """Return what tells a parent that its request to rewind a child was not granted.

    None if it is the request of another asker.
    """
    asker = facts.get("asker") if isinstance(facts, dict) else None
    if not asker:
        return None
    parent, execution, command, attempt = asker
    return child_reply(parent, execution, command, attempt, EventKind.CHILD_FAILED, payload)


@dataclass(slots=True)
class TurnCommit:
    """All that one turn changes.

    Applied whole, and only if the instance still is where the turn saw it.

    ``vacated`` names the window and the attempt of canceled commands: a slot is free if such a one
    was let go and has no outcome that freed it. ``clears`` takes away what is under way; of an
    instance that has failed it leaves, for a rewind, what arrived and was not heard, and notes in
    history which activities had begun that run at most once. ``withdrawn`` are keys of messages
    that are deleted, and ``shows`` is up to which number what was put aside is seen from now on.
    """

    #: The instance that the turn is of.
    instance_id: str
    #: Guard: it still is this execution.
    execution: str
    #: Guard: it still is at this sequence; the turn moves it to the next one.
    sequence: int
    #: Guard: it has one of these statuses.
    statuses: tuple[RuntimeStatus, ...]
    #: Rows of history as text; None writes none.
    events: str | None = None
    #: Guard: this attempt is outstanding. Its outcome comes in with the turn itself.
    outcome: ActivityAttemptId | None = None
    #: Guard: nothing visible lies in the inbox.
    requires_empty_inbox: bool = False
    #: Numbers of the inbox rows that are in ``events`` now, or dropped.
    taken: list[int] = field(default_factory=list)
    #: Numbers of the rows of joins that were woken and are not complete.
    reset_joins: list[int] = field(default_factory=list)
    #: New rows of the outbox, the last message to Celery among them.
    activities: list[NewActivity] = field(default_factory=list)
    #: Commands whose outbox rows are deleted.
    canceled_commands: list[int] = field(default_factory=list)
    #: By canceled command its window and attempt: a slot may be free.
    vacated: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Keys of own messages that canceled commands waited for, as timers.
    canceled_dedups: list[str] = field(default_factory=list)
    #: Messages to the instance itself: timers, joins, what is put aside.
    own_inbox: list[NewInbox] = field(default_factory=list)
    #: Messages to other instances.
    other_inboxes: list[NewInbox] = field(default_factory=list)
    #: Answers to requests, for their askers to read.
    answers: list[NewAnswer] = field(default_factory=list)
    #: Instances to start.
    children: list[ChildInstance] = field(default_factory=list)
    #: Children of a rewound instance that are asked for their outcomes.
    revivals: list[Revival] = field(default_factory=list)
    #: By command the join that its activity counts for now; None is none.
    join_changes: dict[int, int | None] = field(default_factory=dict)
    #: By window how many slots are free; window 0 is the whole execution.
    released_slots: dict[int, int] = field(default_factory=dict)
    #: How many activities of the execution may be under way; None looks at no limit.
    max_activities: int | None = None
    #: The new status; None leaves it.
    status: RuntimeStatus | None = None
    #: The encoded result; None leaves it, as the next two.
    output: str | None = None
    #: The encoded error.
    failure: str | None = None
    #: The encoded custom status.
    custom_status: str | None = None
    #: Tags to set, by name; None takes one away.
    tag_changes: TagChanges = field(default_factory=dict)
    #: Why it does not move, for people to see; None clears it.
    reason: str | None = None
    #: The execution that begins now, by continue-as-new; None is none.
    next_execution: str | None = None
    #: The encoded input of that one.
    next_input: str | None = None
    #: The version of the next execution's code.
    next_version: str | None = None
    #: The next execution begins with its first message, not at once: an entity's does.
    awaits_message: bool = False
    #: Keys of messages put aside that are not wanted any more.
    withdrawn: list[str] = field(default_factory=list)
    #: Up to this number, what was put aside is seen from now on; None shows none.
    shows: int | None = None
    #: What is under way is deleted: the execution ends.
    clears: bool = False
    #: Messages that were visible by this moment are deleted; None drops none.
    drops_until: int | None = None
    #: Recovery looks at the inbox again.
    wakes_all: bool = False
    #: Recovery leaves the inbox alone: the instance is suspended.
    parks_inbox: bool = False
    #: The end of the instance is taken back: it is rewound.
    reopens: bool = False
    #: Microseconds until the ended instance is purged; None is never.
    keeps_for: int | None = None
    #: It gives up its slots of admission.
    frees_slots: bool = False

    @property
    def ends_unbegun(self) -> bool:
        """True when it revokes an orchestration whose code has never run."""
        is_revoked = self.status in (RuntimeStatus.CANCELED, RuntimeStatus.TERMINATED)
        return is_revoked and self.sequence == 0 and '"ExecutionStarted"' not in (self.events or "")

    @property
    def has_limited(self) -> bool:
        """True when one of its activities waits for a slot."""
        return any(new.permits for new in self.activities)


@dataclass(slots=True)
class Committed:
    """What came of a commit: what else is to be published now."""

    #: The store's clock at the commit, microseconds.
    now: int
    #: Activities that waited for a slot, and are to be sent now.
    released: list[ActivityRow] = field(default_factory=list)
    #: Children that were inserted; the others' ids were taken.
    started_children: list[ChildInstance] = field(default_factory=list)
    #: What replaced instances left to others.
    left: list[NewInbox] = field(default_factory=list)
