"""Limits are never exceeded, nothing waits for ever, no slot is lost: whatever ends, dies or comes
at once.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import ConfigurationError, Debounce, Durable, Limit, Rate
from celery_durable.core.history import EventKind
from celery_durable.core.limits import key_of
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.admission_policy import declared_policy
from celery_durable.engine.explain import explain
from celery_durable.engine.start import StartRequest
from celery_durable.engine.writes import AlreadyWaitsError, NewInstance
from celery_durable.store import Store
from celery_durable.store.database import Statement
from celery_durable.store.schema import inbox, places, waiting
from tests.conftest import wait_until

from .builders import SECOND, at_once, rows
from .world import World, sig

PENDING, RUNNING, COMPLETED = RuntimeStatus.PENDING, RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED


def declare(world: World, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return world.orchestrator(function, flow=declared_policy(function, options))


async def job(ctx: Any, tenant: str | None = None, how: str = "") -> Any:
    """Wait for an event, and end as it says."""
    answer = await ctx.wait_event("go")
    if answer == "fail":
        raise ValueError("as asked")
    if answer == "again":
        ctx.continue_as_new(tenant, how)
    return answer


def make_world(store: Store, limit: Any = 1, **options: Any) -> World:
    world = World(store)
    declare(world, job, limit=limit, **options)
    return world


def table(store: Store, chosen: sa.Table) -> list[dict[str, Any]]:
    with store.database.engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(chosen))]


def running(world: World) -> list[str]:
    """Return the ids of those that have begun, in order."""
    page, _ = world.store.reads.find(_filters(RUNNING), 1000, None)
    return sorted(record.id for record in page)


def _filters(*statuses: RuntimeStatus) -> Any:
    from celery_durable.engine.listing import Filters

    return Filters(statuses=statuses)


def is_clean(world: World) -> bool:
    """Tell whether nobody waits, and nobody has a slot until its end."""
    held = [row for row in table(world.store, places) if row["expires_at"] is None]
    return not held and not table(world.store, waiting)


def passes(store: Store, sql: str) -> None:
    """Let time pass for some rows."""
    store.database.change_one(Statement(sql))


def end(world: World, id_: str, answer: str = "done") -> None:
    world.raise_event(id_, "go", answer)
    world.pump()


# -- slots -----------------------------------------------------------------------------------------


def test_no_more_run_than_the_limit_and_the_next_follow_in_order(store: Store) -> None:
    world = make_world(store, limit=2)
    for number in range(5):
        world.start("job", id_=f"i{number}")
    world.pump()
    assert running(world) == ["i0", "i1"]
    assert world.status("i2") is PENDING
    end(world, "i1")
    assert running(world) == ["i0", "i2"]
    end(world, "i0")
    end(world, "i2")
    assert running(world) == ["i3", "i4"]
    end(world, "i3")
    end(world, "i4")
    assert is_clean(world)


def test_each_key_has_its_places_and_all_together_have_theirs(store: Store) -> None:
    world = make_world(store, limit=[Limit(2, key="tenant"), Limit(3)])
    for number, tenant in enumerate(["a", "a", "a", "b", "b", "c"]):
        world.start("job", tenant, id_=f"{tenant}{number}")
    world.pump()
    assert running(world) == ["a0", "a1", "b3"]
    end(world, "b3")
    assert running(world) == ["a0", "a1", "b4"]
    end(world, "a0")
    assert running(world) == ["a1", "a2", "b4"]
    for id_ in ("a1", "a2", "b4", "c5"):
        end(world, id_)
    assert is_clean(world)


def test_a_full_key_holds_no_other_up_and_no_key_is_no_limit(store: Store) -> None:
    world = make_world(store, limit=Limit(1, key="tenant"))
    for number in range(20):
        world.start("job", "big", id_=f"big{number:02}")
    for id_, tenant in (("small", "small"), ("free1", None), ("free2", None)):
        world.start("job", tenant, id_=id_)
    world.pump()
    assert running(world) == ["big00", "free1", "free2", "small"]


def test_higher_priorities_come_first_then_the_older(store: Store) -> None:
    world = make_world(store, priority=3)
    world.start("job", id_="first")
    world.start("job", id_="usual 1")
    world.start("job", id_="usual 2")
    world.start("job", id_="low", canvas={"options": {"priority": 1}})
    world.start("job", id_="high", canvas={"options": {"priority": 9}})
    world.pump()
    order = ["first"]
    while world.status("low") is not COMPLETED:
        end(world, order[-1])
        order += running(world)
    assert order == ["first", "high", "usual 1", "usual 2", "low"]


def test_a_delayed_start_takes_no_place_before_its_time(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="later", start_at=store.now() + 3600 * SECOND)
    world.start("job", id_="now")
    world.pump()
    assert running(world) == ["now"]
    end(world, "now")
    assert running(world) == []
    passes(store, "UPDATE durable_waiting SET ready_at = 1")
    tick_until(world, lambda: running(world) == ["later"])


@pytest.mark.parametrize("fast", [True, False], ids=["inline", "by-message"])
def test_a_process_that_takes_first_turns_itself_keeps_to_limits(store: Store, fast: bool) -> None:
    world = World(store, start_inline=fast)
    declare(world, job, limit=1)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.pump()
    assert running(world) == ["a"]


def test_an_orchestrator_without_limits_makes_no_row(store: Store) -> None:
    world = World(store)
    world.orchestrator(job)
    world.start("job", id_="a")
    world.pump()
    assert running(world) == ["a"]
    assert table(store, waiting) == table(store, places) == []
    assert store.turns.load("a", None).instance.policy is None


def test_a_limit_that_was_changed_or_lifted_holds_for_those_that_wait(store: Store) -> None:
    world = make_world(store)
    for number in range(6):
        world.start("job", id_=f"i{number}")
    world.pump()
    declare(world, job, limit=3)
    end(world, "i0")
    assert running(world) == ["i1", "i2", "i3"]
    world.orchestrator(job)
    end(world, "i1")
    assert running(world) == ["i2", "i3", "i4", "i5"]
    for id_ in running(world):
        end(world, id_)
    assert is_clean(world)


def test_a_process_without_the_code_lets_the_next_in_by_the_terms_of_the_start(
    store: Store,
) -> None:
    world, client = make_world(store), World(store)
    for id_ in ("a", "b", "c"):
        world.start("job", id_=id_)
    world.pump()
    client.client.terminate("a", "enough", None)
    assert [turn[0].id for turn in client.publisher.turns] == ["b"]
    world.runner.run("b")
    assert running(world) == ["b"]


# -- ends ------------------------------------------------------------------------------------------

ENDS: dict[str, Callable[[World], object]] = {
    "complete": lambda world: world.raise_event("a", "go", "done"),
    "fail": lambda world: world.raise_event("a", "go", "fail"),
    "cancel": lambda world: world.client.cancel("a", "enough"),
    "terminate": lambda world: world.client.terminate("a", "enough", None),
    "terminate by message": lambda world: world.client.terminate(
        "a", "enough", None, recursive=False
    ),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("is_suspended", [False, True], ids=["running", "suspended"])
def test_every_end_gives_the_place_back(store: Store, how: str, is_suspended: bool) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.pump()
    if is_suspended:
        world.client.suspend("a", None)
        world.pump()
        assert world.status("b") is PENDING, "a suspended one keeps its slot"
        if how != "terminate":
            world.client.resume("a", None)
    ENDS[how](world)
    world.pump()
    assert world.status("a").is_terminal
    assert running(world) == ["b"]
    end(world, "b")
    assert is_clean(world)


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_one_that_waits_can_end_and_leaves_nothing(store: Store, how: str) -> None:
    world = make_world(store)
    for id_ in ("first", "a", "b"):
        world.start("job", id_=id_)
    world.pump()
    ENDS[how](world)
    world.pump()
    assert world.status("a").is_terminal
    assert rows(store, "inbox", inbox.c.instance == "a") == []
    end(world, "first")
    assert running(world) == ["b"]
    end(world, "b")
    assert is_clean(world)


def test_events_and_stops_leave_a_waiting_one_pending_and_are_not_lost(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="first")
    world.start("job", id_="a")
    world.pump()
    world.raise_event("a", "go", "early")
    world.pump()
    assert world.status("a") is PENDING
    world.client.suspend("a", "wait")
    world.pump()
    world.client.resume("a", None)
    world.pump()
    assert world.status("a") is PENDING
    end(world, "first")
    assert world.output("a") == "early"
    assert is_clean(world)


def test_continue_as_new_keeps_the_place(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.pump()
    for _ in range(3):
        end(world, "a", "again")
        assert running(world) == ["a"]
    end(world, "a")
    assert running(world) == ["b"]


@pytest.mark.parametrize("if_exists", ["restart", "replace"])
def test_the_life_that_comes_in_the_place_of_another_has_one_place(
    store: Store, if_exists: str
) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.pump()
    if if_exists == "restart":
        end(world, "a")
        end(world, "b")
    world.start("job", id_="a", if_exists=if_exists)
    world.pump()
    assert len(table(store, places)) == 1
    for id_ in ("b", "a", "b", "a"):
        if world.status(id_) is RUNNING:
            end(world, id_)
    assert is_clean(world)
    assert world.status("a") is COMPLETED


def test_replacing_one_that_waits_leaves_one_that_waits(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="first")
    world.start("job", "old", id_="a")
    world.start("job", "new", id_="a", if_exists="replace")
    assert len(table(store, waiting)) == 1
    world.pump()
    end(world, "first")
    assert running(world) == ["a"]
    assert world.codec.decode(world.client.fetch("a").input) == [["new"], {}]


def test_purging_leaves_no_row(store: Store) -> None:
    world = make_world(store, limit=[Limit(1), Rate(5, per=60)])
    world.start("job", id_="a")
    world.pump()
    end(world, "a")
    world.client.purge("a")
    assert is_clean(world)
    assert len(table(store, places)) == 1, (
        "a start counts for its period, whatever becomes of the instance"
    )


# -- where starts come from ------------------------------------------------------------------------


def test_children_wait_for_slots_too(store: Store) -> None:
    world = make_world(store, limit=Limit(2))

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.all(
            [ctx.call(sig("job", "t", task_id=f"c{number}")) for number in range(5)]
        )

    world.start("parent", id_="p")
    world.pump()
    assert running(world) == ["c0", "c1", "p"]
    for number in range(5):
        end(world, f"c{number}", f"{number}")
    world.pump_to_end("p")
    assert world.output("p") == ["0", "1", "2", "3", "4"]
    assert is_clean(world)


def test_a_child_whose_key_cannot_be_told_fails_in_its_parent(store: Store) -> None:
    def tenant_of(order: dict[str, str]) -> str:
        return order["tenant"]

    async def keyed(ctx: Any, order: dict[str, str]) -> None: ...

    world = World(store)
    declare(world, keyed, limit=Limit(1, key=tenant_of))

    @world.orchestrator
    async def parent(ctx: Any) -> str:
        try:
            await ctx.call(sig("keyed", {}, task_id="c"))
        except ValueError as error:
            return str(error)
        return "no error"

    world.start("parent", id_="p")
    world.pump()
    assert "KeyError: 'tenant'" in world.output("p")
    assert world.status("c") is None


def test_a_start_whose_key_cannot_be_told_inserts_nothing(store: Store) -> None:
    world = make_world(store, limit=Limit(1, key="tenant"))
    with pytest.raises(ValueError, match=r"'i' \(job\) cannot start.*a key is a string"):
        world.start("job", ["no", "text"])
    assert world.status("i") is None
    assert table(store, waiting) == []


def test_starts_in_a_callers_transaction_wait_and_take_no_lock(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="first")
    new = world.client.prepare(StartRequest("job", (), {}, instance_id="joined"))
    if store.database.family == "sqlite":
        store.starts.insert(new)
    else:
        with store.database.cursor() as cursor:
            cursor.execute("BEGIN")
            assert store.starts.insert_within(cursor, new)
            world.start("job", id_="other")
            world.pump()
            end(world, "first")
            assert running(world) == ["other"]
            cursor.execute("COMMIT")
    world.runner.starter.announce(new)
    world.pump()
    for _ in range(2):
        for id_ in running(world):
            end(world, id_)
    assert world.status("joined") in (RUNNING, COMPLETED)


def test_ticks_of_a_schedule_keep_to_limits(store: Store) -> None:
    from .test_idle_cost import declare as declare_schedule

    async def orchestrator(ctx: Any) -> None:
        await ctx.wait_event("go")

    world = World(store)
    declare(world, orchestrator, limit=1)
    world.start("orchestrator", id_="first")
    world.pump()
    declare_schedule(store, 0)
    world.recovery().tick(list, lambda _: None)
    world.pump()
    (tick,) = [row["instance"] for row in table(store, waiting)]
    assert tick.startswith("s@")
    end(world, "first")
    assert running(world) == [tick]


# -- crashes ---------------------------------------------------------------------------------------


def tick_until(world: World, condition: Callable[[], object]) -> None:
    """Let recovery alone bring a condition about."""
    recovery = world.recovery()

    def goes_on() -> object:
        recovery.tick(list, lambda _: None)
        world.pump()
        return condition()

    wait_until(goes_on, 15, "recovery")


def test_a_death_between_the_start_and_its_admission_is_repaired(store: Store) -> None:
    world = make_world(store)
    store.starts.insert(world.client.prepare(StartRequest("job", (), {}, instance_id="a")))
    store.starts.insert(world.client.prepare(StartRequest("job", (), {}, instance_id="b")))
    tick_until(world, lambda: running(world) == ["a"])


def test_a_death_between_an_end_and_the_next_admission_is_repaired(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.pump()
    world.raise_event("a", "go", "done")
    dispatcher = world.runner.dispatcher
    dispatcher.admission, alive = _Dead(), dispatcher.admission  # type: ignore[assignment]
    with pytest.raises(SystemExit):
        world.pump()
    dispatcher.admission = alive
    world.publisher.forget()
    assert world.status("a") is COMPLETED
    assert world.status("b") is PENDING
    tick_until(world, lambda: running(world) == ["b"])


class _Dead:
    def after(self, *_: Any) -> None:
        raise SystemExit


def test_a_first_turn_whose_message_is_lost_is_sent_again(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.publisher.forget()
    (row,) = rows(store, "inbox", inbox.c.instance == "a")
    assert row["check_at"] is not None and row["wake_at"] is not None
    store.database.change_one(Statement("UPDATE durable_inbox SET check_at = 1"))
    tick_until(world, lambda: running(world) == ["a"])


def test_places_of_instances_that_are_gone_are_given_back(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    world.start("job", id_="c")
    world.pump()
    for id_ in ("a", "c"):
        store.database.change_one(
            Statement("DELETE FROM durable_inbox WHERE instance = :id"), id=id_
        )
        store.database.change_one(Statement("DELETE FROM durable_instances WHERE id = :id"), id=id_)
    tick_until(world, lambda: running(world) == ["b"])
    assert [row["instance"] for row in table(store, places)] == ["b"]
    assert table(store, waiting) == []


@pytest.mark.parametrize("damage", ["{", "5", "[[1]]", "[[1, 2, 3, 4]]", "null"])
def test_a_damaged_row_holds_no_other_up(store: Store, damage: str) -> None:
    world = make_world(store)
    for id_ in ("first", "bad", "good"):
        world.start("job", id_=id_)
    world.pump()
    store.database.change_one(
        Statement("UPDATE durable_waiting SET limits = :damage WHERE instance = 'bad'"),
        damage=damage,
    )
    end(world, "first")
    assert set(running(world)) == {"bad", "good"}


def test_of_several_workers_one_a_second_looks(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.start("job", id_="b")
    assert store.admission.names_waiting(SECOND) == ["job"]
    world.runner.admission.admit("job", notes_try=True)
    assert store.admission.names_waiting(60 * SECOND) == []
    assert store.admission.names_waiting(0) == ["job"]


# -- many at once ----------------------------------------------------------------------------------


def test_limits_are_never_exceeded_by_many_at_once(store: Store) -> None:
    """Threads start and end instances of three tenants; at no moment do more run than may."""
    worlds = [make_world(store, limit=[Limit(2, key="tenant"), Limit(4)]) for _ in range(4)]
    per_thread, over = 9, threading.Event()
    seen: list[Counter[str]] = []

    def watch() -> None:
        while not over.is_set():
            found = Counter(row["scope"] for row in table(store, places))
            page, _ = store.reads.find(_filters(RUNNING), 100, None)
            found["running"] = len(page)
            seen.append(found)

    def work(world: World, number: int) -> None:
        for turn in range(per_thread):
            id_ = f"{number}-{turn}"
            world.start("job", "abc"[turn % 3], id_=id_)
            world.pump()
            world.raise_event(id_, "go", "done")
            world.pump()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        at_once([lambda w=world, n=number: work(w, n) for number, world in enumerate(worlds)])
        ids = [f"{number}-{turn}" for number in range(4) for turn in range(per_thread)]

        def are_done() -> bool:
            for world in worlds:
                world.pump()
            return all(store.reads.status_of(id_) is COMPLETED for id_ in ids)

        wait_until(are_done, 30, "all ends, without recovery")
    finally:
        over.set()
        watcher.join()
    assert max(found["running"] for found in seen) <= 4
    for scope in {scope for found in seen for scope in found} - {"running"}:
        assert max(found[scope] for found in seen) <= (4 if scope.endswith("=") else 2), scope
    assert is_clean(worlds[0])


def test_a_lock_that_another_has_is_left_to_it(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    world = make_world(store)
    world.start("job", id_="a")
    with store.database.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT name FROM durable_limits FOR UPDATE")
        assert store.admission.admit("job", None) is None
        world.start("job", id_="b")
        cursor.execute("ROLLBACK")
    assert store.admission.admit("job", None) == []


# -- rates -----------------------------------------------------------------------------------------


def test_no_more_begin_within_a_period_than_may(store: Store) -> None:
    world = make_world(store, limit=Rate(2, per=3600, key="tenant"))
    for tenant in "xy":
        for number in range(4):
            world.start("job", tenant, id_=f"{tenant}{number}")
    world.pump()
    assert running(world) == ["x0", "x1", "y0", "y1"]
    end(world, "x0")
    assert "x2" not in running(world), "an end does not make room in a rate"
    left = [row["expires_at"] - store.now() for row in table(store, places)]
    assert all(3500 * SECOND < period <= 3600 * SECOND for period in left)
    passes(store, "UPDATE durable_places SET expires_at = 1 WHERE instance = 'x1'")
    tick_until(world, lambda: running(world) == ["x1", "x2", "y0", "y1"])
    passes(store, "UPDATE durable_places SET expires_at = 1")
    tick_until(world, lambda: running(world) == ["x1", "x2", "x3", "y0", "y1", "y2", "y3"])
    assert store.admission.free_lost_slots() + len(table(store, places)) >= 3


def test_rates_and_places_hold_together(store: Store) -> None:
    world = make_world(store, limit=[Limit(1), Rate(2, per=3600)])
    for number in range(4):
        world.start("job", id_=f"i{number}")
    world.pump()
    end(world, "i0")
    assert running(world) == ["i1"]
    end(world, "i1")
    assert running(world) == []
    assert world.status("i2") is PENDING


# -- debounce --------------------------------------------------------------------------------------


async def note(ctx: Any, document: str, text: str) -> str:
    return text


def debouncing(store: Store, **options: Any) -> World:
    world = World(store)
    declare(world, note, debounce=Debounce(**{"quiet": 3600, "key": "document", **options}))
    return world


def test_several_starts_become_one_run_with_the_last_input(store: Store) -> None:
    world = debouncing(store)
    ids = [world.start("note", "d", text, id_=uuid.uuid4().hex) for text in ("one", "two", "three")]
    other = world.start("note", "e", "else", id_="other")
    assert ids == [ids[0]] * 3
    world.recovery().tick(list, lambda _: None)
    world.pump()
    assert world.status(ids[0]) is PENDING
    passes(store, "UPDATE durable_waiting SET ready_at = 1")
    tick_until(
        world, lambda: world.status(ids[0]) is COMPLETED and world.status(other) is COMPLETED
    )
    assert world.output(ids[0]) == "three"
    assert world.output(other) == "else"
    assert world.start("note", "d", "four", id_="next") == "next", "the window is over"
    assert store.reads.count(_filters()) == 3


def test_each_start_begins_the_quiet_again_up_to_the_maximal_wait(store: Store) -> None:
    world = debouncing(store, quiet=60, max_wait=90)
    world.start("note", "d", "one", id_="a")
    (first,) = table(store, waiting)
    assert first["ready_at"] - first["created_at"] == 60 * SECOND
    store.database.change_one(
        Statement("UPDATE durable_waiting SET created_at = created_at - 50000000")
    )
    world.start("note", "d", "two", id_="b")
    (second,) = table(store, waiting)
    assert second["ready_at"] - second["created_at"] == 90 * SECOND
    assert second["instance"] == "a"


def test_starts_of_one_key_at_once_become_one(store: Store) -> None:
    worlds = [debouncing(store, quiet=30) for _ in range(6)]
    ids = at_once(
        [
            lambda w=world, n=number: w.start("note", "d", f"{n}", id_=f"i{n}")
            for number, world in enumerate(worlds)
        ]
    )
    assert len(set(ids)) == 1
    assert len(table(store, waiting)) == 1
    assert store.reads.count(_filters()) == 1


def test_a_debounced_one_can_end_before_it_begins(store: Store) -> None:
    world = debouncing(store)
    world.start("note", "d", "one", id_="a")
    world.client.terminate("a", None, None)
    assert is_clean(world)
    assert world.start("note", "d", "two", id_="b") == "b"


def test_a_child_is_not_debounced_its_parent_waits_for_it(store: Store) -> None:
    world = debouncing(store, quiet=3600)

    @world.orchestrator
    async def parent(ctx: Any) -> Any:
        return await ctx.all([ctx.call(sig("note", "d", "one")), ctx.call(sig("note", "d", "two"))])

    world.start("parent")
    world.pump()
    assert world.output() == ["one", "two"]


def test_a_debounced_start_carries_no_callbacks(store: Store) -> None:
    world = debouncing(store)
    with pytest.raises(ValueError, match="debounced"):
        world.start("note", "d", "one", canvas={"finish": {"link": []}})
    assert world.status("i") is None


def test_an_insert_that_meets_another_of_its_key_leaves_nothing(store: Store) -> None:
    world = debouncing(store)
    news: list[NewInstance] = [
        world.client.prepare(StartRequest("note", ("d", "x"), {}, instance_id=id_))
        for id_ in ("a", "b")
    ]
    assert store.starts.insert(news[0])
    with pytest.raises(AlreadyWaitsError):
        store.starts.insert(news[1])
    assert world.status("b") is None


# -- what people see -------------------------------------------------------------------------------


def test_explain_says_what_is_taken_and_how_many_come_first(store: Store) -> None:
    world = make_world(store, limit=Limit(2, key="tenant"))
    for number in range(5):
        world.start("job", "acme", id_=f"i{number}")
    world.pump()
    text = str(explain(store, world.runner, world.client.fetch("i4")))
    assert (
        "waits for a place: 2 of 2 of orchestrator 'job' for key 'acme' are taken, 2 before it"
        in text
    )
    assert "timer" not in text
    codec = world.runner.codec
    world.start("job", "acme", id_="hidden", canvas={"shown": {"argsrepr": "('***',)"}})
    hidden = world.client.fetch("hidden")
    assert codec.decode(hidden.canvas or "") and "acme" not in str(
        explain(store, world.runner, hidden)
    )
    end(world, "i0")
    assert "1 before it" in str(explain(store, world.runner, world.client.fetch("i4")))


def test_explain_tells_when_a_debounced_one_begins(store: Store) -> None:
    world = debouncing(store, quiet=60)
    world.start("note", "d", "one")
    assert "waits for its time to begin, 20" in str(
        explain(store, world.runner, world.client.fetch("i"))
    )


def test_history_of_a_limited_one_is_that_of_any(store: Store) -> None:
    world = make_world(store)
    world.start("job", id_="a")
    world.pump()
    end(world, "a")
    assert world.events("a")[0].kind is EventKind.EXECUTION_STARTED


# -- declaring -------------------------------------------------------------------------------------

WRONG: dict[str, Callable[[], object]] = {
    "no number": lambda: Limit("5"),  # type: ignore[arg-type]
    "zero": lambda: Limit(0),
    "true": lambda: Limit(True),
    "key of another kind": lambda: Limit(1, key=5),  # type: ignore[arg-type]
    "no name": lambda: Limit(1, key="a b"),
    "no period": lambda: Rate(1, per=0),
    "no interval": lambda: Rate(1, per="soon"),  # type: ignore[arg-type]
    "endless": lambda: Rate(1, per=float("inf")),
    "no quiet": lambda: Debounce(0),
    "wait shorter than quiet": lambda: Debounce(10, max_wait=5),
    "limit of another kind": lambda: declared_policy(job, {"limit": "5"}),
    "limits of another kind": lambda: declared_policy(job, {"limit": [1, None]}),
    "the same twice": lambda: declared_policy(job, {"limit": [1, Limit(2)]}),
    "functions of one name": lambda: declared_policy(
        job, {"limit": [Limit(1, key=lambda: 1), Limit(1, key=lambda: 2)]}
    ),
    "no such argument": lambda: declared_policy(job, {"limit": Limit(1, key="customer")}),
    "no such argument of debounce": lambda: declared_policy(
        job, {"debounce": Debounce(1, key="customer")}
    ),
    "debounce of another kind": lambda: declared_policy(job, {"debounce": 5}),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_when_it_is_declared(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_the_decorator_takes_it_all(sqlite_url: str) -> None:
    from celery import Celery

    app = Celery("flow", broker="memory://", set_as_current=False)
    app.conf.durable_backend_url = sqlite_url
    durable = Durable(app)

    @durable.orchestrator(
        name="flow.o",
        limit=[5, Limit(1, key="a"), Rate(10, per=60)],
        debounce=Debounce(3),
        priority=4,
    )
    async def o(ctx: Any, a: str) -> None: ...

    flow = durable.registry.newest("flow.o").flow
    assert flow.priority == o.priority == 4
    assert flow.maxima == {"running:": 5, "running:a": 1, "starts/60000000:": 10}
    with pytest.raises(ConfigurationError):
        durable.orchestrator(lambda ctx: None, limit=0)


def test_keys_are_found_wherever_the_argument_is() -> None:
    def function(ctx: Any, a: str, b: int = 7, *rest: int, c: str = "c", **more: str) -> None: ...

    assert key_of("a", function, ("x",), {}) == "x"
    assert key_of("b", function, ("x",), {}) == "7"
    assert key_of("c", function, (), {"a": "x", "c": "y"}) == "y"
    assert key_of("d", function, (), {"a": "x", "d": "z"}) == "z"
    assert key_of(lambda a, **_: a.upper(), function, (), {"a": "x", "d": "z"}) == "X"


@pytest.mark.parametrize("key", ["a" * 10_000, "nul\x00", "half \ud800", "ümlaut", "", "100%=_"])
def test_any_text_can_be_a_key(store: Store, key: str) -> None:
    world = World(store)

    async def any_key(ctx: Any) -> None:
        await ctx.wait_event("go")

    declare(world, any_key, limit=Limit(1, key=lambda: key))
    world.start("any_key", id_="a")
    world.start("any_key", id_="b")
    world.pump()
    assert running(world) == ["a"]
    explain(store, world.runner, world.client.fetch("b"))
    end(world, "a")
    assert running(world) == ["b"]
