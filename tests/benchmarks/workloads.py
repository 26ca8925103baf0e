"""What is run, once as plain Celery and once as orchestrations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery import chain, chord, group
from celery.exceptions import TimeoutError
from celery.result import AsyncResult

from celery_durable import OrchestrationRevoked
from celery_durable.worker.witness import depth

Values = list[float]


@dataclass(frozen=True)
class Workload:
    """One kind of work, in the two forms; each returns what it measured itself, in seconds."""

    name: str
    #: How many of ``unit`` one run does.
    size: int
    unit: str
    plain: Callable[[], Values] | None
    durable: Callable[[], Values]
    rounds: int = 5
    #: How often both are run before anything is measured.
    warm: int = 1
    #: Settings of ``durable_`` for the starting process.
    settings: tuple[tuple[str, object], ...] = ()


def workloads() -> list[Workload]:
    """Return all of them; the app's addresses are in the environment by now."""
    from .app import clock, count, durable, effects, fan_out, hears, late, naps, noop, one, sequence

    def chains(number: int, steps: int) -> Values:
        plain = [chain(*[noop.si() for _ in range(steps)]).apply_async() for _ in range(number)]
        return _all(plain)

    def sequences(number: int, steps: int) -> Values:
        return _all([_result(durable.start(sequence.s(steps))) for _ in range(number)])

    def spread_plain(width: int) -> Values:
        return _all([chord(group(one.s(each) for each in range(width)))(count.s())])

    def spread(width: int) -> Values:
        return _all([_result(durable.start(fan_out.s(width)))])

    def etas(number: int, ahead: float) -> Values:
        due = time.time() + ahead
        eta = datetime.fromtimestamp(due, UTC)
        results = [clock.apply_async(eta=eta) for _ in range(number)]
        return [_end(result) - due for result in results]

    def timers(number: int, ahead: float) -> Values:
        due = time.time() + ahead
        results = [_result(durable.start(late.s(due))) for _ in range(number)]
        return [_end(result) for result in results]

    def starts(start: Callable[[], Any], number: int) -> Values:
        found, ends = [], []
        for _ in range(number):
            began = time.perf_counter()
            ends.append(start())
            found.append(time.perf_counter() - began)
        _all(ends)
        return found

    def behind(width: int) -> Values:
        """Hear an event while a backlog waits in the same queue, and cancel the backlog."""
        backlog = durable.start(naps.s(width, 0.05))
        wait_for_messages(width * 3 // 4)
        found = []
        for _ in range(20):
            run = durable.start(hears.s())
            run.raise_event("now", time.time())
            found.append(_end(_result(run)))
        began = time.perf_counter()
        backlog.cancel()
        with suppress(OrchestrationRevoked):
            backlog.wait(timeout=600)
        return [*found, time.perf_counter() - began]

    return [
        Workload(
            "chain of 20", 20, "activity", lambda: chains(1, 20), lambda: sequences(1, 20), 20
        ),
        Workload("200 x 5", 1000, "activity", lambda: chains(200, 5), lambda: sequences(200, 5)),
        Workload(
            "200 x 5, start_inline",
            1000,
            "activity",
            lambda: chains(200, 5),
            lambda: sequences(200, 5),
            settings=(("start_inline", True),),
        ),
        Workload("fan-out of 500", 500, "activity", lambda: spread_plain(500), lambda: spread(500)),
        Workload(
            "fan-out of 2000", 2000, "activity", lambda: spread_plain(2000), lambda: spread(2000), 3
        ),
        Workload(
            "1000 in sequence",
            1000,
            "activity",
            lambda: chains(1, 1000),
            lambda: sequences(1, 1000),
            3,
        ),
        Workload(
            "ctx.run x 20",
            20,
            "step",
            None,
            lambda: _all([_result(durable.start(effects.s(20)))]),
            20,
        ),
        Workload(
            "start",
            200,
            "start",
            lambda: starts(noop.delay, 200),
            lambda: starts(lambda: _result(durable.start(sequence.s(0))), 200),
            3,
        ),
        Workload(
            "200 timers due at once", 200, "timer", lambda: etas(200, 5), lambda: timers(200, 5), 3
        ),
        Workload(
            "2000 timers due at once",
            2000,
            "timer",
            lambda: etas(2000, 25),
            lambda: timers(2000, 25),
            3,
            0,
        ),
        Workload("event behind 2000 x 50 ms", 20, "event", None, lambda: behind(2000), 1, 0),
    ]


def _result(run: Any) -> AsyncResult:
    """Wait by the result backend, as for plain Celery."""
    return AsyncResult(run.id, app=run.app if hasattr(run, "app") else None)


def _all(results: Sequence[AsyncResult]) -> Values:
    for result in results:
        _end(result)
    return []


def _end(result: AsyncResult) -> Any:
    """Return what a task gave; now and then Celery's client misses that a result is there."""
    while True:
        try:
            return result.get(timeout=1)
        except TimeoutError:
            meta = result.backend.get_task_meta(result.id, cache=False)
            if meta["status"] == "SUCCESS":
                return meta["result"]


def wait_for_messages(number: int) -> None:
    """Wait until so many lie in the queue."""
    from .app import app

    def waiting() -> int:
        with app.connection_for_read() as connection, connection.channel() as channel:
            return depth(channel, app.conf.task_default_queue)

    while waiting() < number:
        time.sleep(0.05)
