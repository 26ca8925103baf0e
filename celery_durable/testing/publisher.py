"""What would be sent is kept until the test runs it."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from celery import states
from celery.exceptions import Retry
from celery.result import EagerResult

from ..core.status import RuntimeStatus
from ..engine.records import ActivityAttemptId, ActivityRow, TurnAddress
from ..engine.store_ports import Store
from ..errors import DurableError
from ..worker.delivery import delay_of
from ..worker.publisher import CeleryPublisher
from .crash_points import CrashPoints

__all__ = ["InlinePublisher", "KeptRetry"]


class KeptRetry(NamedTuple):
    """A message of Celery's own, for a moment."""

    #: When it is to run: microseconds since the epoch, by the store's clock.
    due: int
    row: ActivityRow
    signature: Any
    #: Celery's count.
    number: int


class InlinePublisher(CeleryPublisher):
    """Keeps messages in the process of the test, as a broker would; which outlives a crash."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.store: Store = args[1]
        self.finisher.stores_results = False  # a result backend is a server, too
        self.activities: deque[ActivityRow] = deque()
        #: What bodies have asked for by ``self.retry()``, in the order of their times.
        self.retries: list[KeptRetry] = []
        #: Of each turn message: the instance, and how often recovery has sent it.
        self.turns: deque[tuple[str, int]] = deque()
        self.points: CrashPoints = CrashPoints()
        #: Runs all that was sent.
        self.run_all: Callable[[], None] = _nothing

    @property
    def is_eager(self) -> bool:
        """Tell that the test runs what is sent, not this thread at once."""
        return False

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
                if row.ticket not in {kept.ticket for kept in self._kept_rows()}:
                    self.activities.append(row)
        return {}

    def _kept_rows(self) -> Iterator[ActivityRow]:
        yield from self.activities
        yield from (kept.row for kept in self.retries)

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
        """Run one activity, as Celery does with ``task_always_eager``; but its request has what it
        has in a worker, and ``self.retry()`` waits.

        Raises:
            DurableError: this process does not have the task.
        """
        if not self.knows_task(row.name):
            raise DurableError(
                f"orchestration {row.instance!r} calls {row.name!r}, which is not registered here",
                instance_id=row.instance,
            )
        self._run(row, lambda: super(InlinePublisher, self).publish_activities([row]))

    def due_retry(self) -> KeptRetry | None:
        """Return the next retry whose time has come."""
        now = self.store.now()
        return next((kept for kept in self.retries if kept.due <= now), None)

    def run_retry(self, kept: KeptRetry) -> None:
        """Run a body again that has asked for it."""
        self._run(kept.row, lambda: kept.signature.apply(retries=kept.number, throw=False))

    def _run(self, row: ActivityRow, run: Callable[[], object]) -> None:
        def keep(retry: Retry, signature: Any, number: int) -> None:
            due = self.store.now() + delay_of(retry)
            self.retries.append(KeptRetry(due, row, signature, number))
            self.retries.sort(key=lambda kept: kept.due)

        with _as_in_a_worker(self.app.tasks[row.name], row, keep):
            run()


class _Requests:
    """A task's stack of requests, each of which is as a worker would have it."""

    def __init__(self, stack: Any, row: ActivityRow) -> None:
        self._stack, self._row = stack, row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stack, name)

    def __len__(self) -> int:
        return len(self._stack)

    def push(self, request: Any) -> Any:
        known = vars(request)
        if known.get("id") == self._row.ticket.task_id:
            known["parent_id"] = self._row.instance
            known["root_id"] = self._row.root_id or self._row.instance
        for name, value in (known.get("headers") or {}).items():
            known.setdefault(name, value)
        return self._stack.push(request)


class _Later:
    """What ``self.retry()`` asks for: Celery would run it at once."""

    def __init__(self, retry: Retry, keep: Callable[[Retry, Any, int], None]) -> None:
        self._retry, self._signature, self._keep = retry, retry.sig, keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signature, name)

    def apply(self, *, retries: int, **_: Any) -> EagerResult:
        self._keep(self._retry, self._signature, retries)
        return EagerResult(self._signature.id, self._retry, states.RETRY)


class _ReplacedError(BaseException):
    """Ends a body that is replaced, with what its replacement, which runs at once, returned."""

    def __init__(self, result: Any) -> None:
        super().__init__("it is replaced")
        self.result = result


@contextmanager
def _as_in_a_worker(
    task: Any, row: ActivityRow, keep: Callable[[Retry, Any, int], None]
) -> Iterator[None]:
    """Let a task that Celery runs eagerly find what it would find in a worker."""
    known, own, own_replace, body = dict(vars(task)), task.retry, task.replace, task.run

    def retry(*args: Any, **options: Any) -> Any:
        try:
            asked = own(*args, **options)
        except Retry as raised:
            raised.sig = _Later(raised, keep)
            raise
        asked.sig = _Later(asked, keep)
        return asked

    def replace(signature: Any) -> NoReturn:
        raise _ReplacedError(own_replace(signature))

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except _ReplacedError as ended:
            return ended.result

    @functools.wraps(body)
    async def arun(*args: Any, **kwargs: Any) -> Any:
        try:
            return await body(*args, **kwargs)
        except _ReplacedError as ended:
            return ended.result

    runs = arun if inspect.iscoroutinefunction(body) else run
    changed: dict[str, Any] = {"retry": retry, "replace": replace, "run": runs}
    changed["request_stack"] = _Requests(task.request_stack, row)
    vars(task).update(changed)
    try:
        yield
    finally:
        for name in changed:
            del vars(task)[name]
        vars(task).update({name: known[name] for name in changed if name in known})


def _nothing() -> None:
    """Do nothing."""
