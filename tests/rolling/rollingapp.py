"""The application that both releases run: only what each of them knows.

It imports nothing of the tests, as the older release has none of this package. Run as a script, it
is a client: ``python rollingapp.py start KEY``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from celery import Celery, chain, chord, group

from celery_durable import Durable, Limit, RetryPolicy, durable_context

RELEASE = os.environ["ROLLING_RELEASE"]
FOLDER = Path(os.environ["ROLLING_FOLDER"])
QUEUE = os.environ["ROLLING_QUEUE"]

app = Celery("rollingapp", broker=os.environ["ROLLING_BROKER"])
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": f"{QUEUE}:"},
    durable_backend_url=os.environ["ROLLING_STORE"],
    durable_resend_after=1,
    durable_heartbeat_interval=0.5,
    durable_worker_lease=2,
    durable_recovery_interval=0.3,
    durable_turn_queue="{queue}.turns",
    durable_cache_size=int(os.environ.get("ROLLING_CACHE", "500")),
)
durable = Durable(app)


def release():
    return RELEASE


def note(*facts):
    with (FOLDER / "runs").open("a") as file:
        file.write(json.dumps([RELEASE, *facts]) + "\n")


def first_time(name):
    try:
        (FOLDER / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# -- activities ------------------------------------------------------------------------------------


class SoldOut(Exception):
    pass


@app.task
def add(*numbers):
    note("add")
    time.sleep(0.02)
    return sum(numbers)


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def flaky(name, times):
    for number in range(times):
        if first_time(f"{name}-{number}"):
            raise SoldOut(name)
    return name


@app.task
def fail(name):
    raise SoldOut(name)


@app.task(bind=True, max_retries=3)
def retries_by_itself(self, name):
    if first_time(f"{name}-celery"):
        raise self.retry(countdown=0.2)
    return name


@app.task(bind=True)
def replaced(self, number):
    raise self.replace(add.s(number, number))


@app.task
def slow():
    end = time.monotonic() + 30
    while time.monotonic() < end and not durable_context().cancelled:
        durable_context().heartbeat({"at": time.monotonic()})
        time.sleep(0.1)


@app.task(at_most_once=True)
def once(name):
    note("once", name)
    return name


@app.task
def undo(name):
    note("undone", name)


@app.task
def needs(name):
    if not (FOLDER / name).exists():
        raise SoldOut(name)
    return name


@app.task(bind=True)
@durable.transactional
def deposit(self, session, name):
    return name


@durable.entity
class Till:
    def __init__(self):
        self.sum = 0

    def add(self, amount):
        self.sum += amount
        return self.sum

    def get(self):
        return self.sum


# -- orchestrations, each with two gates, between which the releases change ------------------------


async def gate(ctx, name):
    await ctx.wait_event(name)


@durable.orchestrator
async def activities(ctx, key):
    found = [await ctx.run(release), await ctx.call(add.s(1, 2))]
    await gate(ctx, "first")
    found += [await ctx.run(release), await ctx.call(add.s(3, 4))]
    took = []
    for _ in range(8):  # by whichever release is free
        await ctx.call(add.s(0, 0))
        took.append(await ctx.run(release))
    await gate(ctx, "second")
    found += [await ctx.run(release), await ctx.call(add.s(5, 6))]
    note("turns", *found[::2], *took)
    return found[1::2]


@durable.orchestrator
async def crossing(ctx, key):
    """What was asked before a gate is answered behind it."""
    early = [ctx.call(add.s(n, n)) for n in range(4)]
    child = ctx.call(gated.s(key).set(task_id=f"gated-{key}"))
    timer = ctx.sleep(1)
    await gate(ctx, "first")
    await ctx.signal_event(f"gated-{key}", "first")
    late = await ctx.all([*early, timer])
    await gate(ctx, "second")
    await ctx.signal_event(f"gated-{key}", "second")
    return [*late[:4], await child]


@durable.orchestrator
async def gated(ctx, key):
    await gate(ctx, "first")
    sums = await ctx.map(add, range(5), concurrency=2)
    await gate(ctx, "second")
    return sum(sums)


@durable.orchestrator
async def failures(ctx, key):
    policy = RetryPolicy(first_interval=0.1, max_attempts=5, jitter=0.5)
    found = [await ctx.call(flaky.s(f"{key}-1", 2), retry=policy)]
    await gate(ctx, "first")
    for what in (fail.s(key), failing.s(key)):
        try:
            await ctx.call(what)
        except Exception as error:
            found.append(type(error).__name__)
    await gate(ctx, "second")
    found.append(await ctx.call(flaky.s(f"{key}-2", 2), retry=policy))
    found.append(await ctx.call(retries_by_itself.s(key)))
    found.append(await ctx.call(replaced.s(4)))
    return [str(each).replace(key, "key") for each in found]


@durable.orchestrator
async def failing(ctx, key):
    await ctx.call(fail.s(key))


@durable.orchestrator
async def timers(ctx, key):
    found = []
    await ctx.sleep(0.2)
    await gate(ctx, "first")
    try:
        await ctx.wait_event("never", timeout=0.3)
    except TimeoutError:
        found.append("no event")
    try:
        await ctx.call(slow.s(), timeout=0.5)
    except Exception as error:
        found.append(type(error).__name__)
    long = ctx.sleep(3600)
    found.append(await ctx.any([ctx.call(add.s(2, 2)), long]))
    await gate(ctx, "second")
    try:
        async with asyncio.timeout(0.4):
            await ctx.call(slow.s())
    except TimeoutError:
        found.append("too slow")
    return found


@durable.orchestrator
async def canvas(ctx, key):
    found = [await ctx.call(chain(add.s(1, 2), add.s(3)))]
    await gate(ctx, "first")
    found.append(await ctx.call(chord([add.s(n, n) for n in range(4)], total.s())))
    await gate(ctx, "second")
    found.append(await ctx.call(group(add.s(n) for n in range(4))))
    return found


@durable.orchestrator
async def looping(ctx, key, seen=()):
    await gate(ctx, ["first", "second"][len(seen)])
    here = [*seen, await ctx.call(add.s(len(seen), 1))]
    if len(here) == 2:
        return here
    ctx.continue_as_new(key, here)


@durable.orchestrator
async def chance(ctx, key):
    drawn = [str(ctx.uuid4()), ctx.random.random(), ctx.now().isoformat()]
    await gate(ctx, "first")
    drawn.append(await ctx.run(random.random))
    ctx.set_status({"drawn": len(drawn)})
    again = [ctx.patched("draws"), ctx.patched("draws")]
    await gate(ctx, "second")
    return [len(drawn), *again, ctx.patched("draws")]


@durable.orchestrator
async def tills(ctx, key):
    till = ctx.entity(Till, key)
    await till.add(1)
    till.signal.add(2)
    await gate(ctx, "first")
    async with ctx.lock(till):
        await till.add(3)
        await gate(ctx, "second")
        await till.add(4)
    return await till.get()


@durable.orchestrator
async def saga(ctx, key):
    try:
        async with ctx.saga() as found:
            await found.call(add.s(1, 1), undo=undo.s(f"{key}-1"))
            await gate(ctx, "first")
            await found.call(add.s(2, 2), undo=undo.s(f"{key}-2"))
            await gate(ctx, "second")
            await found.call(fail.s(key))
    except SoldOut:
        return "undone"


@durable.orchestrator
async def delivery(ctx, key):
    found = [await ctx.call(once.s(f"{key}-1"))]
    await gate(ctx, "first")
    found.append(await ctx.call(once.s(f"{key}-2")))
    found.append(await ctx.call(deposit.s(f"{key}-2")))
    await gate(ctx, "second")
    found.append(await ctx.call(once.s(f"{key}-3")))
    return len(found)


@durable.orchestrator(limit=Limit(2))
async def limited(ctx, key):
    found = await ctx.call(add.s(1, 1))
    await ctx.sleep(0.2)
    return found


@durable.orchestrator
async def rewound(ctx, key):
    await gate(ctx, "first")
    early = await ctx.call(add.s(1, 1))
    await ctx.call(needs.s(f"{key}-stock"))
    await gate(ctx, "second")
    return early


@durable.orchestrator
async def canceled(ctx, key):
    child = ctx.call(gated.s(key).set(task_id=f"gated-canceled-{key}"))
    try:
        await ctx.all([child, ctx.call(slow.s()), ctx.sleep(3600)])
    finally:
        await ctx.call(undo.s(f"{key}-canceled"))


@durable.orchestrator
async def suspended(ctx, key):
    await gate(ctx, "first")
    await gate(ctx, "second")
    return await ctx.call(add.s(4, 4))


#: Orchestration -> what it returns, or how it ends. They stop at each gate, but for the last two.
EXPECTED = {
    "activities": [3, 7, 11],
    "crossing": [0, 2, 4, 6, 10],
    "failures": ["key-1", "SoldOut", "SoldOut", "key-2", "key", "8"],
    "timers": ["no event", "ActivityTimeout", 4, "too slow"],
    "canvas": [6, 12, [0, 1, 2, 3]],
    "looping": [1, 2],
    "chance": [4, True, True, True],
    "tills": 10,
    "saga": "undone",
    "delivery": 4,
    "suspended": 8,
    "rewound": 2,
    "canceled": "CANCELED",
    "limited": 2,
}
GATED = [*EXPECTED][:-2]


# -- a client --------------------------------------------------------------------------------------


def runs(keys, names=EXPECTED):
    for key in keys:
        for name in names:
            yield durable.get(f"{name}-{key}")


def wait_until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what()} after 60 s")
        time.sleep(0.1)


def start(key):
    """Start one orchestration of each kind, as a client of this release."""
    for name in EXPECTED:
        durable.start(app.tasks[f"rollingapp.{name}"].s(key), instance_id=f"{name}-{key}")


def status_of(run):
    return str(run.refresh().runtime_status)


def open_gate(name, *keys):
    """Let all go through a gate."""
    for run in runs(keys, GATED):
        run.raise_event(name)


def settle(*keys):
    """Wait until the rewound ones have failed."""
    wait_until(
        lambda: all(status_of(run) == "FAILED" for run in runs(keys, ["rewound"])), lambda: "failed"
    )


def steer(*keys):
    """Rewind what has failed, cancel, suspend and resume."""
    for key in keys:
        (FOLDER / f"{key}-stock").touch()
        durable.get(f"rewound-{key}").rewind("stock has come")
        durable.get(f"canceled-{key}").cancel("enough")
        durable.get(f"suspended-{key}").suspend("a moment")
    for run in runs(keys, ["suspended"]):
        wait_until(lambda run=run: status_of(run) == "SUSPENDED", lambda: "suspended")
        run.resume()


def results(*keys):
    """Wait for the end of all, and print what came of each."""
    found = {}
    for run in runs(keys):
        try:
            run.wait(timeout=60)
        except TimeoutError:
            pass
        except Exception as error:
            found[run.id] = repr(error)
        run.refresh()
        ended = str(run.runtime_status)
        found[run.id] = run.output if ended == "COMPLETED" else ended
        if ended not in ("COMPLETED", "CANCELED"):
            found[run.id] = [ended, run.reason, [repr(event) for event in run.history()]]
    print(json.dumps(found))


def expected():
    print(json.dumps(EXPECTED))


COMMANDS = {
    "start": start,
    "gate": open_gate,
    "settle": settle,
    "steer": steer,
    "results": results,
    "expected": expected,
    "migrate": lambda: durable.migrate(),
}

if __name__ == "__main__":
    command, *given = sys.argv[1:]
    import rollingapp

    rollingapp.COMMANDS[command](*given)
