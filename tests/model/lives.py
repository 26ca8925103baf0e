"""The orchestrators of the machine, and beside each what may come of it, said from what the store
has acknowledged.

Each takes the name of its life as its first argument and passes it on to its activities, so that
what was recorded for it can be found without a look at its history. Activities are called with
(life, place).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery_durable.core.retry import RetryPolicy
from celery_durable.engine.registry import Definition, Registry
from tests.contract.world import sig

from .clock import SECOND

Result = tuple[str, Any]  # ("value", value), ("error", type name, message) or ("waits", what for)
LATE = "late"


@dataclass
class Life:
    """One life of one instance, as the model knows it."""

    name: str
    instance: str
    execution: str
    program: str
    args: list[Any]
    born: int
    # place -> outcomes of its attempts, in order
    outcomes: dict[Any, list[Result]] = field(default_factory=dict)
    order: list[tuple[Any, Result]] = field(default_factory=list)
    # name, data, id, when
    events: list[tuple[str, Any, str | None, int]] = field(default_factory=list)
    may_cancel: bool = False
    may_terminate: bool = False
    must_end: bool = False
    is_replaced: bool = False
    children: list[Life] = field(default_factory=list, repr=False)
    parent: Life | None = field(default=None, repr=False)
    final: tuple[str, Any] | None = None

    def allows(self, claim: str) -> bool:
        """Tell whether something was asked of this life, or of one above it."""
        return getattr(self, claim) or (self.parent is not None and self.parent.allows(claim))

    def outcome(self, place: Any) -> Result:
        """Return what became of an activity that is tried once."""
        return self.outcomes.get(place, [("waits", f"activity {place}")])[0]


def show(error: BaseException) -> list[str]:
    """Return what is compared of an exception."""
    return [type(error).__name__, str(error)]


# -- activities one after the other, tried twice ---------------------------------------------------

TWICE = RetryPolicy(first_interval=3, max_attempts=2)


async def steps(ctx: Any, life: str, count: int) -> list[Any]:
    return [
        await ctx.call(sig("work", life, place), retry=TWICE, timeout=60) for place in range(count)
    ]


def expect_steps(life: Life) -> Result:
    values = []
    for place in range(life.args[1]):
        outcomes = life.outcomes.get(place, [])
        value = next((outcome for outcome in outcomes if outcome[0] == "value"), None)
        if value is None:
            return outcomes[1] if len(outcomes) == 2 else ("waits", f"activity {place}")
        values.append(value[1])
    return ("value", values)


# -- many at once ----------------------------------------------------------------------------------


async def fan(ctx: Any, life: str, count: int) -> list[Any]:
    calls = [ctx.call(sig("work", life, place)) for place in range(count)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [show(result) if isinstance(result, Exception) else result for result in results]


def expect_fan(life: Life) -> Result:
    outcomes = [life.outcome(place) for place in range(life.args[1])]
    waits = next((outcome for outcome in outcomes if outcome[0] == "waits"), None)
    return waits or ("value", [outcome[1] for outcome in outcomes])


async def fan_fast(ctx: Any, life: str, count: int) -> list[Any]:
    return await ctx.all([ctx.call(sig("work", life, place)) for place in range(count)])


def expect_fan_fast(life: Life) -> Result:
    first_error = next((outcome for _, outcome in life.order if outcome[0] == "error"), None)
    return first_error or expect_fan(life)


async def window(ctx: Any, life: str, count: int) -> list[Any]:
    places = [[life, place] for place in range(count)]
    results = await ctx.map({**sig("work_at"), "args": ()}, places, concurrency=2, tolerate=count)
    return [show(result) if isinstance(result, Exception) else result for result in results]


# -- the way of waiting changes while they run -----------------------------------------------------


async def both(ctx: Any, life: str) -> list[Any]:
    calls = [ctx.call(sig("work", life, place)) for place in range(3)]
    joined = asyncio.create_task(_gathered(calls))
    await ctx.wait_event("e")  # what comes in until then only rides along
    return [await _settled(calls[1]), await joined]


async def _gathered(calls: list[Any]) -> list[Any]:
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [show(result) if isinstance(result, Exception) else result for result in results]


async def _settled(call: Any) -> Any:
    try:
        return await call
    except Exception as error:
        return show(error)


def expect_both(life: Life) -> Result:
    if not life.events:
        return ("waits", "event")
    outcomes = [life.outcome(place) for place in range(3)]
    waits = next((outcome for outcome in outcomes if outcome[0] == "waits"), None)
    results = [outcome[1] for outcome in outcomes]
    return waits or ("value", [results[1], results])


# -- events ----------------------------------------------------------------------------------------


async def collector(ctx: Any, life: str, count: int) -> list[Any]:
    return [await ctx.wait_event("e") for _ in range(count)]


def accepted(life: Life) -> list[Any]:
    """Return the data of events in order, each event id once."""
    seen: set[str] = set()
    found = []
    for _, data, event_id, _ in life.events:
        if event_id is None or event_id not in seen:
            found.append(data)
        if event_id is not None:
            seen.add(event_id)
    return found


def expect_collector(life: Life) -> Result:
    count, events = life.args[1], accepted(life)
    return ("value", events[:count]) if len(events) >= count else ("waits", "event")


async def relay(ctx: Any, life: str, chunks: list[Any]) -> list[Any]:
    """Take two events in each of three executions."""
    chunk = [await ctx.wait_event("e"), await ctx.wait_event("e")]
    if len(chunks) == 2:
        return [*chunks, chunk]
    ctx.continue_as_new(life, [*chunks, chunk])


def check_relay(life: Life, chunks: list[list[Any]]) -> None:
    """Every event is taken once and in order.

    An id that was raised again may be taken again by a later execution.
    """
    taken = [data for chunk in chunks for data in chunk]
    ids = {data: event_id for _, data, event_id, _ in life.events}
    raised = list(ids)
    assert taken == [data for data in raised if data in taken], (
        "events were taken twice, or out of order"
    )
    for chunk in chunks:
        known = [ids[data] for data in chunk if ids[data] is not None]
        assert len(known) == len(set(known)), "one execution took an event id twice"
    before_last = raised[: raised.index(taken[-1])]
    lost = [data for data in before_last if data in accepted(life) and data not in taken]
    assert not lost, f"events were lost: {lost}"


def expect_relay(life: Life) -> Result:
    return ("value", None) if len(accepted(life)) >= 6 else ("waits", "event")


async def patient(ctx: Any, life: str, seconds: int) -> Any:
    try:
        return await ctx.wait_event("e", timeout=seconds)
    except TimeoutError:
        return LATE


def expect_patient(life: Life) -> Result:
    due = life.born + life.args[1] * SECOND
    if life.events and life.events[0][3] <= due:
        return ("value", life.events[0][1])
    return ("value", LATE)


# -- time, children, clearing up -------------------------------------------------------------------


async def sleeper(ctx: Any, life: str, seconds: int) -> int:
    began = ctx.now()
    await asyncio.sleep(seconds)
    await ctx.sleep(1)
    return round((ctx.now() - began).total_seconds() * SECOND)


def expect_sleeper(life: Life) -> Result:
    return ("value", (life.args[1] + 1) * SECOND)


async def tidy(ctx: Any, life: str) -> Any:
    try:
        return await ctx.call(sig("work", life, 0))
    finally:
        await ctx.call(sig("work", life, "tidy"))


def expect_tidy(life: Life) -> Result:
    done, undone = life.outcome(0), life.outcome("tidy")
    if undone[0] == "value" and done[0] != "waits":
        return done
    return undone if undone[0] == "error" else ("waits", "activity")


async def parent(ctx: Any, life: str, programs: list[list[Any]]) -> list[Any]:
    calls = [ctx.call(sig(name, f"{life}/{n}", *args)) for n, (name, *args) in enumerate(programs)]
    return await asyncio.gather(*(_of_child(call) for call in calls))


async def _of_child(call: Any) -> Any:
    try:
        return await call
    except Exception as error:
        status = getattr(error, "status", None)
        return show(error) if status is None else [type(error).__name__, status]


def expect_parent(life: Life) -> Result:
    results = []
    children = {child.name: child for child in life.children}
    for number in range(len(life.args[1])):
        child = children.get(f"{life.name}/{number}")
        if child is None or child.final is None:
            return ("waits", "child")
        results.append(of_child(child))
    return ("value", results)


def of_child(child: Life) -> Any:
    """Return what a parent sees of a child that is over."""
    assert child.final is not None
    status, value = child.final
    if status in ("COMPLETED", "FAILED"):
        return value
    return ["OrchestrationFailed", status]


def agrees(life: Life, value: Any, expected: Any) -> bool:
    """Tell whether a life came to what was expected."""
    if life.program == "relay":
        check_relay(life, value)
        return True
    return bool(value == expected)


EXPECTATIONS: dict[str, Callable[[Life], Result]] = {
    "steps": expect_steps,
    "fan": expect_fan,
    "fan_fast": expect_fan_fast,
    "window": expect_fan,
    "both": expect_both,
    "collector": expect_collector,
    "relay": expect_relay,
    "patient": expect_patient,
    "sleeper": expect_sleeper,
    "tidy": expect_tidy,
    "parent": expect_parent,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        steps,
        fan,
        fan_fast,
        window,
        both,
        collector,
        relay,
        patient,
        sleeper,
        tidy,
        parent,
    )
}


def registry() -> Registry:
    """Return a registry that knows them all."""
    known = Registry()
    for name, function in FUNCTIONS.items():
        known.add(Definition(name, None, function))
    return known
