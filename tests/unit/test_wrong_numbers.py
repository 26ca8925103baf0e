"""Numbers, seconds, times and texts of another kind are refused in words that name them, and start
nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from celery_durable import ConfigurationError, Debounce, Durable, Limit, PauseAfter, Rate
from celery_durable import RetryPolicy as Retry
from celery_durable.http import EventLinks, ItsDangerousSigner
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("wrong_numbers", broker="memory://", set_as_current=False)
durable = Durable(app)
links = EventLinks(durable, ItsDangerousSigner("a secret of 16 and more"))


@durable.orchestrator(name="numbers.waits")
async def waits(ctx: Any) -> Any:
    return await ctx.wait_event("go")


@app.task(name="numbers.task")
def task() -> None: ...


@durable.entity(name="numbers.counter")
class Counter:
    count: int = 0

    def add(self) -> None: ...


async def plain(ctx: Any) -> None: ...


@pytest.fixture(scope="module")
def env() -> Iterator[DurableEnv]:
    with durable_environment(durable) as environment:
        environment.start(waits.s(), instance_id="waiting")
        yield environment
        assert durable.count() == 1


NO_NUMBER = ["5", "", b"5", [5], True, object()]
NO_SECONDS = [*NO_NUMBER, -1, math.nan, math.inf]
NO_TIMEOUT = [*NO_NUMBER, math.nan]
NO_LIMITS = [*NO_NUMBER, 0, -1, 2.5]
NO_TEXT = [5, 0, True, b"5", ["5"], 2.5, object()]

Take = Callable[[Any], Any]
CASES: dict[str, tuple[list[Any], Take]] = {
    "find limit": (NO_LIMITS, lambda v: durable.find(limit=v)),
    "entities limit": (NO_LIMITS, lambda v: durable.entities(limit=v)),
    "audit limit": (NO_LIMITS, lambda v: durable.audit(limit=v)),
    "purge limit": (NO_LIMITS, lambda v: durable.purge(status="FAILED", limit=v)),
    "event limit": (NO_LIMITS, lambda v: durable.raise_event_many("e", status="FAILED", limit=v)),
    "find cursor": ([*NO_TEXT, "x"], lambda v: durable.find(cursor=v)),
    "entities cursor": ([*NO_TEXT, "x"], lambda v: durable.entities(cursor=v)),
    "audit cursor": ([*NO_TEXT, "x"], lambda v: durable.audit(cursor=v)),
    "entities class": (NO_TEXT, lambda v: durable.entities(v)),
    "clean class": (NO_TEXT, lambda v: durable.clean_entities(v)),
    **{
        f"audit {name}": (NO_TEXT, lambda v, name=name: durable.audit(**{name: v}))
        for name in ("target", "kind", "actor", "door", "verb")
    },
    "wait": (NO_TIMEOUT, lambda v: durable.get("waiting").wait(v)),
    "get": (NO_TIMEOUT, lambda v: durable.get("waiting").get(v)),
    "aget": (NO_TIMEOUT, lambda v: asyncio.run(durable.get("waiting").aget(v))),
    "aask": (NO_TIMEOUT, lambda v: asyncio.run(durable.get("waiting").aask("x", timeout=v))),
    "ask": (NO_TIMEOUT, lambda v: durable.get("waiting").ask("x", timeout=v)),
    "timeout": (NO_SECONDS, lambda v: durable.start(waits.s(), timeout=v)),
    "attempt_timeout": (NO_SECONDS, lambda v: durable.start(task.s(), attempt_timeout=v)),
    "heartbeat_timeout": (NO_SECONDS, lambda v: durable.start(task.s(), heartbeat_timeout=v)),
    "start_at": ([*NO_NUMBER, 5], lambda v: durable.start(waits.s(), start_at=v)),
    "start version": (NO_TEXT, lambda v: durable.start(waits.s(), version=v)),
    "retry": ([*NO_NUMBER, 5], lambda v: durable.start(task.s(), retry=v)),
    "countdown": (
        [*NO_NUMBER, math.nan, math.inf],
        lambda v: durable.start(waits.s().set(countdown=v)),
    ),
    "time_limit": (
        [*NO_NUMBER, math.nan, math.inf],
        lambda v: durable.start(task.s().set(time_limit=v)),
    ),
    "expires": ([True, math.nan], lambda v: durable.start(task.s().set(expires=v))),
    "shadow": (NO_TEXT, lambda v: durable.start(task.s().set(shadow=v))),
    "routing_key": (NO_TEXT, lambda v: durable.start(task.s().set(routing_key=v))),
    "interval": (NO_SECONDS, lambda v: durable.schedule("s", waits.s(), interval=v)),
    "catch_up": (NO_SECONDS, lambda v: durable.schedule("s", waits.s(), interval=60, catch_up=v)),
    "jitter": (NO_SECONDS, lambda v: durable.schedule("s", waits.s(), interval=60, jitter=v)),
    "share": (NO_SECONDS, lambda v: durable.ramp(waits, None, share=v)),
    "delay": (NO_SECONDS, lambda v: durable.entity(Counter, "k").signal(delay=v).add()),
    "at": ([*NO_NUMBER, 5], lambda v: durable.entity(Counter, "k").signal(at=v).add()),
    "Limit": (NO_LIMITS, lambda v: Limit(v)),
    "Rate most": (NO_LIMITS, lambda v: Rate(v, per=1)),
    "Rate per": (NO_SECONDS, lambda v: Rate(1, per=v)),
    "Debounce": (NO_SECONDS, lambda v: Debounce(v)),
    "PauseAfter": (NO_LIMITS, lambda v: PauseAfter(v, per=1)),
    "PauseAfter per": (NO_SECONDS, lambda v: PauseAfter(1, per=v)),
    "max_attempts": (NO_LIMITS, lambda v: Retry(max_attempts=v)),
    "backoff": (NO_SECONDS, lambda v: Retry(backoff=v)),
    "jitter of a retry": (NO_SECONDS, lambda v: Retry(jitter=v)),
    "first_interval": (NO_SECONDS, lambda v: Retry(first_interval=v)),
    "max_interval": (NO_SECONDS, lambda v: Retry(max_interval=v)),
    "total_timeout": (NO_SECONDS, lambda v: Retry(total_timeout=v)),
    "name": ([5, b"5", 2.5], lambda v: durable.orchestrator(name=v)(plain)),
    "version": (NO_TEXT, lambda v: durable.orchestrator(name="n.v", version=v)(plain)),
    "max_activities": (
        NO_LIMITS,
        lambda v: durable.orchestrator(name="n.m", max_activities=v)(plain),
    ),
    "run timeout": (NO_SECONDS, lambda v: durable.orchestrator(name="n.t", timeout=v)(plain)),
    "max_age": (NO_SECONDS, lambda v: links.signed_event_url("waiting", "go", max_age=v)),
    "title": (NO_TEXT, lambda v: links.signed_event_url("waiting", "go", title=v)),
    "key": (NO_TEXT, lambda v: links.signed_event_url("waiting", "go", key=v)),
}
IN_TURNS: dict[str, tuple[list[Any], Callable[[Any, Any], Any]]] = {
    "sleep": (NO_SECONDS, lambda ctx, v: ctx.sleep(v)),
    "sleep_until": ([*NO_NUMBER, 5], lambda ctx, v: ctx.sleep_until(v)),
    "wait_event": (NO_SECONDS, lambda ctx, v: ctx.wait_event("a", timeout=v)),
    "wait_request": (NO_SECONDS, lambda ctx, v: ctx.wait_request("a", timeout=v)),
    "timeout": (NO_SECONDS, lambda ctx, v: ctx.call(task.s(), timeout=v)),
    "start_timeout": (NO_SECONDS, lambda ctx, v: ctx.call(task.s(), start_timeout=v)),
    "heartbeat": (NO_SECONDS, lambda ctx, v: ctx.call(task.s(), heartbeat_timeout=v)),
    "retry": ([*NO_NUMBER, 5], lambda ctx, v: ctx.call(task.s(), retry=v)),
    "on_exhausted": (NO_TEXT, lambda ctx, v: ctx.call(task.s(), on_exhausted=v)),
    "label": (NO_TEXT, lambda ctx, v: ctx.call(task.s(), label=v)),
    "concurrency": (NO_LIMITS, lambda ctx, v: ctx.map(task.s(), [1], concurrency=v)),
    "stop_when": (NO_LIMITS, lambda ctx, v: ctx.map(task.s(), [1], stop_when=v)),
    "tolerate": (
        [*NO_NUMBER, -1, math.nan, 1.5],
        lambda ctx, v: ctx.map(task.s(), [1], tolerate=v),
    ),
    "countdown": (
        [*NO_NUMBER, math.nan, math.inf],
        lambda ctx, v: ctx.call(task.s().set(countdown=v)),
    ),
    "lease": (NO_SECONDS, lambda ctx, v: ctx.lock(ctx.entity(Counter, "k"), lease=v)),
    "delay": (NO_SECONDS, lambda ctx, v: ctx.entity(Counter, "k").signal(delay=v).add()),
    "saga": ([*NO_NUMBER, 5], lambda ctx, v: ctx.saga(retry=v)),
    "run": (NO_NUMBER, lambda ctx, v: ctx.run(v)),
}
REFUSALS = (TypeError, ValueError, ConfigurationError)
#: Python's own words, which name nothing.
VAGUE = ("not supported between", "has no attribute", "cannot convert", "unsupported operand")


@pytest.mark.parametrize("name", CASES)
def test_what_is_of_another_kind_is_refused(env: DurableEnv, name: str) -> None:
    values, take = CASES[name]
    for value in values:
        with pytest.raises(REFUSALS) as refused:
            take(value)
        assert not any(words in str(refused.value) for words in VAGUE), (value, refused.value)


_asked: list[Exception] = []
_ask: list[tuple[str, Any]] = []


@pytest.mark.parametrize("name", IN_TURNS)
def test_a_context_refuses_what_is_of_another_kind(name: str) -> None:
    values, take = IN_TURNS[name]
    own = Durable(Celery("in_turns", broker="memory://", set_as_current=False))

    @own.orchestrator(name="numbers.asks")
    async def asks(ctx: Any) -> list[str]:
        said = []
        for value in values:
            try:
                take(ctx, value)
                said.append(f"took {value!r}")
            except REFUSALS as error:
                said.append(str(error))
        return said

    with durable_environment(own) as environment:
        said = environment.start(asks.s()).get(timeout=3)
    assert [text for text in said if text.startswith("took") or any(v in text for v in VAGUE)] == []
