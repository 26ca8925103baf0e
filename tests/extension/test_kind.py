"""A kind of command from outside (``toy_kind``): the core takes it as its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from celery_durable.core import determinism
from celery_durable.core.commands import Command
from celery_durable.core.history import Event, EventKind, add_event_kind, dump_events, load_events
from celery_durable.core.kinds import KINDS, Kind, Registry
from celery_durable.core.machine import Machine
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.rewind import rewind
from celery_durable.errors import NonDeterminismError
from celery_durable.payload import PayloadCodec

from .toy_kind import ANSWERED, ASKED, WITH_ORACLE, AskOracle, Oracle

CODEC = PayloadCodec()
INFO = ExecutionInfo("i", "e" * 20, "asks")
STARTED = Event(EventKind.EXECUTION_STARTED, 1, payload="[[], {}]")


def machine(function: Callable[..., Any], kinds: Registry = WITH_ORACLE) -> Machine:
    determinism.install()
    return Machine(INFO, function, CODEC, kinds=kinds)


def answered(number: int, value: Any, at: int = 2) -> Event:
    return Event(ANSWERED, at, number, payload=json.dumps(value))


async def asks_twice(ctx: Any) -> Any:
    return [await ctx.ask_oracle("when?"), await ctx.ask_oracle("where?")]


def recorded(function: Callable[..., Any], *turns: list[Event]) -> list[str]:
    live = machine(function)
    rows = [dump_events(live.take(turn).events) for turn in turns]
    live.abandon()
    return rows


def test_a_command_from_outside_is_asked_confirmed_and_answered() -> None:
    live = machine(asks_twice)
    decision = live.take([STARTED])
    assert decision.commands == [AskOracle(1, "when?")]
    assert decision.events[-1] == Event(ASKED, 1, 1, name="when?")
    assert live.take([answered(1, "soon")]).commands == [AskOracle(2, "where?")]
    last = live.take([answered(2, "here", 3)])
    assert CODEC.decode(last.final.output) == ["soon", "here"]  # type: ignore[union-attr]


def test_its_history_is_stored_and_replayed() -> None:
    rows = recorded(asks_twice, [STARTED], [answered(1, "soon")], [answered(2, "here", 3)])
    again = machine(asks_twice)
    for row in rows:
        again.replay(load_events(row))
    assert again.final is not None
    assert again.history_length == 6


def test_other_code_is_told_where_it_disagrees() -> None:
    async def asks_something_else(ctx: Any) -> Any:
        return await ctx.ask_oracle("why?")

    [row] = recorded(asks_twice, [STARTED])
    with pytest.raises(NonDeterminismError, match="OracleAsked 'when\\?'.*AskOracle 'why\\?'"):
        machine(asks_something_else).replay(load_events(row))


def test_an_answer_counts_once_and_a_cancel_reaches_what_is_open() -> None:
    live = machine(asks_twice)
    live.take([STARTED])
    live.take([answered(1, "soon")])
    assert live.take([answered(1, "late", 3)]).events == []
    last = live.take([Event(EventKind.CANCEL_REQUESTED, 4)])
    assert last.events[-1].kind is EventKind.EXECUTION_CANCELED


def test_a_rewind_keeps_its_answers_and_asks_again_for_what_is_open() -> None:
    is_broken = True

    async def orchestrator(ctx: Any) -> Any:
        first = await ctx.ask_oracle("when?")
        open_question = ctx.ask_oracle("where?")
        if is_broken:
            raise ValueError("broken")
        return [first, await open_question]

    rows = recorded(orchestrator, [STARTED], [answered(1, "soon")])
    is_broken = False
    history = [event for row in rows for event in load_events(row)]
    request = Event(EventKind.EXECUTION_REWOUND, 9)
    again, decision = rewind(lambda: machine(orchestrator), history, request)
    assert [event.payload for event in decision.events if event.kind is ANSWERED] == ['"soon"']
    assert decision.commands == [AskOracle(2, "where?")]
    last = again.take([answered(2, "here", 10)])
    assert CODEC.decode(last.final.output) == ["soon", "here"]  # type: ignore[union-attr]


def test_without_the_kind_there_is_no_such_method() -> None:
    async def orchestrator(ctx: Any) -> Any:
        return hasattr(ctx, "ask_oracle")

    last = machine(orchestrator, KINDS).take([STARTED])
    assert CODEC.decode(last.final.output) is False  # type: ignore[union-attr]


def test_a_name_that_occurs_twice_is_refused() -> None:
    class Impostor(Kind):
        name = "impostor"
        inputs: ClassVar[Mapping[str, type[Command] | None]] = {EventKind.TIMER_FIRED: None}

    with pytest.raises(ValueError, match="the event TimerFired belongs to two kinds"):
        KINDS.with_kinds(Impostor)
    with pytest.raises(ValueError, match="the command AskOracle belongs to two kinds"):
        WITH_ORACLE.with_kinds(Oracle)
    with pytest.raises(ValueError, match="there is a kind of event 'TimerFired' already"):
        add_event_kind("TimerFired")
