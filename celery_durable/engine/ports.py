"""What the engine needs of Celery and of its callers' transactions, said without either.

``Routing`` answers questions and may be asked before a commit. ``Publisher`` sends, and is only
called after the commit that decided what is sent. What the engine needs of the store is in
``store_ports``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ..core.status import RuntimeStatus
    from .cursor import Cursor
    from .listing import InstanceRecord
    from .records import ActivityAttemptId, ActivityRow, TurnAddress
    from .store_ports import Session, Store

__all__ = [
    "Arguments",
    "NoTransactions",
    "Publisher",
    "Routing",
    "SendFailure",
    "Transaction",
    "Transactions",
]

T = TypeVar("T")
#: Gives ``(args, kwargs)`` of what is to be sent, for a router that looks at them.
Arguments = Callable[[], tuple[Sequence[Any], Mapping[str, Any]]]


class SendFailure(Enum):
    """What an error of sending means."""

    PASSES = auto()  #: the broker cannot be reached just now
    IS_ODD = auto()  #: something of the application's fails, for how long cannot be told
    IS_FINAL = auto()  #: this message can never be sent


class Routing(Protocol):
    """Questions about tasks and queues, answered by this process alone: allowed before a commit."""

    def place(
        self, name: str, options: Mapping[str, Any], arguments: Arguments
    ) -> tuple[str | None, Mapping[str, Any]]:
        """Return the queue of an orchestration's messages, and its options, with what a router says
        of its arguments.

        Raises:
            Exception: what the router raises.
        """

    def route(
        self, name: str, options: Mapping[str, Any], arguments: Arguments = ...
    ) -> str | None:
        """Return the queue that a task with these options and arguments goes to, as far as is
        known.
        """

    def turn_queue_of(self, queue: str) -> str:
        """Return the queue of the turn messages of orchestrations whose queue this is."""

    def needs_messages(self, name: str) -> bool:
        """Tell whether no turn of this orchestrator may be taken but by a message of its own."""

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process may run turns of this orchestrator by itself."""

    def knows_task(self, name: str) -> bool:
        """Tell whether this process has the task."""

    def needs_finish(self, name: str, canvas: str | None, status: RuntimeStatus) -> bool:
        """Tell whether Celery must be notified of such an end: there is a result to store, there
        are callbacks to call, or a handler listens.
        """

    def classify(self, error: Exception) -> SendFailure:
        """Tell what an error of sending an activity means."""

    @property
    def is_eager(self) -> bool:
        """Whether this thread runs at once what is sent, as no worker does."""

    @property
    def is_draining(self) -> bool:
        """Whether this thread runs at once what is sent, and is running one of those now."""


class Publisher(Routing, Protocol):
    """The only way out: everything is sent after the commit that decided it, and a failure to send
    is returned, never raised.
    """

    def at_once(self) -> AbstractContextManager[None]:
        """Run in this thread whatever is sent in this block, and all that comes of it, before the
        block is left.
        """

    def together(self) -> AbstractContextManager[None]:
        """Let the turns that are sent in this block reach the broker together, where that can be.

        What it refuses then is logged, and found by recovery.
        """

    def publish_activities(
        self, rows: Sequence[ActivityRow]
    ) -> Mapping[ActivityAttemptId, Exception]:
        """Send activities.

        Return those that could not be sent, and why: a ``PayloadError`` is damage in the row.
        """

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        """Send a turn message, ``delay`` microseconds from now; False if it could not be sent."""

    def finish(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        output: str | None,
        failure: str | None,
        reason: str | None,
    ) -> None:
        """Let Celery finish the orchestration's task: store its result, call its callbacks and
        its handlers.
        """

    def finish_owed(self, record: InstanceRecord) -> Exception | None:
        """Let Celery finish one that has ended, and return what went wrong."""

    def finish_again(self, row: ActivityRow) -> None:
        """Send the last message of an orchestration once more."""


class Transaction(Protocol):
    """A transaction of the caller's, on the store's database: what joins it commits or rolls back
    with the caller's rows.
    """

    def write(self, work: Callable[[Store, Cursor], T]) -> T:
        """Return ``work(store, cursor)``: the store's tables, and a cursor, on the caller's
        connection.
        """

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call once the outermost transaction has really committed, where that can be told.

        Never before, nor else.
        """


class Transactions(Protocol):
    """Tells which transaction a start, an event or a signal joins."""

    def find(self, session: Session = None) -> Transaction | None:
        """Return the one that the caller names, or else the one that is open around the caller.

        None if there is none.
        """


class NoTransactions:
    """No caller has a transaction open."""

    def find(self, session: Session = None) -> Transaction | None:
        """Return None."""
        return None
