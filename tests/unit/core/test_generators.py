"""Orchestrators that are generators, or plain functions."""

from __future__ import annotations

import pytest

from celery_durable.errors import PayloadError

from .harness import add, cancel, echo, fail, live, never, raised, slow


def test_a_generator_gets_the_result_of_what_it_yields():
    def orchestrator(ctx, number):
        doubled = yield ctx.call(add.s(number, number))
        again = yield ctx.call(add.s(doubled, doubled))
        return again

    assert live(orchestrator, 5).value == 20


def test_a_generator_yields_composites():
    def orchestrator(ctx):
        every = yield ctx.all([ctx.call(echo.s(1)), ctx.call(echo.s(2))])
        first = yield ctx.any([ctx.call(never.s()), ctx.call(slow.s(3, "won"))])
        return [every, first]

    assert live(orchestrator).value == [[1, 2], "won"]


def test_a_failure_is_thrown_into_a_generator():
    def orchestrator(ctx):
        try:
            yield ctx.call(fail.s("thrown"))
        except ValueError as error:
            handled = yield ctx.call(echo.s(f"handled {error}"))
        finally:
            tidy = yield ctx.call(echo.s("tidy"))
        return [handled, tidy]

    assert live(orchestrator).value == ["handled thrown", "tidy"]


def test_an_uncaught_failure_in_a_generator_fails_the_orchestration():
    def orchestrator(ctx):
        yield ctx.call(fail.s("uncaught"))

    with pytest.raises(ValueError, match="uncaught"):
        live(orchestrator).value


def test_a_generator_may_wait_for_events_and_timers():
    def orchestrator(ctx):
        yield ctx.sleep(5)
        answer = yield ctx.wait_event("approved")
        try:
            yield ctx.wait_event("approved", timeout=10)
        except TimeoutError:
            return answer

    life = live(orchestrator, inputs=[raised("approved", "yes", at=2)])
    assert life.value == "yes"
    assert life.seconds == 15


def test_a_generator_may_yield_a_coroutine():
    async def helper(ctx):
        return await ctx.call(echo.s("helped"))

    def orchestrator(ctx):
        return (yield helper(ctx))

    assert live(orchestrator).value == "helped"


def test_a_generator_may_delegate():
    def part(ctx, number):
        return (yield ctx.call(add.s(number, 1)))

    def orchestrator(ctx):
        one = yield from part(ctx, 1)
        return (yield from part(ctx, one))

    assert live(orchestrator).value == 3


@pytest.mark.parametrize("wrong", [42, None, [1, 2], "text"])
def test_yielding_what_cannot_be_awaited_raises_a_clear_type_error(wrong):
    def orchestrator(ctx):
        yield wrong

    with pytest.raises(TypeError, match=r"cannot be awaited; yield or pass what ctx\.call"):
        live(orchestrator).value


def test_the_type_error_is_raised_at_the_yield_and_can_be_caught():
    def orchestrator(ctx):
        try:
            yield 42
        except TypeError:
            return (yield ctx.call(echo.s("went on")))

    assert live(orchestrator).value == "went on"


def test_cancel_is_thrown_into_a_generator_and_compensation_runs():
    def orchestrator(ctx):
        try:
            yield ctx.call(never.s())
        finally:
            yield ctx.call(echo.s("undo"))

    life = live(orchestrator, inputs=[cancel()])
    assert life.is_canceled
    assert life.asked[-1] == "ScheduleActivity 'echo'"


def test_a_generator_may_continue_as_new():
    def orchestrator(ctx, number):
        yield ctx.call(echo.s())
        ctx.continue_as_new(number + 1)

    assert live(orchestrator, 1).next_input == [[2], {}]


def test_a_generator_that_returns_before_its_first_yield():
    def orchestrator(ctx):
        return "early"
        yield

    assert live(orchestrator).value == "early"


def test_a_plain_function_completes_in_its_first_turn():
    def orchestrator(ctx, left, *, right):
        return left + right

    life = live(orchestrator, 1, kwargs={"right": 2})
    assert life.value == 3
    assert len(life.rows) == 1


def test_a_plain_function_may_return_something_to_await():
    def orchestrator(ctx):
        return ctx.call(echo.s("awaited for it"))

    assert live(orchestrator).value == "awaited for it"


def test_a_plain_function_that_raises_fails():
    def orchestrator(ctx):
        raise LookupError("plain")

    with pytest.raises(LookupError, match="plain"):
        live(orchestrator).value


def test_wrong_arguments_fail_the_orchestration_with_the_usual_type_error():
    async def orchestrator(ctx, only):
        return only

    with pytest.raises(TypeError, match="positional argument"):
        live(orchestrator, 1, 2).value


def test_a_result_that_cannot_be_encoded_fails_with_a_message_that_names_the_part():
    async def orchestrator(ctx):
        await ctx.call(echo.s())
        ctx.signal_event("other", "still goes out")
        return {"order": [1, object()]}

    life = live(orchestrator)
    with pytest.raises(PayloadError, match=r"'order-42'.*\['order'\]\[1\].*builtins\.object"):
        life.value
    assert life.asked[-1] == "SendEvent 'still goes out'"


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_falsy_results_and_arguments_survive(value):
    async def orchestrator(ctx, argument):
        assert argument == value
        return await ctx.call(echo.s(argument))

    assert live(orchestrator, value).value == value
    assert type(live(orchestrator, value).value) is type(value)
