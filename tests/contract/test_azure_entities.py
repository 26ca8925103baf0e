"""Azure's and durabletask's ways to reach entities, which are classes of this package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import azure as df


class Counter:
    value: int = 0

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def get(self) -> int:
        return self.value

    def fail(self) -> None:
        raise ValueError("no")


@pytest.fixture
def durable(new_app: Callable[..., Any]) -> Any:
    """A front door that runs everything at once, in this process."""
    durable = new_app(task_always_eager=True).durable
    durable.entity(Counter)
    return durable


def run(durable: Any, function: Any) -> Any:
    return durable.start(durable.orchestrator(function, name=function.__name__).s()).get(
        timeout=300
    )


def test_azure(durable: Any) -> None:
    @df.orchestrator
    def count(context: df.DurableOrchestrationContext):
        entity = df.EntityId("Counter", "k")
        context.signal_entity(entity, "add", 5)
        yield context.signal_entity(entity, "add", 1)
        with (yield context.lock_entities([entity, df.EntityId("Counter", "other")])):
            value = yield context.call_entity(entity, "get")
            yield context.call_entity(entity, "add", 10 - value)
        try:
            yield context.call_entity(entity, "fail")
        except ValueError as error:
            values = yield context.task_all(
                [context.call_entity(entity, "get"), context.call_entity(entity, "get")]
            )
            return [str(error), values]

    assert run(durable, count) == ["no", [10, 10]]
    assert not any(each.locked_by for each in durable.entities().items)


def test_durabletask(durable: Any) -> None:
    @df.durabletask_orchestrator
    def count(ctx: df.OrchestrationContext, _: Any):
        entity = df.EntityInstanceId("Counter", "k")
        ctx.signal_entity(entity, "add", 5)
        with (yield ctx.lock_entities([entity])):
            value = yield ctx.call_entity(entity, "add", input=1)
        try:
            yield ctx.call_entity(entity, "fail")
        except df.TaskFailedError as error:
            return [value, error.details.error_type]

    assert run(durable, count) == [6, "builtins.ValueError"]


def test_the_client(durable: Any) -> None:
    client = df.DurableOrchestrationClient(durable)
    entity = df.EntityId("Counter", "k")

    async def main() -> None:
        assert await client.read_entity_state(entity) == df.EntityStateResponse(False)
        await client.signal_entity(entity, "add", 5)
        assert await client.read_entity_state(entity) == df.EntityStateResponse(True, {"value": 5})
        with pytest.raises(AttributeError, match="'_send' is private"):
            await client.signal_entity(entity, "_send", {"lock": "mine"})

    asyncio.run(main())
