"""What the lint finds, and what it leaves alone."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from random import choice
from random import random as rnd
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from celery_durable.inspection.lint import lint

app = Celery("lint", broker="memory://", set_as_current=False)
ORDERS: list[Any] = []
PRICES = {"a": 1}
LIMITS = (1, 2)


@app.task(shared=False)
def charge(n: int) -> int:
    return n


def helper() -> float:
    return time.time()


def helper_of_a_helper() -> float:
    return helper()


def pure(n: int) -> int:
    return n + len(PRICES)


class Money:
    def __init__(self, amount: int) -> None:
        self.amount = amount


async def clock(ctx: Any) -> Any:
    return [time.time(), datetime.now(), date.today(), time.monotonic()]


async def sleeps(ctx: Any) -> None:
    time.sleep(1)


async def randomness(ctx: Any) -> Any:
    return [random.random(), choice([1]), rnd(), uuid.uuid4(), os.urandom(3), random.shuffle([])]


async def environment(ctx: Any) -> Any:
    return [os.environ["HOME"], os.getenv("X"), os.environ.get("Y"), os.getpid()]


async def io(ctx: Any) -> Any:
    with open("x") as file:
        return file.read(), input()


async def threads(ctx: Any) -> Any:
    threading.Thread(target=print).start()
    return await asyncio.to_thread(print)


async def sending(ctx: Any) -> Any:
    return charge.delay(1), charge.apply_async((1,))


async def sets(ctx: Any) -> Any:
    for each in {"a", "b"}:
        await ctx.call(each)
    return [each for each in set(ORDERS)], {hash("a"), id(ctx)}


async def globals_(ctx: Any) -> None:
    global LIMITS
    LIMITS = ()
    ORDERS.append(1)
    PRICES["b"] = 2
    PRICES["b"] += 1
    del PRICES["b"]


async def reaches(ctx: Any) -> float:
    return helper_of_a_helper()


async def nested(ctx: Any) -> Any:
    async def inner() -> float:
        return time.time()

    return await inner(), [lambda: time.time()]


def generator(ctx: Any) -> Any:
    yield ctx.call(charge.s(time.time()))


BAD: dict[Callable[..., Any], list[str]] = {
    clock: ["date.today()", "datetime.now()", "time.monotonic()", "time.time()"],
    sleeps: ["time.sleep()"],
    randomness: [
        "choice()", "os.urandom()", "random.random()", "random.shuffle()", "rnd()", "uuid.uuid4()",
    ],
    environment: ["os.environ", "os.environ", "os.getenv()", "os.getpid()"],
    io: ["input()", "open()"],
    threads: ["asyncio.to_thread()", "threading.Thread()"],
    sending: ["charge.apply_async()", "charge.delay()"],
    sets: ["hash()", "id()", "the order of set(ORDERS)", "the order of {'a', 'b'}"],
    globals_: ["ORDERS.append()", "PRICES['b']", "PRICES['b']", "PRICES['b']", "global LIMITS"],
    reaches: ["time.time()"],
    nested: ["time.time()", "time.time()"],
    generator: ["time.time()"],
}  # fmt: skip


@pytest.mark.parametrize("function", BAD, ids=lambda each: each.__name__)
def test_it_is_found_with_its_line_and_what_to_do(function: Callable[..., Any]) -> None:
    found = lint("shop.x", function)
    assert set(BAD[function]) == {each.what for each in found}
    lines = Path(__file__).read_text().splitlines()
    for each in found:
        assert each.file == __file__
        assert each.what.removeprefix("the order of ").split("(")[0].split("[")[0] in (
            lines[each.line - 1].replace('"', "'")
        )
        assert each.instead and str(each) == (
            f"{__file__}:{each.line}: {each.what} in shop.x: {each.instead}"
        )


async def good(ctx: Any, order: dict[str, Any], tags: set[str]) -> Any:
    now, number = ctx.now(), ctx.random.random()
    stamp = await ctx.run(lambda: time.time())
    other = await ctx.run(time.time)
    items = list(order)
    items.append(1)
    order["x"] = 2
    local: list[int] = []
    local.append(pure(3))
    seen = {each for each in {"a", "b"}}
    for each in sorted({"b", "a"}):
        await ctx.call(charge.s(each))
    for each in sorted(tags):
        local.append(len(each))
    if "a" in {"a", "b"} and len(set(items)) > 2 and 3 in LIMITS:
        print("fine", Money(3).amount, datetime(2020, 1, 1), uuid.UUID(int=3), random.Random(3))
    await asyncio.sleep(1)
    await asyncio.gather(ctx.call(charge.s(1)), ctx.sleep(2))
    return [now, number, stamp, other, seen, PRICES["a"], os.path.join("a", "b"), ctx.uuid4()]


async def inside_what_has_no_order(ctx: Any, numbers: Any) -> Any:
    first = sum(list(random.random() for _ in numbers))
    second = len(list(map(lambda _: uuid.uuid4(), numbers)))
    return first, second, max(map(helper_of_numbers, numbers)), sorted(list({1, 2}))


def helper_of_numbers(number: int) -> float:
    return number + time.time()


def test_what_is_inside_of_what_has_no_order_is_read() -> None:
    found = lint("shop.sum", inside_what_has_no_order)
    assert [each.what for each in found] == ["random.random()", "uuid.uuid4()", "time.time()"]


async def has_functions_with_arguments_of_their_own(ctx: Any) -> Any:
    def plain(random: Any, /, time: Any, *, os: Any) -> Any:
        return random.random(), time.time(), os.environ

    def any_number(*time: Any, **uuid: Any) -> Any:
        return time.time(), uuid.uuid4()

    async def later(*random: Any) -> Any:
        return random.random()

    return plain, any_number, later, lambda *random, **time: (random.random(), time.time())


def test_an_argument_is_not_the_module_of_its_name() -> None:
    assert lint("shop.arguments", has_functions_with_arguments_of_their_own) == []


def test_what_does_no_harm_is_left_alone() -> None:
    assert lint("good", good) == []


async def shadowed(ctx: Any, time: Any, open: Any) -> Any:  # noqa: A002
    return time.time(), open("x")


def test_names_of_its_own_are_its_own() -> None:
    assert lint("shadowed", shadowed) == []


def test_code_without_a_text_is_left_alone() -> None:
    names: dict[str, Any] = {"time": time}
    exec("async def made(ctx):\n    return time.time()", names)
    assert lint("made", names["made"]) == []
    assert lint("builtin", print) == []


def test_orchestrators_of_azures_are_read_below_their_wrapper() -> None:
    from celery_durable.azure import running

    def flow(context: Any) -> Any:
        yield context.call_activity("charge", time.time())

    assert [each.what for each in lint("a", running.orchestrator(flow))] == ["time.time()"]


def test_what_calls_itself_is_read_once() -> None:
    def count(n: int) -> int:
        return count(n - 1) if n else helper_count()

    async def recursive(ctx: Any) -> int:
        return count(3)

    assert [each.what for each in lint("r", recursive)] == ["time.time()"]


def helper_count() -> int:
    return int(time.time())


def test_every_name_that_it_knows_exists() -> None:
    """A misspelt name would find nothing, silently."""
    from celery_durable.replacements import CALLED

    for place in CALLED:
        parts = place.split(".")
        if parts[0] == "django":
            continue
        value: Any = __import__(parts[0])
        for number, part in enumerate(parts[1:], 2):
            if not hasattr(value, part):
                __import__(".".join(parts[:number]))
            value = getattr(value, part)
        assert callable(value), place


def test_the_example_and_the_demo_raise_no_alarm() -> None:
    from celery_durable import demo

    orchestrators = [
        each
        for each in vars(demo).values()
        if inspect.iscoroutinefunction(each) and "ctx" in inspect.signature(each).parameters
    ]
    assert all(lint("demo", each) == [] for each in orchestrators)


def test_the_command_names_lines_and_fails() -> None:
    from celery_durable import Durable
    from celery_durable.cli import durable as commands

    own = Celery("own", broker="memory://", set_as_current=False)
    durable = Durable(own)
    durable.orchestrator(good, name="shop.good")
    assert invoke(commands, own, "lint") == (
        0,
        "1 orchestrators do nothing that was found to differ in a replay\n",
    )
    durable.orchestrator(sleeps, name="shop.sleeps")
    code, printed = invoke(commands, own, "lint")
    assert code == 5
    assert printed.splitlines()[0].endswith("time.sleep() in shop.sleeps: await ctx.sleep(...)")
    assert invoke(commands, own, "lint", "shop.good")[0] == 0
    code, printed = invoke(commands, own, "lint", "shop.other")
    assert code == 2 and "no orchestrator 'shop.other'" in printed


def invoke(commands: Any, own: Celery, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, list(arguments), obj=own)
    return done.exit_code, done.output
