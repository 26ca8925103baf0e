"""The whole table of status and verb, restarts, and verbs for many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.bulk import BulkResult, apply_to_all
from celery_durable.engine.listing import Filters
from celery_durable.engine.start import StartRequest
from celery_durable.engine.verb import Effect
from celery_durable.engine.verbs import VERBS
from celery_durable.engine.verbs.reference import effect_table, meaning_table, page_with_tables
from celery_durable.errors import InstanceExists, InstanceNotFound, InvalidState
from celery_durable.store import Store

from .builders import everything
from .world import World, sig

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "verbs.md"


def make_world(store: Store) -> World:
    world = World(store)
    world.tasks["charge"] = lambda amount: amount + 1

    @world.task
    def flaky() -> None:
        raise OSError

    @world.task
    def fail_once() -> None:
        if world.runs["fail_once"] == 1:
            raise ValueError("as asked")

    @world.orchestrator
    async def sale(ctx: Any, amount: int) -> Any:
        await ctx.call(sig("charge", amount))
        ctx.call(sig("flaky"), retry=RetryPolicy(max_attempts=9, first_interval=3600))
        if await ctx.wait_event("go") == "fail":
            await ctx.call(sig("fail_once"))
        return amount

    return world


def brought_to(world: World, status: RuntimeStatus, id_: str = "i") -> None:
    """Bring an orchestration into a status."""
    world.start("sale", 1, id_=id_)
    if status is RuntimeStatus.PENDING:
        return
    world.pump()
    verbs = {
        RuntimeStatus.RUNNING: lambda: None,
        RuntimeStatus.SUSPENDED: lambda: world.client.suspend(id_, "first"),
        RuntimeStatus.COMPLETED: lambda: world.raise_event(id_, "go"),
        RuntimeStatus.FAILED: lambda: world.raise_event(id_, "go", "fail"),
        RuntimeStatus.CANCELED: lambda: world.client.cancel(id_, "first"),
        RuntimeStatus.TERMINATED: lambda: world.client.terminate(id_, "first", None),
    }
    verbs[status]()
    world.pump()
    assert world.status(id_) is status


def verb_of(world: World, name: str, id_: str = "i") -> Any:
    client = world.client
    return {
        "raise_event": lambda: client.raise_event(id_, "other", None, None),
        "suspend": lambda: client.suspend(id_, "why"),
        "resume": lambda: client.resume(id_, "why"),
        "cancel": lambda: client.cancel(id_, "why"),
        "terminate": lambda: client.terminate(id_, "why", None),
        "rewind": lambda: client.rewind(id_, "why"),
        "override": lambda: client.override(id_, 2, 5, None, "why"),
        "restart": lambda: client.restart(id_, None),
        "fork": lambda: client.fork(id_, 1, None, "why"),
        "purge": lambda: client.purge(id_),
    }[name]


#: Others have tests of their own.
TESTED = [
    name
    for name in VERBS
    if name
    in {"raise_event", "override", "fork", "resume", "suspend", "cancel", "terminate"}
    | {"restart", "purge", "rewind"}
]
AFTER = {
    "suspend": RuntimeStatus.SUSPENDED,
    "cancel": RuntimeStatus.CANCELED,
    "terminate": RuntimeStatus.TERMINATED,
    "restart": RuntimeStatus.RUNNING,
    "purge": None,
    "rewind": RuntimeStatus.COMPLETED,
}


@pytest.mark.parametrize("status", list(RuntimeStatus), ids=str)
@pytest.mark.parametrize("verb", TESTED)
def test_every_verb_does_in_every_status_what_the_table_says(
    store: Store, verb: str, status: RuntimeStatus
) -> None:
    world = make_world(store)
    brought_to(world, status)
    world.publisher.turns.clear()
    before = everything(store)
    effect = VERBS[verb].effect_in(status)
    if effect is Effect.REFUSED:
        with pytest.raises(InvalidState) as refusal:
            verb_of(world, verb)()
        assert str(status) in str(refusal.value)
        assert all(str(needed) in str(refusal.value) for needed in VERBS[verb].acts_in)
        assert (refusal.value.instance_id, refusal.value.status) == ("i", status)
    else:
        for _ in range(
            2 if verb not in ("raise_event", "override", "restart", "fork", "purge") else 1
        ):  # twice is once
            verb_of(world, verb)()
    assert (everything(store) == before) == (effect is not Effect.ACTS)
    if effect is Effect.ACTS:
        world.pump()
        expected = (
            status
            if verb in ("raise_event", "fork", "override")
            else AFTER.get(verb, RuntimeStatus.RUNNING)
        )
        if (verb, status) in (("raise_event", RuntimeStatus.PENDING),):
            expected = RuntimeStatus.RUNNING
        if (verb, status) == ("cancel", RuntimeStatus.SUSPENDED):
            expected = RuntimeStatus.SUSPENDED  # it is kept for the resumption
        if (verb, status) == ("override", RuntimeStatus.FAILED):
            expected = RuntimeStatus.COMPLETED
        assert store.reads.status_of("i") is expected


def test_the_reference_shows_the_tables_of_verbs() -> None:
    page = REFERENCE.read_text()
    assert effect_table() in page
    assert meaning_table() in page
    assert page_with_tables(page) == page, (
        f"run: python -m celery_durable.engine.verbs.reference {REFERENCE}"
    )


@pytest.mark.parametrize("verb", TESTED)
def test_an_unknown_id_is_told_and_nothing_is_changed(sqlite_store: Store, verb: str) -> None:
    world = make_world(sqlite_store)
    if verb == "purge":
        return verb_of(world, verb, "unknown")()  # gone already
    with pytest.raises(InstanceNotFound, match="'unknown'"):
        verb_of(world, verb, "unknown")()


# -- restart ---------------------------------------------------------------------------------------


def test_a_restart_repeats_the_input_on_the_newest_version(store: Store) -> None:
    world = make_world(store)
    world.client.start(
        StartRequest(
            "sale",
            (7,),
            {},
            instance_id="i",
            tags={"t": "1"},
            queue="q",
            canvas={"options": {"priority": 3}, "finish": {"link": ["x"]}, "ignore_result": True},
        )
    )
    world.runner.run("i")
    world.client.terminate("i", None, None)
    store.recovery.drop_finish("i", store.reads.fetch("i").execution)

    async def newer(ctx: Any, amount: int) -> Any:
        return ["newer", amount]

    newer.__name__ = "sale"
    world.orchestrator(newer, "2")
    assert world.client.restart("i", None) == "i"
    world.runner.run("i")
    record = world.client.fetch("i")
    assert (record.status, record.version, record.tags, record.queue) == (
        RuntimeStatus.COMPLETED,
        "2",
        {"t": "1"},
        "q",
    )
    assert world.output("i") == ["newer", 7]
    assert world.codec.decode(record.canvas or "") == {
        "options": {"priority": 3},
        "ignore_result": True,
    }


def test_a_restart_under_a_new_id_leaves_the_old_one_alone(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    assert world.client.restart("i", "j") == "j"
    world.pump()
    assert [world.status(id_) for id_ in ("i", "j")] == [RuntimeStatus.RUNNING] * 2
    with pytest.raises(InstanceExists):
        world.client.restart("i", "j")


# -- many ------------------------------------------------------------------------------------------


def test_a_verb_for_many_goes_through_all_pages(store: Store) -> None:
    world = make_world(store)
    for number in range(7):
        world.start("sale", 1, id_=f"i{number}", tags={"batch": "a" if number < 5 else "b"})
    chosen = Filters(tags=(("batch", "a"),), statuses=VERBS["suspend"].acts_in)
    verb = lambda id_: world.client.suspend(id_, "many")
    assert apply_to_all(store, chosen, verb, limit=2) == BulkResult(5, 2)
    assert apply_to_all(store, chosen, verb) == BulkResult(3, 3)
    assert apply_to_all(store, chosen, verb) == BulkResult(0, 0)
    assert store.reads.count(Filters(statuses=(RuntimeStatus.SUSPENDED,))) == 5


def test_a_verb_for_many_tells_which_were_refused(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.COMPLETED, "done")
    brought_to(world, RuntimeStatus.RUNNING, "runs")
    result = apply_to_all(store, Filters(name="sale"), lambda id_: world.client.purge(id_))
    assert (result.matched, result.done, list(result.refused)) == (2, 1, ["runs"])
    assert isinstance(result.refused["runs"], InvalidState)


def test_the_front_door_takes_an_id_or_filters(new_app: Any) -> None:
    app = new_app()
    durable = app.durable

    @durable.orchestrator(name="many.sale")
    async def sale(ctx: Any) -> None:
        await ctx.wait_event("go")

    for number in range(3):
        sale.apply_async(task_id=f"s{number}")
    assert durable.suspend("s0", reason="one").done == 1
    assert durable.get("s0").reason == "one"
    assert durable.suspend(name="many.sale", reason="many").matched == 2
    assert durable.resume(name=sale).done == 3
    assert durable.cancel(id_prefix="s", limit=1).done == 1
    assert durable.terminate(name="many.sale", output="x").done == 3
    assert durable.get("s1").output == "x"
    assert durable.restart(id_prefix="s1").done == 1
    assert durable.get("s1").runtime_status is RuntimeStatus.PENDING
    restarted = durable.get("s2").restart()
    assert (restarted.id, restarted.runtime_status) == ("s2", RuntimeStatus.PENDING)
    assert durable.get("s2").restart("s9").id == "s9"
    for verb in ("suspend", "resume", "cancel", "terminate", "restart", "purge"):
        with pytest.raises(ValueError, match="at least one filter"):
            getattr(durable, verb)()
        with pytest.raises(TypeError, match="not both"):
            getattr(durable, verb)("s0", name="x")
        with pytest.raises(TypeError, match="unknown filters"):
            getattr(durable, verb)(colour="red")
    with pytest.raises(InvalidState, match="s1"):
        durable.purge("s1")


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
def test_what_is_revoked_before_it_begins_has_not_started(store: Store, verb: str) -> None:
    world = World(store)

    async def waiting(ctx: Any) -> None:
        await ctx.wait_event("never")

    world.orchestrator(waiting)
    world.start("waiting", id_="delayed", start_at=store.now() + 3_600_000_000)
    world.start("waiting", id_="begun")
    world.pump()
    for id_ in ("delayed", "begun"):
        getattr(world.client, verb)(id_, *(["enough"] if verb == "cancel" else ["enough", None]))
    world.pump_to_end("delayed", "begun")
    assert world.client.fetch("delayed").started_at is None
    assert world.client.fetch("begun").started_at is not None
    assert all(world.client.fetch(id_).completed_at for id_ in ("delayed", "begun"))
