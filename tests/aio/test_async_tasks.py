"""``async def`` tasks, as activities and by themselves."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_task
from celery.exceptions import SoftTimeLimitExceeded

from celery_durable import ActivityError, Durable, RetryPolicy, durable_context
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.worker.async_tasks import run_async

app = Celery("aio", broker="memory://", set_as_current=False)
durable = Durable(app)
loops: set[int] = set()
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


@app.task
async def double(n: int) -> int:
    loops.add(id(asyncio.get_running_loop()))
    await asyncio.sleep(0)
    return 2 * n


@app.task(bind=True)
async def about(self: Any) -> list[Any]:
    before = self.request.id
    await asyncio.sleep(0.01)
    context = durable_context()
    assert context is not None
    context.heartbeat(1)
    return [before == self.request.id == current_task.request.id, context.attempt, self.name]


@app.task(bind=True, max_retries=2)
async def shy(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task
async def refuse() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")


@app.task
async def cancel_itself() -> None:
    raise asyncio.CancelledError


@app.task
async def sends() -> int:
    return int(double.delay(4).result)


def in_its_own_loop(function: Any) -> Any:
    @functools.wraps(function)
    def run(*args: Any) -> Any:
        return asyncio.run(function(*args))

    return run


@app.task
@in_its_own_loop
async def runs_its_own(n: int) -> int:
    return 2 * n


tried: list[int] = []


@app.task(autoretry_for=(KeyError,), default_retry_delay=0, max_retries=5)
async def stubborn() -> int:
    await asyncio.sleep(0)
    tried.append(1)
    if len(tried) < 3:
        raise KeyError
    return len(tried)


@durable.orchestrator
async def calls(ctx: Any, signature: Any, attempts: int = 1) -> Any:
    return await ctx.call(signature, retry=RetryPolicy(max_attempts=attempts, first_interval=1))


@pytest.fixture
def durable_app() -> Durable:
    return durable


def test_they_are_activities(durable_env: DurableEnv) -> None:
    loops.clear()
    assert durable_env.run(calls.s(double.s(2))) == 4
    assert durable_env.run(calls.s(double.s(3))) == 6
    assert durable_env.run(calls.s(about.s())) == [True, 1, about.name]
    assert durable_env.run(calls.s(shy.s())) == 2
    assert len(loops) == 1, "one loop for each process"


def test_what_they_raise_is_the_failure(durable_env: DurableEnv) -> None:
    with pytest.raises(ValueError, match="no"):
        durable_env.run(calls.s(refuse.s(), 3))
    assert len(durable_env.calls(refuse)) == 3
    with pytest.raises(ActivityError, match="cancelled"):
        durable_env.run(calls.s(cancel_itself.s()))


def test_workers_that_die(durable_env: DurableEnv) -> None:
    assert durable_env.crash_everywhere(lambda env: env.run(calls.s(double.s(2)))) > 5


@pytest.fixture
def eager() -> Iterator[None]:
    with durable_environment(durable):
        yield


def test_plain_calls_run_them_too(eager: None) -> None:
    assert double.delay(5).get() == 10
    assert sends.delay().get() == 8
    assert asyncio.iscoroutine(called := double(1))
    assert asyncio.run(called) == 2


def test_plain_calls_run_them_inside_a_running_loop(eager: None) -> None:
    async def main() -> Any:
        return double.delay(6).get()

    assert asyncio.run(main()) == 12


def test_contexts_are_those_of_the_caller() -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        return var.get()

    token = var.set("set")
    try:
        assert run_async(double, body()) == "set"
    finally:
        var.reset(token)


def test_slots_that_are_threads_share_the_loop_and_have_their_own_request() -> None:
    found: dict[int, bool] = {}

    async def body(n: int) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
            found[n] = found.get(n, True) and about.request.id == f"task-{n}"

    def slot(n: int) -> None:
        about.push_request(id=f"task-{n}")
        run_async(about, body(n))

    threads = [threading.Thread(target=slot, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(5), True)


def test_what_strikes_the_slot_is_raised_at_the_await() -> None:
    seen = []

    async def body() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            seen.append("soft")
            await asyncio.sleep(0)
            return "cleaned up"
        return "slept"

    def strike(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert run_async(double, body()) == "cleaned up"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == ["soft"]


def test_what_is_not_wanted_any_more_is_cancelled() -> None:
    seen = []

    async def body() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(time.monotonic())
            raise

    began = time.monotonic()
    with pytest.raises(ActivityError):
        run_async(double, body(), lambda: True)
    assert len(seen) == 1 and seen[0] - began < 30


def test_a_forked_process_has_a_loop_of_its_own() -> None:
    async def body() -> int:
        await asyncio.sleep(0)
        return os.getpid()

    assert run_async(double, body()) == os.getpid()
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, str(run_async(double, body()) == os.getpid()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 10) == b"True"
    os.close(reader), os.close(writer)


def test_what_only_looks_async_is_left_alone(durable_env: DurableEnv) -> None:
    assert durable_env.run(calls.s(runs_its_own.s(3))) == 6


def test_autoretry_sees_what_they_raise(durable_env: DurableEnv) -> None:
    tried.clear()
    assert durable_env.run(calls.s(stubborn.s())) == 3
    assert len(durable_env.calls(stubborn)) == 3
