"""The standard library's own asyncio primitives, inside an orchestrator."""

from __future__ import annotations

import asyncio

import pytest

from .harness import add, echo, fail, live, never, raised, slow, slow_fail

# -- gather ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "last", 7])
def test_gather_gives_results_in_order_of_the_calls_whatever_ends_first(order):
    async def orchestrator(ctx):
        return await asyncio.gather(*(ctx.call(echo.s(n)) for n in range(5)))

    assert live(orchestrator, order=order).value == [0, 1, 2, 3, 4]


def test_gather_runs_side_by_side():
    async def orchestrator(ctx):
        return await asyncio.gather(ctx.call(slow.s(5)), ctx.call(slow.s(3)))

    assert live(orchestrator).seconds == 5


def test_gather_of_nothing_returns_at_once():
    async def orchestrator(ctx):
        return await asyncio.gather()

    life = live(orchestrator)
    assert life.value == []
    assert len(life.rows) == 1


def test_gather_raises_at_the_first_failure_and_leaves_the_siblings_running():
    async def orchestrator(ctx):
        late = ctx.call(slow.s(9, "late"))
        try:
            await asyncio.gather(late, ctx.call(fail.s("first")), ctx.call(slow_fail.s(3)))
        except ValueError as error:
            return [str(error), ctx.now().timestamp() % 1000, await late]

    assert live(orchestrator).value == ["first", 1.0, "late"]


def test_gather_can_return_exceptions_in_their_place():
    async def orchestrator(ctx):
        results = await asyncio.gather(
            ctx.call(echo.s(1)), ctx.call(fail.s("no")), ctx.call(echo.s(3)), return_exceptions=True
        )
        return [str(result) for result in results]

    assert live(orchestrator).value == ["1", "no", "3"]


def test_two_parallel_sequences_of_calls_in_one_orchestration_are_deterministic():
    async def sequence(ctx, name, pause):
        results = []
        for number in range(3):
            results.append(await ctx.call(slow.s(pause, f"{name}{number}")))
        return results

    async def orchestrator(ctx):
        return await asyncio.gather(
            sequence(ctx, "a", 2), sequence(ctx, "b", 2), sequence(ctx, "c", 3)
        )

    for order in ("first", "last", 1, 2):
        assert live(orchestrator, order=order).value == [
            [f"{name}{n}" for n in range(3)] for name in "abc"
        ]


# -- wait ------------------------------------------------------------------------------------------


def test_wait_for_the_first_completed():
    async def orchestrator(ctx):
        calls = [ctx.call(slow.s(5)), ctx.call(slow.s(2, "quick"))]
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in pending:
            call.cancel()
        return [len(done), len(pending), done.pop().result()]

    life = live(orchestrator)
    assert life.value == [1, 1, "quick"]
    assert "CancelActivity" in life.asked


def test_wait_for_the_first_exception():
    async def orchestrator(ctx):
        calls = [ctx.call(slow.s(1)), ctx.call(slow_fail.s(2)), ctx.call(slow.s(3))]
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        return [len(done), len(pending)]

    assert live(orchestrator).value == [2, 1]


def test_wait_for_all():
    async def orchestrator(ctx):
        calls = [ctx.call(slow.s(1)), ctx.call(slow_fail.s(2)), ctx.call(slow.s(3))]
        done, pending = await asyncio.wait(calls)
        return [len(done), len(pending), sum(call.exception() is not None for call in done)]

    assert live(orchestrator).value == [3, 0, 1]


def test_wait_with_a_timeout_leaves_the_rest_pending():
    async def orchestrator(ctx):
        call = ctx.call(slow.s(9, "there"))
        done, pending = await asyncio.wait([call], timeout=4)
        return [len(done), len(pending), await call]

    life = live(orchestrator)
    assert life.value == [0, 1, "there"]
    assert life.timers == [4]


def test_the_sets_that_wait_returns_iterate_alike_for_tasks():
    async def one(ctx, number):
        return await ctx.call(echo.s(number))

    async def orchestrator(ctx):
        tasks = [asyncio.create_task(one(ctx, number)) for number in range(20)]
        done, _ = await asyncio.wait(tasks)
        for task in done:
            await ctx.call(echo.s(task.result()))
        return [task.result() for task in done]

    lives = [live(orchestrator) for _ in range(3)]
    assert lives[0].rows == lives[1].rows == lives[2].rows


def test_wait_over_gathers_goes_through_them_in_a_fixed_order():
    async def orchestrator(ctx):
        batches = [asyncio.gather(ctx.call(echo.s(n)), ctx.call(echo.s(n))) for n in range(16)]
        done, _ = await asyncio.wait(batches)
        return [batch.result()[0] for batch in done]

    lives, ballast = [], []
    for number in range(12):
        ballast.append([asyncio.Event() for _ in range(number * 3)])  # moves what is allocated next
        lives.append(live(orchestrator, check=False).value)
    assert all(value == lives[0] for value in lives)


# -- wait_for, timeout, timeout_at -----------------------------------------------------------------


def test_wait_for_gives_the_result_and_cancels_its_timer():
    async def orchestrator(ctx):
        return await asyncio.wait_for(ctx.call(slow.s(2, "in time")), 5)

    life = live(orchestrator)
    assert life.value == "in time"
    assert life.asked == ["ScheduleActivity 'slow'", "CreateTimer", "CancelTimer"]


def test_wait_for_times_out_and_takes_the_call_back():
    async def orchestrator(ctx):
        try:
            await asyncio.wait_for(ctx.call(slow.s(9)), 5)
        except TimeoutError:
            return "too late"

    life = live(orchestrator)
    assert life.value == "too late"
    assert life.seconds == 5
    assert life.asked[-1] == "CancelActivity"


def test_a_timeout_that_is_not_needed_leaves_no_timer():
    async def orchestrator(ctx):
        async with asyncio.timeout(60):
            return await ctx.call(echo.s(1))

    assert live(orchestrator).asked == ["CreateTimer", "ScheduleActivity 'echo'", "CancelTimer"]


def test_a_timeout_raises_a_timeout_error_around_several_awaits():
    async def orchestrator(ctx):
        seen = []
        try:
            async with asyncio.timeout(5):
                while True:
                    seen.append(await ctx.call(slow.s(2, len(seen))))
        except TimeoutError:
            return seen

    life = live(orchestrator)
    assert life.value == [0, 1]
    assert life.seconds == 5


def test_nested_timeouts_fire_for_the_right_block():
    async def orchestrator(ctx):
        seen = []
        try:
            async with asyncio.timeout(10):
                try:
                    async with asyncio.timeout(3):
                        await ctx.call(never.s())
                except TimeoutError:
                    seen.append("inner")
                await ctx.call(never.s())
        except TimeoutError:
            seen.append("outer")
        return seen

    life = live(orchestrator)
    assert life.value == ["inner", "outer"]
    assert life.seconds == 10


def test_a_timeout_can_be_put_off():
    async def orchestrator(ctx):
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(3) as limit:
            limit.reschedule(loop.time() + 20)
            return await ctx.call(slow.s(10, "patient"))

    life = live(orchestrator)
    assert life.value == "patient"


def test_timeout_at_counts_by_the_loop_s_clock():
    async def orchestrator(ctx):
        loop = asyncio.get_running_loop()
        await asyncio.sleep(2)
        try:
            async with asyncio.timeout_at(loop.time() + 3):
                await ctx.call(never.s())
        except TimeoutError:
            return loop.time()

    assert live(orchestrator).value == 5


def test_a_timeout_in_the_past_fires_in_the_same_turn():
    async def orchestrator(ctx):
        try:
            async with asyncio.timeout(0):
                await ctx.call(never.s())
        except TimeoutError:
            return "at once"

    life = live(orchestrator)
    assert life.value == "at once"
    assert life.asked == []


# -- as_completed ----------------------------------------------------------------------------------


def test_as_completed_gives_results_as_they_come():
    async def orchestrator(ctx):
        calls = [ctx.call(slow.s(seconds, seconds)) for seconds in (3, 1, 2)]
        return [await earliest for earliest in asyncio.as_completed(calls)]

    assert live(orchestrator).value == [1, 2, 3]


def test_as_completed_raises_the_failure_of_the_one_that_failed():
    async def orchestrator(ctx):
        seen = []
        for earliest in asyncio.as_completed(
            [ctx.call(slow.s(2, "fine")), ctx.call(fail.s("bad"))]
        ):
            try:
                seen.append(await earliest)
            except ValueError as error:
                seen.append(str(error))
        return seen

    assert live(orchestrator).value == ["bad", "fine"]


def test_as_completed_starts_coroutines_in_a_fixed_order():
    async def one(ctx, number):
        return await ctx.call(echo.s(number))

    async def orchestrator(ctx):
        for earliest in asyncio.as_completed([one(ctx, number) for number in range(16)]):
            await earliest

    lives, ballast = [], []
    for number in range(12):
        ballast.append([one(None, n) for n in range(number * 3)])  # moves what is allocated next
        lives.append([command.args for command in live(orchestrator, check=False).scheduled])
    for coroutines in ballast:
        for coroutine in coroutines:
            coroutine.close()
    assert all(order == lives[0] for order in lives)


# -- tasks -----------------------------------------------------------------------------------------


def test_create_task_runs_beside_the_main_line():
    async def background(ctx, seen):
        seen.append(await ctx.call(slow.s(1, "background")))

    async def orchestrator(ctx):
        seen = []
        task = asyncio.create_task(background(ctx, seen))
        seen.append(await ctx.call(slow.s(5, "main")))
        await task
        return seen

    assert live(orchestrator).value == ["background", "main"]


def test_what_the_context_gives_can_be_made_a_task_directly():
    async def orchestrator(ctx):
        first = asyncio.create_task(ctx.call(echo.s(1)), name="first")
        async with asyncio.TaskGroup() as group:
            second = group.create_task(ctx.call(echo.s(2)))
            third = group.create_task(ctx.all([ctx.call(echo.s(3)), ctx.call(echo.s(4))]))
            group.create_task(ctx.sleep(1))
        return [first.get_name(), await first, second.result(), third.result()]

    assert live(orchestrator, order="last").value == ["first", 1, 2, [3, 4]]


def test_cancelling_such_a_task_takes_the_call_back():
    async def orchestrator(ctx):
        task = asyncio.create_task(ctx.call(never.s()))
        await ctx.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert live(orchestrator).value is True


def test_a_task_knows_itself_and_its_siblings():
    async def one():
        return asyncio.current_task().get_name()

    async def orchestrator(ctx):
        tasks = [asyncio.create_task(one()), asyncio.create_task(one(), name="named")]
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        return [names, [await task for task in tasks]]

    names, seen = live(orchestrator).value
    assert len(names) == 3
    assert "named" in names
    assert seen[1] == "named"


def test_a_task_group_gives_every_result():
    async def orchestrator(ctx):
        async def one(number):
            return await ctx.call(echo.s(number))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(4)]
        return [task.result() for task in tasks]

    assert live(orchestrator, order="last").value == [0, 1, 2, 3]


def test_a_failure_in_a_task_group_takes_its_siblings_back():
    async def orchestrator(ctx):
        async def one(signature):
            return await ctx.call(signature)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one(never.s()))
                group.create_task(one(fail.s("the group breaks")))
                group.create_task(one(never.s()))
        except* ValueError as errors:
            seen = [str(error) for error in errors.exceptions]
        return seen

    life = live(orchestrator)
    assert life.value == ["the group breaks"]
    assert life.asked.count("CancelActivity") == 2


def test_an_uncaught_failure_of_a_task_group_fails_the_orchestration():
    async def orchestrator(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(_call(ctx, fail.s("inside")))

    error = live(orchestrator).error
    assert type(error) is ExceptionGroup
    assert [str(each) for each in error.exceptions] == ["inside"]


async def _call(ctx, signature):
    return await ctx.call(signature)


def test_shield_keeps_a_call_through_a_timeout():
    async def orchestrator(ctx):
        call = ctx.call(slow.s(8, "kept"))
        try:
            async with asyncio.timeout(2):
                await asyncio.shield(call)
        except TimeoutError:
            return ["late", await call]

    life = live(orchestrator)
    assert life.value == ["late", "kept"]
    assert "CancelActivity" not in life.asked


def test_a_cancelled_task_takes_its_call_back():
    async def orchestrator(ctx):
        task = asyncio.create_task(_call(ctx, never.s()))
        await asyncio.sleep(1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return task.cancelled()

    life = live(orchestrator)
    assert life.value is True
    assert "CancelActivity" in life.asked


# -- sleeping --------------------------------------------------------------------------------------


def test_sleep_is_a_durable_timer():
    async def orchestrator(ctx):
        return await asyncio.sleep(86_400 * 400, "a year and more")

    life = live(orchestrator)
    assert life.value == "a year and more"
    assert life.timers == [86_400 * 400]


def test_sleep_zero_lets_others_run_without_a_timer():
    async def orchestrator(ctx):
        seen = []

        async def other():
            seen.append("other")

        task = asyncio.create_task(other())
        seen.append("before")
        await asyncio.sleep(0)
        seen.append("after")
        await task
        return seen

    life = live(orchestrator)
    assert life.value == ["before", "other", "after"]
    assert life.asked == []


def test_a_negative_sleep_returns_in_the_same_turn():
    async def orchestrator(ctx):
        await asyncio.sleep(-5)
        return "on time"

    assert len(live(orchestrator).rows) == 1


def test_call_later_and_call_at_are_durable_timers_too():
    async def orchestrator(ctx):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(3, future.set_result, "later")
        gone = loop.call_at(loop.time() + 1, future.set_result, "never")
        gone.cancel()
        return await future

    life = live(orchestrator)
    assert life.value == "later"
    assert life.timers == [3]


# -- synchronisation -------------------------------------------------------------------------------


def test_an_event_wakes_all_its_waiters():
    async def orchestrator(ctx):
        gate, seen = asyncio.Event(), []

        async def waiter(name):
            await gate.wait()
            seen.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(waiter(name))
            await ctx.sleep(1)
            gate.set()
        return seen

    assert live(orchestrator).value == ["a", "b", "c"]


def test_a_queue_feeds_workers_in_order():
    async def orchestrator(ctx):
        queue, seen = asyncio.Queue(maxsize=2), []

        async def worker(name):
            while (item := await queue.get()) is not None:
                seen.append([name, await ctx.call(slow.s(item, item))])

        workers = [asyncio.create_task(worker(name)) for name in "ab"]
        for item in (3, 1, 2, 1):
            await queue.put(item)
        for _ in workers:
            await queue.put(None)
        await asyncio.gather(*workers)
        return seen

    life = live(orchestrator)
    assert life.value == [["b", 1], ["a", 3], ["b", 2], ["a", 1]]


def test_a_lock_is_held_by_one_at_a_time():
    async def orchestrator(ctx):
        lock, seen = asyncio.Lock(), []

        async def one(name):
            async with lock:
                seen.append(f"{name} in")
                await ctx.call(echo.s())
                seen.append(f"{name} out")

        await asyncio.gather(one("a"), one("b"))
        return seen

    assert live(orchestrator).value == ["a in", "a out", "b in", "b out"]


def test_a_semaphore_limits_how_many_run():
    async def orchestrator(ctx):
        slots, running, most = asyncio.Semaphore(2), 0, 0

        async def one():
            nonlocal running, most
            async with slots:
                running += 1
                most = max(most, running)
                await ctx.call(echo.s())
                running -= 1

        await asyncio.gather(*(one() for _ in range(7)))
        return most

    life = live(orchestrator)
    assert life.value == 2
    assert life.seconds == 4


def test_a_condition_passes_word_between_tasks():
    async def orchestrator(ctx):
        condition, stock = asyncio.Condition(), []

        async def consumer():
            async with condition:
                await condition.wait_for(lambda: len(stock) >= 2)
                return list(stock)

        task = asyncio.create_task(consumer())
        for number in range(2):
            item = await ctx.call(add.s(number, 10))
            async with condition:
                stock.append(item)
                condition.notify_all()
        return await task

    assert live(orchestrator).value == [10, 11]


def test_a_barrier_lets_all_through_together():
    async def orchestrator(ctx):
        barrier = asyncio.Barrier(3)

        async def one(seconds):
            await ctx.sleep(seconds)
            await barrier.wait()
            return asyncio.get_running_loop().time()

        return await asyncio.gather(one(1), one(2), one(3))

    assert live(orchestrator).value == [3, 3, 3]


# -- awaiting --------------------------------------------------------------------------------------


def test_what_is_done_already_resumes_in_the_same_turn_and_gives_its_value_twice():
    async def orchestrator(ctx):
        early = ctx.call(slow.s(1, "early"))
        await ctx.call(slow.s(3))
        before = ctx.now()
        values = [await early, await early]
        return [*values, ctx.now() == before]

    life = live(orchestrator)
    assert life.value == ["early", "early", True]
    assert len(life.rows) == 3


def test_a_failure_awaited_twice_is_raised_twice():
    async def orchestrator(ctx):
        call, seen = ctx.call(fail.s("again")), []
        for _ in range(2):
            try:
                await call
            except ValueError as error:
                seen.append(str(error))
        return seen

    assert live(orchestrator).value == ["again", "again"]


def test_awaiting_a_cancelled_call_raises_where_it_can_be_caught():
    async def orchestrator(ctx):
        call = ctx.call(never.s())
        await ctx.sleep(1)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return "caught"

    assert live(orchestrator).value == "caught"


def test_a_call_taken_back_in_the_turn_that_made_it_leaves_no_trace():
    async def orchestrator(ctx):
        ctx.call(never.s()).cancel()
        return await ctx.call(echo.s("only this"))

    life = live(orchestrator)
    assert life.value == "only this"
    assert life.asked == ["ScheduleActivity 'echo'"]


def test_try_except_and_finally_work_around_any_await():
    async def orchestrator(ctx):
        seen = []
        try:
            await ctx.call(fail.s("work"))
        except ValueError as error:
            seen.append(await ctx.call(echo.s(f"handle {error}")))
            seen.append(await ctx.call(echo.s("handle more")))
        else:
            seen.append("never")
        finally:
            seen.append(await ctx.call(echo.s("tidy up")))
        return seen

    assert live(orchestrator).value == ["handle work", "handle more", "tidy up"]


def test_a_failure_can_be_raised_again_after_awaits_in_the_handler():
    async def orchestrator(ctx):
        try:
            await ctx.call(fail.s("original"))
        except ValueError:
            await ctx.call(echo.s("note it"))
            raise

    life = live(orchestrator)
    with pytest.raises(ValueError, match="original"):
        life.value
    assert life.asked == ["ScheduleActivity 'fail'", "ScheduleActivity 'echo'"]


def test_return_in_finally_replaces_the_failure():
    async def orchestrator(ctx):
        try:
            await ctx.call(fail.s())
        finally:
            return await ctx.call(echo.s("from finally"))

    assert live(orchestrator).value == "from finally"


def test_the_same_call_three_times_with_the_same_arguments_runs_three_times():
    async def orchestrator(ctx):
        return [await ctx.call(flaky_same) for flaky_same in [echo.s(1)] * 3]

    assert live(orchestrator, script={"echo": ["a", "b", "c"]}).value == ["a", "b", "c"]


def test_async_generators_and_context_managers_work():
    async def numbers(ctx):
        for number in range(3):
            yield await ctx.call(echo.s(number))

    async def orchestrator(ctx):
        return [number async for number in numbers(ctx)]

    assert live(orchestrator).value == [0, 1, 2]


def test_a_call_is_scheduled_when_it_is_called_awaited_or_not():
    async def orchestrator(ctx):
        ctx.call(never.s("left alone"))
        return await ctx.wait_event("go")

    life = live(orchestrator, inputs=[raised("go", 7)])
    assert life.value == 7
    assert life.asked == ["ScheduleActivity 'never'"]


def test_calls_are_scheduled_in_order_of_the_calls():
    async def orchestrator(ctx):
        first, second = ctx.call(echo.s(1)), ctx.call(add.s(2))
        await second
        await first

    assert [command.task for command in live(orchestrator).scheduled] == ["echo", "add"]


def test_a_call_that_no_one_awaits_and_that_fails_is_logged_and_fails_nothing(caplog):
    async def orchestrator(ctx):
        ctx.call(fail.s("nobody looks"))
        await ctx.sleep(5)
        return "fine"

    life = live(orchestrator, check=False)
    assert life.value == "fine"
    assert "nobody looks" in caplog.text
    caplog.clear()
    life.replayed()
    assert caplog.text == ""
