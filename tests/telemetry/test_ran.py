"""What history tells of how long the body of an activity ran, beside how long it waited: on every
store, by every way in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import RetryPolicy
from celery_durable.core.history import Event, EventKind
from celery_durable.engine.records import ActivityAttemptId, Outcome

OUTCOMES = (EventKind.ACTIVITY_COMPLETED, EventKind.ACTIVITY_FAILED)
LONG = 0.03


@pytest.fixture
def app(new_app: Callable[..., Any], store_url: str) -> Any:
    app = new_app(task_always_eager=True, durable_backend_url=store_url)
    app.durable.migrate()
    return app


def outcomes(run: Any) -> list[Event]:
    return [event for event in run.history() if event.kind in OUTCOMES]


def take_time(*_: Any) -> None:
    threading.Event().wait(LONG)


def test_success_and_failure_tell_how_long_the_body_ran(
    app: Any, begin: Callable[..., Any]
) -> None:
    @app.task(name="busy")
    def busy() -> None:
        take_time()

    @app.task(name="broken")
    def broken() -> None:
        take_time()
        raise ValueError("broken")

    @app.durable.orchestrator(name="both")
    async def both(ctx: Any) -> str:
        await ctx.call(busy.s())
        try:
            await ctx.call(broken.s(), retry=RetryPolicy(max_attempts=1))
        except ValueError:
            return "done"
        return "no error"

    began = time.monotonic()
    run = begin(app, both.s())
    assert run.get(timeout=300) == "done"
    took = time.monotonic() - began
    found = outcomes(run)
    assert [event.kind for event in found] == list(OUTCOMES)
    for event in found:
        assert type(event.facts["ran"]) is int
        assert LONG * 1e6 * 0.9 <= event.facts["ran"] <= took * 1e6
    assert found[1].facts["rebuilt"] is True, "the other facts of a failure stay"


@pytest.mark.sparse(3)
def test_members_of_a_fan_out_tell_it_too(app: Any, begin: Callable[..., Any]) -> None:
    @app.task(name="busy")
    def busy(number: int) -> int:
        take_time()
        return number

    @app.durable.orchestrator(name="wide")
    async def wide(ctx: Any) -> list[int]:
        return list(await asyncio.gather(*(ctx.call(busy.s(number)) for number in range(3))))

    run = begin(app, wide.s())
    assert run.get(timeout=300) == [0, 1, 2]
    assert [event.facts["ran"] >= LONG * 1e6 * 0.9 for event in outcomes(run)] == [True] * 3


@pytest.mark.sparse(3)
def test_an_outcome_that_no_one_saw_running_does_not_tell_it(
    app: Any, begin: Callable[..., Any]
) -> None:
    @app.task(name="gone", queue="nowhere")
    def gone() -> None: ...

    @app.durable.orchestrator(name="calls")
    async def calls(ctx: Any) -> int:
        return await ctx.call(gone.s())  # type: ignore[no-any-return]

    app.conf.task_always_eager = False
    run = begin(app, calls.s())
    runner = app.durable.runtime.runner
    runner.run(run.id)
    ticket = ActivityAttemptId(run.refresh()._known.execution, 1, 1)
    assert (
        app.durable.runtime.store.outcomes.record(Outcome(ticket, "7", has_failed=False))
        is not None
    )
    runner.run(run.id)
    assert run.refresh().output == 7
    assert [event.facts for event in outcomes(run)] == [None]


@pytest.mark.sparse(3)
def test_replay_does_not_depend_on_it(app: Any, begin: Callable[..., Any]) -> None:
    """The same history with another duration, or none, leads to the same end."""
    from celery_durable.core.history import dump_events
    from celery_durable.engine.replay import replay_rows

    @app.task(name="busy")
    def busy() -> int:
        return 1

    @app.durable.orchestrator(name="twice")
    async def twice(ctx: Any) -> int:
        return await ctx.call(busy.s()) + await ctx.call(busy.s())  # type: ignore[no-any-return]

    run = begin(app, twice.s())
    assert run.get(timeout=300) == 2
    runner = app.durable.runtime.runner
    snapshot = runner.store.turns.load(run.id, None)
    definition = runner.registry.get(snapshot.instance.name, None)
    for facts in ({"ran": 1}, {"ran": 10**12}, None):
        events = [
            event._replace(facts=facts) if event.kind in OUTCOMES else event
            for event in run.history()
        ]
        execution = runner.replayer.new(snapshot.instance, definition)
        replay_rows(execution, [dump_events(events)])
        assert execution.final is not None
        assert execution.final.output == "2"
        execution.abandon()
