"""Tasks, and code that looks like what is looked for."""

import enum
import itertools
import queue
import re
import threading
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from itertools import chain
from unittest.mock import patch

from celery import chord, group as parallel
from celery import signals

from .app import app, durable


class Colour(enum.Flag):
    RED = 1
    BLUE = 2


class Ignore(Exception):
    """One of our own."""


class Response:
    status = 200
    state = "open"

    def ready(self) -> bool:
        return True

    def replace(self, other: str | None) -> "Response":
        return self

    def copy(self) -> "Response":
        return self.replace("other")


class Cache:
    def get(self, key: str) -> int | None: ...

    def set(self, key: str, task_id: str | None = None, countdown: int = 0) -> None: ...

    def on_commit(self, function) -> None: ...


cache = Cache()


@signals.worker_ready.connect
def ready(**kwargs): ...


@app.task
def fetch(number: int) -> int:
    response = Response()
    if response.status != 200:
        return 0
    if response.state == "closed":
        return 0
    if not response.ready():
        raise Ignore
    result = {"a": 1}
    return cache.get("x") or result.get("a")


@app.task(bind=True)
def tidy(self, name: str, when: datetime) -> str:
    cache.set("x", task_id=self.request.id, countdown=999_999)
    threading.Thread(target=print).join()
    queue.Queue().join()
    Future().result()
    self.update_state(state="PROGRESS")
    return name.replace("a", "b") + str(when.replace(hour=3))


@app.task
def mark(number: int) -> None:
    response = Response()
    if number < 0:
        return
    response.status = 201


def unions(left: set[int], right: set[int], kinds: int | None) -> object:
    both = left | right | {3}
    every = Colour.RED | Colour.BLUE
    text = re.match("(a)", "a").group(1)
    return both, every, text, list(chain(left, right)), itertools.chain(left), {"a": 1} | {"b": 2}


def groups(group) -> object:
    return group([1, 2]), partial(fetch, 3)


def commit() -> None:
    cache.on_commit(lambda: print("saved"))
    cache.on_commit(print)
    setattr(cache, "delay_seconds", 3)
    with patch("calm.tasks.cache.get"), patch.object(cache, "set"):
        fetch.delay(3)


def send(task_id: str) -> None:
    fetch.apply_async((1,), queue="fast", expires=60)
    log(task_id=task_id)
    durable.canvas(chord([fetch.s(1), fetch.s(2)], mark.s())).apply_async(task_id=task_id)
    flow.apply_async((1,), task_id=task_id)
    parallel(fetch.s(1), fetch.s(2)).delay()  # durable: ignore


def log(task_id: str) -> None: ...


@durable.orchestrator(name="calm.flow")
async def flow(ctx, number: int) -> int:
    found = await ctx.call(fetch.s(number).set(countdown=999_999))
    return found + (await ctx.call(parallel(fetch.s(1), fetch.s(2)))[0])
