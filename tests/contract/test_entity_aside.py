"""What waits for a lock, more than the state takes: it is put aside and comes back, and nobody sees
a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.entities import saved_in
from celery_durable.errors import OrchestrationFailed
from celery_durable.store import Store
from celery_durable.store.schema import inbox, instances
from tests.storeparts import WrappedStore
from tests.tiers import rounds

from .builders import rows
from .test_entities import Client, Log, counted_commits, make_world

LIMIT = 300
NUMBERS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("signal"), st.sampled_from([1, 20, 200, 1000])),
        st.tuples(st.just("burst"), st.integers(2, 12)),
        st.tuples(st.just("call"), st.sampled_from([1, 200])),
        st.tuples(
            st.sampled_from(
                ["lock", "release", "lock", "release", "cancel", "withdraw", "write_twice"]
            ),
            NUMBERS,
        ),
    ),
    min_size=5,
    max_size=25,
)

GIVEN_UP = [
    *[("lock", 0)] * 4,
    ("burst", 4),
    *[("lock", 0)] * 3,
    ("signal", 200),
    ("cancel", 1),
    ("withdraw", 2),
    ("cancel", 3),
    ("call", 1),
    ("release", 0),
    ("withdraw", 1),
    ("release", 0),
    ("signal", 1),
]


@contextmanager
def few(most_kept: int, look_rows: int = 2_500) -> Iterator[None]:
    """Let an entity keep little, and a look take few."""
    with (
        patch("celery_durable.core.entity.lock.MOST_KEPT", most_kept),
        patch("celery_durable.store.inbox_reads.LOOK_ROWS", look_rows),
    ):
        yield


class Play:
    """One entity, and orchestrations that call and lock it.

    Each step is over before the next begins.
    """

    def __init__(self, store: Store, key: str) -> None:
        self.world, self.key = make_world(store), key
        self.client = Client(self.world)
        self.id = self.client(Log, key).id
        self.holders: list[str] = []
        self.callers: list[str] = []
        self.count = 0
        self.most_kept = 0

        @self.world.orchestrator
        async def holder(ctx: Any, key: str, line: str) -> Any:
            entity = ctx.entity(Log, key)
            async with ctx.lock(entity):
                while await ctx.wait_event("go") == "write":
                    await entity.write(f"{line} held")
                return len(await entity.write(f"{line} last"))

        @self.world.orchestrator
        async def caller(ctx: Any, key: str, line: str) -> Any:
            try:
                return len(await ctx.entity(Log, key).write(line))
            except OrchestrationFailed as error:
                return error.status

    def __call__(self, kind: str, number: int) -> None:
        self.count += 1
        getattr(self, kind)(number)
        self.world.pump()
        self.check()

    def check(self) -> None:
        found = rows(self.world.store, "instances", instances.c.id == self.id)
        for row in found:
            assert row["status"] == "RUNNING", row["reason"]
            queue = saved_in(row["input"].decode(), self.world.codec).get("queue", ())
            self.most_kept = max(self.most_kept, len(self.world.codec.encode(list(queue))))

    def line(self, size: int = 1) -> str:
        return f"{self.count} {'x' * size}"

    def signal(self, size: int) -> None:
        self.client(Log, self.key).signal.write(self.line(size))

    def burst(self, number: int) -> None:
        for n in range(number):
            self.client(Log, self.key).signal.write(f"{self.line(50)} {n}")

    def call(self, size: int) -> None:
        self.callers.append(f"{self.key}-caller-{self.count}")
        self.world.start("caller", self.key, self.line(size), id_=self.callers[-1])

    def lock(self, _: int) -> None:
        self.holders.append(f"{self.key}-holder-{self.count}")
        self.world.start("holder", self.key, self.line(), id_=self.holders[-1])

    def _open(self, number: int) -> list[str]:
        """Return a holder that is not over."""
        holders = [each for each in self.holders if not self.world.status(each).is_terminal]
        return holders[number % len(holders) :][:1] if holders else []

    def release(self, number: int) -> None:
        for each in self._open(0):
            self.world.raise_event(each, "go")

    def write_twice(self, number: int) -> None:
        for each in self._open(0) * 2:
            self.world.raise_event(each, "go", "write")

    def cancel(self, number: int) -> None:
        for each in self._open(number):
            self.world.client.cancel(each, "why")

    def withdraw(self, number: int) -> None:
        for each in self._open(number):
            self.world.client.terminate(each, "why", None)

    def let_all_go(self) -> None:
        for _ in self.holders:
            self("release", 0)
        assert not self._open(0)

    def seen(self) -> Any:
        """Return what can be told apart from outside."""
        ends = [
            (
                each.removeprefix(self.key),
                self.world.status(each),
                self.world.store.reads.fetch(each).output,
            )
            for each in [*self.holders, *self.callers]
        ]
        return self.client(Log, self.key).state(), ends


@pytest.mark.parametrize("most_kept", [0, LIMIT])
def test_putting_aside_changes_nothing(sqlite_store: Store, most_kept: int) -> None:
    examples = iter(range(1_000_000))

    def check(steps: list[tuple[str, int]], look_rows: int) -> None:
        number = next(examples)
        seen = []
        for key, keeps in ((f"all{number}", 1_000_000), (f"few{number}", most_kept)):
            play = Play(sqlite_store, key)
            with few(keeps, look_rows):
                for step in steps:
                    play(*step)
                play.let_all_go()
                assert play.most_kept <= keeps + 1_200  # the largest message, where that is all
            seen.append(play.seen())
            left = rows(sqlite_store, "inbox", inbox.c.instance == play.id)
            assert {row["kind"] for row in left} <= {"ExecutionStarted"}
            assert [each.waiting for each in play.client.listed("Log") if each.key == key] in (
                [],
                [0],
            )
        assert seen[0] == seen[1]

    for count in rounds(quick=8, full=30):
        settings(
            max_examples=count,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )(example(GIVEN_UP, 2_500)(given(STEPS, st.sampled_from([2, 5, 2_500]))(check)))()


@pytest.mark.parametrize("look_rows", [3, 2_500])
def test_an_entity_that_ends_answers_all_callers(store: Store, look_rows: int) -> None:
    play = Play(store, "k")
    with few(LIMIT, look_rows):
        play("signal", 1)
        play("lock", 0)
        for _ in range(12):
            play("call", 200)
        for _ in range(3):
            play("lock", 0)
        play.world.client.suspend(play.id, "hold")
        for _ in range(12):
            play.count += 1
            play.call(1)
        play.world.pump()
        play.world.client.terminate(play.id, "why", None)
        play.world.pump()
    assert [play.world.output(each) for each in play.callers] == ["TERMINATED"] * 24
    assert [play.world.status(each) for each in play.holders[1:]] == [RuntimeStatus.FAILED] * 3
    assert not rows(store, "inbox", inbox.c.instance == play.id)


def test_a_call_that_comes_as_the_entity_ends_is_answered(sqlite_store: Store) -> None:
    play = Play(sqlite_store, "k")
    play("signal", 1)
    play.world.client.suspend(play.id, "hold")
    play.count += 1
    play.call(1)
    play.world.pump()
    other = Play(sqlite_store, "k")
    other.count = 100

    def call_late() -> None:
        other.call(1)
        other.world.pump_until(lambda: other.world.events(other.callers[0]))

    play.world.interpose("commit", before=call_late)
    play.world.runner.lifecycle.end(play.world.store.turns.load(play.id, None), "why", None)
    play.world.runner.store = sqlite_store
    play.world.runner.run(play.id)
    play.world.pump()
    other.world.pump()
    assert (
        play.world.output(play.callers[0]) == other.world.output(other.callers[0]) == "TERMINATED"
    )


def test_what_is_put_aside_costs_a_turn_for_many(sqlite_store: Store) -> None:
    play = Play(sqlite_store, "k")
    world = play.world
    play("lock", 0)
    with few(5_000):
        for n in range(1_000):
            play.client(Log, "k").signal.write(f"{n}")
        with counted_commits(world) as commits:
            world.pump()
        assert len(commits) == 1
        play.check()
        assert 0 < play.most_kept < 8_000
        with counted_commits(world) as commits:
            for _ in range(3):
                play.world.runner.run(play.id)
        assert not commits  # nothing of it wants a turn
        assert [each.waiting for each in play.client.listed()] == [1_000]
        with counted_commits(world) as commits:
            play("release", 0)
    assert play.client(Log, "k").state()["lines"][1:] == [f"{n}" for n in range(1_000)]
    assert len(commits) < 25


def test_what_is_shown_does_not_depend_on_messages(store: Store) -> None:
    """The worker dies after each commit that shows something."""
    play = Play(store, "k")
    world = play.world
    play("lock", 0)

    def die_after(name: str, method: Any) -> Any:
        def commit(commit: Any) -> Any:
            committed = method(commit)
            if commit.shows is not None:
                raise ConnectionError
            return committed

        return commit if name == "commit" else method

    world.runner.store = WrappedStore(store, die_after)  # type: ignore[assignment]
    deaths = 0
    with few(300):
        play("burst", 12)
        play.release(0)
        for _ in range(20):
            try:
                world.pump()
            except ConnectionError:
                deaths += 1
            world.publisher.forget()
            with store.database.engine.begin() as connection:
                connection.execute(
                    sa.update(inbox).values(check_at=0).where(inbox.c.check_at.is_not(None))
                )
            world.recovery().repair_wakes()
    assert deaths > 1
    assert len(play.client(Log, "k").state()["lines"]) == 13
