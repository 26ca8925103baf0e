"""A rewind at any step, beside every other message, a kill and lost messages: what succeeded runs
once, nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from celery_durable.core.history import EventKind, load_events
from celery_durable.core.machine import Machine
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.registry import Definition, Registry
from celery_durable.engine.replay import replay_rows
from celery_durable.engine.start import StartRequest
from celery_durable.errors import InvalidState, StoreError
from tests.tiers import rounds

from .clock import SECOND, VirtualTime, virtual_time
from .cluster import CODEC, Arrival, Cluster, Process, Trouble

FAILED, COMPLETED, SUSPENDED = (
    RuntimeStatus.FAILED,
    RuntimeStatus.COMPLETED,
    RuntimeStatus.SUSPENDED,
)
FRAIL = ("bad", "bad kid")


def do(what: str) -> dict[str, Any]:
    return {"task": "do", "args": (what, what), "kwargs": {}, "options": {}, "subtask_type": None}


async def whole(ctx: Any) -> Any:
    side = ctx.call(do("side"))
    kid_ = ctx.call({"task": "kid", "args": (), "kwargs": {}, "options": {}, "subtask_type": None})
    first = await ctx.call(do("bad"))
    told = [await ctx.wait_event("e"), await ctx.wait_event("e")]
    await ctx.sleep(1)
    return [first, told, await side, await kid_]


async def kid(ctx: Any) -> Any:
    return [await ctx.call(do("bad kid")), await ctx.call(do("end of kid"))]


FUNCTIONS = {"whole": whole, "kid": kid}
numbers = st.integers(0, 30)
troubles = st.none() | st.tuples(
    st.integers(1, 9), st.sampled_from(["killed", "store down", "meanwhile"]), numbers
)
steps = st.tuples(
    st.sampled_from(
        [
            "work",
            "work",
            "turn",
            "begin",
            "end",
            "event",
            "rewind",
            "rewind",
            "rewind kid",
            "suspend",
            "resume",
            "tick",
            "kill",
            "forget",
            "double",
            "crossing",
            "crossing",
        ]
    ),
    numbers,
    st.booleans(),
    troubles,
)


class Walk:
    """One orchestration with a child, and what clients, workers and bad luck do to it."""

    def __init__(self, template: Path, time: VirtualTime) -> None:
        registry = Registry()
        for name, function in FUNCTIONS.items():
            registry.add(Definition(name, None, function))
        self.time = time
        self.cluster = Cluster(
            template,
            time,
            registry,
            [100, 1],
            start_inline=False,
            max_turn_crashes=10_000,
            max_activity_crashes=10_000,
        )
        self.sent = 0
        self.cluster.processes[0].client.start(StartRequest("whole", (), {}, instance_id="i"))

    def status(self, id_: str = "i") -> RuntimeStatus | None:
        return self.cluster.store.reads.status_of(id_)

    def kid_id(self) -> str | None:
        found = self.cluster.rows(
            "SELECT id FROM durable_instances WHERE name = 'kid' ORDER BY created_at DESC"
        )
        return found[0][0] if found else None

    def step(self, what: str, number: int, fails: bool, drawn: Any) -> None:
        process = self.cluster.processes[number % 2]
        other = self.cluster.processes[(number + 1) % 2]
        trouble = None
        if drawn is not None:
            moment, kind, place = drawn
            trouble = Trouble(
                moment,
                kind,
                lambda: self.act("work" if place % 2 else "event", other, place, fails),
            )
        self.cluster.step(process, lambda: self.act(what, process, number, fails), trouble)

    def act(self, what: str, process: Process, number: int, fails: bool) -> None:
        broker = self.cluster.broker
        ready = broker.ready_turns(self.time.micros)
        try:
            match what:
                case "work":
                    self.deliver(process, fails)
                case "turn" if ready:
                    process.turn(broker.take_turn(ready[number % len(ready)]))
                case "begin" if broker.activities:
                    process.begin(broker.take_activity(number % len(broker.activities)))
                case "end" if process.hands:
                    self.end(process, number, fails)
                case "event":
                    self.sent += 1
                    process.client.raise_event("i", "e", self.sent, None)
                case "rewind" | "suspend" | "resume":
                    getattr(process.client, what)("i", None)
                case "rewind kid" if (id_ := self.kid_id()) is not None:
                    process.client.rewind(id_, None)
                case "crossing":
                    self.cross(process, number, fails)
                case "tick":
                    self.time.advance((number % 8 + 1) * SECOND)
                    process.tick()
                case "kill":
                    self.cluster.kill(process, redelivers=fails)
                case "forget":
                    broker.activities.clear()
                    broker.turns.clear()
                case "double" if broker.activities:
                    broker.activities.append(broker.activities[number % len(broker.activities)])
        except (InvalidState, StoreError):
            pass

    def cross(self, process: Process, number: int, fails: bool) -> None:
        """Let several things lie in the inbox before a turn hears any of them."""
        broker = self.cluster.broker
        for id_ in ("i", self.kid_id()):
            if id_ is not None:
                process.turn(id_)
        while broker.activities:
            process.begin(broker.take_activity(0))
        for hand in sorted(process.hands, key=lambda hand: hand.ticket, reverse=number % 2 > 0):
            self.end(process, 3 * process.hands.index(hand), fails)
            if number % 4 > 1:
                self.act("event", process, 0, fails)
        self.act("turn", process, number, fails)

    def end(self, process: Process, number: int, fails: bool) -> None:
        hand = (
            process.hands[number % len(process.hands)]
            if number % 3
            else process.hands[number // 3 % len(process.hands)]
        )
        name = CODEC.decode(CODEC.decode(hand.message.row.message)[0])[0][0]
        is_broken = fails and name in FRAIL
        process.end(hand, ValueError(name) if is_broken else name, inline=number % 3 > 0)

    def deliver(self, process: Process, fails: bool) -> bool:
        broker = self.cluster.broker
        if process.hands:
            self.end(process, 1, fails)
        elif broker.activities:
            process.begin(broker.take_activity(0))
        elif ready := broker.ready_turns(self.time.micros):
            process.turn(broker.take_turn(ready[0]))
        else:
            return False
        return True

    def calm_down(self) -> None:
        """Let it come to its end, rewound as often as it has to be."""
        process = self.cluster.processes[0]
        for _ in range(400):
            while self.deliver(process, fails=False) or any(
                self.deliver(each, False) for each in self.cluster.processes
            ):
                pass
            status = self.status()
            if status is COMPLETED:
                return
            if status is FAILED:
                process.client.rewind("i", None)
            elif status is SUSPENDED:
                process.client.resume("i", None)
            elif len(self.accepted()) < 2:
                self.act("event", process, 0, False)
            self.time.advance(3 * SECOND)
            for each in self.cluster.processes:
                each.tick()
        raise AssertionError(f"it does not come to an end: {self.status()}")

    def accepted(self) -> list[Any]:
        entries = self.cluster.ledger.entries
        return [
            each.data
            for each in entries
            if isinstance(each, Arrival) and each.kind == EventKind.EVENT_RAISED
        ]

    def check(self) -> None:
        record = self.cluster.store.reads.fetch("i")
        assert CODEC.decode(record.output or "null") == [
            "bad",
            self.accepted()[:2],
            "side",
            ["bad kid", "end of kid"],
        ]
        succeeded = Counter(
            CODEC.decode(outcome.payload)
            for outcome in self.cluster.ledger.outcomes.values()
            if not outcome.has_failed
        )
        assert set(succeeded) == {"bad", "side", "bad kid", "end of kid"}
        assert set(succeeded.values()) == {1}, ("what has succeeded ran again", succeeded)
        for id_, name in (("i", "whole"), (self.kid_id(), "kid")):
            rows = self.cluster.store.reads.events(id_)
            execution = self.cluster.store.reads.fetch(id_).execution
            fresh = Machine(
                ExecutionInfo(id_, execution, name), FUNCTIONS[name], CODEC, FUNCTIONS.__contains__
            )
            replay_rows(fresh, rows)
            assert fresh.final is not None
            fresh.abandon()
            assert load_events(rows[-1])
        self.cluster.processes[0].client.purge("i")
        self.calm()
        for table in ("durable_inbox", "durable_outbox", "durable_instances"):
            assert self.cluster.rows(f"SELECT * FROM {table}") == [], table

    def calm(self) -> None:
        while any(self.deliver(each, False) for each in self.cluster.processes):
            pass
        self.time.advance(100 * SECOND)
        for each in self.cluster.processes:
            each.tick()


def test_nothing_is_lost_or_done_twice_by_rewinds(
    sqlite_template: Path, record_property: Any
) -> None:
    with virtual_time() as time:
        for count in rounds(quick=20, full=40):

            @settings(
                max_examples=count,
                suppress_health_check=list(HealthCheck),
                database=None,
                print_blob=True,
                report_multiple_bugs=False,
            )
            @given(st.lists(steps, min_size=12, max_size=40))
            def walk(plan: list[Any]) -> None:
                found = Walk(sqlite_template, time)
                try:
                    for step in plan:
                        found.step(*step)
                    found.calm_down()
                    found.check()
                finally:
                    found.cluster.close()

            walk()
            record_property("walks", count)
