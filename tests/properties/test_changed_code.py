"""Changed code is never silent: a replay passes exactly when the code asks for what history has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.core.history import NOTES, Event, dump_events, load_events
from celery_durable.core.kinds import INPUTS
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import Life, app, child, fresh, live, raised

quick = settings(max_examples=150)


def draw() -> int:
    return 4


def roll() -> int:
    return 6


steps = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(["echo", "add", "total"])),
    st.tuples(st.just("run"), st.sampled_from([draw, roll])),
    st.tuples(st.just("signal"), st.sampled_from(["paid", "sent"])),
    st.tuples(st.just("batch"), st.lists(st.sampled_from(["echo", "add"]), min_size=1, max_size=3)),
    st.tuples(st.just("leave"), st.sampled_from(["echo", "add"])),
    st.tuples(st.just("sleep"), st.just(5)),
    st.tuples(st.just("child"), st.just("child")),
    st.tuples(st.just("event"), st.just("go")),
    st.tuples(st.just("withdraw"), st.just("echo")),
)
programs = st.lists(steps, min_size=1, max_size=7)


def _signature(name: str) -> Any:
    return app.tasks[name].s([1, 2]) if name == "total" else app.tasks[name].s(1)


def orchestrator_of(program: list[tuple[str, Any]]) -> Any:
    async def orchestrator(ctx):
        for kind, what in program:
            if kind == "call":
                await ctx.call(_signature(what))
            elif kind == "run":
                await ctx.run(what)
            elif kind == "signal":
                await ctx.signal_event("other", what)
            elif kind == "batch":
                await asyncio.gather(*(ctx.call(_signature(name)) for name in what))
            elif kind == "leave":
                ctx.call(_signature(what))
            elif kind == "sleep":
                await ctx.sleep(what)
            elif kind == "child":
                await ctx.call(child.s(1))
            elif kind == "event":
                await ctx.wait_event(what)
            elif kind == "withdraw":
                ctx.call(_signature(what)).cancel()

    return orchestrator


@st.composite
def mutated(draw_from: st.DrawFn) -> tuple[list[Any], list[Any]]:
    program = draw_from(programs)
    changed = list(program)
    place = draw_from(st.integers(0, len(program) - 1))
    how = draw_from(st.sampled_from(["replace", "insert", "remove", "swap", "append", "truncate"]))
    if how == "replace":
        changed[place] = draw_from(steps)
    elif how == "insert":
        changed.insert(place, draw_from(steps))
    elif how == "remove":
        del changed[place]
    elif how == "swap":
        other = draw_from(st.integers(0, len(program) - 1))
        changed[place], changed[other] = changed[other], changed[place]
    elif how == "append":
        changed.append(draw_from(steps))
    else:
        changed = changed[:place]
    return program, changed


def recorded(program: list[tuple[str, Any]]) -> Life:
    inputs = [raised("go", number, at=0.1 * number) for number in range(1, 9)]
    return live(orchestrator_of(program), inputs=inputs, check=False)


def shape(events: Iterable[Event]) -> list[Any]:
    """What a replay compares: each command's kind, number and name, and where the inputs came
    between them.
    """
    return [
        (event.kind, event.command, event.attempt, event.name)
        for event in events
        if event.kind not in NOTES
    ]


def shape_on(program: list[tuple[str, Any]], life: Life) -> list[Any]:
    """What this program would have recorded, had it been given the inputs of that life."""
    execution = fresh(orchestrator_of(program))
    decision = execution.take([event for event in life.history if event.kind in INPUTS])
    execution.abandon()
    return shape(decision.events)


@quick
@given(mutated())
def test_a_replay_on_changed_code_passes_exactly_if_the_commands_are_the_same(pair):
    program, changed = pair
    life = recorded(program)
    assert shape_on(program, life) == shape(life.history)
    if shape_on(changed, life) == shape(life.history):
        life.replayed(orchestrator_of(changed))
    else:
        with pytest.raises(NonDeterminismError) as caught:
            life.replayed(orchestrator_of(changed))
        assert caught.value.expected != caught.value.actual


@quick
@given(programs, st.data())
def test_a_history_that_lost_or_changed_an_event_is_never_replayed_silently(program, data):
    life = recorded(program)
    confirmations = [
        event for event in life.history if event.kind not in INPUTS and event.kind not in NOTES
    ]
    victim = data.draw(st.sampled_from(confirmations))
    how = data.draw(st.sampled_from(["lose", "rename", "renumber", "repeat"]))

    def damage(row: str) -> str:
        events = []
        for event in load_events(row):
            if event != victim:
                events.append(event)
            elif how == "rename":
                events.append(event._replace(name=event.name + "x"))
            elif how == "renumber":
                events.append(event._replace(command=event.command + 1))
            elif how == "repeat":
                events += [event, event]
        return dump_events(events)

    life.rows = [damage(row) for row in life.rows]
    with pytest.raises(NonDeterminismError):
        life.replayed()
