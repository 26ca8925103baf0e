"""The rest of ``ctx``: facts, time, chance, inline functions, status, continue-as-new, logging."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

from celery_durable.core.history import Event, EventKind, load_events
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import ForbiddenOperation, PayloadError

from .harness import (
    CODEC,
    SECOND,
    START,
    echo,
    fail,
    flaky,
    fresh,
    live,
    never,
    raised,
    resume,
    slow,
    started,
)

# -- facts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("state", "give it attributes, as in ctx.state.address"),
        ("custom_status", r"use ctx.set_status\(value\)"),
        ("status", r"use ctx.set_status\(value\)"),
        ("tags", r"use ctx.set_tags\(\{...\}\)"),
        ("version", "it is the context's own"),
        ("instance_id", "it is the context's own"),
        ("set_status", "it is the context's own"),
    ],
)
def test_what_is_set_by_other_means_is_refused(name, words):
    async def orchestrator(ctx):
        ctx.note_of_its_own = 7
        with pytest.raises(AttributeError, match=f"ctx.{name} cannot be set: {words}"):
            setattr(ctx, name, {})
        return ctx.note_of_its_own

    assert live(orchestrator).value == 7


def test_the_context_knows_who_it_is():
    async def orchestrator(ctx):
        return [ctx.instance_id, ctx.execution_id, ctx.parent_id, ctx.name, ctx.version]

    facts = ExecutionInfo("i", "e", "n", None, "p")
    assert live(orchestrator, facts=facts).value == ["i", "e", "p", "n", None]


def test_an_absent_version_is_none_and_not_an_empty_string():
    async def orchestrator(ctx):
        return ctx.version

    assert live(orchestrator, facts=ExecutionInfo("i", "e", "n")).value is None


def test_is_replaying_is_false_exactly_when_commands_would_be_recorded():
    seen = []

    async def orchestrator(ctx):
        seen.append(ctx.is_replaying)
        await ctx.call(echo.s())
        seen.append(ctx.is_replaying)

    life = live(orchestrator, check=False)
    assert seen == [False, False]
    seen.clear()
    execution = fresh(orchestrator)
    execution.replay(load_events(life.rows[0]))
    execution.take(life.turns[1])
    execution.abandon()
    assert seen == [True, False]
    seen.clear()
    life.replayed()
    assert seen == [True, True]


def test_history_length_counts_what_is_recorded():
    async def orchestrator(ctx):
        seen = [ctx.history_length]
        await ctx.call(echo.s())
        seen.append(ctx.history_length)
        await ctx.call(echo.s())
        return [*seen, ctx.history_length, ctx.should_continue_as_new]

    assert live(orchestrator).value == [1, 3, 5, False]


def test_history_length_is_the_same_on_replay_after_a_join():
    async def orchestrator(ctx):
        await asyncio.gather(ctx.call(slow.s(1)), ctx.call(slow.s(2)))
        await ctx.call(echo.s())
        ctx.set_status(ctx.history_length)
        for _ in range(ctx.history_length):
            await ctx.call(echo.s())

    life = live(orchestrator, check=False)
    life.replayed()


def test_a_long_history_asks_to_continue_as_new():
    async def orchestrator(ctx):
        while not ctx.should_continue_as_new:
            await ctx.wait_event("item")
        ctx.continue_as_new()

    inputs = [raised("item", at=number / 1000) for number in range(11_000)]
    life = live(orchestrator, inputs=inputs, batch=4_000, check=False)
    assert life.next_input == [[], {}]
    assert len(life.history) >= 10_000


# -- time and chance -------------------------------------------------------------------------------


def test_now_is_the_time_of_the_event_being_applied_aware_and_constant_between_awaits():
    async def orchestrator(ctx):
        first = ctx.now()
        assert first.tzinfo is UTC
        assert ctx.now() == first
        await ctx.call(slow.s(2.5))
        second = ctx.now()
        await ctx.sleep(timedelta(hours=1))
        return [
            (second - first).total_seconds(),
            (ctx.now() - second).total_seconds(),
            first.isoformat(),
        ]

    start = datetime.fromtimestamp(START / SECOND, UTC).isoformat()
    assert live(orchestrator).value == [2.5, 3600.0, start]


def test_time_never_runs_backwards_when_an_event_bears_an_earlier_time():
    async def orchestrator(ctx):
        await ctx.call(slow.s(10))
        before = ctx.now()
        await ctx.wait_event("skewed")
        return ctx.now() == before

    execution = fresh(orchestrator)
    execution.take([started()])
    execution.take([Event(EventKind.ACTIVITY_COMPLETED, START + 10 * SECOND, 1, 1)])
    decision = execution.take([raised("skewed", at=3)])
    assert CODEC.decode(decision.final.output) is True
    execution.abandon()


def test_the_loop_s_clock_starts_at_zero_and_follows_history():
    async def orchestrator(ctx):
        loop = asyncio.get_running_loop()
        before = loop.time()
        await ctx.sleep(7)
        return [before, loop.time()]

    assert live(orchestrator).value == [0, 7]


def test_uuids_and_random_numbers_are_the_same_on_every_replay_and_differ_between_executions():
    async def orchestrator(ctx):
        ids = [str(ctx.uuid4())]
        await ctx.call(echo.s(ids[0]))
        ids.append(str(ctx.uuid4()))
        numbers = [ctx.random.random(), ctx.random.randrange(10**9)]
        await ctx.call(echo.s(numbers))
        return [ids, numbers, ctx.random.sample(range(1000), 5), ctx.uuid4().version]

    first, second = live(orchestrator).value, live(orchestrator).value
    assert first == second
    assert len(set(first[0])) == 2
    assert first[3] == 4
    other = live(
        orchestrator, facts=ExecutionInfo("order-42", "another", "shop.fulfil_order")
    ).value
    assert other[0] != first[0]
    assert other[1] != first[1]


def test_chance_is_made_of_the_seed_when_it_is_asked_for() -> None:
    async def orchestrator(ctx):
        await ctx.call(never.s())

    machine = fresh(orchestrator)
    context = machine._context
    assert not {"random", "_ids"} & set(vars(context))
    own = machine.info.execution_id
    assert context.random.random() == Random(f"{own}:random").random()
    in_use = context.random
    machine.reseed("another")
    assert context.random is in_use
    assert in_use.random() == Random("another:random").random()
    assert context._ids.random() == Random("another:uuid4").random()
    with pytest.raises(AttributeError, match="random cannot be set"):
        context.random = Random()


def test_sleep_takes_seconds_and_timedelta_of_any_length():
    async def orchestrator(ctx):
        await ctx.sleep(1.5)
        await ctx.sleep(timedelta(days=800))
        await ctx.sleep(0)

    life = live(orchestrator)
    assert life.timers == [1.5, 1.5 + 800 * 86_400]


def test_sleep_until_an_aware_moment_of_any_zone():
    east = timezone(timedelta(hours=9))
    moment = datetime.fromtimestamp(START / SECOND, east) + timedelta(minutes=10)

    async def orchestrator(ctx):
        await ctx.sleep_until(moment)
        await ctx.sleep_until(moment - timedelta(days=1))

    assert live(orchestrator).timers == [600]


@pytest.mark.parametrize(
    ("wait", "error"),
    [
        (lambda ctx: ctx.sleep_until(datetime(2030, 1, 1)), ValueError),
        (lambda ctx: ctx.sleep_until("2030-01-01"), TypeError),
        (lambda ctx: ctx.sleep_until(1_900_000_000), TypeError),
        (lambda ctx: ctx.sleep(-1), ValueError),
        (lambda ctx: ctx.sleep(float("nan")), ValueError),
        (lambda ctx: ctx.sleep("soon"), TypeError),
        (lambda ctx: ctx.wait_event("x", timeout=-1), ValueError),
    ],
)
def test_times_that_cannot_be_meant_are_refused(wait, error):
    async def orchestrator(ctx):
        await wait(ctx)

    life = live(orchestrator)
    with pytest.raises(error):
        life.value
    assert life.asked == []


def test_a_naive_datetime_is_refused_with_the_way_out():
    async def orchestrator(ctx):
        await ctx.sleep_until(datetime(2030, 1, 1))

    with pytest.raises(ValueError, match=r"naive: give it a time zone"):
        live(orchestrator).value


# -- run -------------------------------------------------------------------------------------------


def test_an_inline_function_runs_once_in_history_and_its_result_is_journaled():
    calls = []

    def draw(base, *, plus):
        calls.append(base)
        return (base + plus, {"at": datetime(2030, 1, 1, tzinfo=UTC)})

    async def orchestrator(ctx):
        value = await ctx.run(draw, 1, plus=2)
        await ctx.call(echo.s(value))
        return value

    life = live(orchestrator, check=False)
    assert life.value == [3, {"at": datetime(2030, 1, 1, tzinfo=UTC)}]
    assert life.asked[0].startswith("RecordRun '")
    assert calls == [1]
    life.replayed()
    assert calls == [1]
    life.check()


def test_an_exception_of_an_inline_function_is_journaled_and_raised_alike():
    def refuse():
        raise LookupError("not in stock")

    async def orchestrator(ctx):
        try:
            await ctx.run(refuse)
        except LookupError as error:
            return await ctx.call(echo.s(str(error)))

    assert live(orchestrator).value == "not in stock"


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_falsy_results_of_an_inline_function_survive(value):
    async def orchestrator(ctx):
        first = await ctx.run(lambda: value)
        await ctx.sleep(1)
        return first

    assert live(orchestrator).value == value


def test_a_result_of_an_inline_function_that_cannot_be_encoded_raises_and_replays():
    async def orchestrator(ctx):
        try:
            await ctx.run(object)
        except PayloadError:
            return await ctx.call(echo.s("refused"))

    assert live(orchestrator).value == "refused"


def test_a_coroutine_function_is_refused_as_an_inline_function():
    async def helper():
        pass

    async def orchestrator(ctx):
        await ctx.run(helper)

    life = live(orchestrator)
    with pytest.raises(TypeError, match="await it directly"):
        life.value
    assert life.asked == []


def test_inline_functions_of_one_turn_are_told_apart():
    async def orchestrator(ctx):
        return [await ctx.run(lambda: "a"), await ctx.run(lambda: "b"), await ctx.call(echo.s("c"))]

    assert live(orchestrator).value == ["a", "b", "c"]


def test_a_callable_object_may_run_inline():
    class Draw:
        def __call__(self):
            return 4

    async def orchestrator(ctx):
        return await ctx.run(Draw())

    life = live(orchestrator)
    assert life.value == 4
    assert life.asked == ["RecordRun 'Draw'"]


# -- status ----------------------------------------------------------------------------------------


def test_the_last_status_of_a_turn_wins():
    async def orchestrator(ctx):
        ctx.set_status("one")
        ctx.set_status({"step": 2})
        await ctx.call(echo.s())
        await ctx.call(echo.s())
        ctx.set_status(None)

    life = live(orchestrator)
    assert life.statuses == [{"step": 2}, None]
    assert [decision.custom_status for decision in life.decisions][1] is None


def test_a_status_that_cannot_be_encoded_is_refused():
    async def orchestrator(ctx):
        ctx.set_status(object())

    with pytest.raises(PayloadError):
        live(orchestrator).value


# -- continue as new -------------------------------------------------------------------------------


def test_continue_as_new_carries_its_arguments_and_never_returns():
    async def orchestrator(ctx, number, *, mode):
        await ctx.call(echo.s())
        try:
            ctx.continue_as_new(number + 1, mode=mode.upper())
        except Exception:
            return "an except clause must not see it"
        return "unreachable"

    life = live(orchestrator, 1, kwargs={"mode": "a"})
    assert life.next_input == [[2], {"mode": "A"}]
    assert life.final.events == []


def test_events_that_were_not_taken_stay_in_order():
    async def orchestrator(ctx):
        await ctx.wait_event("go")
        ctx.continue_as_new()

    inputs = [raised("b", 1, at=1), raised("a", 2, at=2), raised("b", 3, at=3), raised("go", at=5)]
    kept = live(orchestrator, inputs=inputs).final.events
    assert [(event.name, event.payload) for event in kept] == [("b", "1"), ("a", "2"), ("b", "3")]


def test_events_stay_in_the_order_in_which_they_would_have_been_taken_when_clocks_disagree():
    async def orchestrator(ctx):
        await ctx.wait_event("go")
        ctx.continue_as_new()

    execution = fresh(orchestrator)
    execution.take([started()])
    execution.take([raised("item", "first", at=9)])
    execution.take([raised("item", "second", at=8)])
    final = execution.take([raised("go", at=10)]).final
    execution.abandon()
    assert [CODEC.decode(event.payload) for event in final.events] == ["first", "second"]


def test_events_can_be_left_behind():
    async def orchestrator(ctx):
        await ctx.wait_event("go")
        ctx.continue_as_new(keep_events=False)

    life = live(orchestrator, inputs=[raised("left", at=1), raised("go", at=2)])
    assert life.final.events == []


def test_continue_as_new_leaves_through_finally_and_from_a_gathered_coroutine():
    async def part(ctx):
        await ctx.call(echo.s())
        ctx.continue_as_new("from inside")

    async def orchestrator(ctx):
        try:
            await asyncio.gather(part(ctx), ctx.call(never.s()))
        finally:
            ctx.set_status("leaving")

    life = live(orchestrator)
    assert life.next_input == [["from inside"], {}]
    assert life.statuses == ["leaving"]


def test_new_arguments_that_cannot_be_encoded_fail_the_execution():
    async def orchestrator(ctx):
        ctx.continue_as_new(object())

    with pytest.raises(PayloadError):
        live(orchestrator).value


# -- logging ---------------------------------------------------------------------------------------


def test_the_logger_is_silent_on_replay_and_carries_the_instance_id(caplog):
    caplog.set_level(logging.INFO)

    async def orchestrator(ctx):
        ctx.logger.info("before %s", 1)
        await ctx.call(echo.s())
        ctx.logger.warning("after", extra={"amount": 5})

    life = live(orchestrator, check=False)
    assert [record.getMessage() for record in caplog.records] == [
        "[order-42] before 1",
        "[order-42] after",
    ]
    assert {record.instance_id for record in caplog.records} == {"order-42"}
    assert caplog.records[1].amount == 5
    assert caplog.records[0].name == "celery_durable.orchestrator.shop.fulfil_order"
    caplog.clear()
    life.replayed()
    assert caplog.records == []


# -- suspension ------------------------------------------------------------------------------------


def test_a_call_that_has_used_up_its_attempts_may_suspend_and_starts_over_when_resumed():
    async def orchestrator(ctx):
        return await ctx.call(flaky.s(), retry=RetryPolicy(max_attempts=2), on_exhausted="suspend")

    broken = [ValueError("still broken")] * 2
    script = {"flaky": [*broken, *broken, "repaired"]}
    life = live(orchestrator, inputs=[resume(at=100), resume(at=200)], script=script)
    assert life.value == "repaired"
    reasons = [decision.suspend_reason for decision in life.decisions if decision.suspend_reason]
    assert len(reasons) == 2
    assert "flaky" in reasons[0]
    assert "ValueError: still broken" in reasons[0]
    assert [command.attempt for command in life.scheduled] == [1, 2, 3, 4, 5]


def test_a_suspended_call_stays_suspended_until_it_is_resumed():
    async def orchestrator(ctx):
        return await ctx.call(flaky.s(), on_exhausted="suspend")

    life = live(orchestrator, script={"flaky": [ValueError("no")]})
    assert life.is_waiting
    assert "flaky has used up its attempts" in life.suspend_reason


def test_an_exhausted_call_that_is_no_longer_wanted_does_not_suspend():
    async def orchestrator(ctx):
        await ctx.any([ctx.call(flaky.s(), on_exhausted="suspend"), ctx.sleep(1)])
        return await ctx.call(slow.s(5, "went on"))

    execution = fresh(orchestrator)
    first = execution.take([started()])
    failed, fired = _failure_of(first.commands[0].command), _timer(first.commands[1].command)
    decision = execution.take([failed, fired])
    execution.abandon()
    assert decision.suspend_reason is None


def _failure_of(command):
    payload = CODEC.encode_failure(ValueError("used up"))
    return Event(EventKind.ACTIVITY_FAILED, START + SECOND, command, 1, payload=payload)


def _timer(command):
    return Event(EventKind.TIMER_FIRED, START + SECOND, command)


# -- the context after its life --------------------------------------------------------------------


def test_the_context_of_an_abandoned_execution_refuses_to_act():
    kept = []

    async def orchestrator(ctx):
        kept.append(ctx)
        await ctx.call(never.s())

    execution = fresh(orchestrator)
    execution.take([started()])
    execution.abandon()
    with pytest.raises(ForbiddenOperation, match="no longer in use"):
        kept[0].call(echo.s())


def test_the_finally_blocks_of_an_abandoned_execution_can_do_nothing():
    seen = []

    async def orchestrator(ctx):
        try:
            await ctx.call(never.s())
        finally:
            seen.append("finally")
            await ctx.call(fail.s("must not go out"))
            seen.append("unreachable")

    execution = fresh(orchestrator)
    execution.take([started()])
    asked = execution.last_number
    execution.abandon()
    assert seen == ["finally"]
    assert execution.final is None
    assert execution.last_number == asked


async def _interrupted(ctx):
    """Awaits in its cleanup, and again in the cleanup of that."""
    try:
        await ctx.wait_event("never")
    finally:
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(5)


async def _directly(ctx):
    await _interrupted(ctx)


async def _in_a_task(ctx):
    await asyncio.create_task(_interrupted(ctx))


async def _held_by_a_saved_error(ctx):
    part = _interrupted(ctx)
    try:
        await part
    except Exception as error:
        saved = error  # the error knows this frame, and so the part, until the garbage is collected
        raise saved


def _in_a_generator(ctx):
    try:
        yield ctx.wait_event("never")
    finally:
        try:
            yield ctx.all([])
        finally:
            yield asyncio.sleep(5)


@pytest.mark.parametrize(
    "abandoned", [_directly, _in_a_task, _held_by_a_saved_error, _in_a_generator]
)
def test_what_is_left_of_an_abandoned_execution_never_acts_on_another(abandoned):
    kept = [fresh(abandoned)]
    kept[0].take([started()])
    kept[0].abandon()

    async def other(ctx):
        kept.clear()
        gc.collect()
        return await ctx.call(echo.s())

    assert live(other, check=False).asked == ["ScheduleActivity 'echo'"]
