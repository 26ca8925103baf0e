"""What the engine needs of a store: one protocol for each part, each given to who needs it.

Every method is one transaction or one read, unless it is given a cursor: then it works within the
transaction of that cursor, which its caller ends.

Raises:
    StoreError: any of them, when the store cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..core.tags import TagChanges
from .activity_limits import ActivityLimitRows
from .archive_rows import ArchiveRows
from .attempt_ports import Attempts
from .audit import AuditRows
from .cursor import Cursor
from .records import (
    ActivityAttemptId,
    Asked,
    Deferral,
    Outcome,
    Recorded,
    ReplayPosition,
    Resident,
    Snapshot,
)
from .row_ports import (
    AdmissionRows,
    Cleanup,
    LargePayloadRows,
    Reads,
    RecoveryRows,
    Schedules,
    Upkeep,
    Workers,
)
from .switches import SwitchRows
from .writes import Committed, NewInbox, NewInstance, TurnCommit

__all__ = [
    "ISOLATION_LEVELS",
    "ActivityLimitRows",
    "AdmissionRows",
    "Answers",
    "ArchiveRows",
    "Attempts",
    "AuditRows",
    "Cleanup",
    "ReleaseLocks",
    "Inbox",
    "LargePayloadRows",
    "Outcomes",
    "Reads",
    "RecoveryRows",
    "Schedules",
    "Starts",
    "Store",
    "SwitchRows",
    "Turns",
    "Upkeep",
    "Workers",
]

#: The isolation levels that a transactional activity may ask for; the first is the usual one.
ISOLATION_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

T = TypeVar("T")
#: A session of SQLAlchemy.
Session = Any
#: Given an execution that ends undelivered and its history, it returns what that leaves to others.
ReleaseLocks = Callable[[str, Sequence[str]], Sequence[NewInbox]]


class Turns(Protocol):
    """What a turn reads, and the commit by which it moves its instance."""

    def load(self, instance_id: str, known: ReplayPosition | None) -> Snapshot | None:
        """Look at an instance, its inbox that is due, and the history beyond ``known``."""

    def commit(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn; None if the instance has moved meanwhile, and nothing was changed."""

    def has_untaken(self, instance_id: str) -> bool:
        """Tell whether anything visible lies in the inbox."""

    def discard(self, instance_id: str, execution: str, rows: Sequence[int]) -> None:
        """Delete inbox rows that no turn will take: this very execution of the instance is over."""

    def count_crash(self, instance_id: str, by: int = 1) -> int:
        """Count a turn that may have crashed its process, or take that back.

        Return how many in a row there were.
        """

    def choose_version(
        self, instance_id: str, execution: str, old: str, version: str | None
    ) -> bool:
        """Set the version of an instance that has ``old`` as yet; False if it has not."""

    def change_tags(self, instance_id: str, changes: TagChanges) -> bool:
        """Set and remove tags of an instance; False if it is gone, or held just now."""

    def note_waiting(self, instance_id: str, reason: str) -> None:
        """Let people see what an instance waits for."""


class Starts(Protocol):
    """How an instance is inserted; each method is one transaction unless it is given a cursor."""

    def insert(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""

    def insert_fork(self, instance: NewInstance, history: Sequence[str], message: NewInbox) -> bool:
        """Insert an orchestration that has a history already, and the message that moves it.

        False if the id is taken.
        """

    def insert_with_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn; None if the id is taken."""

    def repeated_start(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Return what a commit whose answer was lost would have returned, if it took place."""

    def is_ours(self, instance: NewInstance) -> bool:
        """Tell whether the instance there is this very one: a commit whose answer was lost may have
        been ours.
        """

    def insert_within(self, cursor: Cursor, instance: NewInstance) -> bool:
        """Insert an orchestration on a cursor inside a caller's transaction."""

    def insert_all(
        self, instances: Sequence[NewInstance], *, expects_new: bool = False
    ) -> Mapping[str, Resident]:
        """Insert orchestrations with their start messages in one transaction.

        Return who has the ids that are taken.

        Raises:
            TakenIdsError: some are, and ``expects_new``; nothing was inserted.
        """

    def insert_all_within(
        self, cursor: Cursor, instances: Sequence[NewInstance], *, expects_new: bool = False
    ) -> Mapping[str, Resident]:
        """Do the same on a cursor inside a caller's transaction."""

    def replace(
        self, new: NewInstance, release_locks: ReleaseLocks | None = None
    ) -> list[NewInbox] | None:
        """Put a fresh life in the place of an instance, and return what was sent to others.

        None if it moved meanwhile.

        The old life ends undelivered: its children are asked to end, its history and messages are
        deleted. ``release_locks`` is given its execution and history, and returns what it leaves to
        others.
        """

    def merge(self, new: NewInstance) -> str | None:
        """Let the instance that waits under the same debounce key have this input.

        Return its id, or None if none waits.

        Raises:
            AlreadyWaitsError: there is one, and it is locked for the moment.
        """


class Outcomes(Protocol):
    """How the outcomes of attempts come in."""

    def record(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome once."""

    def record_within(self, cursor: Cursor, outcome: Outcome | Deferral) -> Recorded | None:
        """Record an outcome, or that it is deferred, on a cursor inside a caller's transaction.

        None if it is not wanted any more.
        """

    def defer(self, deferral: Deferral) -> Recorded | None:
        """Note that the body of an attempt has ended, and its outcome comes by its token; see
        ``completion``.

        None if the attempt is over, or deferred already.
        """

    def is_deferred(self, ticket: ActivityAttemptId) -> bool:
        """Tell whether the body of an attempt has ended and its outcome is still to come."""

    def finish_join(self, execution: str, instance_id: str, join_command: int) -> bool:
        """Wake a join whose last member is in."""

    def was_recorded(self, ticket: ActivityAttemptId, instance_id: str) -> bool:
        """Tell whether an outcome of this very attempt is in an inbox."""

    def transact_with_session(
        self,
        work: Callable[[Session], T],
        outcome_of: Callable[[T], Outcome | Deferral] | None,
        *,
        isolation_level: str | None = None,
        repeats: bool = True,
    ) -> tuple[T, Recorded | None]:
        """Run ``work`` with a session, and commit what it wrote together with the outcome of what
        it returned, or with its deferral.

        The whole transaction is run again, a few times, if the database asks for that and
        ``repeats`` allows it. With no ``outcome_of`` it is a transaction like any other.

        Raises:
            OutcomeRefused: the outcome is not wanted any more; nothing was committed.
            CommitInDoubt: the connection ended during the commit, with an outcome in it.
            StoreError: the database cannot be reached; nothing was committed.
        """


class Inbox(Protocol):
    """Messages to instances."""

    def put(self, messages: Sequence[NewInbox]) -> int:
        """Insert messages that are not there yet; return how many were new."""

    def put_into(self, message: NewInbox, execution: str) -> bool:
        """Insert a message under the lock of its instance.

        False if that is over, another execution, or held just now.
        """

    def put_within(self, cursor: Cursor, messages: Sequence[NewInbox]) -> int:
        """Insert messages on a cursor inside a caller's transaction."""

    def put_to_all(self, message: NewInbox, ids: Sequence[str]) -> int:
        """Insert a message for each of these instances that can still take it; return for how many
        it was new.
        """

    def put_to_all_within(self, cursor: Cursor, message: NewInbox, ids: Sequence[str]) -> int:
        """Do the same on a cursor inside a caller's transaction."""

    def whole(self, instance_id: str, name: str) -> list[tuple[int, str | None]]:
        """Return the rows of a whole inbox, also what is not due or not shown yet, with the
        payloads of the events of a name.
        """


class Answers(Protocol):
    """What orchestrations have said to requests."""

    def read(self, instance_id: str, request: str) -> Asked | None:
        """Tell how a request stands, by its key; None if there is no such instance."""

    def drop_old(self) -> bool:
        """Delete answers that are an hour old; True if there may be more of them."""


class Store(Protocol):
    """All parts of a store."""

    @property
    def id(self) -> str:
        """What tells this store from every other."""

    @property
    def location(self) -> str:
        """Where it is, for people: its URL without the password."""

    @property
    def is_current(self) -> bool:
        """Whether its name still means the same database."""

    def now(self) -> int:
        """Return the store's clock, microseconds since the epoch."""

    def completion_key(self, *, makes: bool = False) -> str | None:
        """Return the secret that this store's tokens are made with; None if it has none yet and
        none is to be made.
        """

    def dispose(self) -> None:
        """Close its connections."""

    @property
    def turns(self) -> Turns:
        """What a turn reads, and its commit."""

    @property
    def starts(self) -> Starts:
        """How instances are inserted."""

    @property
    def attempts(self) -> Attempts:
        """How attempts of activities begin, and are let go of."""

    @property
    def outcomes(self) -> Outcomes:
        """Attempts of activities."""

    @property
    def inbox(self) -> Inbox:
        """Messages to instances."""

    @property
    def answers(self) -> Answers:
        """What was said to requests."""

    @property
    def reads(self) -> Reads:
        """What clients ask."""

    @property
    def recovery(self) -> RecoveryRows:
        """What is due."""

    @property
    def workers(self) -> Workers:
        """Which workers live."""

    @property
    def schedules(self) -> Schedules:
        """Schedules and their ticks."""

    @property
    def admission(self) -> AdmissionRows:
        """Who waits for a slot."""

    @property
    def upkeep(self) -> Upkeep:
        """Keeping lists of what lives short."""

    @property
    def limits(self) -> ActivityLimitRows:
        """Which attempts wait for slots."""

    @property
    def cleanup(self) -> Cleanup:
        """Deleting what has ended."""

    @property
    def switches(self) -> SwitchRows:
        """What operators have set for all workers."""

    @property
    def archiving(self) -> ArchiveRows:
        """What waits for the archive."""

    @property
    def large_payloads(self) -> LargePayloadRows:
        """What lies in the payload store."""

    @property
    def audit(self) -> AuditRows:
        """Who did what."""
