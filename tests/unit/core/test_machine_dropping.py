"""An execution can be dropped from memory at any moment: in bounded time, without effects, and
nothing is left of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_durable.azure.running import durabletask_orchestrator
from celery_durable.core import tasks
from celery_durable.core.history import load_events
from celery_durable.errors import DurableError, ForbiddenOperation
from tests.tiers import is_long, rounds

from .harness import add, echo, fresh, live, never, raised, resume, slow, started


@pytest.fixture(autouse=True, scope="module")
def little_garbage():
    """Let a collection look at what these tests leave, not at all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def drop(execution):
    """Drop it as the cache does, and see that this takes no time and asks for nothing."""
    asked, began = execution.last_number, time.process_time()
    execution.abandon()
    gc.collect()
    assert time.process_time() - began < 1
    assert execution.last_number == asked
    assert execution.final is None or not execution.loop.tasks


def check_dropped_everywhere(function, *, inputs=()):
    """Run it to its end.

    Then again with a drop and a replay before each turn, collecting garbage in between.
    """
    whole = live(function, inputs=inputs)
    for number in range(len(whole.turns) + 1):
        gc.collect()
        execution = fresh(function)
        for row in whole.rows[:number]:
            execution.replay(load_events(row))
        gc.collect()
        if number < len(whole.turns):
            assert execution.take(whole.turns[number]) == whole.decisions[number]
        drop(execution)
    return whole


# -- bodies that make it hard ----------------------------------------------------------------------


async def swallows_everything(ctx):
    for _ in range(3):
        with contextlib.suppress(BaseException):
            await ctx.call(echo.s())
        with contextlib.suppress(BaseException):
            await ctx.wait_event("go")
    while True:
        try:
            await ctx.call(never.s())
        except BaseException:
            pass


async def swallows_whatever_it_asks_for(ctx):
    asks = [
        lambda: ctx.call(never.s()),
        lambda: ctx.sleep(5),
        lambda: ctx.wait_event("never"),
        lambda: ctx.run(int),
        lambda: ctx.signal_event("other", "x"),
        lambda: ctx.all([ctx.call(never.s())]),
        lambda: ctx.map(never, [1, 2]),
        lambda: ctx.entity("Counter", "a").add(1),
        lambda: ctx.entity("Counter", "a").signal.add(1),
        lambda: ctx.lock(ctx.entity("Counter", "a")).acquire(),
        lambda: asyncio.sleep(0),
        lambda: asyncio.to_thread(print),
        lambda: asyncio.wait_for(ctx.wait_event("never"), 3),
        lambda: asyncio.gather(ctx.call(never.s()), asyncio.sleep(3)),
        lambda: asyncio.create_task(asyncio.sleep(3)),
        lambda: ctx.set_status("still here"),
    ]
    for number in range(1_000_000):
        try:
            await ctx.wait_event("never") if number == 0 else await asks[number % len(asks)]()
        except BaseException:
            pass


async def awaits_in_its_cleanup(ctx):
    try:
        try:
            await ctx.call(echo.s())
            await ctx.call(slow.s(5))
        finally:
            async with asyncio.timeout(3):
                await ctx.call(echo.s("tidy"))
            await asyncio.wait_for(ctx.call(echo.s("more")), 5)
    finally:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(asyncio.sleep(2))
    return "tidy"


async def leaves_generators_early(ctx):
    async def pages(name):
        try:
            for number in range(3):
                yield await ctx.call(echo.s(number))
        finally:
            await ctx.call(echo.s(f"close {name}"))
            ctx.set_status(name)

    async for _ in pages("first"):
        break
    kept = pages("second")
    await anext(kept)
    cycle = [pages("third")]
    cycle.append(cycle)
    await anext(cycle[0])
    del cycle
    gc.collect()
    await ctx.call(echo.s("after"))
    gc.collect()
    return "left"


async def lets_the_garbage_collector_find_its_generator(ctx):
    def numbers():
        try:
            yield 1
        finally:
            ctx.call(never.s("at any moment"))

    for _ in range(3):
        cycle = [numbers()]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        await ctx.call(echo.s())
        gc.collect()
        await ctx.sleep(1)


async def holds_itself(ctx):
    async def part():
        try:
            await ctx.call(slow.s(3, me))
        finally:
            await asyncio.sleep(1)

    me = {"task": asyncio.create_task(part())}
    me["me"] = [me["task"]]
    try:
        await ctx.sleep(1)
        raise ValueError("kept")
    except ValueError as error:
        saved = error
    me["task"].cancel()
    await asyncio.wait([me["task"]])
    return str(saved)


def yields_in_its_cleanup(ctx):
    try:
        yield ctx.call(echo.s())
        yield ctx.sleep(3)
    finally:
        try:
            yield ctx.call(echo.s("tidy"))
        finally:
            yield ctx.all([])
    return "tidy"


def swallows_as_a_generator(ctx):
    while True:
        try:
            yield ctx.call(never.s())
        except BaseException:
            pass


@durabletask_orchestrator
def yields_as_azure_has_it(ctx, _):
    try:
        yield ctx.call_activity("echo", input=1)
        yield ctx.create_timer(ctx.current_utc_datetime)
        yield ctx.wait_for_external_event("go")
    finally:
        yield ctx.call_activity("echo", input=2)
    return "tidy"


async def starts_threads(ctx):
    seen = []
    with contextlib.suppress(ForbiddenOperation):
        await asyncio.to_thread(seen.append, 1)
    thread = threading.Thread(target=seen.append, args=(2,))
    thread.start()
    await ctx.call(echo.s())
    thread.join()
    await ctx.call(echo.s())
    return seen


async def undoes(ctx):
    async with ctx.lock(ctx.entity("Counter", "a")), ctx.saga() as saga:
        await saga.call(echo.s("do"), undo=echo.s("undo"))
        await asyncio.shield(ctx.sleep(5))


HOSTILE = [
    swallows_everything,
    swallows_whatever_it_asks_for,
    awaits_in_its_cleanup,
    leaves_generators_early,
    lets_the_garbage_collector_find_its_generator,
    holds_itself,
    yields_in_its_cleanup,
    swallows_as_a_generator,
    yields_as_azure_has_it,
    starts_threads,
    undoes,
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("function", HOSTILE, ids=lambda function: function.__name__)
def test_hostile_code_is_dropped_after_each_of_its_turns_and_continues_from_history(function):
    whole = check_dropped_everywhere(function, inputs=[raised("go", n, at=3 + n) for n in range(4)])
    expected = {
        awaits_in_its_cleanup: "tidy",
        leaves_generators_early: "left",
        holds_itself: "kept",
        yields_in_its_cleanup: "tidy",
        yields_as_azure_has_it: "tidy",
        starts_threads: [2],
        lets_the_garbage_collector_find_its_generator: None,
    }
    assert whole.is_waiting if function not in expected else whole.value == expected[function]


# -- generated ones --------------------------------------------------------------------------------

leaves = st.sampled_from(["call", "sleep", "nap", "yield", "collect", "fail", "run", "never"])
bodies = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("then"), inner, inner),
        st.tuples(st.just("finally"), inner, inner),
        st.tuples(st.just("swallow"), inner),
        st.tuples(st.just("swallow twice"), inner),
        st.tuples(st.just("leave"), inner, inner, st.booleans()),
        st.tuples(st.just("timeout"), inner),
        st.tuples(st.just("beside"), inner, inner),
        st.tuples(st.just("forget"), inner),
        st.tuples(st.just("with"), inner),
    ),
    max_leaves=8,
)


async def perform(ctx, body):
    """Do what a generated body says."""
    match body:
        case "call":
            await ctx.call(echo.s())
        case "sleep":
            await ctx.sleep(2)
        case "nap":
            await asyncio.sleep(1)
        case "yield":
            await asyncio.sleep(0)
        case "collect":
            gc.collect()
        case "fail":
            raise ValueError("generated")
        case "run":
            await ctx.run(int)
        case "never":
            await ctx.call(slow.s(50))
        case ("then", first, second):
            await perform(ctx, first)
            await perform(ctx, second)
        case ("finally", first, second):
            try:
                await perform(ctx, first)
            finally:
                await perform(ctx, second)
        case ("swallow", inner):
            with contextlib.suppress(BaseException):
                await perform(ctx, inner)
        case ("swallow twice", inner):
            for _ in range(2):
                try:
                    await perform(ctx, inner)
                except BaseException:
                    continue
        case ("leave", inner, cleanup, is_cyclic):
            await leave(ctx, inner, cleanup, is_cyclic)
        case ("timeout", inner):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5):
                    await perform(ctx, inner)
        case ("beside", first, second):
            await asyncio.gather(perform(ctx, first), perform(ctx, second), return_exceptions=True)
        case ("forget", inner):
            asyncio.create_task(perform(ctx, inner))  # noqa: RUF006
            await ctx.call(add.s(1))
        case ("with", inner):
            with closing(ctx):
                await perform(ctx, inner)


@contextlib.contextmanager
def closing(ctx):
    try:
        yield
    finally:
        ctx.call(echo.s("closed"))


async def leave(ctx, inner, cleanup, is_cyclic):
    async def pages():
        try:
            yield await perform(ctx, inner)
            yield None
        finally:
            await perform(ctx, cleanup)

    generator = pages()
    holder = [generator]
    if is_cyclic:
        holder.append(holder)
    await anext(generator)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(0 if is_long() else 600)
def test_generated_code_is_dropped_after_each_of_its_turns_and_continues_from_history():
    for count in rounds(quick=60, full=60):

        @settings(
            max_examples=count,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
        )
        @given(bodies)
        def check(body):
            async def orchestrator(ctx):
                await perform(ctx, body)
                return "done"

            with caught_logs():
                check_dropped_everywhere(orchestrator)

        check()


@contextlib.contextmanager
def caught_logs():
    """Keep what generated failures say out of the report."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


# -- what dropping does ----------------------------------------------------------------------------


def test_code_that_cannot_be_dropped_is_parked_and_named(caplog):
    parked = len(tasks._PARKED)
    execution = fresh(swallows_as_a_generator)
    execution.take([started()])
    drop(execution)
    assert len(tasks._PARKED) == parked + 1
    assert "order-42" in caplog.text
    assert "Let it catch Exception" in caplog.text


def test_code_that_is_dropped_keeps_its_own_context_variables_and_task():
    seen = []

    async def orchestrator(ctx):
        me = asyncio.current_task()
        try:
            await ctx.wait_event("never")
        finally:
            seen.append(asyncio.current_task() is me)
            seen.append(asyncio.get_running_loop() is execution.loop)
            seen.append(ctx.logger.isEnabledFor(logging.CRITICAL))

    execution = fresh(orchestrator)
    execution.take([started()])
    drop(execution)
    assert seen == [True, True, False]


def test_what_is_told_to_a_loop_that_was_dropped_has_no_effect():
    kept = []

    async def orchestrator(ctx):
        kept.extend(
            [
                asyncio.get_running_loop(),
                asyncio.get_running_loop().create_future(),
                ctx.call(never.s()),
            ]
        )
        await asyncio.wait(kept[1:])

    execution = fresh(orchestrator)
    execution.take([started()])
    drop(execution)
    loop, future, call = kept
    future.set_result(1)
    call.cancel()
    loop.call_soon(print)
    loop.call_later(3, print).cancel()
    assert loop.is_closed()
    assert not loop._ready
    drop(execution)


# -- async generators ------------------------------------------------------------------------------


def _pages(ctx, seen, name="page"):
    async def pages():
        try:
            yield await ctx.call(echo.s(name))
            yield "never wanted"
        finally:
            seen.append(f"closing {name}")
            await ctx.call(echo.s(f"close {name}"))
            seen.append(f"closed {name}")

    return pages()


def test_a_generator_that_a_loop_leaves_is_closed_beside_what_comes_next():
    async def orchestrator(ctx):
        seen = []
        async for page in _pages(ctx, seen):
            seen.append(page)
            break
        seen.append("left")
        await ctx.call(slow.s(3))
        return seen

    assert live(orchestrator).value == ["page", "closing page", "left", "closed page"]


def test_generators_that_are_left_at_the_end_are_closed_before_it_in_the_order_of_their_beginnings():
    seen = []

    async def orchestrator(ctx):
        kept = [_pages(ctx, seen, name) for name in "ab"]
        for each in kept:
            await anext(each)
        cycle = [_pages(ctx, seen, "c")]
        cycle.append(cycle)
        await anext(cycle[0])
        return "end"

    life = live(orchestrator, check=False)
    assert life.value == "end"
    assert sorted(seen) == sorted(
        f"{what} {name}" for name in "abc" for what in ("closing", "closed")
    )
    assert life.check()


def test_an_orchestration_waits_for_the_generator_that_it_left_and_a_cancel_reaches_that():
    from .harness import cancel

    async def orchestrator(ctx):
        async def pages():
            try:
                yield 1
                yield 2
            finally:
                await ctx.wait_event("go")

        async for _ in pages():
            break
        return "left"

    assert live(orchestrator).is_waiting
    assert live(orchestrator, inputs=[raised("go")]).value == "left"
    assert live(orchestrator, inputs=[cancel()]).value == "left"


def test_a_generator_that_runs_to_its_end_or_is_closed_leaves_nothing_behind():
    async def orchestrator(ctx):
        async def numbers(count):
            for number in range(count):
                yield number

        for _ in range(300):
            async for _ in numbers(2):
                pass
        async with contextlib.aclosing(numbers(9)) as some:
            await anext(some)
        return len(asyncio.get_running_loop()._generators)

    assert live(orchestrator).value < 200


# -- from outside a turn ---------------------------------------------------------------------------


def test_a_context_that_is_used_between_turns_refuses_in_words():
    kept = []

    async def orchestrator(ctx):
        kept.append(ctx)
        await ctx.wait_event("go")

    execution = fresh(orchestrator)
    execution.take([started()])
    (ctx,) = kept
    for ask in (
        lambda: ctx.call(echo.s()),
        lambda: ctx.sleep(1),
        lambda: ctx.wait_event("go"),
        lambda: ctx.run(int),
        lambda: ctx.uuid4(),
        lambda: ctx.set_status(1),
        lambda: ctx.entity("Counter", "a").add(1),
        lambda: ctx.entity("Counter", "a").signal.add(1),
    ):
        with pytest.raises(ForbiddenOperation, match="outside a turn"):
            ask()
    assert execution.take([raised("go")]).final is not None
    execution.abandon()


@pytest.mark.parametrize("how", ["call", "wait_event", "run"])
def test_a_context_that_another_thread_uses_in_a_turn_refuses_there(how):
    async def orchestrator(ctx):
        seen = []

        def work():
            try:
                getattr(ctx, how)(*{"call": [never.s()], "wait_event": ["x"], "run": [int]}[how])
            except ForbiddenOperation as error:
                seen.append("another thread" in str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        await ctx.call(echo.s())
        return seen

    life = live(orchestrator)
    assert life.value == [True]
    assert life.asked == ["ScheduleActivity 'echo'"]


MEDDLING = {
    "set_result": lambda loop, future, call, timer: future.set_result(1),
    "cancel a call": lambda loop, future, call, timer: call.cancel(),
    "cancel a timer": lambda loop, future, call, timer: timer.cancel(),
    "call_soon": lambda loop, future, call, timer: loop.call_soon(print),
    "call_later": lambda loop, future, call, timer: loop.call_later(1, print),
    "call_soon_threadsafe": lambda loop, future, call, timer: loop.call_soon_threadsafe(
        future.set_result, 1
    ),
    "create_task": lambda loop, future, call, timer: loop.create_task(asyncio.sleep(0)),
    "run_coroutine_threadsafe": lambda loop, future, call, timer: asyncio.run_coroutine_threadsafe(
        _nothing(), loop
    ),
}


async def _nothing():
    pass


@pytest.mark.filterwarnings("ignore:coroutine '_nothing' was never awaited")
@pytest.mark.parametrize("when", ["in the turn", "between turns"])
@pytest.mark.parametrize("how", MEDDLING)
def test_an_orchestration_in_which_another_thread_meddles_is_not_gone_on_with(how, when):
    told = []

    async def orchestrator(ctx):
        loop = asyncio.get_running_loop()
        future, call, timer = loop.create_future(), ctx.call(never.s()), loop.call_later(50, print)
        future.add_done_callback(print)

        def work():
            try:
                MEDDLING[how](loop, future, call, timer)
            except RuntimeError as error:
                told.append(str(error))

        thread = threading.Thread(target=work)
        if when == "in the turn":
            thread.start()
            thread.join()
        else:
            threads.append(thread)
        await asyncio.wait([future, ctx.wait_event("go")])

    threads = []
    execution = fresh(orchestrator)
    with pytest.raises(
        ForbiddenOperation, match=r"another thread.*test_machine_dropping.py:\d+ in .*Put the work"
    ):
        execution.take([started()])
        for thread in threads:
            thread.start()
            thread.join()
        execution.take([raised("go")])
    assert len(told) == 1
    execution.abandon()


# -- what can never continue --------------------------------------------------------------------------


async def _twice(lock):
    async with lock, lock:
        pass


async def _a_queue():
    await asyncio.Queue().get()


async def _from_a_thread(delay):
    future = asyncio.get_running_loop().create_future()
    loop = future.get_loop()
    timer = threading.Timer(delay, lambda: loop.is_closed() or loop.call_soon_threadsafe(print))
    timer.daemon = True
    timer.start()
    await future


async def _in_parts(ctx):
    gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(gate.wait())
        group.create_task(_a_queue())


async def _in_a_generator(ctx):
    async def pages():
        yield await asyncio.Event().wait()

    async for _ in pages():
        pass


async def _at_the_end(ctx):
    async def pages():
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    async for _ in pages():
        break


def _yielded(ctx):
    yield asyncio.Event().wait()


@durabletask_orchestrator
def _azure(ctx, _):
    from celery_durable.azure.futures import Task

    yield Task(asyncio.get_running_loop().create_future())


IN_VAIN = {
    "a bare future": lambda ctx: asyncio.get_running_loop().create_future(),
    "a lock taken twice": lambda ctx: _twice(asyncio.Lock()),
    "an event that nobody sets": lambda ctx: asyncio.Event().wait(),
    "an empty queue": lambda ctx: _a_queue(),
    "a full queue": lambda ctx: asyncio.gather(*(asyncio.Queue(1).join(), _a_queue())),
    "a semaphore of none": lambda ctx: asyncio.Semaphore(0).acquire(),
    "a barrier for two": lambda ctx: asyncio.Barrier(2).wait(),
    "a sleep without an end": lambda ctx: asyncio.sleep(float("inf")),
    "a thread": lambda ctx: _from_a_thread(0.5),
    "a future of another loop in a wait": lambda ctx: asyncio.wait(
        [asyncio.new_event_loop().create_future()]
    ),
    "itself": lambda ctx: asyncio.wait([asyncio.current_task()]),
    "a reader without a transport": lambda ctx: asyncio.StreamReader().read(),
}
WHOLE = {
    "parts": _in_parts,
    "generator": _in_a_generator,
    "end": _at_the_end,
    "yielded": _yielded,
    "azure": _azure,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", [*IN_VAIN, *WHOLE])
@pytest.mark.parametrize("calls", [0, 2])
def test_code_that_waits_for_what_never_comes_is_told_so_with_the_line(what, calls):
    async def orchestrator(ctx):
        for _ in range(calls):
            await ctx.call(echo.s())
        await IN_VAIN[what](ctx)

    function = WHOLE.get(what, orchestrator)
    with pytest.raises(
        DurableError,
        match=r"can never continue: it waits at \S+test_machine_dropping.py:\d+ in \S+",
    ) as caught:
        live(function)
    assert type(caught.value) is DurableError
    if what == "parts":
        assert str(caught.value).count("test_machine_dropping.py:") >= 2


@pytest.mark.parametrize(
    "wait",
    [
        lambda ctx: ctx.wait_event("go"),
        lambda ctx: asyncio.wait_for(asyncio.Event().wait(), 60),
        lambda ctx: asyncio.wait([ctx.call(never.s())]),
        lambda ctx: ctx.sleep(60),
        lambda ctx: ctx.entity("Counter", "a").get(),
        lambda ctx: ctx.lock(ctx.entity("Counter", "a")).acquire(),
        lambda ctx: ctx.call(never.s(), on_exhausted="suspend"),
    ],
)
def test_code_that_waits_for_what_may_come_waits(wait):
    async def orchestrator(ctx):
        await wait(ctx)

    execution = fresh(orchestrator)
    execution.take([started()])
    assert execution.stall is None
    execution.abandon()


def test_a_wait_for_nothing_can_be_canceled_in_the_turn_that_finds_it():
    async def orchestrator(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "canceled"

    from .harness import cancel

    execution = fresh(orchestrator)
    decision = execution.take([started(), cancel(), resume()])
    assert decision.final is not None
    execution.abandon()


def test_a_history_that_waits_for_nothing_since_before_can_still_be_loaded(monkeypatch):
    async def orchestrator(ctx):
        await ctx.call(echo.s())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "canceled"

    from celery_durable.core.machine import Machine

    from .harness import cancel

    with monkeypatch.context() as before:
        before.setattr(Machine, "stall", None)
        life = live(orchestrator)
    assert life.is_waiting
    execution = fresh(orchestrator)
    for row in life.rows:
        execution.replay(load_events(row))
    assert "test_machine_dropping.py" in execution.stall
    assert execution.take([cancel(at=9)]).final is not None
    execution.abandon()
