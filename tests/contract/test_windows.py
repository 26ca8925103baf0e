"""A window stays as wide as asked, whatever becomes of a member in whatever state."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from celery_durable.core.kinds import CallOptions, leaf
from celery_durable.core.retry import RetryPolicy
from celery_durable.engine.records import ActivityRow
from celery_durable.store import Store

from .builders import rows
from .shop import Shop, what_of
from .world import sig

WIDTH = 2
MEMBERS = ["a", "b", "c", "d", "e"]
STATES = [
    "running",
    "held",
    "let go later",
    "succeeded",
    "failed",
    "between attempts",
    "succeeds meanwhile",
    "fails meanwhile",
]


class Window:
    """An orchestration with a window, of which a member can be taken back or be given its outcome
    by hand.
    """

    def __init__(self, shop: Shop, *, first: str = "") -> None:
        self.shop, self.world = shop, shop.world

        async def many(ctx: Any) -> Any:
            members = self._members(ctx)
            if first:
                members[MEMBERS.index(first)].cancel()
            await ctx.wait_event("go")
            while (name := await ctx.wait_event("cancel")) != "none":
                members[MEMBERS.index(name)].cancel()

        self.world.orchestrator(many)
        self.world.start("many")
        self.world.runner.run("i")

    def _members(self, ctx: Any) -> list[Any]:
        policy = RetryPolicy(max_attempts=2, first_interval=3600)
        execution, number = ctx._host, ctx._host.last_number + 1
        options = [
            CallOptions(policy, window=number, width=WIDTH, is_held=n >= WIDTH)
            for n in range(len(MEMBERS))
        ]
        return [
            leaf(execution, sig("do", name), each).future
            for name, each in zip(MEMBERS, options, strict=True)
        ]

    @property
    def out(self) -> dict[str, ActivityRow]:
        """What is on its way, by name."""
        return {what_of(self.world, row): row for row in self.world.publisher.activities}

    def end(self, name: str, *, takes_turn: bool = True) -> None:
        """Let a member come to its end."""
        row = self.out[name]
        self.world.publisher.activities.remove(row)
        start = self.world.store.attempts.begin(row.ticket, None)
        assert start is not None
        recorded = self.world.store.outcomes.record(self.world.outcome_of(row), release=True)
        assert recorded is not None
        self.world.runner.dispatcher.follow(
            row.ticket, recorded, self.world.runner.run if takes_turn else lambda _: None
        )

    def go(self) -> None:
        self.world.raise_event("i", "go")
        self.world.runner.run("i")

    def ask(self, action: str, name: str) -> None:
        if action == "cancel":
            self.world.raise_event("i", "cancel", name)
        else:
            error = ValueError("by hand") if action == "error" else None
            self.world.client.override("i", MEMBERS.index(name) + 1, None, error, None)

    def act(self, action: str, name: str, *, ends: bool = False) -> None:
        self.ask(action, name)
        if ends:
            self.end(name, takes_turn=False)
        self.world.runner.run("i")
        row = self.out.get(name)
        # its message is void
        if row is not None and self.world.store.attempts.begin(row.ticket, None) is None:
            self.world.publisher.activities.remove(row)

    def taken(self) -> int:
        """How many slots are taken: of those in the store that were let go, and those that are
        tried again later.
        """
        members = [
            row for row in rows(self.world.store, "outbox") if row["window_command"] is not None
        ]
        held = sum(bool(row["is_held"]) for row in members)
        free = len(members) - held
        waits = sum(row["kind"] == "TimerFired" for row in rows(self.world.store, "inbox"))
        assert free + waits <= WIDTH, "the window is wider than asked"
        assert free + waits == min(WIDTH, held + free + waits), "the window is narrower than asked"
        return int(free + waits)


@pytest.mark.parametrize(("state", "action"), list(product(STATES, ["cancel", "result", "error"])))
def test_whatever_becomes_of_a_member(store: Store, state: str, action: str) -> None:
    shop = Shop(store)
    window = Window(shop)
    window.go()
    name = {"held": "d", "let go later": "c"}.get(state, "a")
    if state == "let go later":
        window.end("b")
    elif state == "succeeded":
        window.end("a", takes_turn=False)
    elif state in ("failed", "between attempts"):
        shop.broken = {"a"}
        window.end("a", takes_turn=state == "between attempts")
        if state == "failed":
            assert "c" not in window.out
    if state in ("running", "held", "let go later", "between attempts"):
        assert window.taken() == WIDTH
    if state == "fails meanwhile":
        shop.broken = {"a"}
    window.act(action, name, ends=state.endswith("meanwhile"))
    window.taken()
    shop.broken = set()
    left = [each for each in MEMBERS if each != name]
    for _ in range(10):
        for each in list(window.out):
            window.end(each)
            window.taken()
    assert set(left) <= set(shop.calls), "all others have run"
    assert shop.calls[name] <= 1


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_that_is_taken_back_before_it_was_asked_for_holds_no_one_up(
    store: Store, name: str
) -> None:
    shop = Shop(store)
    window = Window(shop, first=name)
    assert window.taken() == WIDTH
    for _ in range(10):
        for each in list(window.out):
            window.end(each)
            window.taken()
    assert set(shop.calls) == {each for each in MEMBERS if each != name}


@pytest.mark.parametrize("names", [["a"], ["d"], ["a", "d"], ["a", "b"], ["a", "b", "c", "d"]])
def test_members_of_a_map_that_is_given_up(store: Store, names: list[str]) -> None:
    shop = Shop(store)
    window = Window(shop)
    for name in names:
        window.world.raise_event("i", "cancel", name)
    window.go()
    window.taken()
