"""Which events and requests are found in the code of an orchestrator, and what is said of others."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from celery_durable import OrchestrationContext
from celery_durable.inspection.waits import waits_of

NAME = "approved"
NAMES = ("paid", "shipped")


class Events(StrEnum):
    PAID = "paid"
    SHIPPED = "shipped"


class Constants:
    NAME = "approved"


@dataclass
class Order:
    id: str


async def helper(ctx: Any, name: str, type: Any = None) -> Any:
    return await ctx.wait_event(name, type=type)


async def recursive(ctx: Any, n: int) -> None:
    await ctx.wait_event("again")
    await recursive(ctx, n - 1)


class Flow:
    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx

    async def run(self, name: str) -> None:
        await self.ctx.wait_request(name, type=Order)


class Socket:
    def wait_event(self, name: str) -> None: ...


async def constant(ctx: Any) -> None:
    await ctx.wait_event(NAME, type=Order)


async def attribute(ctx: Any) -> None:
    await ctx.wait_event(Constants.NAME, type=Order | None)


async def by_keyword(ctx: Any) -> None:
    await ctx.wait_event(name="approved", timeout=3)


async def member(ctx: Any) -> None:
    await ctx.wait_event(Events.PAID, type=list[Order])


async def value_of_a_member(ctx: Any) -> None:
    await ctx.wait_event(Events.PAID.value)


async def each_of_a_tuple(ctx: Any) -> None:
    await ctx.any([ctx.wait_event(each) for each in NAMES])


async def each_of_a_list(ctx: Any) -> None:
    for each in ["paid", "shipped"]:
        await ctx.wait_event(each)


async def each_of_an_enum(ctx: Any) -> None:
    for each in Events:
        await ctx.wait_event(each)


async def local(ctx: Any) -> None:
    name = "paid"
    await ctx.wait_event(name)


async def one_of_two(ctx: Any, order: Any) -> None:
    await ctx.wait_event("paid" if order else "shipped")


async def put_together(ctx: Any) -> None:
    await ctx.wait_event(f"is-{NAME}")
    await ctx.wait_event("was-" + NAME)


async def by_a_helper(ctx: Any) -> None:
    await helper(ctx, "paid")
    await helper(ctx, name="approved", type=Order)


async def by_an_object(ctx: Any) -> None:
    flow = Flow(ctx)
    await flow.run("change")


async def by_an_inner_function(ctx: Any) -> None:
    async def wait() -> None:
        await ctx.wait_event("paid")

    await wait()


async def by_recursion(ctx: Any) -> None:
    await recursive(ctx, 3)


async def without_a_wait(ctx: Any, socket: Socket) -> None:
    socket.wait_event("paid")
    print(ctx)


def generator(ctx: OrchestrationContext) -> Any:
    yield ctx.wait_event("paid")


def of_azure(context: Any) -> Any:
    yield context.wait_for_external_event("paid", Order)


FOUND = [
    (constant, [("event", "approved", Order)]),
    (attribute, [("event", "approved", Order | None)]),
    (by_keyword, [("event", "approved", Any)]),
    (member, [("event", "paid", list[Order])]),
    (value_of_a_member, [("event", "paid", Any)]),
    (each_of_a_tuple, [("event", "paid", Any), ("event", "shipped", Any)]),
    (each_of_a_list, [("event", "paid", Any), ("event", "shipped", Any)]),
    (each_of_an_enum, [("event", "paid", Any), ("event", "shipped", Any)]),
    (local, [("event", "paid", Any)]),
    (one_of_two, [("event", "paid", Any), ("event", "shipped", Any)]),
    (put_together, [("event", "is-approved", Any), ("event", "was-approved", Any)]),
    (by_a_helper, [("event", "paid", Any), ("event", "approved", Order)]),
    (by_an_object, [("request", "change", Order)]),
    (by_an_inner_function, [("event", "paid", Any)]),
    (by_recursion, [("event", "again", Any)]),
    (without_a_wait, []),
    (generator, [("event", "paid", Any)]),
    (of_azure, [("event", "paid", Order)]),
]


@pytest.mark.parametrize(
    ("function", "expected"), FOUND, ids=lambda each: getattr(each, "__name__", "")
)
def test_what_is_constant_is_found(function: Callable[..., Any], expected: list[Any]) -> None:
    waits = waits_of(function)
    assert [tuple(each) for each in waits.found] == expected
    assert waits.unknown == []


async def computed(ctx: Any, order: Any) -> None:
    await ctx.wait_event(f"approved-{order}")


async def assigned_twice(ctx: Any, order: Any) -> None:
    name = "paid"
    if order:
        name = order.name
    await ctx.wait_event(name)


async def parameter(ctx: Any, name: str = "paid") -> None:
    await ctx.wait_event(name)


async def helper_with_a_computed_name(ctx: Any, order: Any) -> None:
    await helper(ctx, order.id)


async def method_that_is_kept(ctx: Any) -> None:
    wait = ctx.wait_event
    await wait("paid")


async def spread(ctx: Any, names: Any) -> None:
    await ctx.wait_request(*names)


async def of_an_instance(ctx: Any, order: Order) -> None:
    await ctx.wait_event(order.id)


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (computed, "ctx.wait_event(f'approved-{order}')"),
        (assigned_twice, "ctx.wait_event(name)"),
        (parameter, "ctx.wait_event(name)"),
        (helper_with_a_computed_name, "ctx.wait_event(name, type=type)"),
        (method_that_is_kept, "ctx.wait_event"),
        (spread, "ctx.wait_request(*names)"),
        (of_an_instance, "ctx.wait_event(order.id)"),
    ],
)
def test_names_that_are_not_constant_are_listed(function: Callable[..., Any], code: str) -> None:
    waits = waits_of(function)
    assert waits.found == []
    (unknown,) = waits.unknown
    assert unknown.code == code and unknown.what.startswith("the name of a")


async def type_that_is_computed(ctx: Any, order: Any) -> None:
    await ctx.wait_event("paid", type=order.type)


def test_a_type_that_is_not_known_is_listed() -> None:
    waits = waits_of(type_that_is_computed)
    assert [tuple(each) for each in waits.found] == [("event", "paid", Any)]
    assert [each.what for each in waits.unknown] == ["the type of the event 'paid'"]


async def context_to_what_is_not_known(ctx: Any, order: Any) -> None:
    await order.approve(ctx)


async def context_to_a_library(ctx: Any, order: Any) -> None:
    await asyncio.wait_for(ctx, 3)
    json.dumps(ctx)


@pytest.mark.parametrize(
    ("function", "number"), [(context_to_what_is_not_known, 1), (context_to_a_library, 2)]
)
def test_what_is_given_the_context_and_cannot_be_read_is_listed(
    function: Callable[..., Any], number: int
) -> None:
    waits = waits_of(function)
    assert waits.found == [] and len(waits.unknown) == number
    assert {each.what for each in waits.unknown} == {
        "what is waited for where the context is passed to"
    }


def test_what_has_no_source_is_listed() -> None:
    names: dict[str, Any] = {}
    exec("async def f(ctx): await ctx.wait_event('a')", names)
    assert [each.code for each in waits_of(names["f"]).unknown] == ["no source"]
    partial = functools.partial(helper, name="a")
    assert [each.what for each in waits_of(partial).unknown] == ["its code"]
