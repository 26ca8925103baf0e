"""External events: what waits for them, what sends them, and what is shown of it."""

from __future__ import annotations

import pytest

from celery_durable.core.kinds import SendEvent
from celery_durable.errors import NonDeterminismError
from tests.unit.core.harness import cancel, live, raised

from .looks import kinds_of, lanes, open_in, take, words


async def waits(ctx):
    return await ctx.wait_event("paid", timeout=60)


async def sends(ctx):
    await ctx.signal_event("order-43", "restocked", {"count": 2})


def test_an_event_is_recorded_as_it_came_and_given_to_the_code():
    life = live(waits, inputs=[raised("paid", {"by": "ann"})])
    assert kinds_of(life) == ["TimerCreated", "EventRaised", "TimerCanceled"]
    assert life.value == {"by": "ann"}
    assert ("event", "paid", "completed") in lanes(life)


def test_what_is_awaited_is_said_in_words():
    async def orchestrator(ctx):
        await ctx.wait_event("paid")

    life = live(orchestrator)
    assert (life.is_waiting, words(life), open_in(life)) == (True, ["event 'paid'"], [])


def test_a_time_out_raises_and_what_comes_later_is_kept_for_the_next_wait():
    async def orchestrator(ctx):
        try:
            await ctx.wait_event("paid", timeout=2)
        except TimeoutError:
            await ctx.sleep(3)
        return await ctx.wait_event("paid")

    life = live(orchestrator, inputs=[raised("paid", "late", at=4)])
    assert life.value == "late"


def test_a_copy_of_an_event_leaves_no_trace():
    taken = take(waits)
    assert taken.take(raised("other", event_id="e1")) == ["EventRaised"]
    assert taken.take(raised("other", event_id="e1")) == []
    taken.machine.abandon()


def test_a_cancel_of_the_execution_reaches_who_waits():
    life = live(waits, inputs=[cancel()])
    assert life.is_canceled
    assert words(life) == []


def test_an_event_is_sent_with_the_turn():
    life = live(sends)
    [sent] = [each for each in life.commands if isinstance(each, SendEvent)]
    assert (sent.instance_id, sent.name) == ("order-43", "restocked")
    assert kinds_of(life) == ["EventSent"]
    assert life.history[1].facts == {"to": "order-43"}
    assert lanes(life) == [("signal", "restocked to order-43", "completed")]
    assert open_in(life) == []


def test_other_code_is_told_where_it_disagrees():
    async def another(ctx):
        await ctx.signal_event("order-43", "sold out")

    with pytest.raises(NonDeterminismError, match="EventSent 'restocked'.*'sold out'"):
        live(sends).replayed(another)
