"""``explain()`` says what an orchestration waits for, and ``find(stuck=True)`` finds those that
wait in vain.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from celery.exceptions import WorkerLostError

from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.explain import Explanation, explain
from celery_durable.engine.listing import Filters
from celery_durable.errors import InstanceNotFound
from celery_durable.store import Store
from celery_durable.store.schema import inbox, instances, outbox

from .builders import SECOND
from .world import World, sig


@pytest.fixture
def world(store: Store) -> World:
    world = World(store)
    world.tasks["charge"] = lambda amount: 1 // amount

    @world.orchestrator
    async def sale(ctx: Any) -> None:
        try:
            await ctx.call(sig("charge", 0))
        except ZeroDivisionError:
            await asyncio.gather(
                ctx.call(sig("ship")),
                ctx.wait_event("approved"),
                ctx.sleep(3600),
                ctx.call(sig("child")),
            )

    @world.orchestrator
    async def child(ctx: Any) -> None:
        await ctx.wait_event("go")

    return world


def told(world: World, id_: str = "i") -> Explanation:
    return explain(world.store, world.runner, world.client.fetch(id_))


def halfway(world: World) -> None:
    """Bring it to where it waits for everything at once, with one activity under way."""
    world.start("sale")
    world.runner.run("i")
    row = world.publisher.activities.popleft()
    world.perform(row.ticket, row)
    for address, *_ in list(world.publisher.turns):
        world.runner.run(address.id)


def change(store: Store, table: sa.Table, **values: Any) -> None:
    with store.database.engine.connect() as connection:
        connection.execute(sa.update(table).values(**values))


def stuck(world: World) -> list[str]:
    found = [record.id for record in world.store.reads.find(Filters(stuck=True), 10, None)[0]]
    others = [record.id for record in world.store.reads.find(Filters(stuck=False), 10, None)[0]]
    assert world.store.reads.count(Filters(stuck=True)) == len(found)
    assert len(found) + len(others) == world.store.reads.count(Filters())
    return found


def test_all_that_it_waits_for_is_told(world: World, store: Store) -> None:
    halfway(world)
    store.workers.heartbeat("w1", "celery@here")
    found = told(world)
    text = str(found)
    assert (
        "activity ship (call 2, attempt 1), sent 0:00:0" in text and "not seen running yet" in text
    )
    assert "event 'approved'" in found.waits_for
    assert any(
        what.startswith("a timer that is due in 0:59:") or "in 1:00:00" in what
        for what in found.waits_for
    )
    assert any(
        what.startswith("sub-orchestration ") and "(child), which is " in what
        for what in found.waits_for
    )
    assert len(found.waits_for) == 4
    assert (
        found.last_error is not None
        and "ZeroDivisionError" in found.last_error
        and "call 1, attempt 1" in found.last_error
    )
    assert "nothing to do" in found.advice
    assert text.startswith("i (sale) is RUNNING; it last moved ")
    assert stuck(world) == []


def test_the_worker_that_runs_an_activity_is_named(world: World, store: Store) -> None:
    halfway(world)
    change(store, outbox, holder="w1")
    assert any(
        "runs on a worker that is not seen any more" in what for what in told(world).waits_for
    )
    store.workers.heartbeat("w1", "celery@here")
    assert any("which runs on celery@here" in what for what in told(world).waits_for)


def test_without_a_worker_it_says_so(world: World, store: Store) -> None:
    halfway(world)
    assert told(world).advice == "no worker is alive: start one, with this store"
    store.workers.heartbeat("w1", "celery@here")
    assert "nothing to do" in told(world).advice


def test_a_turn_that_no_one_takes_is_stuck(world: World, store: Store) -> None:
    halfway(world)
    world.raise_event("i", "approved")
    assert "a worker to take its next turn" in str(told(world))
    assert stuck(world) == []
    change(store, inbox, wake_at=store.now() - 61 * SECOND)
    assert "i" in stuck(world)
    assert "no worker takes its turns" in told(world).advice


def test_an_activity_that_is_sent_in_vain_is_stuck(world: World, store: Store) -> None:
    halfway(world)
    change(store, outbox, sends=3, sent_at=store.now() - 61 * SECOND)
    assert stuck(world) == ["i"]
    found = told(world)
    assert "sent again 3 times" in str(found)
    assert "is sent again and again" in found.advice


def test_an_activity_that_cannot_be_sent_is_stuck(world: World, store: Store) -> None:
    halfway(world)
    change(store, outbox, sent_at=None)
    assert stuck(world) == [], "recovery is about to send it"
    change(store, instances, updated_at=store.now() - 61 * SECOND)
    assert "i" in stuck(world)
    assert (
        "which could not be sent yet" in str(told(world))
        and "cannot be sent: the workers' log" in told(world).advice
    )
    change(store, outbox, is_held=True)
    assert stuck(world) == [], "it waits for its turn"


def test_an_activity_of_a_worker_that_is_gone_is_stuck(world: World, store: Store) -> None:
    halfway(world)
    change(store, outbox, holder="w1")
    change(store, instances, updated_at=store.now() - 61 * SECOND)
    assert "i" in stuck(world)
    store.workers.heartbeat("w1", "celery@here")
    assert stuck(world) == []


def test_code_that_no_one_has_is_stuck(world: World, store: Store) -> None:
    halfway(world)
    store.turns.note_waiting("i", "waits for a worker that has sale version '2'")
    assert stuck(world) == ["i"]
    assert "start a worker that has this code" in told(world).advice


def test_an_event_and_the_time_it_has_are_one_wait(world: World) -> None:
    @world.orchestrator
    async def asked(ctx: Any) -> None:
        await ctx.wait_event("approved", timeout=3600)

    world.start("asked")
    world.runner.run("i")
    [what] = told(world).waits_for
    assert what.startswith("event 'approved', until a timer that is due in ")


def test_a_suspended_one_waits_for_people(world: World, store: Store) -> None:
    halfway(world)
    world.client.suspend("i", "the bank is down")
    world.client.raise_event("i", "go", None, None)
    found = told(world)
    assert not any("next turn" in what for what in found.waits_for), "it takes none"
    assert (found.status, "the bank is down" in found.state) == (RuntimeStatus.SUSPENDED, True)
    assert "resume it" in found.advice
    assert stuck(world) == []


def test_without_its_code_here_events_are_not_known(world: World, store: Store) -> None:
    halfway(world)
    elsewhere = World(store)
    assert [what for what in told(elsewhere).waits_for if "event" in what] == []


def test_code_that_does_not_come_to_an_end_keeps_no_one_waiting_who_looks(world: World) -> None:
    halfway(world)

    @world.orchestrator
    async def sale(ctx: Any) -> None:
        while True:
            pass

    world.runner.watchdog.limit = 0.2
    found = told(world)
    assert any("charge" in what or "ship" in what for what in found.waits_for)
    assert not any("event" in what for what in found.waits_for)


def test_one_that_is_over_waits_for_nothing(world: World, store: Store) -> None:
    halfway(world)
    world.client.terminate("i", "It is enough.", None)
    found = told(world)
    assert "TERMINATED: It is enough; it last moved" in found.state
    assert (found.waits_for, "was terminated" in found.advice) == ([], True)


def failed(world: World, raised: Exception, attempts: int = 1) -> Explanation:
    def charge(amount: int) -> None:
        raise raised

    world.tasks["charge"] = charge

    @world.orchestrator
    async def sale(ctx: Any) -> None:
        await ctx.call(sig("charge", 0), retry=RetryPolicy(first_interval=0, max_attempts=attempts))

    world.start("sale")
    world.runner.run("i")
    while world.publisher.activities:
        row = world.publisher.activities.popleft()
        world.perform(row.ticket, row)
        world.runner.run("i")
    return told(world)


def test_a_failed_one_names_what_made_it_fail(world: World) -> None:
    found = failed(world, ValueError("declined"), attempts=3)
    assert found.status is RuntimeStatus.FAILED
    assert found.last_error is not None
    assert (
        found.last_error.startswith("activity charge (call 1, attempt 3): ")
        and "declined" in found.last_error
    )
    assert (
        "activity charge (call 1, attempt 3) made it fail: rewind runs that again" in found.advice
    )
    assert "RetryPolicy" not in found.advice


def test_what_a_rewind_has_made_good_is_no_last_error(world: World) -> None:
    assert failed(world, ValueError("declined")).last_error is not None
    world.client.rewind("i", "the card works again")
    world.runner.run("i")
    assert world.client.fetch("i").status is RuntimeStatus.RUNNING
    assert told(world).last_error is None


def test_a_failed_one_whose_activity_lost_its_worker_could_have_tried_again(world: World) -> None:
    found = failed(world, WorkerLostError("signal 9"))
    assert "a RetryPolicy (retry=) would have tried it again" in found.advice


def test_a_failed_one_whose_own_code_raised_says_so(world: World) -> None:
    @world.orchestrator
    async def sale(ctx: Any) -> None:
        raise ValueError("a mistake")

    world.start("sale")
    world.runner.run("i")
    found = told(world)
    assert (found.last_error, "its own code raised it" in found.advice) == (None, True)
    assert "a mistake" in found.state


def test_one_that_waits_for_nothing_that_could_come_says_so(world: World, store: Store) -> None:
    @world.orchestrator
    async def sale(ctx: Any) -> None:
        await asyncio.Event().wait()

    world.start("sale")
    world.runner.run("i")
    store.workers.heartbeat("w1", "celery@here")
    if told(world).status is RuntimeStatus.RUNNING:
        assert "nothing that it waits for can come" in told(world).advice
        assert "load the code here" in told(World(store)).advice


def test_the_handle_explains(new_app: Any) -> None:
    app = new_app()

    @app.durable.orchestrator(name="explained.sale")
    async def sale(ctx: Any) -> None:
        await ctx.wait_event("go")

    run = sale.apply_async(task_id="e")
    assert "a worker to take its next turn" in str(run.explain())
    app.durable.runtime.runner.run("e")
    assert run.explain().waits_for == ["event 'go'"]
    assert app.durable.find(stuck=True).items == []
    with pytest.raises(InstanceNotFound):
        app.durable.get("unknown").explain()
