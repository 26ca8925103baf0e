"""Several workers over one store and one broker, in one thread: each step of each is the test's to
take.

The broker holds messages, and may lose, double and reorder them. A process holds live executions
and the activities that it has in hand; it can be killed, or the store fail it, or something else
happen, just before or after any call that its engine makes to the store. What the store has
acknowledged is written into a ledger.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from celery.exceptions import WorkerLostError

from celery_durable.core.machine import Machine
from celery_durable.engine.cache import known_of
from celery_durable.engine.records import (
    ActivityAttemptId,
    ActivityRow,
    ActivityStart,
    Claim,
    Outcome,
    Recorded,
    TurnAddress,
)
from celery_durable.engine.recovery import Recovery
from celery_durable.engine.registry import Registry
from celery_durable.engine.watchdog import Watchdog
from celery_durable.engine.writes import NewInstance
from celery_durable.errors import StoreError
from celery_durable.payload import PayloadCodec
from celery_durable.store import Store
from celery_durable.store.database import Database
from tests.contract.world import RecordingPublisher, World
from tests.storeparts import WrappedStore
from tests.witnesses import Bystander

from .clock import SECOND, VirtualTime

RESEND_AFTER = 5 * SECOND
CODEC = PayloadCodec()
_WATCHDOG = Watchdog(60)  # one thread, however many processes there are


class Killed(BaseException):
    """A process dies here; nothing of its memory is left."""


@dataclass
class Trouble:
    """What happens at the ``moment``-th edge (before or after a call to the store) of the step
    under way.
    """

    moment: int
    kind: str
    action: Callable[[], object] | None = None


@dataclass
class Message:
    """An activity on its way.

    A copy is one that the broker or recovery knows to be delivered again.
    """

    row: ActivityRow
    is_copy: bool = False


@dataclass
class Hand:
    """An activity that a process has begun to run."""

    message: Message
    start: ActivityStart
    live: Machine | None

    @property
    def ticket(self) -> ActivityAttemptId:
        return self.message.row.ticket


@dataclass
class Arrival:
    """A message that the store has taken into an inbox."""

    instance: str
    kind: str
    name: str | None
    data: Any
    event_id: str | None
    at: int


@dataclass
class Ledger:
    """What the store has acknowledged, in order."""

    entries: list[NewInstance | Arrival | Outcome] = field(default_factory=list)
    outcomes: dict[ActivityAttemptId, Outcome] = field(default_factory=dict)
    began: dict[ActivityAttemptId, int] = field(default_factory=dict)

    def record(self, outcome: Outcome) -> None:
        assert outcome.ticket not in self.outcomes, (
            f"two outcomes of {outcome.ticket} were recorded"
        )
        self.outcomes[outcome.ticket] = outcome
        self.entries.append(outcome)


class Broker:
    """What is on its way to workers."""

    def __init__(self) -> None:
        self.activities: deque[Message] = deque()
        self.turns: deque[tuple[TurnAddress, int, int | None]] = deque()

    def ready_turns(self, now: int) -> list[int]:
        """Return the places of turn messages that may be delivered now."""
        return [
            n
            for n, (_, delay, due) in enumerate(self.turns)
            if not (delay and due is not None and due > now)
        ]

    def take_turn(self, place: int) -> str:
        address = self.turns[place][0]
        del self.turns[place]
        return address.id

    def take_activity(self, place: int) -> Message:
        message = self.activities[place]
        del self.activities[place]
        return message


class Outlet(RecordingPublisher):
    """What a process publishes, put on the broker."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.registry)
        self.cluster = cluster
        self.turns = cluster.broker.turns

    def publish_activities(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        if self.is_broken:
            return {row.ticket: OSError("no broker") for row in rows}
        self.cluster.broker.activities.extend(Message(row, is_copy=row.sends > 0) for row in rows)
        return {}


class Seam(WrappedStore):
    """The store as one process sees it."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.store, self._call)
        self._cluster = cluster

    def _call(self, name: str, real: Callable[..., Any]) -> Any:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._cluster.edge()
            result = real(*args, **kwargs)
            self._cluster.note(name, args, result)
            self._cluster.edge()
            return result

        return call


class Process(World):
    """One worker, which is a client too."""

    def __init__(self, cluster: Cluster, name: str, cache_size: int, **settings: Any) -> None:
        super().__init__(
            cluster.store, cache_size=cache_size, registry=cluster.registry, **settings
        )
        self.cluster, self.name = cluster, name
        self.seam: Any = Seam(cluster)
        self.runner.store = self.client.store = self.seam
        self.runner.watchdog = _WATCHDOG
        self.publisher = self.runner.publisher = self.client.publisher = Outlet(cluster)
        self.hands: list[Hand] = []
        self.claims_empty = False
        self.sweeper = Recovery(
            self.seam,
            self.runner,
            self.publisher,
            self.registry,
            self.codec,
            self.settings,
            name,
            "host",
            Bystander(self._depths),
            WorkerLostError,
        )

    def _depths(self) -> dict[str, int | None]:
        broker = self.cluster.broker
        waiting = len(broker.activities) + len(broker.ready_turns(self.cluster.time.micros))
        return {"celery": 0 if self.claims_empty else waiting}

    def forget(self) -> None:
        """Lose what this process remembers."""
        lives = [hand.live for hand in self.hands]
        lives += [self.live.take_instance(id_) for id_ in list(self.live._instances)]
        for live in lives:
            if live is not None:
                live.abandon()
        self.hands.clear()

    # -- what a worker does ------------------------------------------------------------------------

    def turn(self, id_: str) -> None:
        """Take a turn by message; a message whose turn failed with the store is delivered again."""
        try:
            self.runner.run(id_)
        except StoreError:
            self.cluster.broker.turns.append((TurnAddress(id_, "", None, None), 0, None))

    def begin(self, message: Message) -> Hand | None:
        """Begin to run an activity; None if it is not wanted, or another worker has it."""
        ticket = message.row.ticket
        live = self.live.take(ticket.execution)
        try:
            claim = Claim(self.name, int(self.settings.worker_lease * SECOND))
            start = self.seam.attempts.begin(ticket, known_of(live), claim)
            if start is not None:
                start.read_at = self.cluster.time.monotonic_ns()
                if not start.is_claimed:
                    start = None
        except StoreError:
            start = None
            message.is_copy = True
            self.cluster.broker.activities.append(message)
        if start is None:
            if live is not None:
                self.live.put(live)
            return None
        hand = Hand(message, start, live)
        self.hands.append(hand)
        began = self.cluster.ledger.began
        began[ticket] = began.get(ticket, 0) + 1
        return hand

    def end(self, hand: Hand, result: Any, *, inline: bool) -> None:
        """Commit what came of an activity, a value or an exception, as ``worker.activity`` does."""
        self.hands.remove(hand)
        start, live, has_failed = hand.start, hand.live, isinstance(result, Exception)
        payload = self.codec.encode_failure(result) if has_failed else self.codec.encode(result)
        outcome = Outcome(hand.ticket, payload, has_failed)
        self.cluster.under_way[hand.ticket] = outcome
        is_alone = start.join_command is None and start.window_command is None
        if inline and is_alone and not hand.message.is_copy:
            try:
                if self.runner.inline.complete(outcome, start, live):
                    return
            except StoreError:
                pass
        elif live is not None:
            self.live.put(live)
        is_released = start.window_command is not None
        recorded = self._patiently(lambda: self.seam.outcomes.record(outcome, release=is_released))
        take_turn = self.runner.run if inline else self._publish_turn
        try:
            if recorded is not None:
                self.runner.dispatcher.follow(hand.ticket, recorded, take_turn)
            elif self.seam.outcomes.was_recorded(hand.ticket, start.instance.id):
                take_turn(start.instance.id)
        except StoreError:
            pass  # logged, and left to recovery

    def _patiently(self, work: Callable[[], Recorded | None]) -> Recorded | None:
        while True:
            try:
                return work()
            except StoreError:
                continue

    def _publish_turn(self, id_: str) -> None:
        for address in self.seam.reads.turn_addresses([id_]):
            self.publisher.publish_turn(address)

    def tick(self) -> None:
        """Do what a worker's recovery does in a second."""
        try:
            self.sweeper.tick(lambda: [hand.ticket for hand in self.hands], lambda tickets: None)
        except StoreError:
            pass  # it goes on a second later


class Cluster:
    """A store, a broker and the processes that share them."""

    def __init__(
        self,
        template: Path,
        time: VirtualTime,
        registry: Registry,
        cache_sizes: list[int],
        **settings: Any,
    ):
        self.time, self.registry = time, registry
        self.folder = tempfile.mkdtemp(prefix="model")
        shutil.copy(template, f"{self.folder}/store.db")
        self.database = Database(f"sqlite:///{self.folder}/store.db")
        sa.event.listen(self.database.engine, "connect", _without_fsync)
        self.store = Store(self.database, resend_after=RESEND_AFTER)
        self.broker, self.ledger = Broker(), Ledger()
        self.trouble: Trouble | None = None
        self.under_way: dict[ActivityAttemptId, Outcome] = {}
        self.calls: dict[ActivityAttemptId, list[Any]] = {}
        self._settings, self._cache_sizes, self._boots = settings, cache_sizes, 0
        self.processes = [self._boot(size) for size in cache_sizes]

    def _boot(self, cache_size: int) -> Process:
        self._boots += 1
        return Process(self, f"boot{self._boots}", cache_size, **self._settings)

    def close(self) -> None:
        for process in self.processes:
            process.forget()
        self.database.dispose()
        shutil.rmtree(self.folder)

    def kill(self, process: Process, *, redelivers: bool) -> None:
        """Let another process take the place of this one.

        The broker may deliver again what it had in hand.
        """
        if redelivers:
            for hand in process.hands:
                self.broker.activities.append(Message(hand.message.row, is_copy=True))
        process.forget()
        place = self.processes.index(process)
        self.processes[place] = self._boot(self._cache_sizes[place])

    def step(
        self, process: Process, work: Callable[[], object], trouble: Trouble | None = None
    ) -> object:
        """Let a process do something, with trouble on the way.

        True if it did not live to see the end.
        """
        self.trouble = trouble
        try:
            return work()
        except Killed:
            self.trouble = None
            self.kill(process, redelivers=trouble is not None and trouble.moment % 2 == 0)
            return None
        finally:
            self.trouble = None

    # -- the seam ----------------------------------------------------------------------------------

    def edge(self) -> None:
        """An edge of a call to the store: this is where trouble strikes."""
        trouble = self.trouble
        if trouble is None:
            return
        trouble.moment -= 1
        if trouble.moment > 0:
            return
        self.trouble = None
        if trouble.kind == "killed":
            raise Killed
        if trouble.kind == "store down":
            raise StoreError("the store is down")
        assert trouble.action is not None
        trouble.action()

    def note(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Write down what the store has acknowledged."""
        ledger = self.ledger
        if (name in ("insert", "insert_with_turn") and result) or (
            name == "replace" and result is not None
        ):
            ledger.entries.append(args[0])
        elif name == "put" and result:
            ledger.entries += [self._arrival(message) for message in args[0]]
        elif name == "begin" and result is not None:
            assert args[0] not in ledger.outcomes, (
                f"{args[0]} has its outcome, and begins to run again"
            )
        elif name == "record" and result is not None:
            ledger.record(args[0])
        if name in ("commit", "insert_with_turn") and result is not None:
            commit = args[-1]
            ledger.entries += result.started_children
            for new in commit.activities:
                ticket = ActivityAttemptId(commit.execution, new.command, new.attempt)
                self.calls[ticket] = (
                    CODEC.decode(CODEC.decode(new.message)[0])[0] if new.kind == "activity" else []
                )
            if commit.outcome is not None:
                ledger.record(self.under_way[commit.outcome])

    def _arrival(self, message: Any) -> Arrival:
        rows = self.rows(
            f"SELECT ABS(visible_at) FROM durable_inbox WHERE dedup = '{message.dedup}' ORDER BY id"
            " DESC"
        )
        data = None if message.payload is None else CODEC.decode(message.payload)
        return Arrival(
            message.instance,
            str(message.kind),
            message.name,
            data,
            (message.facts or {}).get("id"),
            rows[0][0],
        )

    def rows(self, sql: str) -> list[Any]:
        """Look into the tables."""
        with self.database.cursor() as cursor:
            return list(cursor.execute(sql).fetchall())


def _without_fsync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # nobody pulls the plug here
