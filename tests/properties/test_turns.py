"""A turn is a function, batching does not matter, and orchestrators behave as they would on plain
asyncio.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.core.history import NOTES, dump_events, load_events
from celery_durable.core.kinds import INPUTS
from tests.unit.core.harness import cancel, fresh, live, raised, slow, slow_fail

quick = settings(max_examples=60)

# -- programs as trees: (kind, ...) ----------------------------------------------------------------

leaves = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.sampled_from(["red", "blue"])),
    st.just(("sleep",)),
    st.just(("yield",)),
)


def _grown(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("sequence"), several),
        st.tuples(st.just("gather"), several),
        st.tuples(st.just("gather_exceptions"), several),
        st.tuples(st.just("task_group"), several),
        st.tuples(st.just("any"), several),
        st.tuples(st.just("first_wait"), several),
        st.tuples(st.just("as_completed"), several),
        st.tuples(st.just("timeout"), children),
        st.tuples(st.just("wait_for"), children),
        st.tuples(st.just("try"), children, children, children),
        st.tuples(st.just("loop"), st.integers(1, 3), children),
        st.tuples(st.just("shielded"), children),
    )


trees = st.recursive(leaves, _grown, max_leaves=9)


class Interpreter:
    """Runs a tree.

    ``call`` and ``any`` come from the world it runs in, all else is asyncio's own.
    """

    def __init__(self, call: Any, first_of: Any, seed: int) -> None:
        self.call, self.first_of = call, first_of
        self._dice = random.Random(seed)

    def delay(self) -> float:
        return self._dice.randrange(1, 10**9) / 1_000_000

    async def run(self, tree: Any) -> Any:
        return await getattr(self, f"_{tree[0]}")(*tree[1:])

    async def _call(self, value: int) -> Any:
        return await self.call(self.delay(), value, False)

    async def _fail(self, message: str) -> Any:
        return await self.call(self.delay(), message, True)

    async def _sleep(self) -> None:
        await asyncio.sleep(self.delay())

    async def _yield(self) -> None:
        await asyncio.sleep(0)

    async def _sequence(self, parts: list[Any]) -> Any:
        return [await self.run(part) for part in parts]

    async def _gather(self, parts: list[Any]) -> Any:
        return await asyncio.gather(*map(self.run, parts))

    async def _gather_exceptions(self, parts: list[Any]) -> Any:
        results = await asyncio.gather(*map(self.run, parts), return_exceptions=True)
        return [
            type(result).__name__ if isinstance(result, BaseException) else result
            for result in results
        ]

    async def _task_group(self, parts: list[Any]) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.run(part)) for part in parts]
        except ExceptionGroup as errors:
            return f"group of {len(errors.exceptions)}"
        return [task.result() for task in tasks]

    async def _any(self, parts: list[Any]) -> Any:
        # no draws
        return await self.first_of([self.run(("sequence", [("sleep",), part])) for part in parts])

    async def _first_wait(self, parts: list[Any]) -> Any:
        tasks = [asyncio.ensure_future(self.run(part)) for part in parts]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return [_outcome(task) for task in tasks if task in done]

    async def _as_completed(self, parts: list[Any]) -> Any:
        tasks = [asyncio.ensure_future(self.run(part)) for part in parts]
        seen = []
        for earliest in asyncio.as_completed(tasks):
            try:
                seen.append(await earliest)
            except ValueError as error:
                seen.append(str(error))
        return sorted(map(str, seen))

    async def _timeout(self, part: Any) -> Any:
        try:
            async with asyncio.timeout(self.delay()):
                return await self.run(part)
        except TimeoutError:
            return "late"

    async def _wait_for(self, part: Any) -> Any:
        try:
            return await asyncio.wait_for(self.run(part), self.delay())
        except TimeoutError:
            return "late"

    async def _try(self, part: Any, handler: Any, tidy: Any) -> Any:
        result: list[Any] = []
        try:
            result.append(await self.run(part))
        except ValueError as error:
            result.append([str(error), await self.run(handler)])
        finally:
            result.append(await self.run(tidy))
        return result

    async def _loop(self, times: int, part: Any) -> Any:
        return [await self.run(part) for _ in range(times)]

    async def _shielded(self, part: Any) -> Any:
        return await asyncio.shield(self.run(part))


def _outcome(task: asyncio.Future[Any]) -> Any:
    return "canceled" if task.cancelled() else str(task.exception() or task.result())


async def _settled(awaitable: Any) -> Any:
    """What came of it and when, as text: an exception too is an answer here."""
    loop = asyncio.get_running_loop()
    try:
        result = repr(await awaitable)
    except ValueError as error:
        result = f"raised {error}"
    # asyncio lets one pass where a task group fails in the cleanup of a timeout
    except asyncio.CancelledError:
        result = "canceled"
    return [result, round(loop.time() * 1_000_000)]


def durable(tree: Any, seed: int) -> Any:
    async def orchestrator(ctx):
        def call(delay, value, fails):
            return ctx.call((slow_fail if fails else slow).s(delay, value))

        return await _settled(Interpreter(call, ctx.any, seed).run(tree))

    return orchestrator


# -- the same on plain asyncio, in virtual time ----------------------------------------------------


class VirtualLoop(asyncio.SelectorEventLoop):
    """An ordinary event loop whose clock jumps to the next timer."""

    virtual = 0.0

    def time(self) -> float:
        return self.virtual

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._ready and self._scheduled:
            self.virtual = max(self.virtual, self._scheduled[0]._when)
        super()._run_once()


async def _plain_call(delay: float, value: Any, fails: bool) -> Any:
    await asyncio.sleep(delay)
    if fails:
        raise ValueError(value)
    return value


async def _plain_first(awaitables: list[Any]) -> Any:
    """As ``ctx.any``: a cancel goes to every member, and is over when the first of them is done."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    was_cancelled = False
    while not any(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            was_cancelled = True
            for task in tasks:
                task.cancel()
    for task in tasks:
        task.cancel()
    if was_cancelled:
        raise asyncio.CancelledError
    return await next(task for task in tasks if task.done())


def plain(tree: Any, seed: int) -> Any:
    loop = VirtualLoop()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        result = loop.run_until_complete(
            _settled(Interpreter(_plain_call, _plain_first, seed).run(tree))
        )
        while leftover := asyncio.all_tasks(loop):
            for task in leftover:
                task.cancel()
            loop.run_until_complete(asyncio.wait(leftover))
        return result
    finally:
        loop.close()


@quick
@given(trees, st.integers(0, 2**32))
def test_an_orchestrator_behaves_as_the_same_program_on_plain_asyncio(tree, seed):
    assert live(durable(tree, seed), check=False).value == plain(tree, seed)


@quick
@given(trees, st.integers(0, 2**32), st.lists(st.sampled_from(["raise", "cancel"]), max_size=2))
def test_every_life_replays_clean_and_every_turn_is_a_function(tree, seed, happenings):
    dice = random.Random(seed)
    inputs = [
        (
            cancel(at=dice.uniform(1, 2000))
            if what == "cancel"
            else raised("noise", seed, at=dice.uniform(1, 2000))
        )
        for what in happenings
    ]
    life = live(durable(tree, seed), inputs=inputs)
    assert life.rows == live(durable(tree, seed), inputs=inputs, check=False).rows


@quick
@given(trees, st.integers(0, 2**32))
def test_inputs_in_any_batches_give_the_same_history(tree, seed):
    life = live(durable(tree, seed), check=False)
    inputs = [event for event in life.history if event.kind in INPUTS]
    dice = random.Random(seed)
    execution = fresh(life.function)
    facts: list[Any] = []
    while inputs:
        size = dice.randint(1, len(inputs))
        batch, inputs = inputs[:size], inputs[size:]
        facts += [event for event in execution.take(batch).events if event.kind not in NOTES]
    execution.abandon()
    assert dump_events(facts) == dump_events(life.facts_of_history)


@quick
@given(trees, st.integers(0, 2**32))
def test_a_restart_between_any_two_turns_changes_nothing(tree, seed):
    life = live(durable(tree, seed), check=False)
    restart = seed % len(life.turns)
    revived = fresh(life.function)
    for row in life.rows[:restart]:
        revived.replay(load_events(row))
    rows = [dump_events(revived.take(turn).events) for turn in life.turns[restart:]]
    revived.abandon()
    assert rows == life.rows[restart:]
