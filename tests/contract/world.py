"""Whole orchestrations in one process: a real store, a real engine, and messages that lie in a list
until they are pumped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery.exceptions import WorkerLostError

from celery_durable.core.history import Event, EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.cache import LiveExecutions, known_of
from celery_durable.engine.client import Client
from celery_durable.engine.engine import Engine as TurnRunner
from celery_durable.engine.listing import InstanceRecord
from celery_durable.engine.observers import Notifier
from celery_durable.engine.ports import SendFailure
from celery_durable.engine.records import ActivityAttemptId, ActivityRow, Outcome, TurnAddress
from celery_durable.engine.recovery import Recovery
from celery_durable.engine.registry import Definition, Registry
from celery_durable.engine.start import StartRequest
from celery_durable.engine.states import allows
from celery_durable.payload import PayloadCodec
from celery_durable.settings import Settings
from celery_durable.store import Store
from tests.conftest import wait_until
from tests.storeparts import WrappedStore
from tests.witnesses import Bystander

ENDED = tuple(status for status in RuntimeStatus if status.is_terminal)


def _hold_against_the_table() -> None:
    """Let every commit that a test sees be a move that the table of states has."""
    told = Notifier.committed

    def committed(self: Any, instance: Any, commit: Any, *rest: Any, **more: Any) -> None:
        after = commit.status or instance.status
        assert allows(instance.status, after), (instance.status, after)
        told(self, instance, commit, *rest, **more)

    Notifier.committed = committed  # type: ignore[method-assign]


_hold_against_the_table()


#: Several worlds count in one dict, each in a thread.
_COUNTING = threading.Lock()


class RecordingPublisher:
    """Keeps what would be sent. Nothing is lost or doubled here: that is for the tests to do."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.activities: deque[ActivityRow] = deque()
        self.turns: deque[tuple[TurnAddress, int, int | None]] = deque()
        self.finished: list[tuple[str, RuntimeStatus]] = []
        self.sends: dict[str, int] = {}
        self.is_broken = False
        self.is_eager = False

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def place(
        self, name: str, options: Mapping[str, Any], arguments: Any
    ) -> tuple[str | None, Mapping[str, Any]]:
        return options.get("queue"), options

    def route(self, name: str, options: Mapping[str, Any], arguments: Any = None) -> str | None:
        return options.get("queue")

    def turn_queue_of(self, queue: str) -> str:
        return queue

    def needs_messages(self, name: str) -> bool:
        return False

    def may_take_turns(self, name: str, queue: str | None) -> bool:
        return True

    def knows_task(self, name: str) -> bool:
        return True

    def needs_finish(self, name: str, canvas: str | None, status: RuntimeStatus) -> bool:
        return canvas is not None

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        if self.is_broken:
            return {row.ticket: OSError("no broker") for row in rows}
        self.activities.extend(rows)
        return {}

    def classify(self, error: Exception) -> SendFailure:
        return SendFailure.PASSES

    def publish_turn(
        self, address: TurnAddress, *, delay: int = 0, due: int | None = None, tries: int = 0
    ) -> bool:
        if not self.is_broken:
            self.turns.append((address, delay, due))
            self.sends[address.id] = tries
        return not self.is_broken

    def finish(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        output: str | None,
        failure: str | None,
        reason: str | None,
    ) -> None:
        if self.needs_finish(address.name, address.canvas, status):
            self.finished.append((address.id, status))

    def finish_owed(self, record: InstanceRecord) -> Exception | None:
        self.finished.append((record.id, record.status))
        return None

    def finish_again(self, row: ActivityRow) -> None:
        self.finished.append((row.instance, RuntimeStatus.COMPLETED))

    def forget(self) -> None:
        """Lose every message, as a broker does that loses its disk."""
        self.activities.clear()
        self.turns.clear()


def sig(task: str, *args: Any, **options: Any) -> dict[str, Any]:
    """Return a signature, as ``task.s(*args).set(**options)`` gives."""
    return {"task": task, "args": args, "kwargs": {}, "options": options, "subtask_type": None}


class Interposed(WrappedStore):
    """The real store, with something happening just before or just after one of its methods is
    called.
    """

    def __init__(
        self,
        store: Store,
        method: str,
        *,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
        times: int = 1,
    ) -> None:
        super().__init__(store, self._interpose)
        self._method, self._before, self._after, self._left = method, before, after, times

    def _interpose(self, name: str, real: Callable[..., Any]) -> Any:
        if name != self._method:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            is_mine, self._left = self._left > 0, self._left - 1
            if is_mine and self._before is not None:
                self._before()
            result = real(*args, **kwargs)
            if is_mine and self._after is not None:
                self._after()
            return result

        return call


class World:
    """One process with a store. Two worlds over one store are two workers."""

    def __init__(
        self,
        store: Store,
        *,
        cache_size: int = 100,
        registry: Registry | None = None,
        **settings: Any,
    ) -> None:
        self.store = store
        self.settings = Settings(**settings)
        self.registry = registry or Registry()
        self.codec = PayloadCodec()
        self.publisher = RecordingPublisher(self.registry)
        self.live = LiveExecutions(cache_size)
        self.runner = TurnRunner(
            store, self.registry, self.codec, self.settings, self.publisher, self.live
        )
        self.client = Client(store, self.registry, self.codec, self.publisher, self.runner)
        self.tasks: dict[str, Callable[..., Any]] = {}
        self.runs: dict[str, int] = {}
        self._lock = threading.Lock()

    # -- what there is to run ----------------------------------------------------------------------

    def orchestrator(
        self, function: Callable[..., Any], version: str | None = None, **own: Any
    ) -> Callable[..., Any]:
        self.registry.add(Definition(function.__name__, version, function, **own))
        return function

    def task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.tasks[function.__name__] = function
        return function

    def interpose(self, method: str, **actions: Any) -> None:
        """Let something happen around one call that the engine makes to the store."""
        self.runner.store = Interposed(self.store, method, **actions)

    # -- what clients do ---------------------------------------------------------------------------

    def start(self, name: str, *args: Any, id_: str = "i", **request: Any) -> str:
        return self.client.start(StartRequest(name, args, {}, instance_id=id_, **request)).id

    def raise_event(
        self, id_: str, name: str, data: Any = None, event_id: str | None = None
    ) -> None:
        self.client.raise_event(id_, name, data, event_id)

    def status(self, id_: str = "i") -> RuntimeStatus | None:
        return self.store.reads.status_of(id_)

    def output(self, id_: str = "i") -> Any:
        record = self.client.fetch(id_)
        assert record.status is RuntimeStatus.COMPLETED, (record.status, record.reason)
        return self.codec.decode(record.output or "null")

    def custom_status(self, id_: str = "i") -> Any:
        payload = self.client.fetch(id_).custom_status
        return None if payload is None else self.codec.decode(payload)

    def events(self, id_: str = "i", kind: EventKind | None = None) -> list[Event]:
        return [event for event in self.client.history(id_) if kind in (None, event.kind)]

    # -- messages ----------------------------------------------------------------------------------

    def step(self) -> bool:
        """Deal with one message that is due; False if there is none."""
        try:
            row = self.publisher.activities.popleft()
        except IndexError:
            pass
        else:
            self.perform(row.ticket, row)
            return True
        for _ in range(len(self.publisher.turns)):
            try:
                address, delay, due = self.publisher.turns.popleft()
            except IndexError:
                return False
            if delay and due is not None and due > self.store.now():
                self.publisher.turns.append((address, delay, due))
                continue
            self.runner.run(address.id, sends=self.publisher.sends.pop(address.id, 0))
            return True
        return False

    def pump(self) -> None:
        """Deal with messages until none is due."""
        while self.step():
            pass

    def pump_until(self, condition: Callable[[], object], what: str = "the end") -> None:
        """Deal with messages as they become due, until a condition holds."""

        def goes_on() -> object:
            self.pump()
            return condition()

        wait_until(goes_on, 30, what)

    def pump_to_end(self, *ids: str) -> None:
        """Deal with messages as they become due, until these instances are over."""
        self.pump_until(lambda: all(self.status(id_) in ENDED for id_ in ids or ("i",)))

    def perform(self, ticket: ActivityAttemptId, row: ActivityRow, *, inline: bool = True) -> bool:
        """Run one activity as a worker does.

        False if it was not wanted, or its outcome came too late.
        """
        live = self.live.take(ticket.execution)
        start = self.store.attempts.begin(ticket, known_of(live))
        if start is None:
            if live is not None:
                self.live.put(live)
            return False
        outcome = self.outcome_of(row)
        if inline and start.join_command is None and start.window_command is None:
            if self.runner.inline.complete(outcome, start, live):
                return True
        elif live is not None:
            self.live.put(live)
        recorded = self.store.outcomes.record(outcome, release=start.window_command is not None)
        if recorded is None:
            return False
        self.runner.dispatcher.follow(ticket, recorded, self.runner.run)
        return True

    def outcome_of(self, row: ActivityRow) -> Outcome:
        """Run the body of an activity."""
        args, kwargs = self.codec.decode(self.codec.decode(row.message)[0])
        with self._lock:
            with _COUNTING:
                self.runs[row.name] = self.runs.get(row.name, 0) + 1
        try:
            result = self.tasks[row.name](*args, **kwargs)
        except Exception as error:
            return Outcome(row.ticket, self.codec.encode_failure(error), has_failed=True)
        return Outcome(row.ticket, self.codec.encode(result), has_failed=False)

    # -- recovery ----------------------------------------------------------------------------------

    def recovery(self, worker: str = "worker") -> Recovery:
        """Return this process's recovery, which finds every queue empty."""
        return Recovery(
            self.store,
            self.runner,
            self.publisher,
            self.registry,
            self.codec,
            self.settings,
            worker,
            "host",
            Bystander(),
            WorkerLostError,
        )
