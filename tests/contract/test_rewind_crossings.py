"""Where rewinds meet late messages, retention, limits, windows, timers and each other."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from celery_durable.core.entity import declare, orchestrator_of, run_by
from celery_durable.core.history import EventKind
from celery_durable.core.identity import identity_of, is_same
from celery_durable.core.kinds import SendEvent, window
from celery_durable.core.limits import Limit
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.admission_policy import AdmissionPolicy
from celery_durable.engine.at_most_once import RunMark
from celery_durable.engine.records import InboxKind
from celery_durable.engine.registry import Definition
from celery_durable.engine.start import StartRequest
from celery_durable.engine.writes import NewInbox
from celery_durable.store import Store, commit_steps
from celery_durable.store.creation import LockedError
from celery_durable.store.schema import metadata

from .builders import rows as rows_of
from .shop import Shop, hurry, replays, settled, what_of
from .world import World, sig

RUNNING, FAILED, COMPLETED = RuntimeStatus.RUNNING, RuntimeStatus.FAILED, RuntimeStatus.COMPLETED


async def child(ctx: Any, what: str) -> Any:
    return await ctx.call(sig("do", what))


def test_a_late_copy_from_before_a_rewind_is_not_taken_for_another_call(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        async with ctx.saga() as saga:
            await saga.call(sig("do", "reserve"), undo=sig("do", "release"))
            await saga.call(sig("do", "charge"))
        return await ctx.call(sig("do", "ship"))

    copies: list[Any] = []
    publish = world.publisher.publish_activities

    def keep(rows: Any) -> Any:
        copies.extend(rows)
        return publish(rows)

    world.publisher.publish_activities = keep  # type: ignore[method-assign]
    shop.fail_at({"charge"}, "sale")
    [old] = [row for row in copies if what_of(world, row) == "release"]
    shop.repair_and_rewind()
    for _ in range(20):
        if any(what_of(world, row) == "ship" for row in copies):
            break
        world.step()
    assert not world.perform(old.ticket, old), "the broker delivers the undo of before once more"
    world.pump()
    assert world.output() == "ship"
    assert (shop.calls["release"], shop.calls["ship"]) == (1, 1)
    assert replays(world) > 0


def test_a_child_after_a_rewind_is_not_one_from_before(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            await ctx.call(sig("child", "clean"))
            raise
        return await ctx.call(sig("child", "ship"))

    world.orchestrator(child)
    shop.fail_at({"bad"}, "parent")
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == "ship"
    assert replays(world) > 0


def test_what_is_sent_after_a_rewind_is_not_taken_for_what_was_sent_before(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            ctx.signal_event("r", "told", "it failed")
            raise
        ctx.signal_event("r", "told", "it worked")

    @world.orchestrator
    async def receiver(ctx: Any) -> Any:
        return [await ctx.wait_event("told"), await ctx.wait_event("told")]

    shop.broken = {"bad"}
    world.start("receiver", id_="r")
    world.pump()
    world.client.suspend("r", None)
    world.start("sale")
    shop.fail()
    shop.repair_and_rewind()
    world.pump_to_end()
    world.client.resume("r", None)
    world.pump()
    assert world.output("r") == ["it failed", "it worked"]


class Account:
    def slow(self) -> str:
        return "slow"

    def quick(self) -> str:
        return "quick"


def test_an_answer_from_before_a_rewind_is_not_taken_for_another_one(shop: Shop) -> None:
    world = shop.world
    world.registry.add(Definition(orchestrator_of("Account"), None, run_by(declare(Account))))

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            ctx.entity(Account, "a").slow()
            raise
        return await ctx.entity(Account, "b").quick()

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    world.perform(world.publisher.activities[0].ticket, world.publisher.activities.popleft())
    assert world.status() is FAILED
    world.publisher.forget()
    shop.repair_and_rewind()
    world.runner.run("i")
    row = world.publisher.activities.popleft()
    world.perform(row.ticket, row)
    world.runner.run("@Account@a")
    world.runner.run("i")
    world.pump()
    world.runner.run("@Account@b")
    world.pump()
    assert world.output() == "quick"


@pytest.mark.parametrize("is_retry", [False, True])
def test_a_window_stays_as_wide_as_asked_after_a_rewind(shop: Shop, is_retry: bool) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        many = asyncio.gather(
            *ctx_map(ctx, ["x", "y", "a", "b", "c", "d", "e", "f"]), return_exceptions=True
        )
        await ctx.wait_event("go")
        await ctx.call(sig("do", "bad"))
        return [each for each in await many if isinstance(each, str)]

    def ctx_map(ctx: Any, what: list[str]) -> Any:
        return window(ctx._host, [sig("do", each) for each in what], 2)

    shop.broken = {"x", "y", "bad"}
    world.start("sale")
    world.runner.run("i")
    for _ in range(2):
        row = world.publisher.activities.popleft()
        world.perform(row.ticket, row)
        world.runner.run("i")
    world.raise_event("i", "go")
    world.runner.run("i")
    rows = {what_of(world, row): row for row in world.publisher.activities}
    world.perform(rows["bad"].ticket, rows["bad"])
    assert world.status() is FAILED
    world.publisher.forget()
    shop.broken = {"x", "y"}
    world.client.rewind("i", None)
    world.runner.run("i")
    out = [what for row in world.publisher.activities if (what := what_of(world, row)) != "bad"]
    assert len(out) == 2
    world.pump()
    assert world.output() == ["a", "b", "c", "d", "e", "f"]


def test_a_timer_of_another_length_does_not_fire_early(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            await ctx.sleep(0.01)
            raise
        await ctx.sleep(3600)

    shop.fail_at({"bad"}, "sale")
    world.client.override("i", 1, "good", None, None)
    world.pump()
    world.pump()
    assert world.status() is RUNNING, "it sleeps for an hour"


def family(shop: Shop, **own: Any) -> World:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.call(sig("child", "bad"))

    world.orchestrator(child, **own)
    shop.fail_at({"bad"}, "parent")
    shop.broken = set()
    return world


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_child_is_not_purged_between_its_parents_rewind_and_its_own(
    shop: Shop, by_hand: bool
) -> None:
    world = family(shop, retention={} if by_hand else {"FAILED": 1_000})
    [child] = world.client.children("i")
    world.client.rewind("i", None)
    world.runner.run("i")
    assert world.status(child.id) is FAILED, "its turn has not come yet"
    if by_hand:
        try:
            world.client.purge(child.id)
        except Exception:
            pass
    else:
        time.sleep(0.01)
        world.store.cleanup.purge_due(100)
    assert settled(world)


def test_a_child_that_was_restarted_by_hand_is_not_awaited_for_ever(shop: Shop) -> None:
    world = family(shop)
    [child] = world.client.children("i")
    world.client.restart(child.id, None)
    assert world.status(child.id) is RuntimeStatus.PENDING
    world.client.rewind("i", None)
    world.runner.run("i")
    world.pump()
    assert settled(world)


def test_a_wish_to_rewind_that_comes_too_late_runs_nothing_twice(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "bad"))
        return await ctx.call(sig("do", "after"))

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    world.runner.run("i")
    [row] = world.publisher.activities
    world.store.inbox.put(
        [NewInbox("i", InboxKind.REWIND, "rewind:late", facts={"reason": "its parent was rewound"})]
    )
    world.runner.run("i")
    world.pump()
    assert world.output() == "after"
    assert shop.calls == {"bad": 2, "after": 1}


def test_an_override_counts_though_a_parent_wishes_a_rewind_too(shop: Shop) -> None:
    world = family(shop)
    [child] = world.client.children("i")
    world.client.rewind("i", None)
    world.runner.run("i")
    world.publisher.forget()
    world.client.override(child.id, 1, "by hand", None, None)
    world.pump()
    assert world.output() == "by hand"
    assert shop.calls == {"bad": 1}


def test_a_child_that_was_refused_is_started_by_a_rewind(shop: Shop) -> None:
    world, broken = shop.world, [True]

    def key(what: str) -> str:
        if broken:
            raise RuntimeError("a bug")
        return what

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.call(sig("child", "a"))

    world.orchestrator(child, flow=AdmissionPolicy(child, (Limit(1, key),)))
    world.start("parent")
    shop.fail()
    broken.clear()
    world.client.rewind("i", None)
    world.pump()
    assert world.output() == "a"


def test_a_run_of_another_way_is_not_taken_for_this_one(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            await ctx.run(lambda: "noted")
            raise
        return await ctx.run(lambda: "drawn")

    shop.fail_at({"bad"}, "sale")
    world.client.override("i", 1, "good", None, None)
    world.pump()
    assert world.output() == "drawn"


def test_a_child_that_waits_for_its_rewind_ends_with_its_parent(shop: Shop) -> None:
    world = family(shop)
    [child] = world.client.children("i")
    world.client.rewind("i", None)
    world.runner.run("i")
    assert world.status(child.id) is FAILED
    world.client.terminate("i", None, None)
    world.pump()
    assert shop.calls == {"bad": 1}, "nobody wants it any more"


# -- crossings -------------------------------------------------------------------------------------


def test_a_failure_that_was_handled_stays_handled_when_time_ran_out_later(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "card a"))
        except KeyError:
            await ctx.call(sig("do", "card b"))
        await ctx.wait_event("parcel", timeout=0.01)

    shop.fail_at({"card a"}, "sale")
    shop.repair_and_rewind()
    world.pump()
    assert shop.calls == {"card a": 1, "card b": 1}


def test_two_rewinds_of_a_saga_beside_a_stale_process(store: Store) -> None:
    shop, other = Shop(store), Shop(store)
    other.broken, other.calls = shop.broken, shop.calls

    async def sale(ctx: Any) -> Any:
        found = []
        async with ctx.saga(parallel=True) as saga:
            found.append(await saga.call(sig("do", "a"), undo=sig("do", "not a")))
            found.append(await saga.call(sig("do", "b"), undo=sig("do", "not b")))
            found.append(await saga.call(sig("do", "c")))
            found.append(ctx.patched("new"))
            found.append(await ctx.run(lambda: 7))
            found.append(await ctx.call(sig("do", "d")))
        return found

    for each in (shop, other):
        each.world.orchestrator(sale)
    shop.broken |= {"c"}
    shop.world.start("sale")
    world, second = shop.world, other.world
    for broken in ("d", ""):
        while world.status() is RUNNING or world.status() is RuntimeStatus.PENDING:
            moved = world.step() or second.step()
            second.runner.run("i")
            world, second = second, world
            if not moved and not second.step():
                break
        assert world.status() is FAILED, broken
        shop.broken.clear()
        shop.broken |= {broken} - {""}
        world.client.rewind("i", None)
    for _ in range(20):
        world.pump()
        second.pump()
    assert world.output() == ["a", "b", "c", True, 7, "d"]
    assert replays(world) > 0
    ids = [
        (e.command, e.attempt)
        for row in all_rows(store)
        for e in row
        if e.kind is EventKind.ACTIVITY_SCHEDULED
    ]
    assert ids


def all_rows(store: Store) -> Any:
    from celery_durable.core.history import load_events

    return [load_events(row) for row in store.reads.events("i")]


def test_a_later_life_is_rewound(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any, number: int = 0) -> Any:
        first = await ctx.call(sig("child", f"n{number}"))
        if number == 0:
            ctx.continue_as_new(1)
        told = await ctx.wait_event("go")
        return [first, await ctx.call(sig("do", "bad")), told]

    world.orchestrator(child)
    shop.broken = {"bad"}
    world.start("sale")
    world.raise_event("i", "go", 1)
    shop.fail()
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == ["n1", "bad", 1]
    assert shop.calls == {"n0": 1, "n1": 1, "bad": 2}


@pytest.mark.parametrize("verb", ["suspend", "cancel", "terminate", "restart", "replace", "event"])
def test_verbs_while_a_rewind_is_pending(shop: Shop, verb: str) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return [await ctx.call(sig("do", "bad")), await ctx.wait_event("go")]

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    world.publisher.forget()
    if verb == "suspend":
        world.client.suspend("i", None)
        world.runner.run("i")
        world.client.resume("i", None)
    elif verb == "replace":
        world.start("sale", if_exists="replace")
    elif verb == "restart":
        with pytest.raises(Exception, match="restart"):
            world.client.restart("i", None)
    elif verb == "event":
        world.raise_event("i", "go", 1)
    else:
        getattr(world.client, verb)("i", None, *([None] if verb == "terminate" else []))
    world.publisher.forget()
    recovery = world.recovery()
    for _ in range(60):
        hurry(world.store)
        recovery.repair_wakes()
        recovery.repair_activities()
        world.pump()
        if world.status() not in (RUNNING, RuntimeStatus.PENDING):
            break
        if world.status() is RUNNING and shop.calls["bad"] == 2:
            world.raise_event("i", "go", 1)
        time.sleep(0.1)
    expected = {"terminate": RuntimeStatus.TERMINATED, "cancel": RuntimeStatus.CANCELED}.get(
        verb, COMPLETED
    )
    assert world.status() is expected


def test_a_child_that_waits_for_admission_while_its_parent_fails_and_is_rewound(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        slow = ctx.call(sig("child", "slow"))
        await ctx.call(sig("do", "bad"))
        return await slow

    async def child(ctx: Any, what: str) -> Any:
        if what == "first":
            await ctx.wait_event("go")
        return await ctx.call(sig("do", what))

    world.orchestrator(child, flow=AdmissionPolicy(child, (Limit(1),)))
    world.start("child", "first", id_="c")
    world.pump()
    shop.fail_at({"bad"}, "parent")
    shop.repair_and_rewind()
    world.pump()
    assert world.status() is RUNNING
    world.raise_event("c", "go", 1)
    world.pump()
    assert world.output() == "slow"
    assert shop.calls["slow"] == 1
    assert replays(world) > 0


def test_a_limited_child_that_failed_is_rewound_and_gives_nothing_back_twice(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.call(sig("child", "bad"))

    world.orchestrator(
        child,
        flow=AdmissionPolicy(child, (Limit(1),)),
        retention={"FAILED": 50_000, "COMPLETED": 60_000_000},
    )
    shop.fail_at({"bad"}, "parent")
    shop.repair_and_rewind()
    world.runner.run("i")
    [child_] = world.client.children("i")
    world.runner.run(child_.id)
    time.sleep(0.06)
    world.store.cleanup.purge_due(10)
    world.pump()
    assert world.output() == "bad"


def test_a_fork_with_a_pending_child_and_a_timer(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        slow = ctx.call(sig("child", "slow"), timeout=3600)
        first = await ctx.call(sig("do", "a"))
        return [first, await slow, await ctx.call(sig("do", "b"))]

    @world.orchestrator
    async def child(ctx: Any, what: str) -> Any:
        return await ctx.wait_event("go")

    world.start("parent")
    world.pump()
    world.client.fork("i", len(world.events()), "f", None)
    world.pump()
    [one], [two] = world.client.children("i"), world.client.children("f")
    assert one.id != two.id
    world.raise_event(two.id, "go", 2)
    world.pump()
    assert world.output("f") == ["a", 2, "b"]
    assert world.status() is RUNNING
    assert replays(world, "f") > 0


def test_a_child_of_a_rewound_one_that_was_lost_on_the_way_is_found(shop: Shop) -> None:
    world = family(shop)
    world.client.rewind("i", None)
    world.runner.run("i")
    world.publisher.forget()
    assert settled(world)
    assert world.output() == "bad"


def test_a_lock_that_was_asked_for_and_withdrawn_is_held_when_it_is_granted_after_a_rewind(
    shop: Shop,
) -> None:
    world = shop.world
    world.registry.add(Definition(orchestrator_of("Account"), None, run_by(declare(Account))))

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        async with ctx.lock(ctx.entity(Account, "a")):
            await ctx.call(sig("do", "inside"))
            await ctx.wait_event("go")

    @world.orchestrator
    async def first(ctx: Any) -> Any:
        lock = asyncio.ensure_future(locked(ctx))
        await ctx.call(sig("do", "bad"))
        await lock

    async def locked(ctx: Any) -> Any:
        async with ctx.lock(ctx.entity(Account, "a")):
            await ctx.call(sig("do", "inside"))
            await ctx.wait_event("go")

    shop.broken = {"bad"}
    world.start("first")
    world.runner.run("i")
    world.publisher.turns.clear()
    world.client.suspend("@Account@a", None)
    shop.fail()
    shop.repair_and_rewind()
    world.pump()
    world.client.resume("@Account@a", None)
    world.start("sale", id_="o")
    world.pump()
    assert shop.calls["inside"] == 1, "one of the two holds the lock"


def test_an_activity_that_may_run_once_and_was_under_way_is_not_run_again_by_a_rewind(
    shop: Shop,
) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        once = ctx.call(sig("do", "once"))
        await ctx.call(sig("do", "bad"))
        return await once

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    rows = {what_of(world, row): row for row in world.publisher.activities}
    world.publisher.activities.clear()
    assert world.store.attempts.begin_once(rows["once"].ticket, "w", 0, RunMark.new(0)) is not None
    shop.do("once")  # the body runs
    world.perform(rows["bad"].ticket, rows["bad"])
    assert world.status() is FAILED
    shop.repair_and_rewind()
    world.pump()
    assert shop.calls["once"] == 1


def test_an_override_leads_another_way_than_before(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            await ctx.call(
                sig("do", "clean"), retry=RetryPolicy(max_attempts=2, first_interval=0.001)
            )
            await ctx.call(sig("child", "clean too"))
            raise
        return [await ctx.call(sig("do", "ship")), await ctx.call(sig("child", "ship too"))]

    world.orchestrator(child)

    def do(what: str) -> str:
        if what == "clean" and not shop.calls["clean"]:
            shop.broken.add("clean")
        else:
            shop.broken.discard("clean")
        return shop.do(what)

    world.tasks["do"] = do
    shop.fail_at({"bad"}, "parent")
    world.client.override("i", 1, "good", None, None)
    world.pump()
    assert world.output() == ["ship", "ship too"]
    assert replays(world) > 0
    asked = [
        (e.command, e.attempt)
        for row in all_rows(world.store)
        for e in row
        if e.kind is EventKind.ACTIVITY_SCHEDULED and e.name == "do" and "ship" in (e.payload or "")
    ]
    assert asked[-1] not in [(2, 1), (2, 2)]


def test_three_generations_are_rewound_twice(shop: Shop) -> None:
    world = shop.world

    async def level(ctx: Any, left: int) -> Any:
        if left:
            return [await ctx.call(sig("level", left - 1))]
        async with ctx.saga() as saga:
            await saga.call(sig("do", "a"), undo=sig("do", "not a"))
            await saga.call(sig("do", "bad"))
        return await ctx.call(sig("do", "end"))

    world.orchestrator(level)
    shop.fail_at({"bad"}, "level", 2)
    for broken in ({"bad"}, {"end"}, set()):
        shop.broken = broken
        world.client.rewind("i", None)
        if broken:
            shop.fail()
    world.pump()
    assert world.output() == [["end"]]
    assert shop.calls == {"a": 3, "not a": 2, "bad": 3, "end": 2}
    for record in world.client.children("i"):
        assert replays(world, record.id) > 0


def test_a_lost_place_and_a_rewound_holder(shop: Shop) -> None:
    world = shop.world

    world.orchestrator(child, flow=AdmissionPolicy(child, (Limit(1),)))
    shop.fail_at({"bad"}, "child", "bad")
    world.start("child", "bad", id_="j")
    world.runner.run("j")
    world.publisher.activities.clear()
    shop.repair_and_rewind()
    world.start("child", "other", id_="k")
    world.pump()
    assert (world.output(), world.status("j"), world.status("k")) == (
        "bad",
        RUNNING,
        RuntimeStatus.PENDING,
    )


# -- what was not heard ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["event", "outcome", "child", "far event"])
@pytest.mark.parametrize("moment", ["before the turn", "during the commit"])
def test_what_was_not_heard_before_the_failure_is_heard_after_a_rewind(
    shop: Shop, what: str, moment: str
) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        side = ctx.call(sig("child", "side") if what == "child" else sig("do", "side"))
        await ctx.call(sig("do", "bad"))
        return [await side, await ctx.wait_event("go")]

    world.orchestrator(child)

    @world.orchestrator
    async def sender(ctx: Any) -> Any:
        execution = ctx._host
        due = execution.now + 300_000
        execution.ask(SendEvent(execution.next_number(), "i", "go", '"came"', due=due))

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    children = world.client.children("i")
    for each in children:
        world.runner.run(each.id)
    rows = {what_of(world, row): row for row in world.publisher.activities}
    world.publisher.activities.clear()

    def arrive() -> None:
        if what == "far event":
            world.start("sender", id_="s")
            world.runner.run("s")
        elif what == "event":
            world.raise_event("i", "go", "came")
        elif what == "outcome":
            assert (
                world.store.outcomes.record(world.outcome_of(rows["side"]), release=True)
                is not None
            )
        else:
            recorded = world.store.outcomes.record(world.outcome_of(rows["side"]), release=True)
            assert recorded is not None
            World(world.store, registry=world.registry).runner.run(recorded.instance)

    assert world.store.outcomes.record(world.outcome_of(rows["bad"]), release=True) is not None
    if moment == "before the turn":
        arrive()
    else:
        world.interpose("commit", before=arrive)
    world.runner.run("i")
    assert world.status() is FAILED
    world.publisher.forget()
    hurry(world.store)
    world.recovery().repair_wakes()
    world.pump()  # a turn that finds it over
    assert world.status() is FAILED
    shop.repair_and_rewind()
    world.pump()
    if what not in ("event", "far event"):
        world.raise_event("i", "go", "came")
    assert settled(world)
    assert world.output() == ["side", "came"]
    assert shop.calls == {
        "side": 1 if what in ("outcome", "child") else shop.calls["side"],
        "bad": 2,
    }
    assert replays(world) > 0
    world.client.purge("i")
    assert not rows_of(world.store, "inbox")


def test_what_was_not_heard_does_not_outlive_a_failed_instance(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "bad"))

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    [row] = world.publisher.activities
    assert world.store.outcomes.record(world.outcome_of(row), release=True) is not None
    world.raise_event("i", "go")
    world.client.cancel("i", None)
    world.runner.run("i")
    assert world.status() is FAILED
    assert [row["kind"] for row in rows_of(world.store, "inbox")] == ["EventRaised"]
    world.client.purge("i")
    assert not rows_of(world.store, "inbox")


# -- at most once ----------------------------------------------------------------------------------


class Once:
    """An activity that may run once, under way beside one that fails."""

    def __init__(self, shop: Shop, orchestrator: Any) -> None:
        self.shop, self.world = shop, shop.world
        self.world.orchestrator(orchestrator)
        shop.broken = {"bad"}
        self.world.start(orchestrator.__name__)
        self.world.runner.run("i")
        self.rows = {what_of(self.world, row): row for row in self.world.publisher.activities}
        self.world.publisher.activities.clear()

    def begin(self) -> None:
        assert (
            self.world.store.attempts.begin_once(self.rows["once"].ticket, "w", 0, RunMark.new(0))
            is not None
        )
        self.shop.do("once")

    def fail(self) -> None:
        self.world.perform(self.rows["bad"].ticket, self.rows["bad"])
        self.world.pump()
        assert self.world.status() is FAILED
        self.shop.broken = set()


async def beside(ctx: Any) -> Any:
    once = ctx.call(sig("do", "once"))
    await ctx.call(sig("do", "bad"))
    return await once


async def in_a_group(ctx: Any) -> Any:
    try:
        async with asyncio.TaskGroup() as group:
            once = group.create_task(child(ctx, "once"))
            group.create_task(child(ctx, "bad"))
    except ExceptionGroup:
        await ctx.call(sig("do", "clean"))
        raise
    return once.result()


@pytest.mark.parametrize("orchestrator", [beside, in_a_group])
@pytest.mark.parametrize("has_begun", [True, False])
def test_what_may_run_once_and_had_begun_has_failed_after_a_rewind(
    shop: Shop, orchestrator: Any, has_begun: bool
) -> None:
    once = Once(shop, orchestrator)
    world = once.world
    if has_begun:
        once.begin()
    once.fail()
    world.client.rewind("i", None)
    world.pump()
    if not has_begun:
        assert world.output() == "once"
    else:
        assert world.status() is FAILED
        assert "ActivityInterrupted" in (
            world.client.fetch("i").failure or world.client.fetch("i").reason or ""
        )
    assert shop.calls["once"] == 1
    assert replays(world) > 0
    if has_begun:  # who has looked may let it run again
        world.client.rewind("i", None)
        world.pump()
        assert world.output() == "once"
        assert shop.calls["once"] == 2


def test_what_may_run_once_and_had_begun_is_given_its_outcome_by_hand(shop: Shop) -> None:
    once = Once(shop, beside)
    once.begin()
    once.fail()
    once.world.client.override("i", 1, "paid", None, None)
    once.world.pump()
    assert once.world.output() == "paid"
    assert shop.calls == {"once": 1, "bad": 2}


def test_what_may_run_once_and_was_undone_is_done_again(shop: Shop) -> None:
    async def sale(ctx: Any) -> Any:
        async with ctx.saga() as saga:
            once = saga.call(sig("do", "once"), undo=sig("do", "not once"))
            await saga.call(sig("do", "bad"))
            return await once

    once = Once(shop, sale)
    once.begin()
    once.fail()
    once.world.client.rewind("i", None)
    once.world.pump()
    assert once.world.output() == "once"
    assert shop.calls == {"once": 2, "not once": 1, "bad": 2}


# -- functions that are run inline -----------------------------------------------------------------


RAN: list[str] = []


def tell(what: str, number: int = 0) -> str:
    RAN.append(f"{what}{number}")
    return RAN[-1]


def other(what: str, number: int = 0) -> str:
    return tell(f"other {what}", number)


RUNS: dict[str, Any] = {
    "a lambda": lambda ctx, n: ctx.run(lambda: tell("first")),
    "another lambda": lambda ctx, n: ctx.run(lambda: tell("second")),
    "the lambda on other lines": lambda ctx, n: ctx.run(lambda: tell("first")),
    "a lambda of a value": lambda ctx, n: ctx.run(lambda: tell("a", n)),
    "a function": lambda ctx, n: ctx.run(tell, "a"),
    "another function": lambda ctx, n: ctx.run(other, "a"),
    "other arguments": lambda ctx, n: ctx.run(tell, "b"),
    "named arguments": lambda ctx, n: ctx.run(tell, what="a", number=n),
    "a partial": lambda ctx, n: ctx.run(functools.partial(tell, "a")),
    "a partial of another": lambda ctx, n: ctx.run(functools.partial(other, "a")),
    "a partial with a value": lambda ctx, n: ctx.run(functools.partial(tell, "a", n)),
    "a method": lambda ctx, n: ctx.run("a{}".format, n),
}
TWINS = {"a lambda", "the lambda on other lines"}
WITH_VALUE = {"a lambda of a value", "named arguments", "a partial with a value", "a method"}


@pytest.mark.sparse(2)
@pytest.mark.parametrize("before", RUNS)
def test_only_the_function_that_was_run_is_taken_for_it(store: Store, before: str) -> None:
    shop = Shop(store)
    world, run = shop.world, (before, 1)

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        value = await RUNS[run[0]](ctx, run[1])
        return [value, await ctx.call(sig("do", "bad"))]

    for number, (after, value) in enumerate([*((each, 1) for each in RUNS), (before, 2)]):
        run, id_ = (before, 1), f"i{number}"
        shop.broken = {"bad"}
        world.start("sale", id_=id_)
        shop.fail(id_)
        run = after, value
        shop.broken = set()
        RAN.clear()
        world.client.rewind(id_, None)
        world.pump()
        is_same = (after == before or {after, before} == TWINS) and (
            value == 1 or before not in WITH_VALUE
        )
        if "a method" not in (before, after):
            assert bool(RAN) is not is_same, (before, after, value)
        assert replays(world, id_) > 0
        first, _ = world.output(id_)
        run = before, 1
        if after == "a method":
            assert first == f"a{value}"
        elif not is_same:
            assert first == RAN[-1]


def test_what_was_run_by_another_python_is_taken_by_its_name() -> None:
    mine = identity_of(lambda: 1, (), {}, str)
    inputs, python, code = mine.split(":")
    assert is_same(mine, mine)
    assert is_same(mine, "") and is_same(mine, None)
    assert not is_same(mine, f"{inputs}:{python}:{code[::-1]}")
    assert is_same(mine, f"{inputs}:cpython-399:{code[::-1]}")
    assert not is_same(mine, f"{inputs[::-1]}:cpython-399:{code}")


# -- sends, questions, timers ----------------------------------------------------------------------


def test_what_another_way_sends_under_a_number_is_not_dropped_for_what_was_sent_before(
    shop: Shop,
) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            ctx.signal_event("r", "told", "it failed")
            raise
        ctx.signal_event("r", "told", "it worked")

    @world.orchestrator
    async def receiver(ctx: Any) -> Any:
        return [await ctx.wait_event("told"), await ctx.wait_event("told")]

    shop.broken = {"bad"}
    world.start("receiver", id_="r")
    world.pump()
    world.client.suspend("r", None)
    world.start("sale")
    shop.fail()
    world.client.override("i", 1, "good", None, None)
    world.pump_to_end()
    world.client.resume("r", None)
    world.pump()
    assert world.output("r") == ["it failed", "it worked"]
    assert replays(world) > 0


@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_to_what_another_way_asked_is_not_taken_for_this_one(
    shop: Shop, times: int
) -> None:
    world = shop.world
    world.registry.add(Definition(orchestrator_of("Account"), None, run_by(declare(Account))))

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except KeyError:
            ctx.entity(Account, "a").slow()
            raise
        answer = ctx.entity(Account, "a").quick()
        await ctx.call(sig("do", "after"))
        return await answer

    shop.broken = {"bad", "after"}
    world.start("sale")
    world.runner.run("i")
    world.client.suspend("@Account@a", None) if world.status("@Account@a") else None
    world.perform(world.publisher.activities[0].ticket, world.publisher.activities.popleft())
    assert world.status() is FAILED
    world.client.suspend("@Account@a", None)
    world.publisher.forget()
    world.client.override("i", 1, "good", None, None)
    world.runner.run("i")
    for _ in range(times - 1):
        shop.fail()
        world.client.rewind("i", None)
        world.runner.run("i")
    shop.broken = set()
    world.client.resume("@Account@a", None)
    world.pump()
    if world.status() is FAILED:
        world.client.rewind("i", None)
        world.pump()
    assert world.output() == "quick"
    assert replays(world) > 0


def test_a_timer_that_is_asked_for_again_tells_which_event_it_bounds(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        waits = asyncio.ensure_future(ctx.wait_event("parcel", timeout=3600))
        await ctx.call(sig("do", "bad"))
        return await waits

    def told() -> list[Any]:
        timers = [row for row in rows_of(world.store, "inbox") if row["kind"] == "TimerFired"]
        return [json.loads(row["facts"] or "{}").get("event") for row in timers]

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    assert told() == ["parcel"]
    shop.fail()
    shop.repair_and_rewind()
    world.pump()
    assert told() == ["parcel"]


def test_an_exception_given_by_hand_is_of_its_type_after_the_failure_too(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "bad"))
        except ValueError as error:
            return str(error)

    shop.fail_at({"bad"}, "sale")
    world.client.override("i", 1, None, ValueError("declined"), None)
    world.pump()
    assert world.output() == "declined"


# -- children and those who want them --------------------------------------------------------------


@pytest.mark.parametrize("ends", ["cancel", "terminate", "replace", "a timeout", "an override"])
@pytest.mark.parametrize("moment", ["before its turn", "as it is reopened"])
def test_a_child_about_to_be_rewound_whom_no_one_wants_any_more(
    shop: Shop, ends: str, moment: str
) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        if ends != "a timeout":
            return await ctx.call(sig("child", "bad"))
        try:
            async with asyncio.timeout(3600):
                return await ctx.call(sig("child", "bad"))
        except TimeoutError:
            return "late"

    @world.orchestrator
    async def child(ctx: Any, what: str) -> Any:
        first = await ctx.call(sig("do", what))
        return [first, await ctx.call(sig("do", "more"))]

    shop.fail_at({"bad"}, "parent")
    shop.broken = set()
    [each] = world.client.children("i")
    world.client.rewind("i", None)
    world.runner.run("i")
    world.publisher.forget()

    def end() -> None:
        if ends == "replace":
            world.start("sleeper", if_exists="replace")
        elif ends == "an override":
            world.client.override("i", 1, "by hand", None, None)
        elif ends == "a timeout":
            with world.store.database.engine.begin() as connection:
                table = metadata.tables["durable_inbox"]
                connection.execute(
                    sa.update(table)
                    .where(table.c.kind == "TimerFired")
                    .values(visible_at=1, wake_at=1, check_at=1)
                )
        else:
            getattr(world.client, ends)("i", None, *([None] if ends == "terminate" else []))
        World(world.store, registry=world.registry).runner.run("i")

    @world.orchestrator
    async def sleeper(ctx: Any) -> Any:
        await ctx.wait_event("never")

    if moment == "before its turn":
        end()
        world.runner.run(each.id)
        assert world.status(each.id) is FAILED
        assert shop.calls == {"bad": 1}
    else:
        world.interpose("commit", before=end)
        world.runner.run(each.id)
    hurry(world.store)
    world.recovery().repair_wakes()
    world.pump()
    assert world.status(each.id) in (FAILED, RuntimeStatus.CANCELED, RuntimeStatus.TERMINATED)
    assert not shop.calls["more"], "nobody wants it any more"


@pytest.mark.parametrize("verb", ["restart", "replace", "purge"])
def test_a_parent_hears_of_a_child_that_is_gone_before_its_rewind(shop: Shop, verb: str) -> None:
    world = family(shop)
    [child] = world.client.children("i")
    world.client.rewind("i", None)
    world.runner.run("i")
    world.publisher.forget()
    if verb == "restart":
        world.client.restart(child.id, None)
    elif verb == "replace":
        world.start("child", "other", id_=child.id, if_exists="replace")
    else:
        assert not world.store.cleanup.purge(child.id, child.execution), "somebody waits for it"
    assert settled(world)
    expected = "bad" if verb == "purge" else FAILED
    assert (world.output() if verb == "purge" else world.status()) == expected
    if verb != "purge":
        world.client.rewind("i", None)
        assert settled(world)
        assert world.output() == "bad"


def test_a_rewind_waits_for_a_child_that_another_is_changing(shop: Shop) -> None:
    world = family(shop)
    [child] = world.client.children("i")
    busy = [True, True]
    revive = commit_steps.ask_child

    def revive_later(*args: Any) -> None:
        if busy:
            busy.pop()
            raise LockedError
        revive(*args)

    with mock.patch.object(commit_steps, "ask_child", revive_later):
        world.client.rewind("i", None)
        world.pump()
    assert world.output() == "bad"
    assert world.status(child.id) is COMPLETED


def test_a_life_that_was_put_in_the_place_of_another_is_not_put_there_twice(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(sig("do", "once"))

    world.start("sale")
    new = world.client.prepare(StartRequest("sale", (), {}, instance_id="i"))
    assert world.store.starts.replace(new) is not None
    world.pump()
    assert world.store.starts.replace(new) == [], "the answer of the commit was lost"
    assert world.output() == "once"


def test_a_child_whose_failure_was_known_at_a_rewind_is_itself_rewound_by_the_next(
    shop: Shop,
) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        side = ctx.call(sig("child", "bad child"))
        await ctx.call(sig("do", "bad"))
        await ctx.wait_event("go")
        return await side

    @world.orchestrator
    async def child(ctx: Any, what: str) -> Any:
        return [await ctx.call(sig("do", "first")), await ctx.call(sig("do", what))]

    shop.broken = {"bad", "bad child"}
    world.start("parent")
    world.runner.run("i")
    rows = {what_of(world, row): row for row in world.publisher.activities}
    world.publisher.activities.clear()
    world.pump()
    world.perform(rows["bad"].ticket, rows["bad"])
    shop.fail()
    shop.broken = {"bad child"}
    world.client.rewind("i", None)
    world.pump()
    world.raise_event("i", "go")
    shop.fail()
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == ["first", "bad child"]
    assert shop.calls == {"first": 1, "bad child": 2, "bad": 2}
    assert len(world.client.children("i")) == 1
    assert replays(world) > 0
