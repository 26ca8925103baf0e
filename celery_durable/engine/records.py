"""The rows that cross the border between the engine and a store, and the store's protocol.

Payloads are text here; times are microseconds since the epoch by the store's clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..core.status import RuntimeStatus

__all__ = [
    "ActivityRow",
    "ActivityStart",
    "ActivityTicket",
    "Admission",
    "AlreadyWaitsError",
    "ChildInstance",
    "Committed",
    "DueActivity",
    "DueWake",
    "Filters",
    "InboxKind",
    "InboxRow",
    "InstanceEnd",
    "InstanceRecord",
    "InstanceRow",
    "Known",
    "NewActivity",
    "NewInbox",
    "NewInstance",
    "Outcome",
    "Outstanding",
    "Pending",
    "Place",
    "Recorded",
    "Revival",
    "Snapshot",
    "TurnAddress",
    "TurnCommit",
    "TurnStore",
    "VersionUse",
    "Waiting",
]


class InboxKind:
    """Kinds of inbox rows beside the kinds of events."""

    JOIN = "Join"
    TERMINATE = "TerminateRequested"
    REWIND = "RewindRequested"


_TASK_ID = re.compile(r"d-(\w{1,64})-([0-9]{1,9})-([0-9]{1,9})", re.ASCII)


class ActivityTicket(NamedTuple):
    """What names one attempt of one activity everywhere, also as a Celery task id."""

    execution: str
    command: int
    attempt: int

    @property
    def task_id(self) -> str:
        """Return the Celery task id; never made of the instance id."""
        return f"d-{self.execution}-{self.command}-{self.attempt}"

    @classmethod
    def parse(cls, task_id: Any) -> ActivityTicket | None:
        """Return the ticket in a task id, or None if it is no activity's; the id comes from a message, and may be anything."""
        if not isinstance(task_id, str) or not task_id.startswith("d-"):
            return None
        if (parts := _TASK_ID.fullmatch(task_id)) is None:
            return None
        return cls(parts[1], int(parts[2]), int(parts[3]))


class Known(NamedTuple):
    """Up to where a live execution has been replayed."""

    execution: str
    sequence: int


@dataclass(slots=True)
class InstanceRow:
    """What a turn needs to know of its instance."""

    id: str
    execution: str
    name: str
    version: str | None
    status: RuntimeStatus
    sequence: int
    parent_id: str | None
    parent_execution: str | None
    parent_command: int | None
    parent_attempt: int | None
    root_id: str | None
    queue: str | None
    crashes: int
    input: str | None
    canvas: str | None
    policy: str | None = None


@dataclass(slots=True)
class InboxRow:
    """A message to an instance that is not in history yet; ``facts`` is text if the store could not decode it."""

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


@dataclass(slots=True)
class Snapshot:
    """One consistent look at an instance; ``history`` holds only the rows that are not known yet."""

    instance: InstanceRow
    history: list[str]
    inbox: list[InboxRow]
    now: int


@dataclass(slots=True)
class ActivityStart:
    """One look at an activity that is about to run, with its instance and unknown history."""

    instance: InstanceRow
    history: list[str]
    join_command: int | None
    window_command: int | None
    holder: str | None
    sends: int
    must_claim: bool
    details: str | None
    deadline_at: int | None
    now: int
    read_at: int = field(default_factory=time.monotonic_ns)

    def time_now(self) -> int:
        """Return the store's clock, as far as it has moved on since this look."""
        return self.now + (time.monotonic_ns() - self.read_at) // 1000


@dataclass(slots=True)
class NewInbox:
    """A message to put into an inbox. ``visible_at`` None is now; ``wakes`` False rides along.

    ``creates`` is the receiver, made if there is none, or if the one there is over.

    ``check_after`` is microseconds from ``visible_at`` (negative: before it) until recovery looks; None is never.
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


class Place(NamedTuple):
    """A place that an instance needs in order to begin: of which limit, for which key, out of how many, and for how long.

    ``period`` None is until it is over; else so many microseconds from its beginning.
    """

    label: str
    key: str | None
    most: int
    period: int | None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new orchestration waits for before it begins; higher priorities first, then the older ones.

    ``debounce`` names the starts that become one: it begins ``quiet`` microseconds after the last of them, and not later
    than ``max_wait`` after the first.
    """

    places: tuple[Place, ...]
    priority: int = 0
    debounce: str | None = None
    quiet: int = 0
    max_wait: int | None = None


class AlreadyWaitsError(Exception):
    """Another orchestration of the same debounce key waits already; nothing was inserted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where an instance stands that waits for admission: its places, how many of each are taken, how many come first."""

    name: str
    places: list[tuple[Place, int]]
    before: int
    ready_at: int


@dataclass(slots=True)
class NewInstance:
    """An orchestration to begin, with its start message; one that ``rests`` begins with its first other message.

    ``facts`` are what its start notes beside the input; ``is_told`` once observers know of it.
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
    rests: bool = False
    facts: dict[str, Any] | None = None
    is_told: bool = False


@dataclass(slots=True)
class ChildInstance(NewInstance):
    """A sub-orchestration; if its id is taken, ``refusal`` is what the parent gets."""

    refusal: NewInbox | None = None


class InstanceEnd(NamedTuple):
    """How an instance stands, for a parent that asks; the rest is None while it is not over."""

    status: RuntimeStatus
    output: str | None
    failure: str | None
    reason: str | None


@dataclass(slots=True)
class Revival:
    """A question to a child of before a rewind: ``wish`` makes it rewind if it has failed, else ``answer`` tells its parent.

    A child that still runs is left alone, and one that is gone is answered for.
    """

    child_id: str
    wish: NewInbox | None
    answer: Callable[[InstanceEnd | None], NewInbox]


@dataclass(slots=True)
class TurnCommit:
    """All that one turn changes; applied whole, and only if the instance still is where the turn saw it."""

    instance_id: str
    execution: str
    sequence: int
    statuses: tuple[RuntimeStatus, ...]
    events: str | None = None
    outcome: ActivityTicket | None = None
    requires_empty_inbox: bool = False
    taken: list[int] = field(default_factory=list)
    reset_joins: list[int] = field(default_factory=list)
    activities: list[NewActivity] = field(default_factory=list)
    canceled_commands: list[int] = field(default_factory=list)
    canceled_dedups: list[str] = field(default_factory=list)
    own_inbox: list[NewInbox] = field(default_factory=list)
    other_inboxes: list[NewInbox] = field(default_factory=list)
    children: list[ChildInstance] = field(default_factory=list)
    revivals: list[Revival] = field(default_factory=list)
    join_changes: dict[int, int | None] = field(default_factory=dict)
    released_slots: dict[int, int] = field(default_factory=dict)
    max_activities: int | None = None
    status: RuntimeStatus | None = None
    output: str | None = None
    failure: str | None = None
    custom_status: str | None = None
    reason: str | None = None
    next_execution: str | None = None
    next_input: str | None = None
    rests: bool = False
    clears: bool = False
    wakes_all: bool = False
    parks_inbox: bool = False
    reopens: bool = False
    keeps_for: int | None = None
    frees_place: bool = False

    @property
    def is_simple(self) -> bool:
        """True when it touches nothing but history, the instance, new activities and what it took."""
        return not (
            self.reset_joins or self.canceled_commands or self.canceled_dedups or self.own_inbox
            or self.other_inboxes or self.children or self.revivals or self.join_changes or self.released_slots
            or self.next_execution or self.rests or self.max_activities or self.clears or self.wakes_all or self.parks_inbox
            or self.reopens or self.frees_place
        )  # fmt: skip


@dataclass(slots=True)
class ActivityRow:
    """An outbox row, as recovery or a released slot publishes it."""

    ticket: ActivityTicket
    instance: str
    kind: str
    name: str
    message: str
    queue: str | None
    sends: int
    root_id: str | None = None
    signature: Any = None


@dataclass(slots=True)
class Committed:
    """What came of a commit: what else is to be published now."""

    now: int
    released: list[ActivityRow] = field(default_factory=list)
    started_children: list[ChildInstance] = field(default_factory=list)
    unheard: list[NewInbox] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """How one attempt of an activity ended; ``ran`` is how many microseconds its body took, None if nobody saw it."""

    ticket: ActivityTicket
    payload: str
    has_failed: bool
    ran: int | None = None

    @property
    def facts(self) -> dict[str, Any] | None:
        """What its event notes beside the payload; no orchestrator sees it, and replay does not depend on it."""
        return None if self.ran is None else {"ran": self.ran}


@dataclass(slots=True)
class Recorded:
    """An outcome that was recorded: whose it is, and what may follow."""

    instance: str
    join_command: int | None
    wakes: bool
    released: list[ActivityRow] = field(default_factory=list)


@dataclass(slots=True)
class InstanceRecord:
    """One row of ``durable_instances`` as clients see it; payloads are None unless asked for."""

    id: str
    execution: str
    name: str
    version: str | None
    status: RuntimeStatus
    reason: str | None
    sequence: int
    parent_id: str | None
    root_id: str | None
    tags: dict[str, str]
    created_at: int
    started_at: int | None
    updated_at: int
    completed_at: int | None
    queue: str | None = None
    input: str | None = None
    output: str | None = None
    failure: str | None = None
    custom_status: str | None = None
    canvas: str | None = None


@dataclass(frozen=True)
class Filters:
    """What ``find`` and ``count`` select by; times are microseconds. ``entities`` False leaves them out, True is only these."""

    statuses: tuple[RuntimeStatus, ...] = ()
    name: str | None = None
    version: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    id_prefix: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    parent_id: str | None = None
    stuck: bool | None = None
    roots: bool | None = None
    entities: bool | None = None


@dataclass(frozen=True)
class Outstanding:
    """One activity that is under way; ``worker`` is the host name of its holder, None if that was not seen lately."""

    name: str
    command: int
    attempt: int
    queue: str | None
    is_held: bool
    holder: str | None
    worker: str | None
    sent_at: int | None
    sends: int


@dataclass(frozen=True)
class Pending:
    """What lies in the store for an instance: what it waits for, and since when its next turn is due."""

    activities: list[Outstanding]
    children: list[InstanceRecord]
    next_timer: int | None
    overdue_since: int | None


@dataclass(frozen=True)
class VersionUse:
    """How many instances that are not over need one version of an orchestrator."""

    name: str
    version: str | None
    live: int
    is_registered: bool

    @property
    def is_safe_to_remove(self) -> bool:
        """True once no instance needs it any more."""
        return self.live == 0


@dataclass(frozen=True)
class TurnAddress:
    """Where a turn message goes."""

    id: str
    name: str
    queue: str | None
    canvas: str | None
    root_id: str | None = None


@dataclass(slots=True)
class DueWake:
    """An inbox row that recovery should look at; ``name`` is None when its instance is gone."""

    id: int
    kind: str
    instance: str
    execution: str | None
    command: int
    visible_at: int
    wake_at: int | None
    sends: int
    name: str | None
    queue: str | None
    canvas: str | None
    status: str | None
    now: int
    check_at: int


@dataclass(slots=True)
class DueActivity:
    """An outbox row that recovery should look at."""

    row: ActivityRow
    sent_at: int | None
    holder: str | None
    is_delegated: bool
    check_at: int
    deadline_at: int | None
    start_by: int | None
    beat_by: int | None
    crashes: int
    now: int


class Look(NamedTuple):
    """What recovery has to do: inbox rows, outbox rows and workers that went silent.

    ``schedule_in`` is how many microseconds from now a schedule is due, 0 or less if one is, None if none ever is;
    ``ready_in`` is the same for orchestrations that wait for admission.
    """

    has_wakes: bool
    has_activities: bool
    has_silent_workers: bool
    schedule_in: int | None = None
    ready_in: int | None = None
    has_places: bool = False
    has_purges: bool = False

    @property
    def has_waiting(self) -> bool:
        """Tell whether an orchestration waits for a place now."""
        return self.ready_in is not None and self.ready_in <= 0

    @property
    def has_due_schedule(self) -> bool:
        """Tell whether a schedule is due now."""
        return self.schedule_in is not None and self.schedule_in <= 0


class TurnStore(Protocol):
    """What the engine needs of a store to move instances. Every method is one transaction or one read."""

    def load(self, instance_id: str, known: Known | None) -> Snapshot | None:
        """Look at an instance, its inbox that is due, and the history beyond ``known``."""

    def begin_activity(self, ticket: ActivityTicket, known: Known | None) -> ActivityStart | None:
        """Look at an activity about to run; None if it is not wanted any more."""

    def find_instance_of(self, ticket: ActivityTicket) -> str | None:
        """Return whose activity this is, if it is still outstanding."""

    def claim(self, ticket: ActivityTicket, worker: str | None, lease: int, *, is_again: bool = False) -> bool:
        """Take an activity for this worker; False if another living worker has it.

        ``is_again`` tells that a try before this one may have succeeded without an answer.
        """

    def commit_turn(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn; None if the instance has moved meanwhile, and nothing was changed."""

    def record_outcome(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome once; None if it is late, a duplicate, foreign or canceled."""

    def was_recorded(self, ticket: ActivityTicket, instance_id: str) -> bool:
        """Tell whether an outcome of this very attempt is in an inbox."""

    def finish_join(self, execution: str, instance_id: str, join_command: int) -> bool:
        """Wake a join whose last member is in; True for exactly one caller."""

    def now(self) -> int:
        """Return the store's clock."""

    def discard(self, instance_id: str, execution: str, rows: Sequence[int]) -> None:
        """Delete inbox rows that nobody will take: this very life of the instance is over."""

    def unsend(self, tickets: Sequence[ActivityTicket], delay: int = 1_000_000) -> None:
        """Note that these could not be published; recovery tries again ``delay`` microseconds from now."""

    def open_children(self, instance_id: str) -> list[str]:
        """Return the children of an instance that are not over."""

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""

    def note_waiting(self, instance_id: str, reason: str) -> None:
        """Let people see what an instance waits for that no turn can tell."""

    def count_crash(self, instance_id: str, by: int = 1) -> int:
        """Count a turn that may have crashed its process, or take that back; return how many in a row there were."""

    def has_untaken(self, instance_id: str) -> bool:
        """Tell whether anything visible lies in the inbox."""

    def put(self, messages: Sequence[NewInbox]) -> int:
        """Insert messages that are not there yet; return how many were new."""

    def insert_instance(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""

    def insert_fork(self, instance: NewInstance, history: Sequence[str], message: NewInbox) -> bool:
        """Insert an orchestration that has a history already, and the message that moves it; False if the id is taken."""

    def start_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn; None if the id is taken."""
