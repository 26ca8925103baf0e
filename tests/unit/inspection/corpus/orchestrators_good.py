"""Innocent orchestrators: nothing in here may be found."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import random
import time
import uuid
from collections import Counter, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
from celery import Celery
from pydantic import BaseModel, Field

from celery_durable import Durable, OrchestrationContext, RetryPolicy

app = Celery("orchestrators_good", broker="memory://", set_as_current=False)
durable = Durable(app)
log = logging.getLogger(__name__)
PRICES = {"a": 3}
LIMITS = (1, 2)
FAST = RetryPolicy(max_attempts=3)
KNOWN = {"a", "b"}


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Line:
    sku: str
    tags: list[str] = field(default_factory=list)
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def price(self) -> int:
        return PRICES.get(self.sku, 0)

    def priced(self) -> int:
        self.tags.append("priced")
        return self.price


class Letter(BaseModel):
    text: str
    to: list[str] = Field(default_factory=list)


class Basket:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.by_sku: dict[str, Line] = {}

    def add(self, line: Line) -> None:
        self.lines.append(line)
        self.by_sku[line.sku] = line

    def start(self) -> str:
        return "started"

    def save(self) -> str:
        return json.dumps([line.sku for line in self.lines])


@app.task(shared=False, name="orchestrators_good.charge")
def charge(order: str) -> str:
    time.sleep(0)
    return str(uuid.uuid4())


def look(name: str) -> str:
    return Path(name).read_text() + str(datetime.now())


@lru_cache
def doubled(number: int) -> int:
    return 2 * number


def by_length(name: str) -> int:
    return len(name)


@durable.orchestrator(name="good.clocks")
async def clocks(ctx: OrchestrationContext) -> Any:
    now = ctx.now()
    later = now + timedelta(days=1)
    text = now.strftime("%Y")
    parsed = datetime.fromisoformat("2020-01-01"), dt.datetime(2020, 1, 1), time.gmtime(3)
    await ctx.sleep(timedelta(seconds=1))
    await asyncio.sleep(1)
    return later, text, parsed, time.strftime("%Y", time.gmtime(0)), now.date().today


@durable.orchestrator(name="good.recorded")
async def recorded(ctx: OrchestrationContext) -> Any:
    text = await ctx.run(look, "x")
    stamp = await ctx.run(lambda: [time.time(), random.random(), uuid.uuid4()])
    answer = await ctx.run(httpx.get, "https://bank")
    return text, stamp, answer, ctx.random.choice([1, 2]), ctx.uuid4(), random.Random(3).random()


@durable.orchestrator(name="good.objects")
async def objects(ctx: OrchestrationContext, given: Line) -> Any:
    basket = Basket()
    basket.add(Line("a", [], uuid.uuid5(uuid.NAMESPACE_DNS, "a")))
    basket.add(Line("b", id=ctx.uuid4()))
    basket.lines.append(given)
    given.sku = "c"
    letter = Letter(text="hello")
    letter.text = "changed"
    return basket.save(), basket.start(), given.price, given.priced(), letter, Size.SMALL.value


@durable.orchestrator(name="good.containers")
async def containers(ctx: OrchestrationContext, names: list[str], seen: set[str]) -> Any:
    counts, queue = Counter(names), deque(names)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name[0]].append(name)
        counts[name] += 1
        seen.add(name)
    queue.rotate(1)
    names.sort(key=by_length)
    PRICES.get("a")
    return sorted(groups), counts.most_common(), list(queue), max(names, key=len), LIMITS[0]


@durable.orchestrator(name="good.sets")
async def sets(ctx: OrchestrationContext, names: list[str], tags: set[str]) -> Any:
    wanted = set(names) - KNOWN
    for each in sorted(wanted | tags):
        await ctx.call(charge.s(each))
    for each in dict.fromkeys(names):
        await ctx.call(charge.s(each))
    total = sum(len(each) for each in tags)
    longest = max(len(each) for each in wanted)
    return (
        any(each.isupper() for each in tags),
        {each.lower() for each in tags},
        total,
        longest,
        ("a" in tags),
        len(wanted),
        sorted(list(wanted)),
        frozenset(tags),
        wanted == tags,
    )


@durable.orchestrator(name="good.together")
async def together(ctx: OrchestrationContext, names: list[str]) -> Any:
    async def one(name: str) -> str:
        with suppress(ValueError):
            return await ctx.call(charge.s(name), retry=FAST)
        return ""

    first = await asyncio.gather(*(one(name) for name in names))
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(one(name)) for name in names]
    async with asyncio.timeout(3):
        await ctx.wait_event("go")
    await ctx.all([ctx.call(charge.s(name)) for name in names])
    return first, [each.result() for each in made], list(map(doubled, LIMITS)), partial(one, "a")


@durable.orchestrator(name="good.failures")
async def failures(ctx: OrchestrationContext) -> Any:
    try:
        await ctx.call(charge.s("1"))
    except (KeyError, httpx.HTTPError) as error:
        log.warning("no luck: %s", error)
    except asyncio.CancelledError:
        await ctx.call(charge.s("undo"))
        raise
    except Exception:
        raise RuntimeError("charged twice") from None
    try:
        json.loads("{")
    except BaseException:
        return httpx.URL("https://bank/a").path
    return PurePosixPath("a") / "b"


@durable.orchestrator(name="good.shadows")
async def shadows(ctx: OrchestrationContext, time: Any, open: Any, os: Any) -> Any:
    total = [uuid for uuid in time]
    now = lambda random: random.random()
    return open("x"), os.environ, total, now(ctx.random)


@durable.orchestrator(name="good.ignored")
async def ignored(ctx: OrchestrationContext) -> Any:
    began = time.monotonic()  # durable: ignore
    return began


@durable.orchestrator(name="good.generator")
def generator(ctx: OrchestrationContext) -> Any:
    found = yield ctx.call(charge.s("1"))
    moment = yield ctx.run(time.time)
    return [found, moment]
