"""Patches: the new way is recorded where it is taken, and the old one leaves no trace."""

from __future__ import annotations

import pytest

from celery_durable.core.kinds import RecordPatch
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import echo, live

from .looks import kinds_of, lanes, open_in, words


async def new(ctx):
    if ctx.patched("check first"):
        await ctx.call(echo.s("checked"))
    return await ctx.call(echo.s("sold"))


async def old(ctx):
    return await ctx.call(echo.s("sold"))


async def deprecated(ctx):
    ctx.deprecate_patch("check first")
    await ctx.call(echo.s("checked"))
    return await ctx.call(echo.s("sold"))


def test_the_new_way_is_recorded_once_and_hidden_in_pictures():
    async def twice(ctx):
        return [ctx.patched("a"), ctx.patched("a")]

    life = live(twice)
    assert life.value == [True, True]
    assert [each for each in life.commands if isinstance(each, RecordPatch)] == [
        RecordPatch(1, "a")
    ]
    assert kinds_of(life) == ["PatchRecorded"]
    assert (lanes(life), open_in(life), words(life)) == ([], [], [])


def test_what_went_past_before_the_change_keeps_the_old_way():
    life = live(old)
    assert life.replayed(new).final == life.final
    assert kinds_of(life) == ["ActivityScheduled", "ActivityCompleted"]


def test_the_line_may_be_deprecated_and_not_dropped():
    life = live(new)
    assert life.replayed(deprecated).final == life.final
    with pytest.raises(NonDeterminismError, match="PatchRecorded 'check first'"):
        life.replayed(old)


def test_a_patch_is_a_fact_that_no_cancel_and_no_rewind_touches():
    assert (RecordPatch.is_one_shot, RecordPatch.is_withdrawal, RecordPatch.is_final) == (
        False,
        False,
        False,
    )
