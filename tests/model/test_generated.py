"""Any orchestrator ends as the same Python does under asyncio, whatever happens to the workers on
the way.

A random program runs on the engine over SQLite: messages are delivered in any order, doubled and
lost, workers are killed between and inside turns, the caches are full, tiny or off. Then it runs as
plain Python, where the order in which calls and timers came in is read from the history. Both must
end alike, and the plain program must need all of the history and nothing more.

The long tier runs more and more programs, until its budget is spent.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from celery_durable.core.history import load_events
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.registry import Definition, Registry
from celery_durable.errors import StoreError
from tests.tiers import is_long, rounds

from .clock import SECOND, START, VirtualTime, virtual_time
from .cluster import CODEC, Cluster, Process, Trouble
from .plain import run_plain
from .trees import Interpreter, trees


def program(tree: Any) -> Any:
    async def orchestrator(ctx: Any) -> Any:
        return await Interpreter(ctx).run(tree)

    return orchestrator


class Storm:
    """Runs one orchestration to its end through every kind of disorder that a seed can think of."""

    def __init__(
        self,
        template: Path,
        time: VirtualTime,
        tree: Any,
        seed: int,
        sizes: list[int],
        mischief: float,
    ) -> None:
        registry = Registry()
        registry.add(Definition("program", None, program(tree)))
        time.micros = START
        self.time, self.dice, self.mischief = time, random.Random(seed), mischief
        limits = {"max_turn_crashes": 10_000, "max_activity_crashes": 10_000}
        self.cluster = Cluster(
            template, time, registry, sizes, start_inline=self.dice.random() < 0.5, **limits
        )
        self.is_suspended = False

    def run(self) -> tuple[Any, list[Any]]:
        """Return how it ended, and its history."""
        cluster = self.cluster
        try:
            cluster.processes[0].start("program")
            for _ in range(5_000):
                if cluster.store.reads.status_of("i").is_terminal:
                    return self.ending(), [
                        load_events(row) for row in cluster.store.reads.events("i")
                    ]
                self.step()
            raise AssertionError(
                f"it never ends: {cluster.store.reads.fetch('i')},"
                f" {cluster.rows('SELECT * FROM durable_inbox')}"
            )
        finally:
            cluster.close()

    def step(self) -> None:
        dice, broker = self.dice, self.cluster.broker
        if dice.random() < self.mischief:
            self.disturb(dice.choice(self.cluster.processes))
        process = dice.choice(self.cluster.processes)
        if dice.random() < 0.05:
            self.steer(process)
        ready = broker.ready_turns(self.time.micros)
        hands = [(owner, hand) for owner in self.cluster.processes for hand in owner.hands]
        chosen = dice.choice(
            ["turn"] * len(ready)
            + ["begin"] * len(broker.activities)
            + ["end"] * len(hands)
            + ["time"]
        )
        if chosen == "turn":
            self.act(process, lambda id_=broker.take_turn(dice.choice(ready)): process.turn(id_))
        elif chosen == "begin":
            message = broker.take_activity(dice.randrange(len(broker.activities)))
            self.act(process, lambda: process.begin(message))
        elif chosen == "end":
            owner, hand = dice.choice(hands)
            inline = dice.random() < 0.6
            self.act(owner, lambda: owner.end(hand, self.result_of(hand), inline=inline))
        else:
            self.wait(is_idle=not (ready or broker.activities or hands))

    def steer(self, process: Process) -> None:
        """Do what people do: mostly stop it, and let it go on."""
        if self.dice.random() < 0.1:
            process.client.cancel("i", None)
        self.is_suspended = not self.is_suspended
        (process.client.suspend if self.is_suspended else process.client.resume)("i", None)

    def act(self, process: Process, work: Any) -> None:
        dice, trouble = self.dice, None
        if dice.random() < self.mischief:
            kind = dice.choice(["killed", "store down", "meanwhile", "meanwhile"])
            other = dice.choice(self.cluster.processes)
            action = (lambda: None) if other is process else lambda: self.meanwhile(other)
            trouble = Trouble(dice.randint(1, 10), kind, action)
        try:
            self.cluster.step(process, work, trouble)
        except StoreError:
            pass

    def meanwhile(self, process: Process) -> None:
        if process.hands:
            hand = self.dice.choice(process.hands)
            process.end(hand, self.result_of(hand), inline=self.dice.random() < 0.5)
        else:
            process.turn("i")

    def result_of(self, hand: Any) -> Any:
        """Run the body: its first so many attempts fail."""
        args = self.cluster.calls[hand.ticket]
        label, failures = args if len(args) == 2 else args[0]
        return (
            ValueError(f"{label} is broken")
            if hand.ticket.attempt <= failures
            else f"result of {label}"
        )

    def disturb(self, process: Process) -> None:
        dice, broker = self.dice, self.cluster.broker
        queue = dice.choice([broker.activities, broker.turns])
        what = dice.choice(["kill", "double", "drop", "tick", "late"])
        if what == "kill":
            self.cluster.kill(process, redelivers=dice.random() < 0.5)
        elif what == "double" and queue:
            queue.append(dice.choice(queue))
        elif what == "drop" and queue:
            del queue[dice.randrange(len(queue))]
        elif what == "tick":
            process.tick()
        elif what == "late":
            self.time.advance(dice.randint(1, 20) * SECOND)

    def wait(self, *, is_idle: bool) -> None:
        """Let time go by; with nothing else to do, up to what is due next, and recovery looks."""
        due = [
            moment for _, delay, moment in self.cluster.broker.turns if delay and moment is not None
        ]
        if is_idle:
            assert due or self.mischief or self.is_suspended, (
                "it waits for a message that nobody has sent"
            )
            self.time.advance(max(SECOND, min(due, default=0) - self.time.micros))
            for process in self.cluster.processes if self.mischief else ():
                process.tick()
        else:
            self.time.advance(self.dice.randint(1, 2 * SECOND))

    def ending(self) -> Any:
        record = self.cluster.store.reads.fetch("i")
        if record.status is RuntimeStatus.COMPLETED:
            return ("value", CODEC.decode(record.output or "null"))
        if record.status is RuntimeStatus.CANCELED:
            return ("canceled",)
        error = CODEC.decode_failure(record.failure or "null")[0]
        return ("failed", type(error).__name__, str(error))


@pytest.fixture
def time() -> Any:
    with virtual_time() as time:
        yield time


@pytest.mark.timeout(0 if is_long() else 600)
def test_an_orchestrator_ends_as_plain_python_does(
    sqlite_template: Path, time: VirtualTime, record_property: Any
) -> None:
    for count in rounds(quick=60, full=60):

        @settings(
            max_examples=count,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate, Phase.shrink],
            print_blob=True,
        )
        @given(
            tree=trees,
            seed=st.integers(0, 2**32),
            sizes=st.sampled_from([[0, 0], [100, 100], [100, 0], [1, 100]]),
            mischief=st.sampled_from([0.0, 0.1, 0.3]),
        )
        def ends_alike(tree: Any, seed: int, sizes: list[int], mischief: float) -> None:
            ending, history = Storm(sqlite_template, time, tree, seed, sizes, mischief).run()
            assert ending == run_plain(program(tree), history)

        ends_alike()
        record_property("programs", count)
