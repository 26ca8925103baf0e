"""Events on Celery's stream: what they hold, when they are sent, and that no turn waits for
them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from celery_durable import ActivityTimeout, OrchestrationTimeout, RetryPolicy
from celery_durable.engine.records import ActivityAttemptId, Outcome
from celery_durable.engine.registry import Definition
from celery_durable.payload import PayloadCodec
from celery_durable.telemetry.prometheus import EventMetrics
from celery_durable.worker.later import Later
from celery_durable.worker.task_events import TaskEvents
from celery_durable.worker.telemetry_events import EventSender
from tests.conftest import wait_until

Begin = Callable[..., Any]


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app(task_always_eager=True, task_send_sent_event=True)

    @app.task(name="flaky")
    def flaky() -> str:
        if not hasattr(app, "was_tried"):
            app.was_tried = True
            raise ValueError("secret words")
        return "secret words"

    return app


@pytest.fixture
def sent(app: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be sent, as a receiver would get it."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(Later, "wake", lambda self: None)
    real = EventSender.committed

    def committed(self: EventSender, seen: Any) -> None:
        real(self, seen)
        while batch := self._take():
            found.extend(json.loads(json.dumps({"type": kind, **fields})) for kind, fields in batch)

    monkeypatch.setattr(EventSender, "committed", committed)
    return found


def test_a_commit_is_an_event(app: Any, sent: list[dict[str, Any]], begin: Begin) -> None:
    @app.durable.orchestrator(name="order", version="2")
    async def order(ctx: Any, secret: str) -> str:
        found = await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(first_interval=0.01))
        await ctx.wait_event("go")
        return found  # type: ignore[no-any-return]

    began = time.monotonic()
    run = begin(app, order.s("secret words"), instance_id="one")
    run.suspend(reason="secret")
    run.resume()
    run.raise_event("go", "secret words")
    assert run.get(timeout=300) == "secret words"
    took = time.monotonic() - began + 1  # seconds; clocks are read in parts of them
    assert {event["instance"] for event in sent} == {"one"}
    assert {(event["orchestration"], event["version"]) for event in sent} == {("order", "2")}
    kinds = [event["type"] for event in sent]
    assert [kind for kind in kinds if kind != "durable-turn"] == [
        "durable-running",
        "durable-suspended",
        "durable-resumed",
        "durable-completed",
    ]
    assert [event["begun"] for event in sent] == [True] + [False] * (len(sent) - 1)
    assert [event["turn"] for event in sent] == list(range(1, len(sent) + 1))
    attempts = [tuple(attempt[:2]) for event in sent for attempt in event["attempts"]]
    assert attempts == [("flaky", "failed"), ("flaky", "completed")]
    assert all(0 <= attempt[2] < took for event in sent for attempt in event["attempts"])
    timers = [lag for event in sent for lag in event["timers"]]
    assert len(timers) == 1 and 0 <= timers[0] < took, "the pause before the second attempt"
    by_client = [
        event for event in sent if event["type"] in ("durable-suspended", "durable-resumed")
    ]
    assert [event["seconds"] for event in by_client] == [None, None], "no turns"
    turns = [event for event in sent if event not in by_client]
    assert all(0 < event["seconds"] < took and 0 <= event["lag"] < took for event in turns)
    assert (
        sent[-1]["status"],
        sent[-2]["status"] if sent[-2]["type"] == "durable-turn" else None,
    ) == ("COMPLETED", None)
    assert 0 < sent[-1]["age"] < took
    assert "secret" not in json.dumps(sent), "no payloads, no reasons"
    assert all(isinstance(event["timestamp"], float) for event in sent)


def test_what_is_sent_can_be_counted(app: Any, sent: list[dict[str, Any]], begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any, left: int) -> None:
        await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(first_interval=0.01))
        if left:
            ctx.continue_as_new(left - 1)

    run = begin(app, order.s(2))
    run.get(timeout=300)
    assert [event["type"] for event in sent].count("durable-continued") == 2
    registry = CollectorRegistry()
    counted = EventMetrics(registry)
    for event in sent:
        counted.receive(event)
    value = registry.get_sample_value
    assert value("celery_durable_instances_started_total", {"orchestration": "order"}) == 1, (
        "not each execution"
    )
    assert (
        value(
            "celery_durable_instances_finished_total",
            {"orchestration": "order", "outcome": "completed"},
        )
        == 1
    )
    lived = value("celery_durable_instance_duration_seconds_sum", {"orchestration": "order"})
    run.refresh()
    whole = (run.completed_at - run.started_at).total_seconds()
    assert lived == pytest.approx(whole, abs=0.2), (
        "since its very beginning, not that of the last execution"
    )
    assert (
        value(
            "celery_durable_activity_attempts_total", {"activity": "flaky", "outcome": "completed"}
        )
        == 3
    )
    assert (
        value("celery_durable_activity_attempts_total", {"activity": "flaky", "outcome": "failed"})
        == 1
    )


def test_retries_and_time_outs_are_told_by_kind(
    app: Any, sent: list[dict[str, Any]], begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(first_interval=0.01))

    begin(app, order.s()).get(timeout=300)
    assert [event["retries"] for event in sent if event["retries"]] == [[["flaky"]]]
    assert not any(event["timeouts"] for event in sent)


@pytest.mark.parametrize(
    ("limit", "kind"),
    [("timeout", "attempt"), ("start_timeout", "start"), ("heartbeat_timeout", "heartbeat")],
)
def test_an_attempt_that_is_out_of_time_is_told(
    new_app: Callable[..., Any], sent: list[dict[str, Any]], limit: str, kind: str
) -> None:
    app = new_app(task_send_sent_event=True)

    @app.task(name="slow")
    def slow() -> None: ...

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(slow.s(), **{limit: 5})

    runtime = app.durable.runtime
    run = app.durable.start(order.s())
    runtime.runner.run(run.id)
    error = ActivityTimeout("late", instance_id=run.id, kind=limit, task="slow", attempt=1)
    ticket = ActivityAttemptId(runtime.client.fetch(run.id).execution, 1, 1)
    runtime.runner.outcomes.accept(
        Outcome(ticket, runtime.codec.encode_failure(error), has_failed=True)
    )
    runtime.runner.run(run.id)
    assert [event["timeouts"] for event in sent if event["timeouts"]] == [[["slow", kind]]]


def test_a_run_that_is_out_of_time_is_told_and_not_one_that_calls_it(
    app: Any, sent: list[dict[str, Any]], begin: Begin
) -> None:
    @app.durable.orchestrator(name="slow", timeout=0.05)
    async def slow(ctx: Any) -> None:
        await ctx.wait_event("go")

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(slow.s())

    with pytest.raises(OrchestrationTimeout):
        begin(app, order.s()).get(timeout=300)
    assert [event["timeouts"] for event in sent if event["timeouts"]] == [[["slow", "run"]]]


def test_code_that_disagrees_with_history_is_told(
    app: Any, sent: list[dict[str, Any]], begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.wait_event("go")
        await ctx.wait_event("go on")

    run = begin(app, order.s())
    run.raise_event("go")

    async def changed(ctx: Any) -> None:
        await ctx.call(app.tasks["flaky"].s())

    app.durable.registry.add(Definition("order", None, changed))
    app.durable.runtime.live._live.clear()
    app.durable.runtime.live._instances.clear()
    run.raise_event("go on")
    assert run.refresh().runtime_status == "SUSPENDED"
    last = sent[-1]
    assert (last["type"], last["nondeterminism"], last["seconds"] is not None) == (
        "durable-suspended",
        True,
        True,
    )


def test_an_execution_that_was_not_watched_from_its_beginning_is_known_all_the_same(
    app: Any, sent: list[dict[str, Any]], begin: Begin
) -> None:
    """A monitor turns events on while the orchestration lives in this process."""

    @app.task(name="later")
    def later() -> None: ...

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(later.s())  # type: ignore[no-any-return]

    app.conf.task_always_eager = False
    runtime = app.durable.runtime
    runtime.events.turn(False)
    run = begin(app, order.s())
    runtime.runner.run(run.id)
    assert sent == []
    runtime.events.turn(True)
    ticket = ActivityAttemptId(run.refresh()._known.execution, 1, 1)
    runtime.store.outcomes.record(Outcome(ticket, "1", has_failed=False, ran=2_500_000))
    runtime.runner.run(run.id)
    assert run.refresh().output == 1
    assert [event["attempts"] for event in sent] == [[["later", "completed", 2.5]]]
    assert sent[-1]["age"] > 0


def test_many_outcomes_are_several_events(
    app: Any, sent: list[dict[str, Any]], begin: Begin, monkeypatch: Any
) -> None:
    monkeypatch.setattr("celery_durable.worker.telemetry_events._MOST_ATTEMPTS", 3)

    @app.task(name="one")
    def one(number: int) -> int:
        return number

    @app.durable.orchestrator(name="wide")
    async def wide(ctx: Any) -> int:
        return len(await ctx.all([ctx.call(one.s(number)) for number in range(10)]))

    assert begin(app, wide.s()).get(timeout=300) == 10
    assert sum(len(event["attempts"]) for event in sent) == 10
    assert max(len(event["attempts"]) for event in sent) <= 3


def test_a_broker_that_is_away_holds_nothing_up(new_app: Callable[..., Any], begin: Begin) -> None:
    app = new_app(
        task_always_eager=True, task_send_sent_event=True, broker_url="redis://127.0.0.1:1/0"
    )
    app.conf.broker_connection_timeout = 0.1

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> str:
        return "done"

    assert begin(app, order.s()).refresh().output == "done"
    app.durable.runtime.events.flush()
    assert app.durable.runtime.events._take() == [], "they are lost"


def test_nothing_is_sent_unless_events_are_on(new_app: Callable[..., Any], begin: Begin) -> None:
    app = new_app(task_always_eager=True)

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    begin(app, order.s()).get(timeout=300)
    events = app.durable.runtime.events
    assert (events.is_on, events._take(), events._later._thread) == (False, [], None)


def test_the_processes_of_a_pool_hear_of_the_switch(new_app: Callable[..., Any]) -> None:
    import os

    events = new_app().durable.runtime.events
    events.share("worker@host", False)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.read(read, 1)
        os._exit(int(events.is_on))
    events.turn(True)
    os.write(write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_an_execution_that_waits_keeps_no_results_for_observers(
    app: Any, sent: list[dict[str, Any]], begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(app.tasks["flaky"].s(), retry=RetryPolicy(first_interval=0.01))
        await ctx.wait_event("go")

    run = begin(app, order.s())
    wait_until(
        lambda: (
            ["flaky", "completed"]
            in [attempt[:2] for event in sent for attempt in event["attempts"]]
        )
    )
    live = app.durable.runtime.live.take_instance(run.id)
    assert live is not None and live.observed is not None, "it is observed"
    assert live.observed.came == []
    live.abandon()


def test_what_holds_payloads_does_not_pile_up_before_a_broker_that_hangs(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Later, "wake", lambda self: None)
    sender = EventSender(new_app(), PayloadCodec())
    for number in range(5_000):
        sender.put(lambda number=number: [("task-succeeded", {"uuid": str(number)})])
    assert len(sender._unmade) == 1_000
    sent = [fields["uuid"] for batch in iter(sender._take, []) for _, fields in batch]
    assert sent == [str(number) for number in range(4_000, 5_000)], "the newest, in order"


def test_a_client_waits_for_a_broker_that_is_away_only_once(
    new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(task_send_sent_event=True)
    tried: list[str] = []

    def refuse(self: TaskEvents, hostname: str, events: Any) -> None:
        tried.append(hostname)
        raise OSError("no broker")

    monkeypatch.setattr(TaskEvents, "_send", refuse)
    app.durable.orchestrator(_plain, name="order")
    for _ in range(3):
        app.durable.start(app.signature("order"))
    assert len(tried) == 1
    app.durable.runtime.task_events._silent_until = 0.0
    app.durable.start(app.signature("order"))
    assert len(tried) == 2, "after a while it is tried again"


def _plain(ctx: Any) -> None:
    """Complete in the first turn."""
