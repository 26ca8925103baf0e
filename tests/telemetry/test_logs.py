"""Log records: one line per change of state and no other, never twice, and fields that say whose a
record is.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_durable.telemetry.logs import FIELDS, LogContext, add_durable_context, install

Begin = Callable[..., Any]
log = logging.getLogger("users.own")


class Records(logging.Handler):
    """Keeps records, with the filter that a handler of the application's has."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(LogContext())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.name == name]

    def changes(self) -> list[str]:
        return [record.__dict__["durable_change"] for record in self.of("celery_durable.state")]


@pytest.fixture
def records() -> Iterator[Records]:
    handler, root, levels = Records(), logging.getLogger(), {}
    for name in ("celery_durable", "users.own"):
        levels[name] = logging.getLogger(name).level
        logging.getLogger(name).setLevel(logging.INFO)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app(task_always_eager=True)

    @app.task(name="charge")
    def charge(amount: int) -> int:
        log.warning("charging")
        if amount < 0:
            raise ValueError("less than nothing")
        return amount

    return app


def fields(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in FIELDS)


# -- one line per change of state ------------------------------------------------------------------


def test_a_life_is_a_line_for_each_change(app: Any, records: Records, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any, left: int = 0) -> str:
        await ctx.call(app.tasks["charge"].s(1))
        await ctx.wait_event("go")
        if left:
            ctx.continue_as_new(left - 1)
        return "done"

    run = begin(app, order.s(1), instance_id="one")
    run.suspend(reason="lunch")
    run.raise_event("go")
    run.resume()
    run.raise_event("go")
    assert run.get(timeout=300) == "done"
    run.purge()
    assert records.changes() == [
        "started",
        "running",
        "suspended",
        "resumed",
        "continued as new",
        "completed",
        "purged",
    ]
    lines = [record.getMessage() for record in records.of("celery_durable.state")]
    assert lines[0] == "orchestration 'one' (order) is started"
    assert lines[2] == "orchestration 'one' (order) is suspended: lunch"
    assert [fields(record)[:2] for record in records.of("celery_durable.state")] == [
        ("one", "order")
    ] * len(lines)
    others = {record.name for record in records.records if record.levelno == logging.INFO}
    assert others == {"celery_durable.state"}, "that is all that the engine says of it at INFO"


def test_a_reason_is_no_line_of_its_own(app: Any, records: Records, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.wait_event("never")

    begin(app, order.s(), instance_id="one").terminate(reason="enough\nERROR all is lost\x1b[2J")
    last = records.of("celery_durable.state")[-1].getMessage()
    assert last == r"orchestration 'one' (order) is terminated: enough\nERROR all is lost\x1b[2J"


def test_the_other_ends(app: Any, records: Records, begin: Begin) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any, amount: int) -> None:
        await ctx.call(app.tasks["charge"].s(amount))
        await ctx.wait_event("never")

    begin(app, order.s(1), instance_id="canceled").cancel()
    begin(app, order.s(1), instance_id="terminated").terminate(reason="enough")
    failed = begin(app, order.s(-1), instance_id="failed")
    failed.rewind()
    last = {
        record.__dict__["durable_instance"]: record.getMessage()
        for record in records.of("celery_durable.state")
    }
    assert last["canceled"].endswith(" is canceled")
    assert last["terminated"].endswith(" is terminated: enough")
    assert last["failed"].endswith(" is failed: ValueError: less than nothing")
    assert [change for change in records.changes() if change in ("failed", "rewound")] == [
        "failed",
        "rewound",
        "failed",
    ]


def test_children_are_told_of_too(app: Any, records: Records, begin: Begin) -> None:
    @app.durable.orchestrator(name="child")
    async def child(ctx: Any) -> int:
        return 1

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> int:
        return await ctx.call(child.s().set(task_id="small"))  # type: ignore[no-any-return]

    assert begin(app, order.s()).get(timeout=300) == 1
    small = [
        record
        for record in records.of("celery_durable.state")
        if record.__dict__["durable_instance"] == "small"
    ]
    assert [record.__dict__["durable_change"] for record in small] == ["started", "completed"]


def test_a_commit_that_did_not_count_is_not_told_of(
    app: Any, records: Records, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    turns = type(app.durable.runtime.store.turns)
    real, lost = turns.commit, []

    def lose_some(self: Any, commit: Any) -> Any:
        if len(lost) < 3:
            lost.append(commit)
            return None
        return real(self, commit)

    monkeypatch.setattr(turns, "commit", lose_some)
    begin(app, order.s()).get(timeout=300)
    assert (len(lost), records.changes()) == (3, ["started", "completed"])
    begin(app, order.s(), instance_id="x")
    begin(app, order.s(), instance_id="x")
    assert records.changes()[2:] == ["started", "completed"], (
        "a second start with one id starts nothing"
    )


def test_entities_are_told_of_at_debug_only(app: Any, records: Records) -> None:
    @app.durable.entity
    class Counter:
        value: int = 0

        def add(self, number: int) -> None:
            self.value += number

    app.durable._watch_tasks()
    app.durable.entity(Counter, "a").signal.add(1)
    assert app.durable.entity(Counter, "a").state() == {"value": 1}
    assert records.changes() == []


# -- fields ----------------------------------------------------------------------------------------


def test_records_of_the_user_name_instance_turn_and_activity(
    app: Any, records: Records, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        log.warning("plain")
        await ctx.call(app.tasks["charge"].s(1))
        ctx.logger.warning("by the context's logger")

    begin(app, order.s(), instance_id="one").get(timeout=300)
    log.warning("outside")
    assert ("one", "order", 1, None, None) in [
        fields(r) for r in records.of("users.own") if r.msg == "plain"
    ]
    assert [fields(r) for r in records.of("users.own") if r.msg == "charging"] == [
        ("one", "order", 1, "charge", 1)
    ]
    assert [fields(r) for r in records.of("celery_durable.orchestrator.order")] == [
        ("one", "order", 2, None, None)
    ]
    assert [fields(r) for r in records.of("users.own") if r.msg == "outside"] == [(None,) * 5]


def test_records_of_the_engine_within_a_turn_name_it(
    app: Any, records: Records, begin: Begin
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        raise_later = asyncio.get_running_loop().create_future()
        raise_later.set_exception(ValueError("nobody looks"))
        del raise_later
        await ctx.call(app.tasks["charge"].s(-1))

    with pytest.raises(ValueError):
        begin(app, order.s(), instance_id="one").get(timeout=300)
    engine = [
        r
        for r in records.records
        if r.name.startswith("celery_durable.") and r.levelno >= logging.WARNING
    ]
    assert engine and {fields(record)[:2] for record in engine} == {("one", "order")}


def test_a_thread_with_the_context_of_an_activity_names_it(
    app: Any, records: Records, begin: Begin
) -> None:
    @app.task(name="threads")
    def threads() -> None:
        whole = contextvars.copy_context()
        thread = threading.Thread(target=lambda: whole.run(log.warning, "in a thread"))
        thread.start()
        thread.join()

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(threads.s())

    begin(app, order.s(), instance_id="one").get(timeout=300)
    assert [fields(r) for r in records.of("users.own")] == [("one", "order", 1, "threads", 1)]


def test_structlog_gets_what_applies(app: Any, begin: Begin) -> None:
    events: list[Any] = []

    @app.task(name="structured")
    def structured() -> None:
        events.append(
            dict(add_durable_context(None, "info", {"event": "hello", "durable_turn": "own"}))
        )

    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None:
        await ctx.call(structured.s())

    begin(app, order.s(), instance_id="one").get(timeout=300)
    events.append(add_durable_context(None, "info", {"event": "outside"}))
    assert events == [
        {
            "event": "hello",
            "durable_turn": "own",
            "durable_instance": "one",
            "durable_orchestration": "order",
            "durable_activity": "structured",
            "durable_attempt": 1,
        },
        {"event": "outside"},
    ]


def test_celerys_handlers_get_the_filter_once() -> None:
    logger = logging.Logger("celery")
    logger.addHandler(handler := logging.NullHandler())
    install(logger)
    install(logger=logger, loglevel=20)
    assert [type(each) for each in handler.filters] == [LogContext]


def test_what_is_not_written_costs_no_formatting(
    app: Any, begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @app.durable.orchestrator(name="order")
    async def order(ctx: Any) -> None: ...

    made: list[Any] = []
    monkeypatch.setattr(
        logging.getLogger("celery_durable.state"),
        "makeRecord",
        lambda *args, **_: made.append(args),
    )
    caplog.set_level(logging.WARNING, "celery_durable.state")
    begin(app, order.s()).get(timeout=300)
    assert made == []
