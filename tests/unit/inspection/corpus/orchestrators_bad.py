"""Mistakes in orchestrators: each line that is marked has to be found, and no other one."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
import random
import time
import uuid
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial, reduce
from os import environ
from pathlib import Path
from typing import Any

import httpx
import redis
from celery import Celery, chain, group
from celery.result import AsyncResult
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, text

from celery_durable import Durable, OrchestrationContext

app = Celery("orchestrators_bad", broker="memory://", set_as_current=False)
durable = Durable(app)
cache = redis.Redis()
client = httpx.Client()
engine = create_engine("sqlite://")
SEEN: set[str] = set()
TOTALS: Counter[str] = Counter()
RECENT: deque[str] = deque()
BY_NAME: dict[str, list[str]] = defaultdict(list)
NUMBERS = itertools.count()
SETTINGS = type("Settings", (), {"limit": 1})()


@app.task(shared=False, name="orchestrators_bad.charge")
def charge(order: str) -> None: ...


class Stats:
    total = 0
    names: list[str] = []


@dataclass
class Line:
    sku: str
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=datetime.now)


class Letter(BaseModel):
    text: str
    sent: datetime = Field(default_factory=datetime.now)


class Order:
    def __init__(self, number: str) -> None:
        self.number = number
        self.made = time.time()  # finds: time.time()

    def total(self) -> float:
        return self._rate() * 3

    def _rate(self) -> float:
        return random.random()  # finds: random.random()

    @property
    def age(self) -> float:
        return time.time() - self.made  # finds: time.time()

    @staticmethod
    def stamp() -> str:
        return str(uuid.uuid4())  # finds: uuid.uuid4()

    @classmethod
    def load(cls, path: str) -> str:
        return Path(path).read_text()  # finds: Path(path).read_text()


def priced(line: Line) -> float:
    return client.get(f"https://prices/{line.sku}").json()  # finds: client.get()


def newest(name: str) -> float:
    return os.path.getmtime(name)  # finds: os.path.getmtime()


def key(name: str) -> str | None:
    return os.getenv(name)  # finds: os.getenv()


@durable.orchestrator(name="bad.clocks")
async def clocks(ctx: OrchestrationContext) -> Any:
    began = dt.datetime.now(dt.UTC)  # finds: dt.datetime.now()
    local = time.localtime()  # finds: time.localtime()
    await ctx.sleep(1)
    return began, local, time.process_time()  # finds: time.process_time()


@durable.orchestrator(name="bad.imports")
async def imports_within(ctx: OrchestrationContext) -> Any:
    import random as dice
    from time import time as clock

    return dice.choice([1, 2]), clock()  # finds: dice.choice() # finds: clock()


@durable.orchestrator(name="bad.classes")
async def classes(ctx: OrchestrationContext, given: Order) -> Any:
    own = Order("1")
    await ctx.sleep(1)
    return own.total(), own.age, given.total(), Order.stamp(), Order.load("x")


@durable.orchestrator(name="bad.defaults")
async def defaults(ctx: OrchestrationContext) -> Any:
    line = Line("a")  # finds: the default of id in Line() # finds: the default of at in Line()
    return line, Letter(text="hello")  # finds: the default of sent in Letter()


@durable.orchestrator(name="bad.randomness")
async def randomness(ctx: OrchestrationContext) -> Any:
    own = random.Random()  # finds: random.Random()
    return own.random()


@durable.orchestrator(name="bad.environment")
async def environment(ctx: OrchestrationContext) -> Any:
    if "DEBUG" in environ:  # finds: environ
        return environ["DEBUG"]  # finds: environ
    return os.environ.get("HOME")  # finds: os.environ


@durable.orchestrator(name="bad.servers")
async def servers(ctx: OrchestrationContext, number: str) -> Any:
    cache.set("a", 1)  # finds: cache.set()
    httpx.post("https://bank", json={})  # finds: httpx.post()
    with engine.connect() as connection:  # finds: engine.connect()
        connection.execute(text("SELECT 1"))
    with httpx.Client() as own:  # finds: httpx.Client()
        own.get("https://bank")  # finds: own.get()
    if Path("/tmp").exists():  # finds: Path('/tmp').exists()
        os.remove("/tmp/x")  # finds: os.remove()
    return priced(Line(number, uuid.UUID(int=1), ctx.now()))


@durable.orchestrator(name="bad.given")
async def given_functions(ctx: OrchestrationContext, names: list[str]) -> Any:
    found = sorted(names, key=newest)
    return list(map(key, found)), reduce(partial(max, default=0), [1])


@durable.orchestrator(name="bad.celery")
async def celery(ctx: OrchestrationContext, order: str) -> Any:
    charge.delay(order)  # finds: charge.delay()
    charge.s(order).apply_async()  # finds: charge.s(order).apply_async()
    chain(charge.si(1), charge.si(2)).delay()  # finds: chain(charge.si(1), charge.si(2)).delay()
    work = group(charge.s(order))
    work.apply_async()  # finds: work.apply_async()
    app.send_task("other.task")  # finds: app.send_task()
    charge(order)  # finds: charge()
    durable.start(clocks)  # finds: durable.start()
    return AsyncResult("7").get()  # finds: AsyncResult()


@durable.orchestrator(name="bad.sets")
async def sets(ctx: OrchestrationContext, tags: set[str], names: list[str]) -> Any:
    wanted = set(names)
    for each in wanted:  # finds: the order of wanted
        await ctx.call(charge.s(each))
    for each in tags | {"all"}:  # finds: the order of tags | {'all'}
        await ctx.call(charge.s(each))
    await ctx.all([*{ctx.sleep(len(each)) for each in names}])  # finds: the order of {ctx.sleep(len(each)) for each in names}
    first = next(iter(wanted))  # finds: the order of wanted
    text = ",".join(tags)  # finds: the order of tags
    both = list(wanted.union(tags))  # finds: the order of wanted.union(tags)
    return first, text, both, tags.pop()  # finds: the order of tags


@durable.orchestrator(name="bad.shared")
async def shared(ctx: OrchestrationContext, name: str) -> Any:
    SEEN.add(name)  # finds: SEEN.add()
    TOTALS[name] += 1  # finds: TOTALS[name]
    RECENT.appendleft(name)  # finds: RECENT.appendleft()
    BY_NAME.setdefault(name, []).append("x")  # finds: BY_NAME.setdefault()
    Stats.total += 1  # finds: Stats.total
    Stats.names.append(name)  # finds: Stats.names.append()
    SETTINGS.limit = 2  # finds: SETTINGS.limit
    os.environ["X"] = name  # finds: os.environ
    return next(NUMBERS)  # finds: next()


@durable.orchestrator(name="bad.catches")
async def catches(ctx: OrchestrationContext) -> Any:
    try:
        await ctx.call(charge.s("1"))
    except BaseException:  # finds: except BaseException
        pass
    try:
        await ctx.sleep(1)
    except asyncio.CancelledError:  # finds: except asyncio.CancelledError
        return "canceled"


@durable.orchestrator(name="bad.nested")
async def nested(ctx: OrchestrationContext) -> Any:
    async def one(name: str) -> float:
        await ctx.call(charge.s(name))
        return time.monotonic()  # finds: time.monotonic()

    return await asyncio.gather(one("a"), one("b"))


@durable.orchestrator(name="bad.generator")
def generator(ctx: OrchestrationContext) -> Any:
    yield ctx.call(charge.s(str(uuid.uuid1())))  # finds: uuid.uuid1()
    with open("log") as file:  # finds: open()
        return file.read()


class Cached:
    @cached_property
    def host(self) -> str:
        return os.uname().nodename
