"""Random orchestrators: trees, and what runs them on any context that offers ``call``, ``all``,
``any``, ``map``, ``sleep``.

A leaf calls an activity by a label that is its place in the tree and how often it was there.
Whether an activity fails, and in which attempt, is part of the tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st

from celery_durable.core.retry import RetryPolicy
from tests.contract.world import sig

RETRY = RetryPolicy(first_interval=2, max_attempts=2)
seconds = st.integers(1, 12)
errors = st.sampled_from(["red", "blue"])

leaves = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 2)),  # how many attempts fail
    st.tuples(st.just("call"), st.just(0)),
    st.tuples(st.just("retried"), st.integers(0, 2)),
    st.tuples(st.just("sleep"), seconds),
    st.tuples(st.just("durable_sleep"), seconds),
    st.just(("yield",)),
)


def _grown(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(children, min_size=1, max_size=4)
    failures = st.lists(st.sampled_from([0, 0, 0, 1]), min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.just("sequence"), several),
        st.tuples(st.just("gather"), several),
        st.tuples(st.just("gather_calls"), failures),
        st.tuples(st.just("gather_calls_and_failures"), failures),
        st.tuples(st.just("gather_and_failures"), several),
        st.tuples(st.just("ctx_all"), several, st.booleans()),
        st.tuples(st.just("all_calls"), failures, st.booleans()),
        st.tuples(st.just("ctx_any"), several, st.booleans()),
        st.tuples(st.just("ctx_map"), failures, st.none() | st.integers(1, 3), st.integers(0, 4)),
        st.tuples(st.just("task_group"), several),
        st.tuples(st.just("tasks"), failures),
        st.tuples(st.just("first_of"), several),
        st.tuples(st.just("timeout"), children, seconds),
        st.tuples(st.just("wait_for"), children, seconds),
        st.tuples(st.just("try"), children, children, children),
        st.tuples(st.just("loop"), st.integers(2, 3), children),
        st.tuples(st.just("shield"), children, seconds),
        st.tuples(st.just("semaphore"), failures, st.integers(1, 2)),
        st.tuples(st.just("queue"), failures, st.integers(1, 2)),
        st.tuples(st.just("joined_then_alone"), failures, children),
    )


trees = st.recursive(leaves, _grown, max_leaves=8)


class Interpreter:
    """Runs a tree on a context."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self._visits: dict[str, int] = {}

    async def run(self, tree: Any, path: str = "") -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self, f"_{tree[0]}")
        return await method(path, *tree[1:])

    def call(self, path: str, failures: int, **options: Any) -> Any:
        """Call an activity whose first ``failures`` attempts fail."""
        self._visits[path] = visit = self._visits.get(path, 0) + 1
        return self.ctx.call(sig("work", f"{path}#{visit}", failures), **options)

    def calls(self, path: str, failures: list[int]) -> list[Any]:
        return [self.call(f"{path}.{n}", count) for n, count in enumerate(failures)]

    def parts(self, path: str, trees: list[Any]) -> list[Any]:
        return [self.run(tree, f"{path}.{n}") for n, tree in enumerate(trees)]

    # -- leaves ------------------------------------------------------------------------------------

    async def _call(self, path: str, failures: int) -> Any:
        return await self.call(path, failures)

    async def _retried(self, path: str, failures: int) -> Any:
        return await self.call(path, failures, retry=RETRY)

    async def _sleep(self, path: str, duration: int) -> None:
        await asyncio.sleep(duration)

    async def _durable_sleep(self, path: str, duration: int) -> None:
        await self.ctx.sleep(duration)

    async def _yield(self, path: str) -> None:
        await asyncio.sleep(0)

    # -- all of them -------------------------------------------------------------------------------

    async def _sequence(self, path: str, trees: list[Any]) -> Any:
        return [await self.run(tree, f"{path}.{n}") for n, tree in enumerate(trees)]

    async def _gather(self, path: str, trees: list[Any]) -> Any:
        return await asyncio.gather(*self.parts(path, trees))

    async def _gather_and_failures(self, path: str, trees: list[Any]) -> Any:
        return _shown(await asyncio.gather(*self.parts(path, trees), return_exceptions=True))

    async def _gather_calls(self, path: str, failures: list[int]) -> Any:
        return await asyncio.gather(*self.calls(path, failures))

    async def _gather_calls_and_failures(self, path: str, failures: list[int]) -> Any:
        return _shown(await asyncio.gather(*self.calls(path, failures), return_exceptions=True))

    async def _ctx_all(self, path: str, trees: list[Any], fail_fast: bool) -> Any:
        return await self.ctx.all(self.parts(path, trees), fail_fast=fail_fast)

    async def _all_calls(self, path: str, failures: list[int], fail_fast: bool) -> Any:
        return await self.ctx.all(self.calls(path, failures), fail_fast=fail_fast)

    async def _ctx_map(
        self, path: str, failures: list[int], concurrency: int | None, tolerate: int
    ) -> Any:
        items = [[f"{path}.{n}#map", count] for n, count in enumerate(failures)]
        return _shown(
            await self.ctx.map(sig("work_at"), items, concurrency=concurrency, tolerate=tolerate)
        )

    async def _task_group(self, path: str, trees: list[Any]) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in self.parts(path, trees)]
        except ExceptionGroup as errors:
            return sorted(str(error) for error in errors.exceptions)
        return [task.result() for task in tasks]

    async def _tasks(self, path: str, failures: list[int]) -> Any:
        tasks = [asyncio.create_task(call) for call in self.calls(path, failures)]
        return _shown([await _settled(task) for task in reversed(tasks)])

    # -- some of them ------------------------------------------------------------------------------

    async def _ctx_any(self, path: str, trees: list[Any], cancel_losers: bool) -> Any:
        return await self.ctx.any(self.parts(path, trees), cancel_losers=cancel_losers)

    async def _first_of(self, path: str, trees: list[Any]) -> Any:
        tasks = [asyncio.create_task(part) for part in self.parts(path, trees)]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return _shown([task.exception() or task.result() for task in tasks if task in done])

    async def _timeout(self, path: str, tree: Any, limit: int) -> Any:
        try:
            async with asyncio.timeout(limit):
                return await self.run(tree, path)
        except TimeoutError:
            return "late"

    async def _wait_for(self, path: str, tree: Any, limit: int) -> Any:
        try:
            return await asyncio.wait_for(self.run(tree, path), limit)
        except TimeoutError:
            return "late"

    async def _shield(self, path: str, tree: Any, limit: int) -> Any:
        task = asyncio.create_task(self.run(tree, path))
        try:
            return await asyncio.wait_for(asyncio.shield(task), limit)
        except TimeoutError:
            return ["late", _shown([await _settled(task)])]

    async def _joined_then_alone(self, path: str, failures: list[int], tree: Any) -> Any:
        """Wait for all, and meanwhile begin to wait for each."""
        calls = self.calls(path, failures)
        together = asyncio.create_task(_gathered(calls))
        first = await self.run(tree, f"{path}.first")
        alone = [await _settled(call) for call in calls[::2]]
        return [first, _shown(alone), await together]

    # -- in between --------------------------------------------------------------------------------

    async def _try(self, path: str, tree: Any, handler: Any, tidy: Any) -> Any:
        result: list[Any] = []
        try:
            result.append(await self.run(tree, f"{path}.try"))
        except ValueError as error:
            result.append([str(error), await self.run(handler, f"{path}.except")])
        finally:
            result.append(await self.run(tidy, f"{path}.finally"))
        return result

    async def _loop(self, path: str, times: int, tree: Any) -> Any:
        return [await self.run(tree, f"{path}.{n}") for n in range(times)]

    async def _semaphore(self, path: str, failures: list[int], width: int) -> Any:
        slots = asyncio.Semaphore(width)

        async def one(number: int, count: int) -> Any:
            async with slots:
                return await _settled(self.call(f"{path}.{number}", count))

        return _shown(
            await asyncio.gather(*(one(number, count) for number, count in enumerate(failures)))
        )

    async def _queue(self, path: str, failures: list[int], workers: int) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue(2)
        found: list[Any] = []

        async def worker() -> None:
            while (item := await queue.get()) is not None:
                found.append(await _settled(self.call(f"{path}.{item[0]}", item[1])))
                queue.task_done()

        tasks = [asyncio.create_task(worker()) for _ in range(workers)]
        try:
            for item in enumerate(failures):
                await queue.put(item)
            await queue.join()
        finally:
            for task in tasks:
                task.cancel()
        return _shown(found)


async def _settled(awaitable: Any) -> Any:
    try:
        return await awaitable
    except ValueError as error:
        return error


async def _gathered(calls: list[Any]) -> Any:
    return _shown(await asyncio.gather(*calls, return_exceptions=True))


def _shown(results: list[Any]) -> list[Any]:
    return [f"{type(r).__name__}: {r}" if isinstance(r, BaseException) else r for r in results]
