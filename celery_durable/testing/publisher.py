"""What would be sent is kept until the test runs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.status import RuntimeStatus
from ..engine.records import ActivityAttemptId, ActivityRow, TurnAddress
from ..engine.store_ports import Store
from ..errors import DurableError
from ..worker.publisher import CeleryPublisher
from .crash_points import CrashPoints

__all__ = ["InlinePublisher"]


class InlinePublisher(CeleryPublisher):
    """Keeps messages in the process of the test, as a broker would; which outlives a crash."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.store: Store = args[1]
        self.finisher.stores_results = False  # a result backend is a server, too
        self.activities: deque[ActivityRow] = deque()
        #: Of each turn message: the instance, and how often recovery has sent it.
        self.turns: deque[tuple[str, int]] = deque()
        self.points: CrashPoints = CrashPoints()
        #: Runs all that was sent.
        self.run_all: Callable[[], None] = _nothing

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        """Tell whether this process has the orchestrator."""
        return name in self.registry

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        """Keep a turn; one for later is found when its time has come."""
        with self._sending(f"the turn message of {address.id!r}"):
            if not delay:
                self.turns.append((address.id, tries))
        return True

    def run_turn(self, instance_id: str, tries: int) -> bool:
        """Take a turn by its message, as Celery runs one, where its orchestrator needs that; False
        where it does not.
        """
        if not any(map(self.needs_messages, self.registry.names())):
            return False
        for address in self.store.reads.turn_addresses([instance_id]):
            if self.needs_messages(address.name):
                return super().publish_turn(address, tries=tries)
        return False

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        """Keep activities; one that is here already is not doubled."""
        for row in rows:
            with self._sending(f"activity {row.name}"):
                if all(kept.ticket != row.ticket for kept in self.activities):
                    self.activities.append(row)
        return {}

    def finish(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        output: str | None,
        failure: str | None,
        reason: str | None,
    ) -> None:
        """Let Celery finish the orchestration's task, here."""
        with self._sending(f"the end of {address.id!r}"):
            super().finish(address, execution, status, output, failure, reason)

    @contextmanager
    def _sending(self, what: str) -> Iterator[None]:
        self.points.reach(f"before {what} is sent")
        yield
        self.points.reach(f"after {what} was sent")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Run whatever is sent in this block, and all that comes of it, before it is left."""
        yield
        self.run_all()

    def run_activity(self, row: ActivityRow) -> None:
        """Run one activity, as Celery does with ``task_always_eager``; but a worker has each header
        as an attribute of ``task.request``, too.

        Raises:
            DurableError: this process does not have the task.
        """
        if not self.knows_task(row.name):
            raise DurableError(
                f"orchestration {row.instance!r} calls {row.name!r}, which is not registered here",
                instance_id=row.instance,
            )
        with _headers_as_attributes(self.app.tasks[row.name]):
            super().publish_activities([row])


class _WithHeaders:
    """A task's stack of requests, on which each has its headers as attributes."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stack, name)

    def __len__(self) -> int:
        return len(self._stack)

    def push(self, request: Any) -> Any:
        known = vars(request)
        for name, value in (known.get("headers") or {}).items():
            known.setdefault(name, value)
        return self._stack.push(request)


@contextmanager
def _headers_as_attributes(task: Any) -> Iterator[None]:
    known = vars(task).get("request_stack")
    task.request_stack = _WithHeaders(task.request_stack)
    try:
        yield
    finally:
        del task.request_stack
        if known is not None:
            task.request_stack = known


def _nothing() -> None:
    """Do nothing."""
