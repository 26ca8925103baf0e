"""What is run under faults: small orchestrators that together touch everything, and what their
clients do.

Each ends in the same way whatever the order in which its messages arrive, so that any two runs can
be compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from celery_durable import Durable, OrchestrationContext, RetryPolicy, durable_context
from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.errors import StoreError

from .broker import Producers, ResultsBackend

QUEUE, NOWHERE = "faults", "faults-nowhere"
DAY = 86_400
I = "i"  # noqa: E741

app = Celery("faults", set_as_current=False)
app.conf.update(
    broker_url="memory://",
    result_backend="tests.faults.broker:ResultsBackend",
    task_default_queue=QUEUE,
    task_create_missing_queues=True,
    result_extended=False,
    worker_hijack_root_logger=False,
)
durable = Durable(app)
worlds: list[Any] = []  # the world in which the bodies below run is the last


def process() -> Any:
    """Return the process that runs now."""
    return worlds[-1].process


app.amqp._producer_pool = Producers(process)
app.now = lambda: worlds[-1].clock.datetime()
ResultsBackend.owner = staticmethod(process)


# -- activities ------------------------------------------------------------------------------------


class Body:
    """Tells the world that a body begins."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        worlds[-1].body_begins(self.name, self.request)  # type: ignore[attr-defined]
        return self.run(*args, **kwargs)  # type: ignore[attr-defined]


_base = type("ObservedTask", (Body, app.Task), {"abstract": True})


def task(function: Callable[..., Any]) -> Any:
    return app.task(base=_base, shared=False, name=f"faults.{function.__name__}")(function)


@task
def add(number: int, more: int = 1) -> int:
    return number + more


@task
def flaky(number: int) -> int:
    """Fail at the first attempt."""
    context = durable_context()
    assert context is not None
    if context.attempt == 1:
        raise ValueError(f"attempt 1 of {number}")
    return number * 10


@task
def refuse(number: int) -> None:
    raise KeyError(f"refused {number}")


@task
def last(number: int) -> int:
    """Last so long that recovery notes who runs it, and show progress."""
    context = durable_context()
    assert context is not None
    for _ in range(3):
        worlds[-1].pass_time(1.5)
        process().tick()
    with suppress(StoreError):
        context.heartbeat({"at": number})
    return number


@task
def mortal(number: int) -> int:
    """Take its worker with it the first time."""
    process().tick()
    process().tick()
    if worlds[-1].count_runs("faults.mortal") == 1:
        process().die()
    return number


@app.task(base=_base, shared=False, name="faults.note", acks_late=True)
def note(*values: Any) -> None:
    """Be called at the end of an orchestration."""
    worlds[-1].noted.append(values)


# -- orchestrators ---------------------------------------------------------------------------------


def orchestrator(function: Callable[..., Any]) -> Any:
    return durable.orchestrator(function, shared=False, name=f"faults.{function.__name__}")


@orchestrator
async def chain(ctx: OrchestrationContext, number: int) -> int:
    number = await ctx.call(add.s(number))
    ctx.set_status(number)
    return await ctx.call(add.s(number, 10))


@orchestrator
async def gather_three(ctx: OrchestrationContext) -> list[int]:
    return await asyncio.gather(*(ctx.call(add.s(number)) for number in range(3)))


@orchestrator
async def mixed_gather(ctx: OrchestrationContext) -> list[Any]:
    """One member fails, and is tried again."""
    policy = RetryPolicy(first_interval=0.5, max_attempts=2)
    found = await asyncio.gather(
        ctx.call(add.s(1)),
        ctx.call(flaky.s(2), retry=policy),
        ctx.call(refuse.s(3)),
        return_exceptions=True,
    )
    return [type(each).__name__ if isinstance(each, Exception) else each for each in found]


@orchestrator
async def race(ctx: OrchestrationContext) -> int:
    winner = await ctx.any(
        [ctx.call(add.s(1).set(queue=NOWHERE)), ctx.call(add.s(2)), ctx.sleep(DAY)]
    )
    return await ctx.call(add.s(winner))


@orchestrator
async def retries(ctx: OrchestrationContext) -> int:
    return await ctx.call(flaky.s(4), retry=RetryPolicy(first_interval=2, max_attempts=3))


@orchestrator
async def failure(ctx: OrchestrationContext) -> None:
    await ctx.call(refuse.s(5))


@orchestrator
async def timers(ctx: OrchestrationContext) -> str:
    await ctx.sleep(2)
    await ctx.sleep(9)  # beyond the horizon
    return "awake"


@orchestrator
async def late(ctx: OrchestrationContext) -> str:
    """Nobody runs it; the store gives up."""
    try:
        await ctx.call(add.s(1).set(queue=NOWHERE), timeout=4)
    except TimeoutError as error:
        return type(error).__name__
    return "?"


@orchestrator
async def lasting(ctx: OrchestrationContext) -> int:
    return await ctx.call(last.s(6), heartbeat_timeout=60, start_timeout=600)


@orchestrator
async def doomed(ctx: OrchestrationContext) -> list[int]:
    """Two activities whose workers die.

    One is claimed before it runs, the other marked while it runs.
    """
    return [await ctx.call(mortal.s(1), start_timeout=600), await ctx.call(mortal.s(2))]


@orchestrator
async def events(ctx: OrchestrationContext) -> list[Any]:
    ctx.set_status("waiting")
    found = [await ctx.wait_event("go", timeout=DAY)]
    try:
        await ctx.wait_event("never", timeout=2)
    except TimeoutError:
        found.append("none")
    return found


@orchestrator
async def pause(ctx: OrchestrationContext) -> Any:
    nap = ctx.sleep(15)
    ctx.set_status("waiting")
    found = await ctx.wait_event("go")
    await nap
    return await ctx.call(add.s(found))


@orchestrator
async def parent(ctx: OrchestrationContext) -> list[Any]:
    found = [await ctx.call(teller.s(ctx.instance_id))]
    found.append(await ctx.wait_event("told"))
    try:
        await ctx.call(failure.s())
    except KeyError as error:
        found.append(type(error).__name__)
    return found


@orchestrator
async def teller(ctx: OrchestrationContext, listener: str) -> int:
    ctx.signal_event(listener, "told", 8)
    return await ctx.call(add.s(7))


@orchestrator
async def family(ctx: OrchestrationContext) -> Any:
    ctx.set_status("waiting")
    return await asyncio.gather(ctx.call(pause.s()), ctx.call(add.s(1).set(queue=NOWHERE)))


@orchestrator
async def window(ctx: OrchestrationContext) -> list[int]:
    return await ctx.map(add, range(4), concurrency=2)


@orchestrator
async def again(ctx: OrchestrationContext, lives: int) -> Any:
    if lives == 2:
        ctx.set_status("waiting")
        await ctx.wait_event("first")
    await ctx.call(add.s(lives))
    if lives:
        ctx.continue_as_new(lives - 1)
    return await ctx.wait_event("second")


@orchestrator
async def careless(ctx: OrchestrationContext) -> int:
    """Leave behind what was never awaited."""
    ctx.call(add.s(1).set(queue=NOWHERE))
    ctx.sleep(DAY)
    return await ctx.call(add.s(2))


@orchestrator
async def undone(ctx: OrchestrationContext) -> None:
    ctx.set_status("waiting")
    try:
        await asyncio.gather(ctx.wait_event("never"), ctx.call(add.s(1).set(queue=NOWHERE)))
    except asyncio.CancelledError:
        await ctx.call(add.s(2))
        raise


@orchestrator
async def stubborn(ctx: OrchestrationContext) -> list[Any]:
    """Fail by a child, after another that succeeds, and succeed once it is rewound."""
    return [await ctx.call(add.s(1)), await ctx.call(chain.s(1)), await ctx.call(moody.s())]


@orchestrator
async def moody(ctx: OrchestrationContext) -> int:
    await ctx.call(add.s(2))
    return await ctx.call(flaky.s(3))


# -- what clients do -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Something that a client does once ``is_ready``, and repeats as long as it has not
    ``taken``.
    """

    act: Callable[[Any], Any]
    has_taken: Callable[[Any], bool]
    is_ready: Callable[[Any], bool] = lambda world: True


@dataclass(frozen=True)
class Program:
    """One orchestration, what its client does, and the settings of its processes."""

    name: str
    steps: tuple[Step, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def start(signature: Any, **options: Any) -> Step:
    return Step(
        lambda world: durable.start(signature.set(**options), instance_id=I),
        lambda world: world.status() is not None,
    )


def is_waiting(world: Any) -> bool:
    return bool(world.status() is RuntimeStatus.RUNNING and world.custom_status() == "waiting")


def tell(name: str, data: Any, is_ready: Callable[[Any], bool] = is_waiting) -> Step:
    return Step(
        lambda world: durable.raise_event(I, name, data, event_id=name),
        lambda world: world.was_told(name) or world.is_ended(),
        is_ready,
    )


def has_status(*statuses: RuntimeStatus) -> Callable[[Any], bool]:
    return lambda world: world.status() in statuses


def ended(world: Any) -> bool:
    return bool(world.is_ended())


def _suspended(world: Any) -> bool:
    return EventKind.EXECUTION_SUSPENDED in world.kinds()


def _resumed(world: Any) -> bool:
    return EventKind.EXECUTION_RESUMED in world.kinds() or world.has_inbox("resume:")


def _rewound(world: Any) -> bool:
    return EventKind.EXECUTION_REWOUND in world.kinds()


def _are_both_waiting(world: Any) -> bool:
    return [row.custom_status is not None for row in world.instances()] == [True, True]


def lose(is_ready: Callable[[Any], bool] = lambda world: True) -> Step:
    """The broker loses everything: what follows is recovery's doing."""
    return Step(lambda world: world.broker.lose(world.queues), lambda world: True, is_ready)


PROGRAMS = [
    Program("chain", (start(chain.s(1), link=note.s()),)),
    Program("chain, first turn inline", (start(chain.s(1)),), {"durable_start_inline": True}),
    Program(
        "chain by messages",
        (start(chain.s(1), ignore_result=True),),
        {"durable_inline_turns": False},
    ),
    Program("gather", (start(gather_three.s()),)),
    Program(
        "gather, first turn inline", (start(gather_three.s()),), {"durable_start_inline": True}
    ),
    Program("gather by messages", (start(gather_three.s()),), {"durable_inline_turns": False}),
    Program("gather with failures", (start(mixed_gather.s()),)),
    Program("race", (start(race.s()),)),
    Program("unawaited", (start(careless.s()),)),
    Program("retries", (start(retries.s()),)),
    Program("failure", (start(failure.s(), link_error=note.si("failed")),)),
    Program("timers", (start(timers.s()),)),
    Program("timeout", (start(late.s()),)),
    Program("lasting", (start(lasting.s()),)),
    Program("events", (start(events.s()), tell("go", 3))),
    Program("children", (start(parent.s()),)),
    Program("window", (start(window.s()),)),
    Program("continue as new", (start(again.s(2)), tell("second", "kept"), tell("first", None))),
    Program(
        "cancel",
        (start(undone.s()), Step(lambda world: durable.get(I).cancel("enough"), ended, is_waiting)),
    ),
    Program(
        "terminate",
        (
            start(family.s()),
            Step(lambda world: durable.get(I).terminate("enough"), ended, _are_both_waiting),
        ),
    ),
    Program(
        "suspend and resume",
        (
            start(pause.s()),
            Step(lambda world: durable.get(I).suspend("wait"), _suspended, is_waiting),
            tell("go", 3, has_status(RuntimeStatus.SUSPENDED)),
            Step(
                lambda world: durable.get(I).resume("go on"),
                _resumed,
                lambda world: world.has_inbox("event:"),
            ),
        ),
    ),
    Program(
        "start by a message",
        (
            Step(
                lambda world: chain.publish((1,), {}, task_id=I),
                lambda world: world.status() is not None or bool(world.broker.parcels),
            ),
        ),
    ),
    Program("lost start", (start(chain.s(1)), lose())),
    Program(
        "lost messages",
        (
            start(gather_three.s()),
            lose(lambda world: world.has_outbox() or world.is_ended()),
            lose(lambda world: world.has_inbox("join:", is_awake=True) or world.is_ended()),
        ),
        {"durable_inline_turns": False},
    ),
    Program(
        "lost turn",
        (start(chain.s(1)), lose(lambda world: world.has_inbox("outcome:") or world.is_ended())),
        {"durable_inline_turns": False},
    ),
    Program("silent worker", (start(doomed.s()),)),
    Program(
        "rewind",
        (
            start(stubborn.s(), ignore_result=True),
            Step(
                lambda world: durable.get(I).rewind("again"),
                _rewound,
                has_status(RuntimeStatus.FAILED),
            ),
        ),
    ),
    Program(
        "override",
        (
            start(moody.s(), ignore_result=True),
            Step(
                lambda world: durable.get(I).override(2, 5),
                _rewound,
                has_status(RuntimeStatus.FAILED),
            ),
        ),
    ),
    Program(
        "fork",
        (
            start(chain.s(1)),
            Step(
                lambda world: durable.get(I).fork(at=1, new_id="fork"),
                lambda world: any(row.id == "fork" for row in world.instances()),
                ended,
            ),
        ),
    ),
]
by_name = {program.name: program for program in PROGRAMS}
