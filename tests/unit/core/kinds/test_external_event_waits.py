"""``ctx.wait_event`` and ``ctx.signal_event``."""

from __future__ import annotations

import asyncio

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.kinds import SendEvent
from celery_durable.errors import PayloadError
from tests.unit.core.harness import CODEC, echo, live, raised, slow


def test_an_event_that_comes_while_it_is_awaited():
    async def orchestrator(ctx):
        return await ctx.wait_event("approved")

    life = live(orchestrator, inputs=[raised("approved", {"by": "ada"}, at=100)])
    assert life.value == {"by": "ada"}
    assert life.seconds == 100
    assert life.asked == []


def test_an_event_that_came_before_it_is_awaited_is_kept():
    async def orchestrator(ctx):
        await ctx.call(slow.s(10))
        before = ctx.now()
        value = await ctx.wait_event("approved")
        return [value, ctx.now() == before]

    assert live(orchestrator, inputs=[raised("approved", "early", at=2)]).value == ["early", True]


def test_events_of_one_name_are_taken_first_in_first_out():
    async def orchestrator(ctx):
        first = await ctx.wait_event("item")
        await ctx.sleep(10)
        return [first, *[await ctx.wait_event("item") for _ in range(3)]]

    inputs = [raised("item", number, at=1 + number) for number in range(4)]
    assert live(orchestrator, inputs=inputs).value == [0, 1, 2, 3]


def test_names_are_kept_apart():
    async def orchestrator(ctx):
        return [await ctx.wait_event("b"), await ctx.wait_event("a")]

    assert live(orchestrator, inputs=[raised("a", 1, at=1), raised("b", 2, at=2)]).value == [2, 1]


def test_two_waiters_each_get_one_event_in_order_of_waiting():
    async def orchestrator(ctx):
        return await asyncio.gather(ctx.wait_event("item"), ctx.wait_event("item"))

    assert live(orchestrator, inputs=[raised("item", 1, at=1), raised("item", 2, at=2)]).value == [
        1,
        2,
    ]


def test_a_wait_with_a_timeout_that_gets_its_event_cancels_the_timer():
    async def orchestrator(ctx):
        return await ctx.wait_event("approved", timeout=60)

    life = live(orchestrator, inputs=[raised("approved", "yes", at=5)])
    assert life.value == "yes"
    assert life.asked == ["CreateTimer", "CancelTimer"]


def test_a_wait_that_times_out_raises_timeout_error_and_leaves_later_events_alone():
    async def orchestrator(ctx):
        try:
            await ctx.wait_event("approved", timeout=5)
        except TimeoutError as error:
            seen = str(error)
        return [seen, await ctx.wait_event("approved")]

    life = live(orchestrator, inputs=[raised("approved", "late", at=7)])
    assert life.value == ["no event 'approved' came in time", "late"]


def test_an_event_at_the_very_instant_of_the_timeout_wins():
    async def orchestrator(ctx):
        return await ctx.wait_event("approved", timeout=5)

    assert (
        live(orchestrator, inputs=[raised("approved", "just in time", at=5)]).value
        == "just in time"
    )


def test_timeout_zero_takes_what_is_there_or_raises_at_once():
    async def orchestrator(ctx):
        seen = []
        await ctx.sleep(5)
        for _ in range(2):
            try:
                seen.append(await ctx.wait_event("item", timeout=0))
            except TimeoutError:
                seen.append("nothing")
        return seen

    life = live(orchestrator, inputs=[raised("item", "there", at=1)])
    assert life.value == ["there", "nothing"]
    assert life.timers == [5]


def test_timeout_zero_leaves_no_waiter_that_would_eat_an_event():
    async def orchestrator(ctx):
        with pytest.raises(TimeoutError):
            await ctx.wait_event("item", timeout=0)
        await ctx.sleep(5)
        return await ctx.wait_event("item")

    assert live(orchestrator, inputs=[raised("item", "kept", at=1)]).value == "kept"


@pytest.mark.parametrize("how", ["wait_for", "timeout", "any", "task"])
def test_a_cancelled_waiter_does_not_eat_an_event(how):
    async def give_up(ctx):
        if how == "wait_for":
            await asyncio.wait_for(ctx.wait_event("item"), 3)
        elif how == "timeout":
            async with asyncio.timeout(3):
                await ctx.wait_event("item")
        elif how == "any":
            await ctx.any([ctx.wait_event("item"), ctx.sleep(3)])
        else:
            task = asyncio.ensure_future(ctx.wait_event("item"))
            await ctx.sleep(3)
            task.cancel()

    async def orchestrator(ctx):
        try:
            await give_up(ctx)
        except TimeoutError:
            pass
        await ctx.sleep(10)
        return await ctx.wait_event("item")

    assert live(orchestrator, inputs=[raised("item", "kept", at=5)]).value == "kept"


def test_the_next_waiter_gets_the_event_that_a_cancelled_one_left():
    async def orchestrator(ctx):
        first, second = ctx.wait_event("item"), ctx.wait_event("item")
        first.cancel()
        return await second

    assert live(orchestrator, inputs=[raised("item", 1)]).value == 1


def test_an_event_id_counts_once():
    async def orchestrator(ctx):
        first = await ctx.wait_event("item")
        return [first, await ctx.wait_event("item", timeout=20)]

    inputs = [
        raised("item", 1, at=1, event_id="x"),
        raised("item", 2, at=2, event_id="x"),
        raised("item", 3, at=3),
    ]
    life = live(orchestrator, inputs=inputs)
    assert life.value == [1, 3]
    assert sum(event.kind is EventKind.EVENT_RAISED for event in life.history) == 2


def test_events_without_an_id_all_count():
    async def orchestrator(ctx):
        return [await ctx.wait_event("item"), await ctx.wait_event("item")]

    assert live(orchestrator, inputs=[raised("item", 1, at=1), raised("item", 1, at=1)]).value == [
        1,
        1,
    ]


@pytest.mark.parametrize("payload", [None, 0, "", [], {}, False])
@pytest.mark.parametrize("pause", [0, 5])
def test_falsy_payloads_survive_buffered_or_not(payload, pause):
    async def orchestrator(ctx):
        await ctx.sleep(pause)
        return [await ctx.wait_event("item"), await ctx.wait_event("item")]

    value = live(
        orchestrator, inputs=[raised("item", payload, at=1), raised("item", "next", at=2)]
    ).value
    assert value == [payload, "next"]
    assert type(value[0]) is type(payload)


def test_an_event_that_no_one_takes_does_not_matter():
    async def orchestrator(ctx):
        return await ctx.call(slow.s(5, "end"))

    assert live(orchestrator, inputs=[raised("stray", 1), raised("stray", 2, at=99)]).value == "end"


def test_events_wake_a_loop_that_consumes_them():
    async def orchestrator(ctx):
        total = 0
        while (item := await ctx.wait_event("item")) is not None:
            total += await ctx.call(echo.s(item))
        return total

    inputs = [
        *(raised("item", number, at=number / 10) for number in range(1, 9)),
        raised("item", None, at=20),
    ]
    for batch in (1, 3, 100):
        assert live(orchestrator, inputs=inputs, batch=batch).value == 36


# -- signals ---------------------------------------------------------------------------------------


def test_a_signal_is_one_way_and_goes_out_with_the_turn():
    async def orchestrator(ctx):
        ctx.signal_event("order-7", "paid", {"amount": 0})
        assert await ctx.signal_event("order-8", "paid") is None
        return "sent"

    life = live(orchestrator)
    assert life.value == "sent"
    sent = [command for command in life.commands if isinstance(command, SendEvent)]
    assert [
        (command.instance_id, command.name, CODEC.decode(command.payload)) for command in sent
    ] == [("order-7", "paid", {"amount": 0}), ("order-8", "paid", None)]


def test_a_signal_that_cannot_be_encoded_is_refused():
    async def orchestrator(ctx):
        try:
            ctx.signal_event("order-7", "paid", object())
        except PayloadError:
            return await ctx.call(echo.s("refused"))

    assert live(orchestrator).value == "refused"
