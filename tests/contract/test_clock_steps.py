"""The store's clock is set forward or back: nothing arrives late or out of order, and nobody who
lives is taken for dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from celery_durable.core.limits import Limit
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.admission_policy import AdmissionPolicy
from celery_durable.engine.records import ActivityAttemptId, Claim
from celery_durable.store import Store, connecting
from tests.storeparts import WrappedStore
from tests.tiers import some

from .builders import activity, begin, rows
from .world import World, sig

HOUR, SECOND = 3_600_000_000, 1_000_000


class Clock:
    """The clock of an SQLite store."""

    def __init__(self) -> None:
        self.skew = 0
        self._real = connecting._clock

    def now(self) -> int:
        return self._real() + self.skew


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets; for stores that are opened after it."""
    clock = Clock()
    monkeypatch.setattr(connecting, "_clock", clock.now)
    return clock


@pytest.fixture
def own_store(clock: Clock, empty_sqlite: str, open_url: Callable[..., Store]) -> Store:
    """A store that goes by that clock."""
    return open_url(empty_sqlite)


class Life:
    """Everything that reaches an orchestration, as steps of a client and of workers."""

    def __init__(self, store: Store) -> None:
        self.world = world = World(store)
        self.ran: list[str] = []

        async def sale(ctx: Any) -> Any:
            first = await ctx.call(sig("do", "a"))
            both = [ctx.call(sig("do", "b")), ctx.call(sig("child", "c"))]
            told = [await ctx.wait_event("e"), await ctx.wait_event("e"), await ctx.wait_event("e")]
            return [first, *told, *[await each for each in both]]

        async def child(ctx: Any, what: str) -> Any:
            return await ctx.call(sig("do", what))

        world.orchestrator(sale)
        world.orchestrator(child, flow=AdmissionPolicy(child, (Limit(1),)))
        world.tasks["do"] = self.do
        self.steps: list[Callable[[], object]] = [
            lambda: world.start("sale"),
            world.pump,
            lambda: world.raise_event("i", "e", 1),
            lambda: world.client.suspend("i", None),
            lambda: world.raise_event("i", "e", 2),
            lambda: world.client.resume("i", None),
            lambda: world.raise_event("i", "e", 3),
            world.pump,
        ]

    def do(self, what: str) -> str:
        self.ran.append(what)
        return what


STEPS = 8
PLANS = [plan for plan in product([0, -1, 1], repeat=STEPS) if 1 <= sum(map(abs, plan)) <= 3]


def test_an_end_does_not_depend_on_steps_of_the_clock(
    clock: Clock, sqlite_template: Any, tmp_path: Any, open_url: Callable[..., Store]
) -> None:
    for number, plan in enumerate(some(PLANS, quick=40, full=8, key="clock")):
        path = tmp_path / f"{number}.db"
        path.write_bytes(sqlite_template.read_bytes())
        clock.skew = 0
        store = open_url(f"sqlite:///{path}")
        life = Life(store)
        for hours, step in zip(plan, life.steps, strict=True):
            clock.skew += hours * HOUR
            step()
        life.world.pump()
        assert life.world.status() is RuntimeStatus.COMPLETED, plan
        assert life.world.output() == ["a", 1, 2, 3, "b", "c"], plan
        assert sorted(life.ran) == ["a", "b", "c"], plan
        assert not rows(store, "inbox") and not rows(store, "outbox"), plan
        store.database.dispose()
        path.unlink()


def test_events_in_one_look_keep_their_order(clock: Clock, own_store: Store) -> None:
    world = World(own_store)

    async def sale(ctx: Any) -> Any:
        return [await ctx.wait_event("e") for _ in range(4)]

    world.orchestrator(sale)
    world.start("sale")
    world.pump()
    for number, hours in enumerate([0, 1, -2, 1]):
        clock.skew += hours * HOUR
        world.raise_event("i", "e", number)
    world.pump()
    assert world.output() == [0, 1, 2, 3]


def test_a_timer_is_met_by_the_clock_that_there_is(clock: Clock, own_store: Store) -> None:
    world = World(own_store)

    async def sale(ctx: Any) -> Any:
        await ctx.sleep(1800)
        return "late"

    world.orchestrator(sale)
    world.start("sale")
    world.pump()
    assert world.status() is RuntimeStatus.RUNNING
    clock.skew = HOUR
    world.runner.run("i")
    assert world.output() == "late"


# -- who lives -------------------------------------------------------------------------------------


class Ticks:
    """The recoveries of several workers, whose own clock the test moves."""

    def __init__(self, store: Store, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.store = 1000.0, store
        self.runs: dict[str, list[ActivityAttemptId]] = {}
        monkeypatch.setattr("celery_durable.engine.recovery.time", self)
        self.worlds = {
            name: World(store, heartbeat_interval=2.0, worker_lease=10.0) for name in names
        }
        self.seen: Any = Seen(store)
        self.recoveries = {
            name: replace(world.recovery(name), store=self.seen)
            for name, world in self.worlds.items()
        }

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, clock: Clock, seconds: int, names: str) -> None:
        for _ in range(seconds):
            self.seconds += 1
            clock.skew += SECOND
            for name in names:
                self.recoveries[name].tick(
                    lambda name=name: self.runs.get(name, []), lambda _: None
                )


class Seen(WrappedStore):
    """A store whose freed rows are counted, and which may stand still in a call."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, self._see)
        self.freed, self.freezes = 0, dict[str, Callable[[], None]]()

    def _see(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if (freeze := self.freezes.pop(name, None)) is not None:
                freeze()
            result = real(*args, **kwargs)
            self.freed += result if name == "free_abandoned" else 0
            return result

        return call


@pytest.fixture
def ticks(clock: Clock, own_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    """Workers "a" and "b" that have lived for a while; "b" holds an activity."""
    ticks = Ticks(own_store, "ab", monkeypatch)
    ticks.pass_by(clock, 40, "ab")
    ticket = ActivityAttemptId(begin(own_store, activities=[activity()]), 1, 1)
    assert own_store.attempts.begin(ticket, None, Claim("b", 10 * SECOND)) is not None
    ticks.runs["b"] = [ticket]
    yield ticks


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_that_lives_is_not_taken_for_dead_by_a_step_of_the_clock(
    clock: Clock, ticks: Ticks, hours: int, offset: int
) -> None:
    ticks.pass_by(clock, offset, "ab")
    clock.skew += hours * HOUR
    ticks.pass_by(clock, 60, "ab")
    assert ticks.seen.freed == 0


@pytest.mark.parametrize("hours", [-1, 0, 1])
@pytest.mark.parametrize("silent_before", [0, 4, 8])
def test_a_worker_that_died_is_found_whatever_the_clock_does(
    clock: Clock, ticks: Ticks, hours: int, silent_before: int
) -> None:
    ticks.pass_by(clock, silent_before, "a")
    assert ticks.seen.freed == 0
    clock.skew += hours * HOUR
    ticks.pass_by(clock, 13 - silent_before if not hours else 70, "a")
    assert ticks.seen.freed == 1
    assert [row["id"] for row in rows(ticks.store, "workers")] == ["a"]


@pytest.mark.parametrize("call", ["heartbeat", "read_backlog"])
@pytest.mark.parametrize("frozen", [6, 14, 60])
@pytest.mark.parametrize("silent_before", [0, 3, 5])
def test_a_store_that_stands_still_makes_no_one_dead(
    clock: Clock, ticks: Ticks, call: str, frozen: int, silent_before: int
) -> None:
    ticks.pass_by(clock, silent_before, "a")

    def freeze() -> None:
        ticks.seconds += frozen
        clock.skew += frozen * SECOND

    ticks.seen.freezes[call] = freeze
    ticks.pass_by(clock, 3, "a")
    ticks.pass_by(clock, 30, "ab")
    assert call not in ticks.seen.freezes
    assert ticks.seen.freed == 0


def test_what_is_lost_is_found_soon_after_the_clock_was_set_back(
    clock: Clock, own_store: Store
) -> None:
    own_store.timing.resend_after = 5 * SECOND
    with pytest.MonkeyPatch.context() as monkeypatch:
        ticks = Ticks(own_store, "a", monkeypatch)
        world = ticks.worlds["a"]

        async def sale(ctx: Any) -> Any:
            return [await ctx.call(sig("do", "a")), await ctx.wait_event("e")]

        world.orchestrator(sale)
        world.tasks["do"] = lambda what: what
        ticks.pass_by(clock, 20, "a")
        world.start("sale")
        world.runner.run("i")
        world.publisher.forget()
        world.raise_event("i", "e", 1)
        world.publisher.forget()
        clock.skew -= HOUR
        for _ in range(90):
            ticks.pass_by(clock, 1, "a")
            world.pump()
        assert world.output() == ["a", 1]


GAPS = [0, 600_000, 2_000_000, -HOUR]


@pytest.mark.parametrize("pumps", [(), (5,), (3, 5), (1, 4)], ids=str)
def test_what_an_execution_keeps_comes_before_what_came_later(
    clock: Clock,
    sqlite_template: Any,
    tmp_path: Any,
    open_url: Callable[..., Store],
    pumps: tuple[int, ...],
) -> None:
    """Three executions take two events each, however old these are."""

    async def relay(ctx: Any, *pairs: Any) -> Any:
        await ctx.call(sig("do"))  # meanwhile events are taken, and kept
        pair = [await ctx.wait_event("e"), await ctx.wait_event("e")]
        if len(pairs) < 2:
            ctx.continue_as_new(*pairs, pair)
        return [*pairs, pair]

    plans = list(product(GAPS, repeat=6))
    for number, plan in enumerate(some(plans, quick=60, full=40, key=f"relay {pumps}")):
        path = tmp_path / f"{number}.db"
        path.write_bytes(sqlite_template.read_bytes())
        clock.skew = 0
        world = World(open_url(f"sqlite:///{path}"))
        world.orchestrator(relay)
        world.tasks["do"] = lambda: None
        world.start("relay")
        for place, gap in enumerate(plan, 1):
            clock.skew += gap
            world.raise_event("i", "e", place)
            if place in pumps:
                world.pump()
        clock.skew += 2 * SECOND
        world.raise_event("i", "e", 7)
        world.pump()
        assert world.status() is RuntimeStatus.COMPLETED, plan
        assert world.output() == [[1, 2], [3, 4], [5, 6]], plan
        world.store.database.dispose()
        path.unlink()
