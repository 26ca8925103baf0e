"""Functions run inline: their result is recorded with the turn, and read by every replay."""

from __future__ import annotations

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import RecordRun
from celery_durable.core.rewind import rewind
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import CODEC, fresh, live, moment

from .looks import kinds_of, lanes, open_in, words

CALLS: list[int] = []


def draws():
    CALLS.append(1)
    return len(CALLS)


def breaks():
    raise KeyError("gone")


async def runs(ctx):
    return await ctx.run(draws)


def test_the_result_is_recorded_and_no_replay_runs_the_function():
    CALLS.clear()
    life = live(runs, check=False)
    life.replayed()
    assert len(CALLS) == 1
    [run] = [each for each in life.commands if isinstance(each, RecordRun)]
    assert (run.name, CODEC.decode(run.result)) == ("draws", 1)
    assert kinds_of(life) == ["RunRecorded"]
    assert (life.value, lanes(life)) == (1, [("run", "draws", "completed")])
    assert (open_in(life), words(life)) == ([], [])


def test_a_failure_is_recorded_and_raised_as_it_was():
    async def orchestrator(ctx):
        await ctx.run(breaks)

    life = live(orchestrator)
    assert life.history[1].facts["failed"] is True
    assert isinstance(life.error, KeyError)
    assert lanes(life) == [("run", "breaks", "failed")]


def test_a_rewind_keeps_the_result():
    async def orchestrator(ctx):
        drawn = await ctx.run(draws)
        await ctx.sleep(1)
        if is_broken:
            raise ValueError("broken")
        return drawn

    CALLS.clear()
    is_broken = True
    life = live(orchestrator, check=False)
    is_broken = False
    request = Event(EventKind.EXECUTION_REWOUND, moment(9))
    _, decision = rewind(lambda: fresh(orchestrator), life.history, request)
    assert CODEC.decode(decision.final.output) == 1
    assert len(CALLS) == 1


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.run(breaks)

    with pytest.raises(NonDeterminismError, match="RunRecorded 'draws'.*'breaks'"):
        live(runs, check=False).replayed(another)
