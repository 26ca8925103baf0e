"""Values awaited as a type: a refusal is recorded, so that every replay follows it."""

from __future__ import annotations

from datetime import date

import pytest

from celery_durable.core.kinds import RefusePayload
from celery_durable.errors import NonDeterminismError, PayloadError
from tests.unit.core.harness import live, raised

from .looks import kinds_of, lanes, open_in, words


async def typed(ctx):
    try:
        return f"date {await ctx.wait_event('count', type=date)}"
    except PayloadError:
        return "refused"


def test_a_value_that_fits_leaves_no_event_of_its_own():
    life = live(typed, inputs=[raised("count", "2026-12-02")])
    assert (life.value, kinds_of(life)) == ("date 2026-12-02", ["EventRaised"])


def test_a_value_that_does_not_fit_is_recorded_with_its_reason():
    life = live(typed, inputs=[raised("count", "three")])
    assert life.value == "refused"
    [refusal] = [each for each in life.commands if isinstance(each, RefusePayload)]
    assert refusal.comparison == 1
    assert kinds_of(life) == ["EventRaised", "PayloadRefused"]
    assert life.history[2].facts == {"why": refusal.why, "comparison": 1}
    assert (open_in(life), words(life)) == ([], [])
    assert ("event", "count", "completed") in lanes(life)


def test_a_replay_follows_what_was_decided_then():
    life = live(typed, inputs=[raised("count", "three")])

    async def untyped(ctx):
        return await ctx.wait_event("count")

    with pytest.raises(NonDeterminismError, match="PayloadRefused"):
        life.replayed(untyped)
