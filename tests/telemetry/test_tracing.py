"""Spans: one per orchestration whatever its processes and turns, its parts below it, once each, and
no data in them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import Ignore
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from celery_durable import ConfigurationError, RetryPolicy, RuntimeStatus
from celery_durable.core.history import EventKind
from celery_durable.engine.records import ActivityAttemptId, Outcome
from celery_durable.telemetry import tracing

from .conftest import Spans

Begin = Callable[..., Any]


@pytest.fixture
def app(traced: Any) -> Any:
    tracer = trace.get_tracer("user")

    @traced.task(name="charge")
    def charge(amount: int) -> int:
        with tracer.start_as_current_span("inside"):
            return amount

    @traced.task(name="flaky", bind=True)
    def flaky(self: Any) -> str:
        if not hasattr(traced, "was_tried"):
            traced.was_tried = True
            raise ValueError("secret words")
        return "good"

    return traced


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.parent is not None and parent.context is not None and child.context is not None
    return (child.parent.span_id, child.context.trace_id) == (
        parent.context.span_id,
        parent.context.trace_id,
    )


def links(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


# -- the tree --------------------------------------------------------------------------------------


def test_an_orchestration_is_one_span_with_its_parts_below(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="child", version="2")
    async def child(ctx: Any) -> int:
        return await ctx.call(app.tasks["charge"].s(1))  # type: ignore[no-any-return]

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> list[Any]:
        first = await ctx.call(app.tasks["charge"].s(7))
        await ctx.sleep(0.01)
        return [
            first,
            *await asyncio.gather(ctx.call(child.s()), ctx.call(app.tasks["charge"].s(2))),
        ]

    with trace.get_tracer("user").start_as_current_span("request") as request:
        run = begin(app, order.s())
        assert run.get(timeout=300) == [7, 1, 2]
    whole, created = spans.one("orchestration:order"), spans.one("create_orchestration:order")
    assert (
        created.parent is not None and created.parent.span_id == request.get_span_context().span_id
    )
    assert is_below(whole, created)
    assert created.kind is SpanKind.PRODUCER and whole.kind is SpanKind.SERVER
    below = spans.one("orchestration:child")
    assert is_below(below, whole) and is_below(spans.one("orchestration:order:timer"), whole)
    charges = spans.named("activity:charge")
    assert len(charges) == 3
    assert sorted(is_below(charge, whole) for charge in charges) == [False, True, True]
    assert sum(is_below(charge, below) for charge in charges) == 1
    for inside in spans.named("inside"):
        assert any(is_below(inside, charge) for charge in charges), (
            "a span of the user's is below its activity"
        )
    assert {span.context.trace_id for span in spans.all() if span.context} == {
        request.get_span_context().trace_id
    }
    assert dict(whole.attributes or {}) == {
        "celery.durable.instance_id": run.id,
        "celery.durable.execution_id": run.refresh()._known.execution,
        "celery.durable.orchestration": "order",
        "celery.durable.status": "COMPLETED",
        "celery.durable.turns": run._known.sequence,
        "messaging.message.id": run.id,
    }
    assert (below.attributes or {})["celery.durable.version"] == "2"
    assert (below.attributes or {})["celery.durable.parent_id"] == run.id
    assert whole.status.status_code is StatusCode.UNSET
    started, ended = run.started_at.timestamp() * 1e9, run.completed_at.timestamp() * 1e9
    assert (whole.start_time, whole.end_time) == (
        pytest.approx(started, abs=2e9),
        pytest.approx(ended, abs=1e6),
    )


def test_the_span_of_an_activity_names_it(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(app.tasks["charge"].s(7))  # type: ignore[no-any-return]

    run = begin(app, order.s())
    assert run.get(timeout=300) == 7
    charge, execution = spans.one("activity:charge"), run.refresh()._known.execution
    assert charge.kind is SpanKind.CONSUMER
    assert dict(charge.attributes or {}) == {
        "celery.durable.instance_id": run.id,
        "celery.durable.execution_id": execution,
        "celery.durable.orchestration": "order",
        "celery.durable.activity": "charge",
        "celery.durable.attempt": 1,
        "celery.durable.command": 1,
        "messaging.message.id": f"d-{execution}-1-1",
    }


def test_each_attempt_is_a_span_and_tells_its_error_by_type(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any, secret: str) -> str:
        return await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(first_interval=0.01))  # type: ignore[no-any-return]

    assert begin(app, order.s("secret words")).get(timeout=300) == "good"
    failed, good = spans.named("activity:flaky")
    assert (failed.status.status_code, failed.status.description) == (
        StatusCode.ERROR,
        "ValueError",
    )
    assert (failed.attributes or {})["error.type"] == "ValueError"
    assert (good.status.status_code, (good.attributes or {})["celery.durable.attempt"]) == (
        StatusCode.UNSET,
        2,
    )
    assert "secret" not in "".join(span.to_json() for span in spans.all()), (
        "no data, no messages of exceptions"
    )


def test_a_failed_orchestration_is_an_error(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        raise LookupError("secret words")

    with pytest.raises(LookupError):
        begin(app, order.s()).get(timeout=300)
    whole = spans.one("orchestration:order")
    assert (whole.status.status_code, whole.status.description) == (StatusCode.ERROR, "LookupError")
    assert "secret" not in whole.to_json()


def test_an_event_is_a_span_and_the_wait_a_stretch_of_the_orchestration(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> Any:
        return await ctx.wait_event("approved")

    run = begin(app, order.s())
    assert spans.named("orchestration:order") == [], "it is not over"
    run.raise_event("approved", "secret words")
    assert run.get(timeout=300) == "secret words"
    event = spans.one("orchestration_event:approved")
    assert is_below(event, spans.one("orchestration:order")) and event.kind is SpanKind.CONSUMER
    assert "secret" not in event.to_json()


def test_a_terminated_orchestration_ends_its_span(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(app.tasks["charge"].s(1))
        await ctx.wait_event("never")

    run = begin(app, order.s())
    run.terminate(reason="secret words")
    whole = spans.one("orchestration:order")
    assert is_below(spans.one("activity:charge"), whole)
    assert (whole.attributes or {})["celery.durable.status"] == "TERMINATED"
    assert (whole.status.status_code, whole.status.description) == (StatusCode.ERROR, "terminated")
    assert "secret" not in whole.to_json()


def test_an_attempt_that_no_one_saw_is_a_span_of_the_turn_that_heard_of_it(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> str:
        try:
            await ctx.call(app.tasks["charge"].s(1))
        except TimeoutError:
            return "late"
        return "in time"

    app.conf.task_always_eager = False
    run = begin(app, order.s())
    runtime = app.durable.runtime
    runtime.runner.run(run.id)
    ticket = ActivityAttemptId(run.refresh()._known.execution, 1, 1)
    runtime.store.outcomes.record(
        Outcome(ticket, runtime.codec.encode_failure(TimeoutError()), has_failed=True)
    )
    runtime.runner.run(run.id)
    assert run.refresh().output == "late"
    charge = spans.one("activity:charge")
    assert is_below(charge, spans.one("orchestration:order"))
    assert charge.status.status_code is StatusCode.ERROR


# -- the ways on -----------------------------------------------------------------------------------


def test_the_next_execution_is_another_trace_that_names_the_last(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="poll")
    async def poll(ctx: Any, left: int) -> str:
        await ctx.call(app.tasks["charge"].s(left))
        if left:
            ctx.continue_as_new(left - 1)
        return "done"

    assert begin(app, poll.s(2)).get(timeout=300) == "done"
    first, second, third = spans.named("orchestration:poll")
    assert [span.attributes["celery.durable.status"] for span in (first, second, third)] == [  # type: ignore[index]
        "CONTINUED_AS_NEW",
        "CONTINUED_AS_NEW",
        "COMPLETED",
    ]
    assert (links(first), links(second), links(third)) == ([], [span_id(first)], [span_id(second)])
    assert len({span.context.trace_id for span in (first, second, third) if span.context}) == 3
    assert second.parent is None and third.parent is None
    for charge, whole in zip(spans.named("activity:charge"), (first, second, third), strict=True):
        assert is_below(charge, whole)


def test_a_rewound_orchestration_is_another_span_of_the_same_trace(
    app: Any, spans: Spans, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> str:
        await ctx.call(app.tasks["charge"].s(1))
        return await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(max_attempts=1))  # type: ignore[no-any-return]

    run = begin(app, order.s())
    with pytest.raises(ValueError):
        run.get(timeout=300)
    run.rewind()
    assert run.get(timeout=300) == "good"
    failed, good = spans.named("orchestration:order")
    assert links(good) == [span_id(failed)] and links(failed) == []
    assert failed.context and good.context and failed.context.trace_id == good.context.trace_id
    assert span_id(failed) != span_id(good)
    created = spans.one("create_orchestration:order")
    assert is_below(failed, created) and is_below(good, created)
    assert len(spans.named("activity:charge")) == 1, "what was kept is not emitted again"
    assert [
        is_below(flaky, whole)
        for flaky, whole in zip(spans.named("activity:flaky"), (failed, good), strict=True)
    ] == [True, True]


def test_a_fork_names_what_it_was_forked_from(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(app.tasks["charge"].s(1)) + await ctx.call(app.tasks["charge"].s(2))  # type: ignore[no-any-return]

    run = begin(app, order.s())
    assert run.get(timeout=300) == 3
    at = next(
        n for n, event in enumerate(run.history(), 1) if event.kind is EventKind.ACTIVITY_COMPLETED
    )
    assert run.fork(at=at).get(timeout=300) == 3
    original, fork = spans.named("orchestration:order")
    created = spans.named("create_orchestration:order")[-1]
    assert links(fork) == [span_id(original), span_id(created)] and span_id(fork) != span_id(
        original
    )
    assert len(spans.named("activity:charge")) == 3
    assert is_below(spans.named("activity:charge")[2], fork)


def start_it(app: Any, task: Any) -> None:
    app.durable.start(task.s(1))


def apply_it(app: Any, task: Any) -> None:
    task.apply_async((1,))


def trigger_it(app: Any, task: Any) -> None:
    app.durable.schedule("nightly", task.s(1), interval=86_400).trigger()


def backfill_it(app: Any, task: Any) -> None:
    now, hour, instant = datetime.now(UTC), timedelta(hours=1), timedelta(microseconds=1)
    schedule = app.durable.schedule("hourly", task.s(1), interval=hour)
    assert len(schedule.backfill(now - hour, now - instant)) == 1


def restart_it(app: Any, task: Any) -> None:
    app.durable.get("before").restart()


def replace_it(app: Any, task: Any) -> None:
    app.durable.start(task.s(1), instance_id="before", if_exists="replace")


def fork_it(app: Any, task: Any) -> None:
    app.durable.get("before").fork(at=1)


WAYS = [start_it, apply_it, trigger_it, backfill_it, restart_it, replace_it, fork_it]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_start_is_a_span_of_who_starts(
    app: Any, spans: Spans, begin: Begin, way: Callable[..., Any]
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any, amount: int) -> int:
        return await ctx.call(app.tasks["charge"].s(amount))  # type: ignore[no-any-return]

    begin(app, order.s(1), instance_id="before").get(timeout=300)
    spans.exporter.clear()
    with trace.get_tracer("user").start_as_current_span("request") as request:
        way(app, order)
    created, ended = spans.one("create_orchestration:order"), spans.one("orchestration:order")
    assert (
        created.parent is not None and created.parent.span_id == request.get_span_context().span_id
    )
    assert is_below(ended, created) or span_id(created) in links(ended)


def test_a_part_whose_span_fails_takes_no_other_with_it(
    app: Any, spans: Spans, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.sleep(0.001)
        await ctx.wait_event("go")

    def fails(*_: Any) -> None:
        raise RuntimeError("a sampler of the application's")

    monkeypatch.setattr(tracing, "_emit_wait", fails)
    monkeypatch.setattr(tracing, "_emit_event", fails)
    run = begin(app, order.s())
    run.raise_event("go")
    time.sleep(0.01)
    app.durable.runtime.runner.run(run.id)
    run.get(timeout=300)
    assert spans.one("orchestration:order").status.status_code is not StatusCode.ERROR


def test_a_start_from_nowhere_is_a_trace_of_its_own(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(app.tasks["charge"].s(1))

    begin(app, order.s()).get(timeout=300)
    begin(app, order.s()).get(timeout=300)
    one, other = spans.named("orchestration:order")
    assert one.context and other.context and one.context.trace_id != other.context.trace_id
    for created, whole in zip(spans.named("create_orchestration:order"), (one, other), strict=True):
        assert created.parent is None and is_below(whole, created)


def test_a_second_start_with_one_id_creates_nothing(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    begin(app, order.s(), instance_id="one").get(timeout=300)
    begin(app, order.s(), instance_id="one").get(timeout=300)
    assert spans.names() == ["create_orchestration:order", "orchestration:order"]


# -- what travels ----------------------------------------------------------------------------------


def test_the_context_lies_in_history(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        run = begin(app, order.s())
    finally:
        context.detach(token)
    run.get(timeout=300)
    facts = run.history()[0].facts
    created = spans.one("create_orchestration:order").context
    assert created is not None
    traceparent = f"00-{created.trace_id:032x}-{created.span_id:016x}-"
    assert facts["trace"]["traceparent"].startswith(traceparent)
    assert facts["trace"]["baggage"] == "tenant=7"


def test_baggage_reaches_the_activities(app: Any, spans: Spans, begin: Begin) -> None:
    @app.task(name="look")
    def look() -> Any:
        return baggage.get_baggage("tenant")

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> Any:
        return await ctx.call(look.s())

    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        run = begin(app, order.s())
    finally:
        context.detach(token)
    assert run.get(timeout=300) == "7"


def test_what_is_not_sampled_stays_so(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(app.tasks["charge"].s(1))
        await ctx.sleep(0.01)

    unsampled = trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        run = begin(app, order.s())
        run.get(timeout=300)
    assert spans.names() == []
    assert run.history()[0].facts["trace"]["traceparent"].endswith("-00")


@pytest.mark.sparse(2)
@pytest.mark.parametrize(
    "forged",
    [
        None,
        7,
        "00-x",
        [],
        {},
        {"traceparent": 7},
        {"traceparent": "00-0-0-0"},
        {"traceparent": "00-" + "f" * 9000},
        {"traceparent": None, "baggage": "x" * 99999},
        {"baggage": "\x00=;,"},
        {1: 2},
    ],
)
def test_forged_headers_do_no_harm(app: Any, spans: Spans, begin: Begin, forged: Any) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> Any:
        return await ctx.call(app.tasks["charge"].s(5))

    app.conf.task_always_eager = False
    run = begin(app, order.s())
    app.durable.runtime.runner.run(run.id)
    ticket = ActivityAttemptId(run.refresh()._known.execution, 1, 1)
    app.tasks["charge"].apply(
        (5,), task_id=ticket.task_id, headers={"durable": {"n": 0}, tracing.HEADER: forged}
    )
    app.durable.runtime.runner.run(run.id)
    assert run.refresh().output == 5
    assert len(spans.named("activity:charge")) == 1


# -- once, and beside others -----------------------------------------------------------------------


def test_replay_emits_nothing(new_app: Callable[..., Any], spans: Spans, begin: Begin) -> None:
    """Every turn replays the history from its beginning."""
    app = new_app(task_always_eager=True, durable_tracing=True, durable_cache_size=0)

    @app.task(name="charge")
    def charge(n: int) -> int:
        return n

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        total = 0
        for number in range(5):
            total += await ctx.call(charge.s(number))
            await ctx.sleep(0.001)
        await ctx.wait_event("go")
        return total

    run = begin(app, order.s())
    run.raise_event("go")
    assert run.get(timeout=300) == 10
    assert run.export_history()
    run.explain()
    assert spans.names() == sorted(
        ["activity:charge"] * 5
        + ["orchestration:order:timer"] * 5
        + ["create_orchestration:order", "orchestration:order", "orchestration_event:go"]
    )
    whole = spans.one("orchestration:order")
    assert all(
        is_below(span, whole)
        for span in spans.all()
        if span.name.startswith(("activity", "orchestration:order:"))
    )


def test_a_turn_that_lost_its_race_emits_nothing(
    app: Any, spans: Spans, begin: Begin, monkeypatch: Any
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.sleep(0.01)

    turns = type(app.durable.runtime.store.turns)
    real, lost = turns.commit, []

    def lose_once(self: Any, commit: Any) -> Any:
        if len(lost) < 3:
            lost.append(commit)
            return None
        return real(self, commit)

    monkeypatch.setattr(turns, "commit", lose_once)
    begin(app, order.s()).get(timeout=300)
    assert len(lost) == 3
    assert spans.names() == [
        "create_orchestration:order",
        "orchestration:order",
        "orchestration:order:timer",
    ]


def test_below_an_instrumentation_the_activity_is_below_its_span(
    app: Any, spans: Spans, begin: Begin
) -> None:
    """As opentelemetry-instrumentation-celery does it: the sender's context in a header, a span
    around the task.
    """
    from celery import signals
    from opentelemetry import propagate

    tracer, open_spans = trace.get_tracer("instrumentation"), {}

    def before_publish(headers: Any = None, sender: Any = None, **_: Any) -> None:
        with tracer.start_as_current_span(f"apply_async/{sender}", kind=SpanKind.PRODUCER):
            propagate.inject(headers)

    def prerun(task: Any = None, task_id: Any = None, **_: Any) -> None:
        parent = propagate.extract(
            {"traceparent": (task.request.headers or {}).get("traceparent", "")}
        )
        span = tracer.start_span(f"run/{task.name}", parent, SpanKind.CONSUMER)
        manager = trace.use_span(span, end_on_exit=True)
        manager.__enter__()
        open_spans[task_id] = manager

    def postrun(task_id: Any = None, **_: Any) -> None:
        open_spans.pop(task_id).__exit__(None, None, None)

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> Any:
        return await ctx.call(app.tasks["charge"].s(5))

    app.conf.task_always_eager = False
    run = begin(app, order.s())
    sent: list[Any] = []
    connected = [
        (signals.before_task_publish, before_publish),
        (signals.task_prerun, prerun),
        (signals.task_postrun, postrun),
    ]
    for signal, receiver in connected:
        signal.connect(receiver)
    signals.before_task_publish.connect(collect := lambda headers=None, **_: sent.append(headers))
    try:
        app.durable.runtime.runner.run(run.id)
        (headers,) = [headers for headers in sent if headers["task"] == "charge"]
        app.tasks["charge"].apply((5,), task_id=headers["id"], headers=headers)
    finally:
        for signal, receiver in connected:
            signal.disconnect(receiver)
        signals.before_task_publish.disconnect(collect)
    app.durable.runtime.runner.run(run.id)
    assert run.refresh().output == 5
    whole, applied, ran = (
        spans.one("orchestration:order"),
        spans.one("apply_async/charge"),
        spans.one("run/charge"),
    )
    assert is_below(applied, whole)
    assert is_below(ran, applied)
    assert is_below(spans.one("activity:charge"), ran)
    assert is_below(spans.one("inside"), spans.one("activity:charge"))


def test_a_current_span_of_another_trace_is_linked(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> Any:
        return await ctx.call(app.tasks["charge"].s(5))

    run = begin(app, order.s())
    run.get(timeout=300)
    spans.exporter.clear()
    app.conf.task_always_eager = False
    run = begin(app, order.s())
    app.durable.runtime.runner.run(run.id)
    row = json.loads(app.durable.runtime.store.database.fetch_one(MESSAGE)[0])
    with trace.get_tracer("other").start_as_current_span("other") as other:
        headers = app.durable.runtime.codec.decode(json.dumps(row))[1]["headers"]
        task_id = ActivityAttemptId(run.refresh()._known.execution, 1, 1).task_id
        app.tasks["charge"].apply((5,), task_id=task_id, headers={"durable": {"n": 0}, **headers})
    app.durable.runtime.runner.run(run.id)
    charge = spans.one("activity:charge")
    assert is_below(charge, spans.one("orchestration:order"))
    assert links(charge) == [other.get_span_context().span_id]


def test_celerys_own_control_flow_is_no_error(app: Any, spans: Spans, begin: Begin) -> None:
    @app.task(name="skips")
    def skips() -> None:
        raise Ignore

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(skips.s(), retry=RetryPolicy(max_attempts=1))

    run = begin(app, order.s())
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    skipped = spans.one("activity:skips")
    assert (skipped.attributes or {})["celery.durable.outcome"] == "ignored"
    assert skipped.status.status_code is StatusCode.UNSET


def test_entities_have_no_spans(app: Any, spans: Spans, begin: Begin) -> None:
    @app.durable.entity
    class Counter:
        value: int = 0

        def add(self, number: int) -> int:
            self.value += number
            return self.value

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.entity(Counter, "a").add(3)  # type: ignore[no-any-return]

    assert begin(app, order.s()).get(timeout=300) == 3
    assert spans.names() == ["create_orchestration:order", "orchestration:order"]


def test_an_exporter_that_fails_stops_nothing(
    app: Any,
    spans: Spans,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the tracer is broken")

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> str:
        await ctx.sleep(0.01)
        return "done"

    monkeypatch.setattr(tracing, "start_span", fail)
    assert begin(app, order.s()).get(timeout=300) == "done"
    assert "an observer failed" in caplog.text


# -- on and off ------------------------------------------------------------------------------------


def test_it_is_off_unless_switched_on(
    new_app: Callable[..., Any], spans: Spans, begin: Begin
) -> None:
    app = new_app(task_always_eager=True)

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    run = begin(app, order.s())
    run.get(timeout=300)
    assert spans.names() == []
    assert run.history()[0].facts is None
    assert app.durable.runtime.tracing is None


def test_without_the_package_it_says_what_to_install(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [
        name
        for name in sys.modules
        if name.startswith(("opentelemetry.", "celery_durable.telemetry."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError, match=r"celery-durable\[otel\]"):
        new_app(durable_tracing=True).durable.runtime


def test_an_application_without_a_provider_works(
    new_app: Callable[..., Any], begin: Begin, monkeypatch: pytest.MonkeyPatch, no_provider: None
) -> None:
    app = new_app(task_always_eager=True, durable_tracing=True)

    @app.task(name="charge")
    def charge() -> int:
        return 1

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(charge.s())  # type: ignore[no-any-return]

    run = begin(app, order.s())
    assert run.get(timeout=300) == 1
    assert run.history()[0].facts["trace"]["traceparent"].endswith("-01")


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: trace.NoOpTracerProvider())
    yield


def test_the_sampler_of_a_provider_decides_for_starts_from_nowhere(
    new_app: Callable[..., Any], begin: Begin, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    off = TracerProvider(sampler=ALWAYS_OFF)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: off)
    app = new_app(task_always_eager=True, durable_tracing=True)

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    run = begin(app, order.s())
    run.get(timeout=300)
    assert run.history()[0].facts["trace"]["traceparent"].endswith("-00")


def _statement() -> Any:
    from celery_durable.store.database import Statement

    return Statement("SELECT message FROM durable_outbox")


MESSAGE = _statement()


class _Broken(SpanProcessor):
    """One that fails with the spans of activities, at their beginning or at their end."""

    def __init__(self, when: str) -> None:
        self._when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._fail("start", span)

    def on_end(self, span: Any) -> None:
        self._fail("end", span)

    def _fail(self, when: str, span: Any) -> None:
        if when == self._when and span.name.startswith("activity:"):
            raise RuntimeError("no room for spans")


@pytest.mark.parametrize("when", ["start", "end"])
def test_an_activity_does_not_fail_with_its_span(
    app: Any,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(_Broken(when))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(app.tasks["charge"].s(7), retry=RetryPolicy(max_attempts=1))  # type: ignore[no-any-return]

    assert begin(app, order.s()).get(timeout=300) == 7
    assert "a span is lost" in caplog.text
