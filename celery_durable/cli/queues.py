"""What waits in which queue, who consumes it, and whose slots are taken: for ``doctor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..store import sql_store
from ..store.metrics_snapshot import Queue, waiting_activities

__all__ = ["check_queues"]

#: So many seconds an activity may wait, and one may run, before that is worth a word.
_LONG = 60.0


@dataclass(frozen=True)
class Consumer:
    """What one worker answers to Celery's remote control."""

    name: str
    queues: frozenset[str]
    #: How many tasks it can run at a time; 0 if it does not tell.
    slots: int
    #: The names of the tasks that run, and for how many seconds.
    running: Sequence[tuple[str, float]]


def check_queues(durable: Any) -> str:
    """Return what waits.

    Raises:
        RuntimeError: no worker consumes a queue in which something waits, or its workers can
            take nothing.
    """
    runtime = durable.runtime
    now = runtime.store.now()
    waiting = waiting_activities(sql_store(runtime.store))
    lease = int(durable.settings.worker_lease * 1_000_000)
    consumers = consumers_of(durable.app) if runtime.store.workers.living_workers(lease) else []
    problems = problems_in(waiting, consumers, runtime.publisher.turn_queue_of, now)
    if problems:
        raise RuntimeError("; ".join(problems))
    number = sum(queue.count for queue in waiting)
    names = sorted({name for each in consumers for name in each.queues})
    consumed = f"; consumed: {', '.join(names)}" if names else "; no worker says what it consumes"
    return f"{number} activities wait for a worker{consumed}"


def consumers_of(app: Any) -> list[Consumer]:
    """Ask the workers; those that answer within a second each time."""
    inspect = app.control.inspect(timeout=1.0)
    queues = inspect.active_queues() or {}
    if not queues:
        return []
    stats, active, now = inspect.stats() or {}, inspect.active() or {}, time.time()
    return [
        Consumer(
            name,
            frozenset(queue["name"] for queue in consumed),
            int((stats.get(name, {}).get("pool") or {}).get("max-concurrency") or 0),
            [
                (str(task.get("name")), now - float(task.get("time_start") or now))
                for task in active.get(name, ())
            ],
        )
        for name, consumed in sorted(queues.items())
    ]


def problems_in(
    waiting: Sequence[Queue],
    consumers: Sequence[Consumer],
    turn_queue_of: Callable[[str], str],
    now: int,
) -> list[str]:
    """Return what keeps work from being done, and what to do, a text each.

    Args:
        waiting: what waits in each queue.
        consumers: the workers that have answered; without any, nothing is said.
        turn_queue_of: names the queue of turns beside another one.
        now: microseconds since the epoch, by the store's clock.
    """
    if not consumers:
        return []
    consumed = frozenset().union(*(each.queues for each in consumers))
    late = {queue.name: queue for queue in waiting if queue.name and _age(queue, now) > _LONG}
    problems = [
        f"queue {name!r} is starved: {queue.count} activities wait in it, the oldest for"
        f" {_age(queue, now):.0f} s, and no worker consumes it: start one with -Q {name}"
        for name, queue in late.items()
        if name not in consumed
    ]
    problems += [
        f"no worker consumes {turns!r}, where the turns of orchestrations on {name!r} wait: are"
        " its workers of an older release? Start one of this release, or set durable_turn_queue ="
        " None"
        for name in sorted(consumed)
        if (turns := turn_queue_of(name)) not in consumed
    ]
    for name in sorted(late.keys() & consumed):
        problems += _taken(late[name], [each for each in consumers if name in each.queues])
    return problems


def _taken(queue: Queue, consumers: Sequence[Consumer]) -> list[str]:
    """Tell of a queue whose workers all have nothing but long tasks in all their slots."""
    if not all(_is_full(each) for each in consumers):
        return []
    slots = sum(each.slots for each in consumers)
    names: Mapping[str, None] = dict.fromkeys(
        name for each in consumers for name, _ in each.running
    )
    return [
        f"all {slots} slots of the workers of queue {queue.name!r} have been taken for more than"
        f" {_LONG:.0f} s by {', '.join(list(names)[:5])}, while {queue.count} activities wait: give"
        " long activities a queue and workers of their own (queue=), or add slots (-c)"
    ]


def _is_full(consumer: Consumer) -> bool:
    long = [name for name, seconds in consumer.running if seconds > _LONG]
    return 0 < consumer.slots <= len(long)


def _age(queue: Queue, now: int) -> float:
    return 0.0 if queue.oldest_at is None else (now - queue.oldest_at) / 1_000_000
