"""Clients, workers, a broker and a store in any order of steps and failures, against a model of
what each life may come to.

After each step: a life that is over came to what the model says and stays so; every outcome in
history is the one that the store acknowledged; no timer fired early; every history replays to the
same decisions. At the end the world calms down, and then nothing waits without a reason, nothing is
left behind, and all that was asked to end has ended.

The long tier takes longer walks, and more and more of them until its budget is spent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celery_durable.core.history import NOTES, Event, EventKind, dump_events, load_events
from celery_durable.core.kinds import INPUTS
from celery_durable.core.machine import Machine as LiveMachine
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId, Outcome
from celery_durable.engine.start import StartRequest
from celery_durable.engine.writes import NewInstance
from celery_durable.errors import InstanceExists, InvalidState, StoreError
from tests.tiers import is_long, rounds

from .clock import SECOND, START, VirtualTime, virtual_time
from .cluster import CODEC, Arrival, Cluster, Hand, Process, Trouble
from .lives import EXPECTATIONS, FUNCTIONS, Life, Result, agrees, registry, show

# bad luck alone suspends nobody here
LIMITS = {"max_turn_crashes": 10_000, "max_activity_crashes": 10_000}

ids = st.sampled_from(["a", "b"])
processes = st.integers(0, 1)
places = st.integers(0, 30)
children = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 2)),
    st.tuples(st.just("fan"), st.integers(1, 3)),
    st.tuples(st.just("collector"), st.just(1)),
    st.tuples(st.just("sleeper"), st.integers(1, 20)),
    st.tuples(st.just("tidy")),
)
programs = st.one_of(
    children,
    st.tuples(st.just("fan_fast"), st.integers(2, 4)),
    st.tuples(st.just("window"), st.integers(2, 5)),
    st.tuples(st.just("both")),
    st.tuples(st.just("collector"), st.integers(1, 3)),
    st.tuples(st.just("relay"), st.just([])),
    st.tuples(st.just("patient"), st.integers(1, 20)),
    st.tuples(
        st.just("parent"),
        st.lists(children, min_size=1, max_size=2).map(lambda found: [[*c] for c in found]),
    ),
)
troubles = st.none() | st.tuples(
    st.integers(1, 9),
    st.sampled_from(["meanwhile", "meanwhile", "killed", "store down"]),
    st.sampled_from(["turn", "activity", "event", "suspend"]),
    places,
)
interruptions = troubles.map(
    lambda drawn: drawn if drawn is None or drawn[1] == "meanwhile" else None
)


class Machine(RuleBasedStateMachine):
    """Steps that clients, workers, brokers and bad luck take."""

    template: Path
    time: VirtualTime

    def __init__(self) -> None:
        super().__init__()
        self.time.micros = START
        self.cluster = Cluster(
            self.template, self.time, registry(), [100, 1], start_inline=False, **LIMITS
        )
        self.lives: dict[str, Life] = {}
        self.current: dict[str, Life] = {}
        self.by_ticket: dict[ActivityAttemptId, tuple[Life, Any]] = {}
        self.absorbed = 0
        self.bodies = 0
        self.raised = 0
        self.is_lossy = False
        self.checked: dict[str, tuple[str, int, str]] = {}

    # -- the means ---------------------------------------------------------------------------------

    @property
    def broker(self) -> Any:
        return self.cluster.broker

    def process(self, number: int) -> Process:
        return self.cluster.processes[number]

    def instance(self, place: int) -> str | None:
        known = list(self.current)
        return known[place % len(known)] if known else None

    def trouble(self, drawn: Any, process: Process) -> Trouble | None:
        if drawn is None:
            return None
        moment, kind, what, place = drawn
        self.is_lossy |= kind != "meanwhile"
        other = next(other for other in self.cluster.processes if other is not process)
        return Trouble(moment, kind, lambda: self.meanwhile(other, what, place))

    def meanwhile(self, process: Process, what: str, place: int) -> None:
        id_ = self.instance(place)
        if what == "turn" and id_ is not None:
            process.turn(id_)
        elif what == "activity":
            if process.hands:
                process.end(
                    process.hands[place % len(process.hands)], self.body(), inline=place % 2 == 0
                )
            elif self.broker.activities:
                hand = process.begin(self.broker.take_activity(place % len(self.broker.activities)))
                if hand is not None:
                    process.end(hand, self.body(), inline=place % 2 == 0)
        elif what == "event" and id_ is not None:
            self.send(process, id_, None)
        elif what == "suspend" and id_ is not None:
            self.try_verb(lambda: process.client.suspend(id_, None))

    def try_verb(self, verb: Any) -> None:
        try:
            verb()
        except (InvalidState, StoreError, LookupError):
            pass

    def body(self, *, fails: bool = False) -> Any:
        """Return what a body that ran gives: never the same twice."""
        self.bodies += 1
        return ValueError(f"broken {self.bodies}") if fails else f"result {self.bodies}"

    def send(self, process: Process, id_: str, event_id: str | None) -> int:
        self.raised += 1
        self.try_verb(lambda: process.client.raise_event(id_, "e", self.raised, event_id))
        return self.raised

    def status(self, id_: str) -> RuntimeStatus | None:
        return self.cluster.store.reads.status_of(id_)

    # -- clients -----------------------------------------------------------------------------------

    @initialize(first=programs, second=programs)
    def begin(self, first: Any, second: Any) -> None:
        self.start("a", first, 0, None, False, "raise", None)
        self.start("b", second, 0, None, True, "raise", None)

    @rule(
        id_=ids,
        program=programs,
        number=processes,
        drawn=troubles,
        inline=st.booleans(),
        if_exists=st.sampled_from(["return", "raise", "restart", "replace"]),
        delay=st.sampled_from([None, None, 5, 45]),
    )
    def start(
        self,
        id_: str,
        program: Any,
        number: int,
        drawn: Any,
        inline: bool,
        if_exists: Any,
        delay: int | None,
    ) -> None:
        process, before = self.process(number), self.status(id_)
        name = f"life{len(self.lives)}:{self.absorbed}"
        self.is_lossy |= delay == 45  # too far ahead for a message: recovery brings it about
        start_at = None if delay is None else self.time.micros + delay * SECOND
        request = StartRequest(
            program[0],
            [name, *program[1:]],
            {},
            instance_id=id_,
            if_exists=if_exists,
            start_at=start_at,
        )
        object.__setattr__(process.settings, "start_inline", inline)
        error: Exception | None = None

        def work() -> None:
            nonlocal error
            try:
                process.client.start(request)
            except (InstanceExists, InvalidState, StoreError) as raised:
                error = raised

        self.cluster.step(process, work, self.trouble(drawn, process))
        self.absorb()
        if drawn is None:
            is_new = (
                before is None
                or if_exists == "replace"
                or (if_exists == "restart" and before.is_terminal)
            )
            assert (name in self.lives) == is_new
            refusal = {"raise": InstanceExists, "restart": InvalidState}.get(if_exists)
            assert type(error) is (type(None) if is_new or refusal is None else refusal)

    @rule(
        place=places,
        number=processes,
        drawn=interruptions,
        event_id=st.sampled_from([None, None, "x", "y"]),
    )
    def raise_event(self, place: int, number: int, drawn: Any, event_id: str | None) -> None:
        id_, process = self.instance(place), self.process(number)
        if id_ is None:
            return
        life, before = self.current[id_], self.status(id_)
        is_known = event_id is not None and event_id in [known for _, _, known, _ in life.events]
        data = 0

        def work() -> None:
            nonlocal data
            data = self.send(process, id_, event_id)

        self.cluster.step(process, work, self.trouble(drawn, process))
        self.absorb()
        if drawn is None and not is_known:
            assert (data in [known for _, known, _, _ in life.events]) == (
                before is not None and not before.is_terminal
            )

    @rule(
        place=places,
        number=processes,
        verb=st.sampled_from(["suspend", "resume", "resume", "cancel"]),
        drawn=troubles,
    )
    def steer(self, place: int, number: int, verb: str, drawn: Any) -> None:
        id_, process = self.instance(place), self.process(number)
        if id_ is None:
            return
        before = self.status(id_)
        call = getattr(process.client, verb)
        self.cluster.step(
            process, lambda: self.try_verb(lambda: call(id_, None)), self.trouble(drawn, process)
        )
        after = self.status(id_)
        if drawn is None and before is not None and not before.is_terminal:
            assert verb != "suspend" or after is RuntimeStatus.SUSPENDED
            assert verb != "resume" or after in (RuntimeStatus.RUNNING, RuntimeStatus.PENDING)

    @rule(place=places, number=processes, drawn=troubles)
    def terminate(self, place: int, number: int, drawn: Any) -> None:
        id_, process = self.instance(place), self.process(number)
        if id_ is None or place % 3:
            return
        before = self.status(id_)
        self.current[id_].may_terminate = True
        work = lambda: self.try_verb(lambda: process.client.terminate(id_, None, None))
        self.cluster.step(process, work, self.trouble(drawn, process))
        if drawn is None and before is not None and not before.is_terminal:
            assert self.status(id_) is RuntimeStatus.TERMINATED

    @rule(place=places, number=processes)
    def purge(self, place: int, number: int) -> None:
        id_, process = self.instance(place), self.process(number)
        if id_ is None or self.current[id_].final is None:
            return
        process.client.purge(id_)
        assert self.status(id_) is None
        assert not self.cluster.rows(f"SELECT 1 FROM durable_history WHERE instance = '{id_}'")
        for known in list(self.current):
            if self.status(known) is None:
                del self.current[known]

    # -- workers -----------------------------------------------------------------------------------

    @precondition(lambda self: self.broker.ready_turns(self.time.micros))
    @rule(place=places, number=processes, drawn=troubles, is_doubled=st.booleans())
    def deliver_turn(self, place: int, number: int, drawn: Any, is_doubled: bool) -> None:
        ready = self.broker.ready_turns(self.time.micros)
        at, process = ready[place % len(ready)], self.process(number)
        message = self.broker.turns[at]
        id_ = self.broker.take_turn(at)
        if is_doubled:
            self.broker.turns.append(message)
        self.cluster.step(process, lambda: process.turn(id_), self.trouble(drawn, process))

    @precondition(lambda self: self.broker.activities)
    @rule(place=places, number=processes, drawn=troubles, is_doubled=st.booleans())
    def begin_activity(self, place: int, number: int, drawn: Any, is_doubled: bool) -> None:
        process = self.process(number)
        message = self.broker.take_activity(place % len(self.broker.activities))
        if is_doubled:
            self.broker.activities.append(message)
        self.cluster.step(process, lambda: process.begin(message), self.trouble(drawn, process))

    @precondition(lambda self: any(process.hands for process in self.cluster.processes))
    @rule(
        place=places,
        drawn=troubles,
        inline=st.booleans(),
        fails=st.sampled_from([False, False, True]),
    )
    def end_activity(self, place: int, drawn: Any, inline: bool, fails: bool) -> None:
        hands: list[tuple[Process, Hand]] = [
            (p, hand) for p in self.cluster.processes for hand in p.hands
        ]
        process, hand = hands[place % len(hands)]
        result = self.body(fails=fails)
        self.cluster.step(
            process, lambda: process.end(hand, result, inline=inline), self.trouble(drawn, process)
        )

    @precondition(lambda self: self.broker.activities or self.broker.turns)
    @rule(
        count=st.integers(1, 8),
        number=processes,
        inline=st.booleans(),
        fails=st.sampled_from([False, False, True]),
    )
    def work(self, count: int, number: int, inline: bool, fails: bool) -> None:
        """Do several things without any trouble."""
        for _ in range(count):
            if not self.deliver_any(self.process(number), inline=inline, fails=fails):
                break

    def deliver_any(self, process: Process, *, inline: bool = True, fails: bool = False) -> bool:
        if self.broker.activities:
            hand = process.begin(self.broker.take_activity(0))
            if hand is not None:
                process.end(hand, self.body(fails=fails), inline=inline)
            return True
        if ready := self.broker.ready_turns(self.time.micros):
            process.turn(self.broker.take_turn(ready[0]))
            return True
        return False

    @rule(
        number=processes,
        drawn=troubles,
        claims_empty=st.booleans(),
        seconds=st.sampled_from([1, 3, 6, 11, 70]),
    )
    def recover(self, number: int, drawn: Any, claims_empty: bool, seconds: int) -> None:
        self.time.advance(seconds * SECOND)
        process = self.process(number)
        process.claims_empty = claims_empty
        self.cluster.step(process, process.tick, self.trouble(drawn, process))
        process.claims_empty = False

    @rule(seconds=st.sampled_from([0.1, 1, 2, 4, 15]))
    def wait(self, seconds: float) -> None:
        self.time.advance(round(seconds * SECOND))

    # -- bad luck ----------------------------------------------------------------------------------

    @rule(number=processes, redelivers=st.booleans())
    def kill(self, number: int, redelivers: bool) -> None:
        self.is_lossy |= bool(self.process(number).hands)
        self.cluster.kill(self.process(number), redelivers=redelivers)

    @precondition(lambda self: self.broker.activities or self.broker.turns)
    @rule(
        place=places,
        is_activity=st.booleans(),
        what=st.sampled_from(["drop", "drop all", "last", "double"]),
    )
    def disturb_broker(self, place: int, is_activity: bool, what: str) -> None:
        queue = self.broker.activities if is_activity else self.broker.turns
        if not queue:
            return
        message = queue[place % len(queue)]
        self.is_lossy |= what.startswith("drop")
        if what == "drop all":
            queue.clear()
        elif what != "double":
            del queue[place % len(queue)]
        if what in ("last", "double"):
            queue.append(message)

    @rule(number=processes, is_broken=st.booleans())
    def break_publisher(self, number: int, is_broken: bool) -> None:
        self.process(number).publisher.is_broken = is_broken
        self.is_lossy |= is_broken

    # -- the model ---------------------------------------------------------------------------------

    @invariant()
    def absorb(self) -> None:
        """Take what the store has acknowledged into the model."""
        entries = self.cluster.ledger.entries
        while self.absorbed < len(entries):
            entry = entries[self.absorbed]
            self.absorbed += 1
            if isinstance(entry, NewInstance):
                self.add_life(entry)
            elif isinstance(entry, Arrival):
                life = self.current[entry.instance]
                if entry.kind == EventKind.EVENT_RAISED:
                    life.events.append((entry.name or "", entry.data, entry.event_id, entry.at))
                elif entry.kind == EventKind.CANCEL_REQUESTED:
                    life.may_cancel = life.must_end = True
            else:
                self.add_outcome(entry)

    def add_life(self, new: NewInstance) -> None:
        args = CODEC.decode(new.input)[0]
        if new.id in self.current:
            self.current[new.id].is_replaced = True
        life = Life(args[0], new.id, new.execution, new.name, args, 0)
        self.lives[life.name] = self.current[new.id] = life
        if new.parent_id is not None:
            parent = self.lives[args[0].rpartition("/")[0]]
            parent.children.append(life)
            life.parent = parent

    def add_outcome(self, outcome: Outcome) -> None:
        args = self.cluster.calls[outcome.ticket]
        name, place = args if len(args) == 2 else args[0]
        result: Result
        if outcome.has_failed:
            result = ("error", show(CODEC.decode_failure(outcome.payload)[0]))
        else:
            result = ("value", CODEC.decode(outcome.payload))
        life = self.lives[name]
        life.outcomes.setdefault(place, []).append(result)
        life.order.append((place, result))

    # -- what holds always -------------------------------------------------------------------------

    @invariant()
    def every_life_is_as_the_model_says(self) -> None:
        sql = (
            "SELECT id, execution, sequence, status, reason FROM durable_instances ORDER BY"
            " created_at, id DESC"
        )
        found = self.cluster.rows(sql)
        assert {row[0] for row in found} == set(self.current)
        for id_, execution, sequence, status, reason in sorted(
            found, key=lambda row: -row[0].count(":")
        ):
            if self.checked.get(id_) == (execution, sequence, status):
                continue
            self.checked[id_] = (execution, sequence, status)
            life = self.current[id_]
            assert status != "SUSPENDED" or reason == "suspended by request", reason
            history = [load_events(row) for row in self.cluster.store.reads.events(id_)]
            self.check_history(life, execution, history)
            if RuntimeStatus(status).is_terminal:
                self.check_end(life, status, history)
            else:
                assert life.final is None, "a life that was over goes on"

    def check_history(self, life: Life, execution: str, rows: list[list[Event]]) -> None:
        dues: dict[int, int] = {}
        seen: set[tuple[str, int, int]] = set()
        for event in (event for row in rows for event in row):
            if event.kind is EventKind.TIMER_CREATED:
                dues[event.command] = event.facts["due"]
            elif event.kind is EventKind.TIMER_FIRED:
                assert dues[event.command] <= self.time.micros, "a timer fired early"
            elif event.kind in (EventKind.ACTIVITY_COMPLETED, EventKind.ACTIVITY_FAILED):
                outcome = self.cluster.ledger.outcomes[
                    ActivityAttemptId(execution, event.command, event.attempt)
                ]
                assert event.payload == outcome.payload, (
                    "history holds another outcome than the store acknowledged"
                )
            if event.kind in INPUTS and event.command:
                key = (event.kind, event.command, event.attempt)
                assert key not in seen, f"{key} is in history twice"
                seen.add(key)
        self.check_replay(life, execution, rows)

    def check_replay(self, life: Life, execution: str, rows: list[list[Event]]) -> None:
        """Replay what is stored; the last turn, taken again, decides alike."""
        fresh = LiveMachine(
            ExecutionInfo(life.instance, execution, life.program, None, None),
            FUNCTIONS[life.program],
            CODEC,
            FUNCTIONS.__contains__,
        )
        try:
            for row in rows[:-1]:
                fresh.replay(row)
            if rows:
                inputs = [event for event in rows[-1] if event.kind in INPUTS]
                if inputs:
                    assert _facts(fresh.take(inputs).events) == _facts(rows[-1])
                else:
                    fresh.replay(rows[-1])
        finally:
            fresh.abandon()

    def check_end(self, life: Life, status: str, rows: list[list[Event]]) -> None:
        record = self.cluster.store.reads.fetch(life.instance)
        assert record is not None
        value = None
        if status == "COMPLETED":
            value = CODEC.decode(record.output or "null")
        elif status == "FAILED":
            value = show(CODEC.decode_failure(record.failure or "null")[0])
        if life.final is not None:
            assert life.final == (status, value), "a life that was over came to something else"
            return
        life.final = (status, value)
        started = [
            event.at for row in rows for event in row if event.kind is EventKind.EXECUTION_STARTED
        ]
        life.born = started[0] if started else 0
        if status == "CANCELED":
            assert life.allows("may_cancel"), "nobody has asked to cancel it"
            if life.program == "tidy" and started:
                # or while it did
                assert life.outcomes.keys() & {0, "tidy"}, "it was canceled without clearing up"
        elif status == "TERMINATED":
            assert life.allows("may_terminate") or life.allows("is_replaced"), (
                "nobody has asked to terminate it"
            )
        else:
            kind, expected = EXPECTATIONS[life.program](life)
            # which may end sooner: an id counts again in its next execution
            if life.program != "relay":
                assert kind == {"COMPLETED": "value", "FAILED": "error"}[status], (
                    life,
                    status,
                    value,
                )
            assert agrees(life, value, expected), (life, value, expected)

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.calm_down()
        finally:
            self.cluster.close()

    def look(self) -> None:
        self.absorb()
        self.every_life_is_as_the_model_says()

    def calm_down(self) -> None:
        """Let all messages arrive, then recovery work, then lift what people have stopped."""
        for process in self.cluster.processes:
            process.publisher.is_broken = False
        self.settle(recovers=False)
        if not self.is_lossy:
            self.nothing_waits_without_a_reason()
        self.settle(recovers=True)
        self.nothing_waits_without_a_reason()
        for _ in range(10):
            for id_ in list(self.current):
                status = self.status(id_)
                if status is RuntimeStatus.SUSPENDED:
                    self.process(0).client.resume(id_, None)
                if not status.is_terminal:
                    self.send(self.process(0), id_, None)
            # a delayed start that was suspended is brought about by recovery
            self.settle(recovers=True)
            if all(self.status(id_).is_terminal for id_ in self.current):
                break
        self.nothing_waits_without_a_reason()
        assert [id_ for id_ in self.current if not self.status(id_).is_terminal] == []
        # what a failed one had not heard is kept, for a rewind
        undelivered = (
            "WHERE instance NOT IN (SELECT id FROM durable_instances WHERE status = 'FAILED')"
        )
        for table, which in (("durable_inbox", undelivered), ("durable_outbox", "")):
            left = self.cluster.rows(f"SELECT * FROM {table} {which}")
            assert left == [], f"rows of lives that are over were left in {table}: {left}"

    def settle(self, *, recovers: bool) -> None:
        """Deliver everything, and move the clock on to whatever is due next, until there is nothing
        more to do.
        """
        for process in self.cluster.processes:
            for hand in list(process.hands):
                process.end(hand, self.body(), inline=True)
        for _ in range(3_000):
            if self.deliver_any(self.process(self.time.micros % 2)):
                continue
            due = [moment for _, delay, moment in self.broker.turns if delay and moment is not None]
            if recovers:
                for table in ("durable_inbox", "durable_outbox"):
                    due += [
                        row[0]
                        for row in self.cluster.rows(f"SELECT MIN(check_at) FROM {table}")
                        if row[0] is not None
                    ]
                if self.cluster.rows("SELECT 1 FROM durable_outbox WHERE holder IS NOT NULL"):
                    # its holder is dead, and that will be noticed
                    due.append(self.time.micros + 3 * SECOND)
            if not due:
                self.look()
                return
            self.time.advance(max(SECOND // 2, min(due) - self.time.micros))
            if recovers:
                for process in self.cluster.processes:
                    process.tick()
        raise AssertionError("the world does not come to rest")

    def nothing_waits_without_a_reason(self) -> None:
        for id_, life in self.current.items():
            status = self.status(id_)
            if status.is_terminal or status is RuntimeStatus.SUSPENDED:
                continue
            kind, what = EXPECTATIONS[life.program](life)
            rows = self.cluster.rows(
                f"SELECT kind, wake_at, check_at FROM durable_inbox WHERE instance = '{id_}'"
            )
            assert kind == "waits" and what in ("event", "child"), (status, life, rows)
            assert not life.must_end, ("a cancel was not heard", life, rows)
            above = life.parent or life
            has_ended = above.final is not None and above.final[0] in ("CANCELED", "TERMINATED")
            is_orphan = has_ended or above.is_replaced
            assert not is_orphan, ("a child outlives the parent that was ended", life, rows)


def _facts(events: list[Event]) -> str:
    return dump_events([event for event in events if event.kind not in NOTES])


@pytest.mark.timeout(0 if is_long() else 600)
def test_any_walk_ends_as_the_model_says(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    with virtual_time() as time:
        monkeypatch.setattr(Machine, "template", sqlite_template, raising=False)
        monkeypatch.setattr(Machine, "time", time, raising=False)
        for count in rounds(quick=40, full=40):
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=count,
                    stateful_step_count=80 if is_long() else 40,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                    phases=[Phase.generate, Phase.shrink],
                    print_blob=True,
                    report_multiple_bugs=False,
                ),
            )
            record_property("walks", count)
