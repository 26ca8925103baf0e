"""Code that changes: versions side by side, disagreements that name a line, exported histories, and
the gate of a deployment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from celery import _state

from celery_durable import Durable
from celery_durable import orchestrator as shared_orchestrator
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.listing import Filters
from celery_durable.engine.turn import TurnState
from celery_durable.engine.verify import Verifier, export_history
from celery_durable.errors import (
    ConfigurationError,
    DurableError,
    NonDeterminismError,
    PayloadError,
)
from celery_durable.store import Store

from .world import World, sig


def line_here(offset: int = 0) -> str:
    return f"{__file__}:{sys._getframe(1).f_lineno + offset}"


async def sale(ctx: Any, amount: int) -> Any:
    await ctx.call(sig("charge", amount))
    await ctx.wait_event("go")
    return await ctx.call(sig("charge", 2))


SALE_LINE = line_here(-5)


def waiting(store: Store, *ids: str, version: str | None = None, **options: Any) -> World:
    """Orchestrations that wait for an event."""
    world = World(store, **options)
    world.tasks["charge"] = lambda amount: amount + 1
    world.tasks["ship"] = lambda *things: "shipped"
    world.orchestrator(sale, version)
    for id_ in ids:
        world.start("sale", 1, id_=id_)
    world.pump()
    return world


def verifier(world: World) -> Verifier:
    return Verifier(world.store, world.registry, world.runner)


def changed(world: World, function: Any, version: str | None = None) -> World:
    """Another process with other code for the same orchestrator."""
    other = World(world.store, cache_size=0)
    other.tasks = world.tasks
    function.__name__ = "sale"
    other.orchestrator(function, version)
    return other


# -- versions --------------------------------------------------------------------------------------


def test_an_instance_keeps_its_version_and_new_ones_get_the_newest(store: Store) -> None:
    world = waiting(store, "old", version="1")

    async def newer(ctx: Any, amount: int) -> Any:
        return await ctx.call(sig("ship", amount))

    newer.__name__ = "sale"
    world.orchestrator(newer, "2")
    world.start("sale", 1, id_="new")
    world.pump()
    world.raise_event("old", "go")
    world.pump()
    assert (world.output("old"), world.output("new")) == (3, "shipped")
    assert [world.client.fetch(id_).version for id_ in ("old", "new")] == ["1", "2"]


def test_a_version_that_no_one_has_waits(store: Store) -> None:
    world = waiting(store, "i", version="1")
    other = changed(world, lambda ctx, amount: amount, "2")
    other.raise_event("i", "go")
    assert other.runner.run("i") is TurnState.UNKNOWN
    assert world.status("i") is RuntimeStatus.RUNNING
    world.runner.run("i")
    world.pump()
    assert world.output("i") == 3


def test_versions_are_counted_until_they_are_safe_to_remove(store: Store) -> None:
    world = waiting(store, "a", "b", version="1")
    changed(world, lambda ctx, amount: amount, "2")
    other = changed(world, lambda ctx, amount: amount, "3")
    found = {(use.name, use.version): use for use in verifier(other).versions()}
    assert (
        found["sale", "1"].live,
        found["sale", "1"].is_registered,
        found["sale", "1"].is_safe_to_remove,
    ) == (2, False, False)
    assert (found["sale", "3"].live, found["sale", "3"].is_registered) == (0, True)
    for id_ in ("a", "b"):
        world.client.terminate(id_, None, None)
    assert all(use.is_safe_to_remove for use in verifier(world).versions())


def test_versions_of_one_name_are_one_celery_task(new_app: Any) -> None:
    app = new_app()

    @app.durable.orchestrator(name="shop.sale", version="1", queue="slow")
    async def first(ctx: Any) -> None: ...

    @app.durable.orchestrator(name="shop.sale", version="2")
    async def second(ctx: Any, extra: int) -> None: ...

    app.finalize()
    assert app.tasks["shop.sale"].queue == "slow"
    assert app.durable.registry.get("shop.sale", "1").function is first.run
    assert app.durable.registry.newest("shop.sale").version == "2"
    run = second.apply_async((5,))
    assert (run.version, run.input) == ("2", {"args": [5], "kwargs": {}})
    with pytest.raises(TypeError, match="extra"):
        first.delay()
    with pytest.raises(
        ConfigurationError, match=r"version '3' is the same Celery task .* other queue"
    ):
        app.durable.orchestrator(name="shop.sale", version="3", queue="fast")(second.run)


def test_shared_orchestrators_have_versions_too(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.app.shared._shared", {})

    @shared_orchestrator(name="shared.versions", version="1")
    async def first(ctx: Any) -> None: ...

    @shared_orchestrator(name="shared.versions", version="2")
    async def second(ctx: Any) -> None: ...

    app = new_app()
    app.finalize()
    assert app.durable.registry.versions("shared.versions") == ["1", "2"]


def test_shared_orchestrators_of_a_module_that_is_imported_late_are_known(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.app.shared._shared", {})
    app = new_app(task_always_eager=True)
    app.finalize()
    before = set(_state._on_app_finalizers)
    try:

        @shared_orchestrator(name="shared.late", version="1")
        async def first(ctx: Any) -> None: ...

        @shared_orchestrator(name="shared.late", version="2")
        async def second(ctx: Any) -> str:
            return "done"

    finally:
        _state._on_app_finalizers.intersection_update(before)
    assert app.durable.registry.versions("shared.late") == ["1", "2"]
    assert app.tasks["shared.late"].delay().get(timeout=300) == "done"


# -- disagreements ---------------------------------------------------------------------------------


async def other_task(ctx: Any, amount: int) -> Any:
    await ctx.call(sig("ship", amount))


OTHER_LINE = line_here(-3)


async def nothing_asked(ctx: Any, amount: int) -> Any:
    await asyncio.Event().wait()


NOTHING_LINE = line_here(-3)


async def added(ctx: Any, amount: int) -> Any:
    first = ctx.call(sig("charge", amount))
    await ctx.call(sig("ship"))
    await first


ADDED_LINE = line_here(-4)


def by_generator(ctx: Any, amount: int) -> Any:
    yield ctx.call(sig("ship", amount))


GENERATOR_LINE = line_here(-3)
DISAGREEMENTS = [
    pytest.param(
        other_task,
        "ActivityScheduled 'charge'",
        "ScheduleActivity 'ship'",
        OTHER_LINE,
        id="another task",
    ),
    pytest.param(
        nothing_asked, "ActivityScheduled 'charge'", "nothing", NOTHING_LINE, id="removed"
    ),
    pytest.param(
        added, "nothing more at this point", "ScheduleActivity 'ship'", ADDED_LINE, id="added"
    ),
    pytest.param(
        by_generator,
        "ActivityScheduled 'charge'",
        "ScheduleActivity 'ship'",
        GENERATOR_LINE,
        id="generator",
    ),
]


@pytest.mark.parametrize(("function", "history", "code", "line"), DISAGREEMENTS)
def test_a_disagreement_names_both_sides_and_the_line(
    sqlite_store: Store, function: Any, history: str, code: str, line: str
) -> None:
    world = waiting(sqlite_store, "i")
    other = changed(world, function)
    other.raise_event("i", "go")
    other.runner.run("i")
    record = other.client.fetch("i")
    assert record.status is RuntimeStatus.SUSPENDED
    for part in (
        f"history has {history}",
        f"asks for {code}",
        line,
        "is suspended; nothing is lost",
    ):
        assert part in (record.reason or ""), record.reason
    with pytest.raises(NonDeterminismError) as caught:
        verifier(other).replay(export_history(record, sqlite_store.reads.events("i")[:-1]))
    assert caught.value.line.startswith(line)
    assert "suspended" not in str(caught.value)


def test_a_live_execution_that_meets_foreign_turns_names_the_line_too(sqlite_store: Store) -> None:
    """The disagreement is found in a row that another worker wrote, beyond what is cached."""
    world = waiting(sqlite_store, "i")
    other = World(world.store, cache_size=100, registry=world.registry)
    other.tasks = world.tasks

    async def changed_later(ctx: Any, amount: int) -> Any:
        await ctx.call(sig("charge", amount))
        await ctx.wait_event("go")
        return await ctx.call(sig("ship"))

    line = line_here(-2)
    third = changed(world, changed_later)
    third.live._instances.clear()
    other.raise_event("i", "go")
    other.runner.run("i")
    third.raise_event("i", "more")
    third.runner.run("i")
    assert line in (third.client.fetch("i").reason or "")


# -- histories on paper ----------------------------------------------------------------------------


def exported(world: World, id_: str = "i") -> str:
    return export_history(world.client.fetch(id_), world.store.reads.events(id_))


def test_an_exported_history_is_replayed_anywhere(store: Store) -> None:
    document = exported(waiting(store, "i"))
    elsewhere = waiting(store)
    assert (
        verifier(elsewhere).replay(document)
        == verifier(elsewhere).replay(json.loads(document))
        == 3
    )


def test_other_arguments_are_a_disagreement_by_option(sqlite_store: Store) -> None:
    document = exported(waiting(sqlite_store, "i"))

    async def other_amount(ctx: Any, amount: int) -> Any:
        await ctx.call(sig("charge", amount + 1))
        await ctx.wait_event("go")

    other = verifier(changed(waiting(sqlite_store), other_amount))
    assert other.replay(document) == 3
    with pytest.raises(
        NonDeterminismError,
        match=r"with \[\[1\], \{\}\], the code now asks for .* with \[\[2\], \{\}\]",
    ):
        other.replay(document, checks_arguments=True)


@pytest.mark.parametrize(
    "document", ["", "{", "[]", "5", "{}", '{"format": 99}', '{"format": 1}', b"\xff"], ids=repr
)
def test_what_is_no_history_is_refused(sqlite_store: Store, document: Any) -> None:
    with pytest.raises(PayloadError, match="no history that export_history"):
        verifier(waiting(sqlite_store)).replay(document)


def test_a_history_without_its_orchestrator_is_refused(sqlite_store: Store) -> None:
    document = exported(waiting(sqlite_store, "i", version="1"))
    with pytest.raises(DurableError, match="no orchestrator 'sale' version '1' is registered here"):
        verifier(World(sqlite_store)).replay(document)


# -- the gate --------------------------------------------------------------------------------------


def test_all_that_runs_is_verified_and_nothing_is_changed(store: Store) -> None:
    world = waiting(store, "a", "b", "c", "done")
    world.raise_event("done", "go")
    world.pump()
    world.client.suspend("c", "for a test")
    world.start("sale", 1, id_="pending")
    before = [
        (id_, store.reads.events(id_), store.reads.fetch(id_))
        for id_ in ("a", "b", "c", "done", "pending")
    ]
    runs = dict(world.runs)

    good = verifier(changed(world, sale)).verify_live(Filters(), batch=2)
    assert (good.checked, good.is_ok) == (4, True)
    good.raise_for_problems()

    bad = verifier(changed(world, other_task)).verify_live(Filters(), batch=2)
    assert (bad.checked, sorted(problem.instance_id for problem in bad.problems)) == (
        4,
        ["a", "b", "c"],
    )
    assert OTHER_LINE in str(bad)
    assert "suspended" not in str(bad)
    with pytest.raises(NonDeterminismError, match="4 histories checked, 3 do not fit"):
        bad.raise_for_problems()

    assert [
        (id_, store.reads.events(id_), store.reads.fetch(id_))
        for id_ in ("a", "b", "c", "done", "pending")
    ] == before
    assert world.runs == runs


def test_a_deployment_is_gated_by_one_call(new_app: Any) -> None:
    app = new_app()
    durable: Durable = app.durable

    @durable.orchestrator(name="gate.sale")
    async def gate(ctx: Any) -> None:
        await ctx.wait_event("go")

    run = gate.apply_async(task_id="g")
    durable.runtime.runner.run("g")
    assert durable.verify(live=True).is_ok
    assert durable.verify([run.export_history()]).checked == 1
    assert durable.replay(run.export_history()) == 1
    assert durable.verify(live=True, name="another").checked == 0
    assert [(use.name, use.live) for use in durable.versions() if use.name == "gate.sale"] == [
        ("gate.sale", 1)
    ]
    with pytest.raises(TypeError, match="live=True"):
        durable.verify(name="gate.sale")
    with pytest.raises(TypeError, match="not both"):
        durable.verify(["x"], live=True)
