"""A debugger shows the real frames of an orchestrator at any event, and does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from celery import Celery

from celery_durable import (
    ConfigurationError,
    Durable,
    InstanceNotFound,
    InvalidState,
    NonDeterminismError,
    OrchestrationFailed,
    PayloadError,
    RuntimeStatus,
)
from celery_durable.core.history import EventKind
from celery_durable.engine.debugger import Debugger
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("debugging", set_as_current=False)
durable = Durable(app)
ran: list[str] = []
broken: set[str] = set()


@app.task(name="debugging.charge")
def charge(order: str) -> str:
    ran.append(order)
    if order in broken:
        raise KeyError(order)
    return f"charged {order}"


async def approval(ctx: Any, who: str) -> Any:
    question = f"does {who} approve?"
    answer = await ctx.wait_event(f"approved by {who}")
    return [question, answer]


@durable.orchestrator(name="debugging.fulfil")
async def fulfil(ctx: Any, order: str) -> Any:
    ctx.state.step = "charging"
    ctx.run(ran.append, f"noted {order}")
    paid = await ctx.call(charge.s(order))
    ctx.state.step = "asking"
    answers = await asyncio.gather(approval(ctx, "ada"), approval(ctx, "bob"))
    return [paid, answers]


@durable.orchestrator(name="debugging.yields")
def yields(ctx: Any, order: str) -> Any:
    paid = yield ctx.call(charge.s(order))
    more = yield from part(ctx, order)
    return [paid, more]


def part(ctx: Any, order: str) -> Any:
    half = order * 2
    return (yield ctx.wait_event("go", type=None)), half


@durable.orchestrator(name="debugging.plain")
def plain(ctx: Any, order: str) -> str:
    return order.upper()


@durable.orchestrator(name="debugging.streams")
async def streams(ctx: Any) -> Any:
    async def numbers() -> Any:
        for number in range(3):
            got = await ctx.wait_event("number")
            yield got + number

    @asynccontextmanager
    async def opened() -> Any:
        inside = await ctx.wait_event("open")
        yield inside

    found = []
    async with opened() as inside:
        async for number in numbers():
            found.append(number)
    return inside, found


@durable.orchestrator(name="debugging.fails")
async def fails(ctx: Any, order: str) -> Any:
    attempted = order
    await outer(ctx, attempted)


async def outer(ctx: Any, order: str) -> Any:
    secret = "why"
    await ctx.call(charge.s(order))
    return secret


@durable.orchestrator(name="debugging.counts")
async def counts(ctx: Any, count: int) -> Any:
    got = await ctx.wait_event("go")
    if count < 2:
        ctx.continue_as_new(count + 1)
    return got


@durable.orchestrator(name="debugging.parent")
async def parent(ctx: Any, order: str) -> Any:
    before = order
    return [before, await ctx.call(fulfil.s(order))]


@durable.entity(name="debugging.Counter")
class Counter:
    value: int = 0

    def add(self, more: int) -> None:
        self.value += more


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    ran.clear()
    broken.clear()
    with durable_environment(durable) as env:
        yield env


def at(debugger: Debugger, number: int | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """Stop at an event, the last if none is given; return the frames without ``ctx``."""
    debugger.goto(len(debugger.history) if number is None else number)
    return [
        (frame.task, frame.function, {k: v for k, v in frame.locals.items() if k != "ctx"})
        for frame in debugger.frames
    ]


def number_of(debugger: Debugger, kind: EventKind, nth: int = 0) -> int:
    return [n for n, each in enumerate(debugger.history, 1) if each.kind == kind][nth]


def line_of(function: Any, text: str) -> int:
    import inspect

    lines, first = inspect.getsourcelines(getattr(function, "__wrapped__", function))
    return first + next(number for number, line in enumerate(lines) if text in line)


# -- the forms of an orchestrator ------------------------------------------------------------------


def test_nested_coroutines_and_branches(env: DurableEnv) -> None:
    env.start(fulfil.s("42"), instance_id="o")
    calls = list(ran)
    with durable.debugger("o") as debugger:
        assert (debugger.position, debugger.event, debugger.frames) == (0, None, [])
        assert at(debugger, 1) == [("main", "fulfil", {"order": "42"})]
        (frame,) = debugger.frames
        assert frame.file == __file__
        assert dict(frame.source(0))[frame.line] == "    paid = await ctx.call(charge.s(order))"
        assert dict(debugger.state) == {"step": "charging"}
        assert debugger.waits_for == ["activity debugging.charge (call 2, attempt 1)"]
        (main, ada, bob) = at(debugger)
        assert main == ("main", "fulfil", {"order": "42", "paid": "charged 42"})
        assert ada[1:] == ("approval", {"who": "ada", "question": "does ada approve?"})
        assert bob[1:] == ("approval", {"who": "bob", "question": "does bob approve?"})
        assert len({main[0], ada[0], bob[0]}) == 3
        assert debugger.waits_for == ["event 'approved by ada'", "event 'approved by bob'"]
        assert debugger.problem is None
        assert debugger.ended_as is None
    assert ran == calls == ["noted 42", "42"]


def test_a_generator_and_one_within_it(env: DurableEnv) -> None:
    env.start(yields.s("42"), instance_id="o")
    with durable.debugger("o") as debugger:
        assert at(debugger, 1) == [("main", "yields", {"order": "42"})]
        assert at(debugger) == [
            ("main", "yields", {"order": "42", "paid": "charged 42"}),
            ("main", "part", {"order": "42", "half": "4242"}),
        ]


def test_a_plain_function_has_no_frames_as_it_never_waits(env: DurableEnv) -> None:
    env.run(plain.s("a"), instance_id="o")
    with durable.debugger("o") as debugger:
        assert at(debugger) == []
        assert (debugger.ended_as, debugger.result) == ("ExecutionCompleted", "A")


def test_async_generators_and_context_managers(env: DurableEnv) -> None:
    env.start(streams.s(), instance_id="o")
    with durable.debugger("o") as debugger:
        assert [each[1].rpartition(".")[2] for each in at(debugger)] == ["streams", "opened"]
    durable.get("o").raise_event("open", "yes")
    durable.get("o").raise_event("number", 5)
    env.run_until_idle()
    with durable.debugger("o") as debugger:
        outer_frame, inner = at(debugger)
        assert (outer_frame[2]["inside"], outer_frame[2]["found"]) == ("yes", [5])
        assert inner[1].endswith("numbers")
        assert inner[2]["number"] == 1


# -- where it stands -------------------------------------------------------------------------------


def test_it_steps_forwards_and_back(env: DurableEnv) -> None:
    env.start(fulfil.s("42"), instance_id="o")
    with durable.debugger("o") as debugger:
        forward = {0: at(debugger, 0)}
        while debugger.next():
            forward[debugger.position] = at(debugger, debugger.position)
        assert len(forward) == len(debugger.history) + 1
        while debugger.back():
            assert at(debugger, debugger.position) == forward[debugger.position]
        assert not debugger.back()
        assert debugger.next(3)
        assert debugger.position == 3
        assert debugger.back(2)
        assert debugger.position == 1
        assert debugger.until("ActivityCompleted")
        assert debugger.event is not None
        assert debugger.event.kind is EventKind.ACTIVITY_COMPLETED
        assert not debugger.until("ActivityCompleted")
        debugger.renew()
        assert at(debugger, debugger.position) == forward[debugger.position]
        with pytest.raises(ValueError, match="has the events 1 to"):
            debugger.goto(99)
    with pytest.raises(InvalidState, match="closed"):
        debugger.goto(1)


def test_one_that_failed_shows_where_it_raised(env: DurableEnv) -> None:
    broken.add("bad")
    with pytest.raises(KeyError):
        env.run(fails.s("bad"), instance_id="o")
    with durable.debugger("o") as debugger:
        assert at(debugger) == [
            ("main", "fails", {"order": "bad", "attempted": "bad"}),
            ("main", "outer", {"order": "bad", "secret": "why"}),
        ]
        assert debugger.ended_as == "ExecutionFailed"
        assert isinstance(debugger.error, KeyError)
        assert debugger.frames[1].line == line_of(outer, "ctx.call")
        assert debugger.back(2)
        assert (debugger.ended_as, debugger.error) == (None, None)


def test_one_that_was_rewound_shows_its_life_before(env: DurableEnv) -> None:
    broken.add("bad")
    with pytest.raises(KeyError):
        env.run(fails.s("bad"), instance_id="o")
    with durable.debugger("o") as debugger:
        before = [at(debugger, number) for number in range(len(debugger.history) + 1)]
    broken.clear()
    durable.get("o").rewind("fixed")
    env.run_until_idle()
    assert durable.get("o").runtime_status is RuntimeStatus.COMPLETED
    with durable.debugger("o") as debugger:
        assert [at(debugger, number) for number in range(len(before))] == before
        assert debugger.ended_as == "ExecutionFailed"
        rewritten = number_of(debugger, EventKind.HISTORY_REWRITTEN)
        assert at(debugger, rewritten) == []
        assert debugger.next()
        assert [each[1] for each in at(debugger, debugger.position)] == ["fails", "outer"]
        assert at(debugger) == []
        assert debugger.ended_as == "ExecutionCompleted"
        seen = [at(debugger, number) for number in range(len(debugger.history) + 1)]
        for number in reversed(range(len(seen))):
            assert at(debugger, number) == seen[number]


def test_one_that_continued_as_new_shows_its_last_execution(env: DurableEnv) -> None:
    env.start(counts.s(0), instance_id="o")
    durable.get("o").raise_event("go", 1)
    env.run_until_idle()
    with durable.debugger("o") as debugger:
        assert at(debugger) == [("main", "counts", {"count": 1})]


def test_one_that_is_suspended_and_one_that_was_terminated(env: DurableEnv) -> None:
    env.start(counts.s(0), instance_id="o")
    durable.get("o").suspend("look")
    with durable.debugger("o") as debugger:
        assert at(debugger) == [("main", "counts", {"count": 0})]
    durable.get("o").terminate("enough")
    with durable.debugger("o") as debugger:
        assert at(debugger) == [("main", "counts", {"count": 0})]
        assert debugger.event is not None
        assert debugger.event.kind is EventKind.EXECUTION_TERMINATED


def test_a_parent_waits_for_its_child(env: DurableEnv) -> None:
    run = env.start(parent.s("42"), instance_id="o")
    (child,) = run.children()
    with durable.debugger("o") as debugger, durable.debugger(child.id) as inner:
        assert at(debugger) == [("main", "parent", {"order": "42", "before": "42"})]
        assert debugger.waits_for == ["sub-orchestration debugging.fulfil (call 1, attempt 1)"]
        assert len(at(inner)) == 3


# -- histories and code that do not fit ------------------------------------------------------------


def test_a_disagreement_is_shown_at_its_event(env: DurableEnv) -> None:
    env.start(yields.s("42"), instance_id="o")
    document = durable.get("o").export_history()

    @durable.orchestrator(name="debugging.changed")
    async def changed(ctx: Any, order: str) -> Any:
        paid = await ctx.call(charge.s(order))
        await ctx.sleep(60)
        return paid

    with durable.debugger(history=document, name="debugging.changed") as debugger:
        debugger.goto(len(debugger.history))
        assert isinstance(debugger.problem, NonDeterminismError)
        assert debugger.event is not None
        assert debugger.event.kind is EventKind.ACTIVITY_COMPLETED
        (frame,) = debugger.frames
        assert frame.locals["paid"] == "charged 42"
        assert not debugger.next()
        assert debugger.back()
        assert debugger.problem is None
        assert "paid" not in debugger.frames[0].locals


def test_an_exported_history_needs_no_store(env: DurableEnv) -> None:
    env.start(fulfil.s("42"), instance_id="o")
    document = durable.get("o").export_history()
    with durable.debugger("o") as live, durable.debugger(history=document) as kept:
        for number in range(len(live.history) + 1):
            assert at(live, number) == at(kept, number)
    with pytest.raises(PayloadError, match="no history"):
        durable.debugger(history="{}")


def test_another_version_of_the_code(env: DurableEnv) -> None:
    @durable.orchestrator(name="debugging.versioned", version="1")
    async def first(ctx: Any) -> Any:
        await ctx.wait_event("go")

    @durable.orchestrator(name="debugging.versioned", version="2")
    async def second(ctx: Any) -> Any:
        news = "second"
        await ctx.wait_event("go")
        return news

    env.start(app.signature("debugging.versioned"), instance_id="o", version="1")
    with durable.debugger("o") as debugger:
        assert at(debugger)[0][2] == {}
        assert debugger.version == "1"
    with durable.debugger("o", version="2") as debugger:
        assert at(debugger)[0][2] == {"news": "second"}
    with pytest.raises(ConfigurationError, match="versions? that it has: '1', '2'"):
        durable.debugger("o", version="3")


# -- what is refused -------------------------------------------------------------------------------


def test_refusals(env: DurableEnv) -> None:
    with pytest.raises(InstanceNotFound):
        durable.debugger("nothing")
    with pytest.raises(TypeError, match="history="):
        durable.debugger()
    with pytest.raises(TypeError, match="history="):
        durable.debugger("o", history="{}")
    with pytest.raises(TypeError, match="name="):
        durable.debugger("o", name="debugging.fulfil")
    durable.entity(Counter, "1").signal.add(1)
    env.run_until_idle()
    with pytest.raises(InvalidState, match="is an entity"):
        durable.debugger(durable.entity(Counter, "1").id)
    durable.start(charge.s("1"), instance_id="task")
    with pytest.raises(InvalidState, match="is a plain task"):
        durable.debugger("task")
    canvas = durable.canvas(charge.s("1") | charge.si("2")).apply_async()
    env.run_until_idle()
    with pytest.raises(InvalidState, match="is a canvas"):
        durable.debugger(canvas.id)


def test_code_that_is_not_here(env: DurableEnv) -> None:
    env.start(counts.s(0), instance_id="o")
    document = durable.get("o").export_history().replace("debugging.counts", "debugging.gone")
    with pytest.raises(ConfigurationError, match=r"no orchestrator debugging\.gone"):
        durable.debugger(history=document)


def test_an_orchestrator_cannot_debug(env: DurableEnv) -> None:
    @durable.orchestrator(name="debugging.within")
    async def within(ctx: Any) -> Any:
        durable.debugger("o")

    with pytest.raises((OrchestrationFailed, Exception), match="inside orchestrator"):
        env.run(within.s())


def test_frames_cannot_ask_outside_of_a_turn(env: DurableEnv) -> None:
    """What is tried in a frame by hand changes nothing."""
    env.start(fulfil.s("42"), instance_id="o")
    with durable.debugger("o") as debugger:
        debugger.goto(1)
        with pytest.raises(Exception, match="outside a turn"):
            debugger.frames[0].locals["ctx"].call(charge.s("more"))
        assert debugger.next(99)
        assert debugger.problem is None
