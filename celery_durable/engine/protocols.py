"""What the engine needs of Celery and of its callers' transactions, said without either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..core.status import RuntimeStatus
from .records import ActivityRow, ActivityTicket, TurnAddress

__all__ = ["NoTransactions", "Publisher", "Transaction", "Transactions"]

T = TypeVar("T")


class Publisher(Protocol):
    """The only way out: everything is sent after the commit that decided it, and a failure to send is no error."""

    def route(self, name: str, options: Mapping[str, Any]) -> str | None:
        """Return the queue that a task with these options goes to, as far as is known."""

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process may run turns of this orchestrator by itself."""

    def knows_task(self, name: str) -> bool:
        """Tell whether this process has the task."""

    def newest_version(self, name: str) -> str | None:
        """Return the version that new instances of this orchestrator get."""

    def needs_finish(self, canvas: str | None) -> bool:
        """Tell whether Celery is to be told of the end: a result to store, or callbacks to call."""

    def publish_activities(self, rows: Sequence[ActivityRow]) -> Mapping[ActivityTicket, Exception]:
        """Send activities; return those that could not be sent, and why: a ``PayloadError`` is damage in the row."""

    def publish_turn(self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0) -> bool:
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
        """Let Celery finish the orchestration's task: store its result, call its callbacks."""

    def finish_again(self, row: ActivityRow) -> None:
        """Send the last message of an orchestration once more."""


class Transaction(Protocol):
    """A transaction of the caller's, on the store's database: what joins it commits or rolls back with the caller's rows."""

    def write(self, work: Callable[[Any, Any], T]) -> T:
        """Return ``work(store, cursor)``: the store's tables, and a cursor, on the caller's connection."""

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call once the outermost transaction has really committed, where that can be told; never before, nor else."""


class Transactions(Protocol):
    """Tells which transaction a start, an event or a signal joins."""

    def find(self, session: Any = None) -> Transaction | None:
        """Return the one that the caller names, or else the one that is open around the caller; None if there is none."""


class NoTransactions:
    """Nobody has a transaction open."""

    def find(self, session: Any = None) -> Transaction | None:
        """Return None."""
        return None
