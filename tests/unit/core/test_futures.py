"""``ctx.all``, ``ctx.any`` and ``ctx.map``."""

from __future__ import annotations

import asyncio

import pytest

from .harness import (
    START,
    After,
    cancel,
    child,
    echo,
    fail,
    flaky,
    fresh,
    live,
    never,
    raised,
    slow,
    slow_fail,
    started,
)

# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "last", 5])
def test_all_gives_every_result_in_order(order):
    async def orchestrator(ctx):
        return await ctx.all([ctx.call(echo.s(n)) for n in range(4)])

    assert live(orchestrator, order=order).value == [0, 1, 2, 3]


def test_all_takes_any_iterable_of_anything_to_await():
    async def helper(ctx):
        return await ctx.call(echo.s("helped"))

    class Custom:
        def __await__(self):
            return iter(())

    async def orchestrator(ctx):
        mixed = (helper(ctx), ctx.sleep(3), ctx.call(echo.s("called")), Custom())
        return await ctx.all(awaitable for awaitable in mixed)

    assert live(orchestrator).value == ["helped", None, "called", None]


def test_all_of_nothing_is_an_empty_list_at_once():
    async def orchestrator(ctx):
        return [await ctx.all([]), await ctx.all([], fail_fast=False), await ctx.map(echo, [])]

    life = live(orchestrator)
    assert life.value == [[], [], []]
    assert len(life.rows) == 1


def test_all_of_what_is_done_already_returns_in_the_same_turn():
    async def orchestrator(ctx):
        calls = [ctx.call(echo.s(1)), ctx.call(echo.s(2))]
        await ctx.sleep(5)
        return await ctx.all(calls)

    life = live(orchestrator)
    assert life.value == [1, 2]
    assert life.seconds == 5


def test_fail_fast_raises_at_the_first_failure_and_the_siblings_keep_running():
    async def orchestrator(ctx):
        late = ctx.call(slow.s(9, "late"))
        try:
            await ctx.all([late, ctx.call(slow_fail.s(2, "early"))])
        except ValueError as error:
            return [str(error), asyncio.get_running_loop().time(), await late]

    life = live(orchestrator)
    assert life.value == ["early", 2, "late"]
    assert "CancelActivity" not in life.asked


def test_without_fail_fast_nothing_is_raised_until_every_member_is_done():
    async def orchestrator(ctx):
        calls = [
            ctx.call(slow.s(9)),
            ctx.call(slow_fail.s(5, "second")),
            ctx.call(slow_fail.s(2, "third")),
        ]
        try:
            await ctx.all(calls, fail_fast=False)
        except ValueError as error:
            return [str(error), asyncio.get_running_loop().time()]

    assert live(orchestrator).value == ["second", 9]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_failures_that_a_composite_has_seen_are_not_logged_as_lost(fail_fast, caplog):
    async def orchestrator(ctx):
        try:
            await ctx.all(
                [ctx.call(fail.s("one")), ctx.call(fail.s("two")), ctx.call(echo.s())],
                fail_fast=fail_fast,
            )
        except ValueError:
            await ctx.sleep(5)

    live(orchestrator, check=False)
    assert caplog.text == ""


def test_cancelling_a_composite_takes_its_pending_members_back():
    async def orchestrator(ctx):
        try:
            async with asyncio.timeout(5):
                await ctx.all(
                    [ctx.call(never.s()), ctx.call(echo.s()), ctx.all([ctx.call(never.s())])]
                )
        except TimeoutError:
            return "given up"

    life = live(orchestrator)
    assert life.value == "given up"
    assert life.asked.count("CancelActivity") == 2


# -- any -------------------------------------------------------------------------------------------


def test_any_gives_the_winner_and_takes_the_losers_back():
    async def orchestrator(ctx):
        return await ctx.any([ctx.call(slow.s(9)), ctx.call(slow.s(2, "won")), ctx.sleep(5)])

    life = live(orchestrator)
    assert life.value == "won"
    assert life.seconds == 2
    assert sorted(life.asked[-2:]) == ["CancelActivity", "CancelTimer"]


def test_any_can_leave_the_losers_running():
    async def orchestrator(ctx):
        loser = ctx.call(slow.s(9, "lost"))
        won = await ctx.any([loser, ctx.call(slow.s(2, "won"))], cancel_losers=False)
        return [won, await loser]

    assert live(orchestrator).value == ["won", "lost"]


def test_any_raises_when_the_winner_failed():
    async def orchestrator(ctx):
        return await ctx.any([ctx.call(slow.s(9)), ctx.call(fail.s("won and failed"))])

    with pytest.raises(ValueError, match="won and failed"):
        live(orchestrator).value


def test_any_of_nothing_is_a_value_error():
    async def orchestrator(ctx):
        await ctx.any([])

    with pytest.raises(ValueError, match="never finish"):
        live(orchestrator).value


def test_any_of_several_that_are_done_takes_the_first_in_order():
    async def orchestrator(ctx):
        calls = [ctx.call(slow.s(3, "a")), ctx.call(slow.s(1, "b"))]
        await ctx.sleep(9)
        return await ctx.any(calls)

    assert live(orchestrator).value == "a"


def test_a_timer_that_lost_does_not_keep_the_instance_open():
    async def orchestrator(ctx):
        return await ctx.any([ctx.sleep(86_400 * 365), ctx.call(echo.s("done"))])

    life = live(orchestrator)
    assert life.value == "done"
    assert life.seconds == 1


def test_any_between_an_event_and_a_timer():
    async def orchestrator(ctx):
        return await ctx.any([ctx.wait_event("approved"), ctx.sleep(10)])

    assert live(orchestrator, inputs=[raised("approved", "yes", at=3)]).value == "yes"
    assert live(orchestrator, inputs=[raised("approved", "late", at=30)]).value is None


# -- several composites ----------------------------------------------------------------------------


def test_any_over_all_and_all_over_any():
    async def orchestrator(ctx):
        def call(seconds, value):
            return ctx.call(slow.s(seconds, value))

        outer = await ctx.any([ctx.all([call(2, "a"), call(3, "b")]), call(9, "c")])
        inner = await ctx.all([ctx.any([call(2, "d"), call(9, "e")]), call(1, "f")])
        return [outer, inner]

    life = live(orchestrator)
    assert life.value == [["a", "b"], ["d", "f"]]
    assert life.seconds == 5


def test_a_loser_that_is_a_composite_is_taken_back_with_all_its_members():
    async def orchestrator(ctx):
        both = ctx.all([ctx.call(never.s()), ctx.call(never.s())])
        return await ctx.any([both, ctx.call(echo.s("won"))])

    life = live(orchestrator)
    assert life.value == "won"
    assert life.asked.count("CancelActivity") == 2


def test_the_same_call_in_two_composites():
    async def orchestrator(ctx):
        shared = ctx.call(slow.s(2, "shared"))
        first = ctx.all([shared, ctx.call(slow.s(1, "one"))])
        second = ctx.any([shared, ctx.call(slow.s(9))])
        return [await first, await second]

    assert live(orchestrator).value == [["shared", "one"], "shared"]


def test_the_same_call_twice_in_one_composite():
    async def orchestrator(ctx):
        shared = ctx.call(echo.s("x"))
        return [
            await ctx.all([shared, shared]),
            await ctx.any([shared, shared]),
            await asyncio.gather(shared, shared),
        ]

    assert live(orchestrator).value == [["x", "x"], "x", ["x", "x"]]


def test_the_same_pending_call_twice_in_any_is_not_taken_back():
    async def orchestrator(ctx):
        shared = ctx.call(echo.s("x"))
        return await ctx.any([shared, shared])

    assert live(orchestrator).value == "x"


def test_one_composite_awaited_by_two():
    async def wait(future):
        return await future

    async def orchestrator(ctx):
        both = ctx.all([ctx.call(echo.s(1)), ctx.call(echo.s(2))])
        return await asyncio.gather(wait(both), wait(both))

    assert live(orchestrator).value == [[1, 2], [1, 2]]


def test_a_member_that_was_cancelled_raises_where_the_composite_is_awaited():
    async def orchestrator(ctx):
        call = ctx.call(never.s())
        both = ctx.all([call, ctx.call(echo.s())])
        call.cancel()
        try:
            await both
        except asyncio.CancelledError:
            return "caught"

    assert live(orchestrator).value == "caught"


def test_a_composite_of_something_that_cannot_be_awaited_is_a_type_error():
    async def orchestrator(ctx):
        await ctx.all([42])

    with pytest.raises(TypeError, match="cannot be awaited"):
        live(orchestrator).value


# -- map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "last", 2])
@pytest.mark.parametrize("concurrency", [None, 1, 2, 3, 100])
def test_map_gives_results_in_order_whatever_the_window(concurrency, order):
    async def orchestrator(ctx):
        return await ctx.map(echo, range(7), concurrency=concurrency)

    assert live(orchestrator, order=order).value == list(range(7))


def test_map_runs_at_most_as_many_as_the_window_is_wide():
    async def orchestrator(ctx):
        return await ctx.map(slow.s("value"), [2] * 6, concurrency=2)

    life = live(orchestrator)
    assert life.value == ["value"] * 6
    assert life.seconds == 6
    assert [command.is_held for command in life.scheduled] == [False, False, True, True, True, True]
    assert {command.window for command in life.scheduled} == {1}


def test_the_items_of_a_map_come_before_the_signature_s_own_arguments():
    async def orchestrator(ctx):
        return await ctx.map(slow.s("second").set(queue="q"), [1])

    life = live(orchestrator)
    assert life.scheduled[0].args == (1, "second")
    assert life.scheduled[0].options["queue"] == "q"


@pytest.mark.parametrize("concurrency", [None, 2])
def test_map_over_orchestrators_starts_children(concurrency):
    async def orchestrator(ctx):
        return await ctx.map(child, [1, 2, 3], concurrency=concurrency)

    life = live(orchestrator)
    assert life.value == [1, 2, 3]
    assert life.seconds == (1 if concurrency is None else 2)


def test_map_raises_at_the_first_failure_and_takes_the_rest_back():
    async def orchestrator(ctx):
        await ctx.map(flaky, range(3))

    life = live(
        orchestrator, script={"flaky": [After(9, "a"), After(1, ValueError("no")), After(9, "b")]}
    )
    with pytest.raises(ValueError, match="no"):
        life.value
    assert life.asked.count("CancelActivity") == 2


@pytest.mark.parametrize(
    ("tolerate", "failures", "survives"),
    [
        (0, 0, True),
        (0, 1, False),
        (2, 2, True),
        (2, 3, False),
        (0.5, 2, True),
        (0.5, 3, False),
        (1, 1, True),
        (1.0, 2, False),
    ],
)
def test_map_tolerates_a_count_or_a_share_of_failures(tolerate, failures, survives):
    async def orchestrator(ctx):
        results = await ctx.map(flaky, range(5), tolerate=tolerate)
        return [type(result).__name__ for result in results]

    answers = [ValueError(str(n)) if n < failures else n for n in range(5)]
    life = live(orchestrator, script={"flaky": answers})
    if survives:
        assert life.value == ["ValueError"] * failures + ["int"] * (5 - failures)
    else:
        with pytest.raises(ValueError, match=str(failures - 1)):
            life.value


def test_a_tolerated_failure_in_a_window_lets_the_next_member_start():
    async def orchestrator(ctx):
        results = await ctx.map(flaky, range(5), concurrency=1, tolerate=5)
        return [str(result) for result in results]

    answers = [ValueError("a"), "b", ValueError("c"), ValueError("d"), "e"]
    life = live(orchestrator, script={"flaky": answers})
    assert life.value == ["a", "b", "c", "d", "e"]
    assert life.seconds == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": -1},
        {"concurrency": 1.5},
        {"tolerate": -1},
        {"tolerate": 1.5},
        {"tolerate": -0.1},
    ],
)
def test_a_map_that_cannot_work_is_refused(wrong):
    async def orchestrator(ctx):
        await ctx.map(echo, [1, 2], **wrong)

    with pytest.raises(ValueError, match="must be"):
        live(orchestrator).value


def test_cancel_takes_the_whole_window_back():
    async def orchestrator(ctx):
        await ctx.map(never, range(4), concurrency=2)

    life = live(orchestrator, inputs=[cancel()])
    assert life.is_canceled
    assert life.asked.count("CancelActivity") == 4


def test_a_large_batch_is_joined_and_cheap_to_replay():
    async def orchestrator(ctx):
        return sum(await asyncio.gather(*(ctx.call(echo.s(n)) for n in range(2_000))))

    life = live(orchestrator, batch=500, check=False)
    assert life.value == sum(range(2_000))
    life.replayed()
    execution = fresh(orchestrator)
    execution.take([started()])
    assert execution.now == START
    execution.abandon()
