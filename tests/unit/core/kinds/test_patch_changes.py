"""``ctx.patched``: code changes while instances run; each keeps the way that it went."""

from __future__ import annotations

import pytest

from celery_durable.core.history import EventKind, load_events
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import After, add, echo, fresh, live, raised


async def before(ctx):
    first = await ctx.call(echo.s("old"))
    await ctx.wait_event("go")
    return [first, await ctx.call(add.s(1, 1))]


async def with_patch(ctx):
    if ctx.patched("new-way"):
        first = await ctx.call(echo.s("new", "checked"))
    else:
        first = await ctx.call(echo.s("old"))
    await ctx.wait_event("go")
    return [first, await ctx.call(add.s(1, 1))]


async def deprecated(ctx):
    ctx.deprecate_patch("new-way")
    first = await ctx.call(echo.s("new", "checked"))
    await ctx.wait_event("go")
    return [first, await ctx.call(add.s(1, 1))]


async def after(ctx):
    first = await ctx.call(echo.s("new", "checked"))
    await ctx.wait_event("go")
    return [first, await ctx.call(add.s(1, 1))]


SCRIPT = {"echo": ["echoed"]}


def halfway(function):
    life = live(function, script=SCRIPT)
    assert life.is_waiting
    return life


def finish(life, function):
    """Go on with what a life has recorded, on other code."""
    execution = fresh(function)
    for row in life.rows:
        execution.replay(load_events(row))
    decision = execution.take([raised("go", at=60)])
    execution.abandon()
    return [command.describe() for command in decision.commands]


def test_an_execution_from_before_the_change_keeps_the_old_way():
    assert finish(halfway(before), with_patch) == ["ScheduleActivity 'add'"]


def test_a_new_execution_takes_the_new_way_and_records_it():
    life = live(with_patch, script=SCRIPT, inputs=[raised("go")])
    assert life.value == ["echoed", 2]
    assert [event.name for event in life.history if event.kind is EventKind.PATCH_RECORDED] == [
        "new-way"
    ]
    assert life.scheduled[0].args == ("new", "checked")


def test_the_old_code_cannot_follow_the_new_way():
    with pytest.raises(NonDeterminismError, match="PatchRecorded 'new-way'"):
        finish(halfway(with_patch), before)


def test_deprecated_code_follows_both_the_recorded_and_the_unrecorded_new_way():
    assert finish(halfway(with_patch), deprecated) == ["ScheduleActivity 'add'"]
    life = live(deprecated, script=SCRIPT, inputs=[raised("go")])
    assert not any(event.kind is EventKind.PATCH_RECORDED for event in life.history)
    assert finish(halfway(deprecated), after) == ["ScheduleActivity 'add'"]


def test_the_answer_is_the_same_for_the_whole_execution():
    async def looped_before(ctx):
        for _ in range(3):
            await ctx.call(echo.s(1))
        await ctx.wait_event("go")

    async def looped(ctx):
        answers = []
        for _ in range(3):
            answers.append(ctx.patched("x"))
            await ctx.call(echo.s(1))
        await ctx.wait_event("go")
        ctx.set_status([*answers, ctx.patched("x")])

    life = live(looped_before, script={"echo": [1, 1, 1]})
    execution = fresh(looped)
    for row in life.rows:
        execution.replay(load_events(row))
    decision = execution.take([raised("go", at=60)])
    execution.abandon()
    assert decision.custom_status == "[false, false, false, false]"
    new = live(looped, script={"echo": [1, After(1, 1), 1]}, inputs=[raised("go")])
    assert new.statuses == [[True, True, True, True]]


def test_two_changes_are_told_apart():
    async def one(ctx):
        await ctx.call(echo.s(ctx.patched("one")))
        await ctx.wait_event("go")

    async def two(ctx):
        await ctx.call(echo.s(ctx.patched("one")))
        await ctx.wait_event("go")
        ctx.set_status([ctx.patched("one"), ctx.patched("two")])

    assert finish(halfway(one), two) == ["RecordPatch 'two'", "CompleteExecution"]


@pytest.mark.parametrize("change", ["", "x" * 201, "a\x00b"])
def test_a_change_id_that_no_store_keeps_is_refused(change):
    async def orchestrator(ctx):
        ctx.patched(change)

    with pytest.raises(ValueError, match="a change id"):
        live(orchestrator).value  # noqa: B018
