"""Rewinds, forks, and outcomes from outside."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from celery_durable.core.entity import declare, orchestrator_of, run_by
from celery_durable.core.history import EventKind
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.engine.registry import Definition
from celery_durable.errors import DurableError, InstanceExists, InstanceNotFound, InvalidState
from celery_durable.store import Store

from .builders import everything
from .shop import Shop, replays, what_of
from .world import World, sig

RUNNING, FAILED, COMPLETED = RuntimeStatus.RUNNING, RuntimeStatus.FAILED, RuntimeStatus.COMPLETED


# -- rewind ----------------------------------------------------------------------------------------


def test_only_what_failed_runs_again(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return [await ctx.call(sig("do", what)) for what in ("a", "b", "c")]

    shop.fail_at({"b"}, "sale")
    shop.repair_and_rewind("i", "the bank is back")
    assert world.status() is RUNNING
    assert world.client.fetch("i").failure is None
    world.pump()
    assert world.output() == ["a", "b", "c"]
    assert shop.calls == {"a": 1, "b": 2, "c": 1}
    notes = world.events(kind=EventKind.EXECUTION_REWOUND)
    assert [note.facts for note in notes] == [{"reason": "the bank is back"}]
    assert len(world.events(kind=EventKind.ACTIVITY_FAILED)) == 1, (
        "the old attempt stays in history"
    )
    assert replays(world) > 0


def test_a_rewind_that_fails_again_can_be_rewound_again(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        return await ctx.call(
            sig("do", "b"), retry=RetryPolicy(max_attempts=2, first_interval=0.001)
        )

    shop.fail_at({"b"}, "sale")
    for round_ in (2, 3):
        world.client.rewind("i", None)
        shop.fail()
        assert shop.calls == {"a": 1, "b": 2 * round_}, "a fresh count of attempts"
    shop.repair_and_rewind()
    world.pump()
    assert (world.output(), shop.calls["b"]) == ("b", 7)
    attempts = [
        event.attempt
        for event in world.events(kind=EventKind.ACTIVITY_COMPLETED)
        if event.command == 2
    ]
    assert attempts == [7], "no attempt's id is used twice"
    assert replays(world) > 0


def test_what_succeeded_beside_a_failure_is_kept(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        first = await asyncio.gather(
            *(ctx.call(sig("do", what)) for what in "abcd"), return_exceptions=True
        )
        errors = [each for each in first if isinstance(each, Exception)]
        if errors:
            raise errors[0]
        return first

    shop.fail_at({"b", "d"}, "sale")
    shop.repair_and_rewind()
    shop.fail()  # the code raised b's failure: d's was its own business, and it stays
    assert shop.calls == {"a": 1, "b": 2, "c": 1, "d": 1}
    world.client.rewind("i", None)
    world.pump()
    assert world.output() == ["a", "b", "c", "d"]
    assert shop.calls == {"a": 1, "b": 2, "c": 1, "d": 2}


def test_what_was_under_way_runs_again(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        slow = [ctx.call(sig("do", what)) for what in ("x", "y")]
        await ctx.call(sig("do", "bad"))
        return [await each for each in slow]

    shop.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    rows = {
        world.codec.decode(world.codec.decode(row.message)[0])[0][0]: row
        for row in world.publisher.activities
    }
    world.publisher.activities.clear()
    world.perform(rows["x"].ticket, rows["x"], inline=False)
    world.perform(rows["bad"].ticket, rows["bad"], inline=False)
    assert world.status() is FAILED
    assert not world.perform(rows["y"].ticket, rows["y"]), "nobody wants it now"
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == ["x", "y"]
    assert (shop.calls["x"], shop.calls["bad"]) == (1, 2)
    assert not world.perform(rows["y"].ticket, rows["y"]), "a copy of the old attempt"


def test_a_handled_failure_stays_handled(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            await ctx.call(sig("do", "optional"))
        except KeyError:
            await ctx.call(sig("do", "instead"))
        return await ctx.call(sig("do", "needed"))

    shop.fail_at({"optional", "needed"}, "sale")
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == "needed"
    assert shop.calls == {"optional": 1, "instead": 1, "needed": 2}


def test_a_cause_is_a_cause_however_it_is_wrapped(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_do(ctx, what)) for what in "ab"]
        except* KeyError as errors:
            raise ValueError("no sale") from errors
        return [task.result() for task in tasks]

    shop.fail_at({"b"}, "sale")
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == ["a", "b"]
    assert shop.calls["a"] == 1


async def _do(ctx: Any, what: str) -> Any:
    return await ctx.call(sig("do", what))


def test_code_that_was_repaired_continues_where_it_failed(shop: Shop) -> None:
    world = shop.world

    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        raise TypeError("a bug")

    world.orchestrator(sale)
    world.start("sale")
    shop.fail()

    async def mended(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        return await ctx.call(sig("do", "b"))

    mended.__name__ = "sale"
    world.orchestrator(mended)
    world.client.rewind("i", None)
    world.pump()
    assert world.output() == "b"
    assert shop.calls == {"a": 1, "b": 1}


def test_repaired_arguments_are_sent(shop: Shop) -> None:
    world = shop.world

    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        return await ctx.call(sig("do", "wrong"))

    world.orchestrator(sale)
    shop.fail_at({"wrong"}, "sale")

    async def mended(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        return await ctx.call(sig("do", "right"))

    mended.__name__ = "sale"
    world.orchestrator(mended)
    world.client.rewind("i", None)
    world.pump()
    assert (world.output(), shop.calls) == ("right", {"a": 1, "wrong": 1, "right": 1})


def test_a_code_that_fails_by_itself_fails_again(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        raise TypeError("a bug")

    world.start("sale")
    shop.fail()
    world.client.rewind("i", None)
    world.pump()
    assert world.status() is FAILED
    assert "a bug" in (world.client.fetch("i").reason or "")
    assert shop.calls == {"a": 1}


def test_what_a_saga_undid_is_done_again(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        before = await ctx.call(sig("do", "before"))
        async with ctx.saga() as saga:
            await saga.call(sig("do", "reserve"), undo=sig("do", "release"))
            chain = {
                "task": "celery.chain",
                "subtask_type": "chain",
                "args": (),
                "options": {},
                "kwargs": {"tasks": [sig("double", 1), sig("double")]},
            }
            await saga.call(chain, undo=sig("do", "halve"))
            await saga.call(sig("do", "charge"))
        return before

    shop.fail_at({"charge"}, "sale")
    assert (shop.calls["release"], shop.calls["halve"], world.runs["double"]) == (1, 1, 2)
    shop.repair_and_rewind()
    world.pump()
    assert world.output() == "before"
    assert shop.calls == {"before": 1, "reserve": 2, "release": 1, "halve": 1, "charge": 2}
    assert world.runs["double"] == 4
    assert replays(world) > 0


def test_what_was_undone_twice_has_a_third_key(shop: Shop) -> None:
    world, keys = shop.world, dict[str, list[Any]]()
    send = world.publisher.publish_activities

    def note(rows: Any) -> Any:
        for row in rows:
            keys.setdefault(what_of(world, row), []).append(
                row.signature[2].get("headers", {}).get("durable_redo")
            )
        return send(rows)

    world.publisher.publish_activities = note

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        async with ctx.saga() as saga:
            await saga.call(
                sig("do", "reserve"), undo=sig("do", "release"), retry=RetryPolicy(max_attempts=2)
            )
            await saga.call(sig("do", "charge"))

    shop.fail_at({"charge"}, "sale")
    world.client.rewind("i", None)
    shop.fail()
    shop.repair_and_rewind()
    world.pump()
    assert world.status() is RuntimeStatus.COMPLETED
    assert keys["reserve"] == [None, 1, 2]
    assert set(keys["charge"]) == {None}
    assert replays(world) > 0


def test_timers_events_and_inline_runs_are_as_they_were(shop: Shop) -> None:
    world, ran = shop.world, Counter[str]()

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.sleep(0.001)
        drawn = await ctx.run(lambda: ran.update(["draw"]) or 7)
        facts = [str(ctx.uuid4()), ctx.random.random(), ctx.now().isoformat()]
        told = await ctx.wait_event("go")
        late = ctx.sleep(0.05)
        await ctx.call(sig("do", "bad"))
        await late
        return [drawn, facts, told]

    shop.broken = {"bad"}
    world.start("sale")
    world.pump_until(
        lambda: world.store.reads.count(Filters(statuses=(RUNNING,))) == 1 and ran,
        "the first timer",
    )
    world.raise_event("i", "go", "now")
    world.raise_event("i", "go", "later")
    shop.fail()
    shop.repair_and_rewind()
    world.pump_to_end()
    drawn, _, told = world.output()
    assert (drawn, told, ran) == (7, "now", {"draw": 1})
    assert replays(world) > 0


@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_map_continues_with_its_window(shop: Shop, concurrency: int | None) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.map(sig("do"), ["a", "b", "bad", "d", "e", "f"], concurrency=concurrency)

    shop.fail_at({"bad"}, "sale")
    world.publisher.forget()
    shop.repair_and_rewind()
    world.runner.run("i")
    assert len(world.publisher.activities) <= (concurrency or 4)
    world.pump()
    assert world.output() == ["a", "b", "bad", "d", "e", "f"]
    assert shop.calls["a"] == 1


def test_an_event_of_meanwhile_waits_for_the_rewind(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "bad"))
        return await ctx.wait_event("go")

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    world.raise_event("i", "go", 1)
    world.pump()
    assert world.output() == 1


def test_a_lost_message_of_a_rewind_is_found(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(sig("do", "bad"))

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    world.publisher.forget()
    recovery = world.recovery()

    def is_over() -> bool:
        recovery.repair_wakes()
        world.pump()
        return world.status() is COMPLETED

    world.pump_until(is_over)


def test_a_worker_without_the_code_leaves_a_rewind_to_another(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(sig("do", "bad"))

    shop.fail_at({"bad"}, "sale")
    World(world.store).client.rewind("i", None)
    assert World(world.store).runner.run("i").name == "UNKNOWN"
    shop.broken = set()
    world.runner.run("i")
    world.pump()
    assert world.output() == "bad"


def test_code_that_cannot_be_retraced_suspends_and_continues_when_resumed(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(sig("do", "bad"))

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    text = world.store.reads.events("i")[0]
    damage(world.store, 1, "[1]")
    world.pump()
    assert world.status() is RuntimeStatus.SUSPENDED
    damage(world.store, 1, text)
    world.client.resume("i", None)
    world.pump()
    assert world.output() == "bad"


def damage(store: Store, row: int, text: str) -> None:
    with store.database.cursor() as cursor:
        mark = "?" if store.database.family == "sqlite" else "%s"
        cursor.execute(
            f"UPDATE durable_history SET events = {mark} WHERE instance = 'i' AND sequence ="
            f" {mark}",
            (text.encode(), row),
        )


# -- rewind of children ----------------------------------------------------------------------------


def family(shop: Shop) -> World:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        first = await ctx.call(sig("child", "good"))
        return [first, await ctx.call(sig("child", "bad"))]

    @world.orchestrator
    async def child(ctx: Any, what: str) -> Any:
        await ctx.call(sig("do", f"before {what}"))
        return await ctx.call(sig("do", what))

    shop.fail_at({"bad"}, "parent")
    return world


def test_a_failed_child_is_rewound_and_a_good_one_is_kept(shop: Shop) -> None:
    world = family(shop)
    children = {record.id for record in world.client.children("i")}
    shop.repair_and_rewind("i", "again")
    world.pump()
    assert world.output() == ["good", "bad"]
    assert shop.calls == {"before good": 1, "good": 1, "before bad": 1, "bad": 2}
    assert {record.id for record in world.client.children("i")} == children
    assert replays(world) > 0


def test_a_child_that_was_purged_is_an_error(shop: Shop) -> None:
    world = family(shop)
    [failed] = [record.id for record in world.client.children("i") if record.status is FAILED]
    world.client.purge(failed)
    world.client.rewind("i", None)
    world.pump()
    assert world.status() is FAILED
    assert "InstanceNotFound" in (world.client.fetch("i").reason or "")


def test_a_child_that_was_rewound_by_itself_tells_its_outcome(shop: Shop) -> None:
    world = family(shop)
    [failed] = [record.id for record in world.client.children("i") if record.status is FAILED]
    shop.repair_and_rewind(failed)
    world.pump()
    assert (world.status(failed), world.status()) == (COMPLETED, FAILED)
    world.client.rewind("i", None)
    world.pump()
    assert world.output() == ["good", "bad"]
    assert shop.calls["bad"] == 2


def test_a_child_that_ends_while_its_parent_is_rewound_is_heard(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        slow = ctx.call(sig("child"))
        await ctx.call(sig("do", "bad"))
        return await slow

    @world.orchestrator
    async def child(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    shop.fail_at({"bad"}, "parent")
    shop.broken = set()
    [record] = world.client.children("i")
    world.raise_event(record.id, "go", 5)
    # the child's commit looks before its parent is rewound, and is visible only after the rewind
    # has looked
    world.interpose("commit", after=lambda: (world.client.rewind("i", None), rewound(world)))
    world.pump()
    assert world.output() == 5


def rewound(world: World) -> None:
    with_store, world.runner.store = world.runner.store, world.store
    world.runner.run("i")
    world.runner.store = with_store


def test_a_canceled_child_is_started_again(shop: Shop) -> None:
    world = family(shop)
    shop.broken = set()

    @world.orchestrator
    async def other(ctx: Any) -> Any:
        return await ctx.call(sig("waiter"))

    @world.orchestrator
    async def waiter(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    world.start("other", id_="o")
    world.pump()
    [child] = world.client.children("o")
    world.client.cancel(child.id, None)
    shop.fail("o")
    world.client.rewind("o", None)
    world.pump()
    new = next(record for record in world.client.children("o") if record.status is RUNNING)
    assert new.id != child.id
    world.raise_event(new.id, "go", 3)
    world.pump()
    assert world.output("o") == 3


def test_a_child_that_ran_out_of_time_is_started_again(shop: Shop) -> None:
    world, limit = shop.world, [0.05]

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.call(sig("child"), timeout=limit[0])

    @world.orchestrator
    async def child(ctx: Any) -> Any:
        return await ctx.wait_event("go", timeout=3600)

    world.start("parent")
    shop.fail()
    limit[0] = 3600
    world.client.rewind("i", None)
    world.pump()
    old, new = world.client.children("i")
    assert (old.status, new.status) == (RuntimeStatus.CANCELED, RUNNING)
    world.raise_event(new.id, "go", 3)
    world.pump()
    assert world.output() == 3
    assert replays(world) > 0


# -- refusals, dry runs ----------------------------------------------------------------------------


def test_a_rewind_waits_for_celery_to_be_told_of_the_end(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        raise ValueError

    world.start("sale", canvas={"ignore_result": True})
    shop.fail()
    before = everything(world.store)
    with pytest.raises(InvalidState, match="under way"):
        world.client.rewind("i", None)
    assert everything(world.store) == before


def test_a_dry_run_tells_what_would_come_and_changes_nothing(shop: Shop) -> None:
    world, ran = shop.world, Counter[str]()

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        await ctx.call(sig("do", "bad"))
        await ctx.run(lambda: ran.update(["draw"]))

    shop.fail_at({"bad"}, "sale")
    before = everything(world.store)
    told = world.client.forecast_rewind("i")
    assert told.status is RUNNING
    assert told.commands == ["2: ScheduleActivity 'do'"]
    then = world.client.override("i", 2, "x", None, None, is_dry=True)
    assert then is not None
    assert any("RecordRun" in command for command in then.commands)
    assert "RUNNING" in str(then)
    assert (everything(world.store), ran) == (before, {})
    with pytest.raises(DurableError, match="needs its orchestrator"):
        World(world.store).client.forecast_rewind("i")


# -- override --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, ValueError("as told")])
def test_an_outcome_is_injected_into_a_living_one(shop: Shop, error: Exception | None) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        try:
            return await ctx.call(sig("do", "a"), retry=RetryPolicy(max_attempts=9))
        except ValueError as problem:
            return f"caught {problem}"

    world.start("sale")
    world.runner.run("i")
    [row] = world.publisher.activities
    world.publisher.activities.clear()
    told = world.client.override("i", 1, "given", error, "the bank said so", is_dry=True)
    assert told is not None
    assert told.status is COMPLETED
    world.client.override("i", 1, "given", error, "the bank said so")
    world.pump()
    assert world.output() == ("given" if error is None else "caught as told")
    assert not world.perform(row.ticket, row), "the activity is not wanted any more"
    kind = EventKind.ACTIVITY_COMPLETED if error is None else EventKind.ACTIVITY_FAILED
    facts = world.events(kind=kind)[0].facts or {}
    assert (facts["injected"], facts["reason"]) == (True, "the bank said so")
    assert replays(world) > 0


def test_a_call_that_waits_for_its_next_attempt_takes_an_outcome(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(
            sig("do", "bad"), retry=RetryPolicy(max_attempts=9, first_interval=3600)
        )

    shop.broken = {"bad"}
    world.start("sale")
    world.pump()
    world.client.override("i", 1, "given", None, None)
    world.pump()
    assert world.output() == "given"
    assert shop.calls == {"bad": 1}


def test_a_suspended_call_takes_an_outcome_when_it_is_resumed(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        return await ctx.call(sig("do", "bad"), on_exhausted="suspend")

    shop.broken = {"bad"}
    world.start("sale")
    world.pump()
    assert world.status() is RuntimeStatus.SUSPENDED
    world.client.override("i", 1, "given", None, "by hand")
    world.client.resume("i", None)
    world.pump()
    assert world.output() == "given"
    assert shop.calls == {"bad": 1}


def test_an_outcome_of_a_failed_one_is_overridden(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        first = await ctx.call(sig("do", "a"))
        return [first, await ctx.call(sig("do", "bad"))]

    shop.fail_at({"bad"}, "sale")
    world.client.override("i", 2, "given", None, "by hand")
    world.pump()
    assert world.output() == ["a", "given"]
    assert shop.calls == {"a": 1, "bad": 1}
    assert replays(world) > 0


def test_a_success_is_overridden_and_what_follows_differs(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        what = await ctx.call(sig("do", "good"))
        return await ctx.call(sig("do", f"then {what}"))

    shop.fail_at({"then good"}, "sale")
    world.client.override("i", 1, "other", None, None)
    world.pump()
    assert world.output() == "then other"


def test_a_child_is_overridden(shop: Shop) -> None:
    world = family(shop)
    world.client.override("i", 2, "given", None, None)
    world.pump()
    assert world.output() == ["good", "given"]


def test_refused_overrides_say_why_and_change_nothing(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        ctx.call(sig("do", "late"))
        await ctx.wait_event("go")
        raise ValueError

    world.start("sale")
    world.runner.run("i")
    world.perform(world.publisher.activities[0].ticket, world.publisher.activities.popleft())
    before = everything(world.store)
    with pytest.raises(InvalidState, match="has its outcome already"):
        world.client.override("i", 1, 0, None, None)
    with pytest.raises(ValueError, match=r"99 is no activity .* 1 \(do\)"):
        world.client.override("i", 99, 0, None, None)
    with pytest.raises(InstanceNotFound):
        world.client.override("other", 1, 0, None, None)
    assert everything(world.store) == before
    world.raise_event("i", "go")
    world.publisher.activities.clear()
    world.pump()
    assert world.status() is FAILED
    with pytest.raises(InvalidState, match="a rewind runs it again"):
        world.client.override("i", 2, 0, None, None)


# -- fork ------------------------------------------------------------------------------------------


def test_a_fork_shares_the_past_and_continues_by_itself(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        facts = [str(ctx.uuid4()), ctx.random.random()]
        await ctx.call(sig("do", "a"))
        await ctx.call(sig("do", "b"))
        return [*facts, str(ctx.uuid4())]

    world.start("sale", tags={"t": "1"})
    world.pump()
    at = next(
        n for n, event in enumerate(world.events(), 1) if event.kind is EventKind.ACTIVITY_COMPLETED
    )
    for new_id in ("f1", "f2"):
        assert world.client.fork("i", at, new_id, "what if") == new_id
        world.pump()
    assert shop.calls == {"a": 1, "b": 3}
    outputs = [world.output(id_) for id_ in ("i", "f1", "f2")]
    assert outputs[0][:2] == outputs[1][:2] == outputs[2][:2], "the same dice up to the fork"
    assert len({output[2] for output in outputs}) == 3, "dice of its own after it"
    record = world.client.fetch("f1")
    assert (record.tags, record.name, record.parent_id) == ({"t": "1"}, "sale", None)
    assert record.execution != world.client.fetch("i").execution
    facts = world.events("f1", EventKind.WORK_RENEWED)[0].facts or {}
    assert (facts["fork_of"], facts["at"], facts["reason"]) == ("i", at, "what if")
    assert replays(world, "f1") > 0
    fork_of_fork = world.client.fork("f1", len(world.events("f1")) - 2, None, None)
    world.pump()
    assert world.output(fork_of_fork)[:2] == outputs[0][:2]


def test_a_fork_runs_what_was_under_way(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        timer, child = ctx.sleep(0.01), ctx.call(sig("child"))
        named = ctx.call(sig("child", task_id="named"))
        first = await ctx.call(sig("do", "a"))
        await timer
        return [first, await child, await named]

    @world.orchestrator
    async def child(ctx: Any) -> Any:
        return await ctx.call(sig("do", "in child"))

    world.start("sale")
    world.pump_to_end()
    world.client.fork("i", 1, "f", None)
    world.pump_to_end("f")
    assert world.output("f") == world.output() == ["a", "in child", "in child"]
    assert shop.calls == {"a": 2, "in child": 4}
    assert len(world.client.children("f")) == 2
    assert world.store.reads.fetch("named").parent_id == "i"


def test_a_fork_of_a_fan_out_wakes_once(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        found = await asyncio.gather(*(ctx.call(sig("do", what)) for what in "abcd"))
        return "".join(found)

    world.start("sale")
    world.pump()
    world.client.fork("i", 1, "f", None)
    world.pump()
    assert world.output("f") == "abcd"
    rows = [
        kind
        for kind in (event.kind for event in world.events("f"))
        if kind is EventKind.JOIN_FORMED
    ]
    assert len(rows) == 2, "the join of before the fork, and its own"
    assert len(world.store.reads.events("f")) == 3, (
        "one turn for the fan-out, and one when it is in"
    )


@pytest.mark.parametrize(
    "status", [RuntimeStatus.SUSPENDED, RuntimeStatus.TERMINATED, FAILED, RUNNING]
)
def test_any_status_can_be_forked(shop: Shop, status: RuntimeStatus) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        if await ctx.wait_event("go") == "fail":
            raise ValueError

    world.start("sale")
    world.pump()
    {
        RuntimeStatus.SUSPENDED: lambda: world.client.suspend("i", None),
        RuntimeStatus.TERMINATED: lambda: world.client.terminate("i", None, None),
        FAILED: lambda: world.raise_event("i", "go", "fail"),
        RUNNING: lambda: None,
    }[status]()
    world.pump()
    world.client.fork("i", 1, "f", None)
    world.raise_event("f", "go", "on")
    world.pump()
    assert (world.status(), world.status("f")) == (status, COMPLETED)


def test_a_rewound_one_is_forked_before_and_after_its_rewind(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))
        await ctx.call(sig("do", "bad"))
        return await ctx.call(sig("do", "c"))

    shop.fail_at({"bad"}, "sale")
    shop.repair_and_rewind()
    world.pump()
    numbers = [
        n
        for n, e in enumerate(world.events(), 1)
        if e.kind is EventKind.ACTIVITY_COMPLETED and e.command == 1
    ]
    assert len(numbers) == 2
    for number in numbers:
        forked = world.client.fork("i", number, None, None)
        world.pump()
        assert world.output(forked) == "c"
    assert shop.calls == {"a": 1, "bad": 4, "c": 3}


def test_a_fork_point_that_does_not_exist_is_refused(shop: Shop) -> None:
    world = shop.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "a"))

    world.start("sale")
    with pytest.raises(InvalidState, match="PENDING"):
        world.client.fork("i", 1, None, None)
    world.pump()
    before = everything(world.store)
    last = len(world.events())
    for at in (0, -1, last + 1):
        with pytest.raises(ValueError, match=f"the events 1 to {last}"):
            world.client.fork("i", at, None, None)
    for no_number in (True, "1", None):
        with pytest.raises(TypeError, match="at must be a whole number"):
            world.client.fork("i", no_number, None, None)
    with pytest.raises(ValueError, match="was over"):
        world.client.fork("i", last, None, None)
    with pytest.raises(InstanceExists):
        world.client.fork("i", 1, "i", None)
    with pytest.raises(InstanceNotFound):
        world.client.fork("other", 1, None, None)
    assert everything(world.store) == before


def test_the_front_door_rewinds_forks_and_overrides(new_app: Any) -> None:
    app = new_app(task_always_eager=True)
    broken = {"b"}

    @app.task(name="front.do")
    def do(what: str) -> str:
        if what in broken:
            raise KeyError(what)
        return what

    @app.durable.orchestrator(name="front.sale")
    async def sale(ctx: Any, *parts: str) -> Any:
        return [await ctx.call(do.s(part)) for part in parts]

    runs = [
        sale.apply_async(("a", "b"), task_id=f"s{number}", ignore_result=True)
        for number in range(3)
    ]
    for run in runs:
        with pytest.raises(KeyError):
            run.get(timeout=300)
    run = app.durable.get("s0")
    assert "ScheduleActivity" in str(run.rewind(dry_run=True))
    assert run.runtime_status is FAILED
    assert run.skip(2, dry_run=True).status is COMPLETED
    assert app.durable.override("s0", 2, dry_run=True).status is COMPLETED
    run.skip(2)
    assert run.get(timeout=300) == ["a", None]
    broken.clear()
    assert app.durable.rewind(name=sale, reason="mended").done == 2
    assert [run.get(timeout=300) for run in runs[1:]] == [["a", "b"]] * 2
    assert app.durable.fork("s1", at=1, new_id="s8").get(timeout=300) == ["a", "b"]
    forked = run.fork(at=1, new_id="s9")
    assert (forked.id, forked.get(timeout=300)) == ("s9", ["a", "b"])


# -- entities --------------------------------------------------------------------------------------


class Account:
    """An entity whose first withdrawal fails while it is empty."""

    balance: int = 0

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise ValueError("too little")
        self.balance -= amount
        return self.balance


@pytest.fixture
def bank(shop: Shop) -> Shop:
    declaration = declare(Account)
    shop.world.registry.add(Definition(orchestrator_of("Account"), None, run_by(declaration)))
    return shop


def balance(world: World) -> int:
    saved = world.custom_status("@Account@a")
    return saved["balance"]


def test_an_operation_that_failed_is_called_again_and_others_are_not(bank: Shop) -> None:
    world = bank.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        account = ctx.entity(Account, "a")
        await account.deposit(1)
        return await account.withdraw(5)

    @world.orchestrator
    async def gift(ctx: Any) -> Any:
        return await ctx.entity(Account, "a").deposit(10)

    world.start("sale")
    bank.fail()
    world.start("gift", id_="g")
    world.pump()
    world.client.rewind("i", None)
    world.pump()
    assert (world.output(), balance(world)) == (6, 6)
    assert replays(world) > 0


def test_an_answer_that_was_lost_with_the_failure_is_asked_for_again(bank: Shop) -> None:
    world = bank.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        asked = ctx.entity(Account, "a").deposit(1)
        await ctx.call(sig("do", "bad"))
        return await asked

    bank.broken = {"bad"}
    world.start("sale")
    world.runner.run("i")
    world.publisher.turns.clear()  # the entity does not come to its turn before the failure
    bank.fail()
    bank.broken = set()
    world.client.rewind("i", None)
    world.runner.run("i")
    world.runner.run("@Account@a")
    world.pump()
    assert world.output() in (1, 2)
    assert balance(world) == world.output()


def test_a_lock_that_the_failure_gave_back_is_taken_again_before_its_block_continues(
    bank: Shop,
) -> None:
    world = bank.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        await ctx.call(sig("do", "before"))
        account = ctx.entity(Account, "a")
        async with ctx.lock(account) as lock:
            await account.deposit(1)
            await ctx.call(sig("do", "inside"))
            await ctx.call(sig("do", "bad"))
        return len(lock.numbers)

    @world.orchestrator
    async def other(ctx: Any) -> None:
        async with ctx.lock(ctx.entity(Account, "a")):
            await ctx.wait_event("go")

    bank.fail_at({"bad"}, "sale")
    world.start("other", id_="o")
    world.pump()
    bank.broken = set()
    world.client.rewind("i", None)
    world.pump()
    assert world.status() is RUNNING, "it waits for the lock"
    assert bank.calls == {"before": 1, "inside": 1, "bad": 1}
    world.raise_event("o", "go")
    world.pump()
    assert world.status() is COMPLETED
    assert bank.calls == {"before": 1, "inside": 2, "bad": 2}
    assert balance(world) == 2
    assert replays(world) > 0


def test_a_fork_asks_entities_again_and_takes_no_lock_along(bank: Shop) -> None:
    world = bank.world

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        account = ctx.entity(Account, "a")
        await account.deposit(1)
        async with ctx.lock(account):
            await ctx.call(sig("do", "inside"))
        return await account.deposit(1)

    world.start("sale")
    world.pump()
    assert world.output() == 2
    world.client.fork("i", 1, "f", None)
    world.pump()
    assert (world.output("f"), balance(world)) == (4, 4)
    assert replays(world, "f") > 0
    inside = next(
        n for n, event in enumerate(world.events(), 1) if event.kind is EventKind.ACTIVITY_COMPLETED
    )
    with pytest.raises(ValueError, match=r"lock of @Account@a at event"):
        world.client.fork("i", inside - 1, None, None)
    world.client.fork("i", inside, "after", None)
    world.pump()
    assert world.output("after") == 5
