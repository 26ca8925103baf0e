"""How a turn message passes Celery's tracer: with all that surrounds a task, and without tracebacks
nobody reads.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from celery import signals
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject

from celery_durable import RuntimeStatus
from celery_durable.errors import StoreError


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app(durable_store_patience=0)

    @app.durable.orchestrator(name="tracing.waits")
    async def waits(ctx: Any) -> None:
        await ctx.wait_event("go")

    app.finalize()
    task = app.tasks["tracing.waits"]
    task.__trace__ = build_tracer(task.name, task, app=app)
    return app


def trace(app: Any, kind: str | None = "turn", id_: str = "i") -> Any:
    request = {"id": id_, "task": "tracing.waits", "delivery_info": {}, "errbacks": None}
    if kind is not None:
        request["durable"] = {"t": kind}
    return app.tasks["tracing.waits"].__trace__(id_, (), {}, request)


def start(app: Any) -> None:
    app.durable.start(app.tasks["tracing.waits"].s(), instance_id="i")


def test_a_turn_ends_in_an_ignore_without_a_traceback(app: Any) -> None:
    start(app)
    retval, info, runtime, text = trace(app)
    assert info
    assert isinstance(retval.exception, Ignore)
    assert (retval.tb, text) == (None, None)
    assert 0 < runtime < 60
    assert len(pickle.dumps(retval)) < 500, "it travels to the worker's main process"
    assert app.durable.get("i").runtime_status is RuntimeStatus.RUNNING


def test_what_surrounds_a_task_surrounds_a_turn(app: Any) -> None:
    start(app)
    seen: list[tuple[str, str, str | None]] = []
    task = app.tasks["tracing.waits"]

    def before(sender: Any, task_id: str, **_: Any) -> None:
        seen.append(("before", task_id, task.request.id))

    def after(sender: Any, task_id: str, state: str, **_: Any) -> None:
        seen.append((state, task_id, task.request.id))

    signals.task_prerun.connect(before)
    signals.task_postrun.connect(after)
    try:
        trace(app)
    finally:
        signals.task_prerun.disconnect(before)
        signals.task_postrun.disconnect(after)
    assert seen == [("before", "i", "i"), ("IGNORED", "i", "i")]
    assert task.request.id is None


def test_what_a_turn_raises_is_dealt_with_by_celery_once(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(app)
    calls: list[str] = []

    def fails(instance_id: str) -> None:
        calls.append(instance_id)
        raise StoreError("away")

    monkeypatch.setattr(
        "celery_durable.engine.engine.Engine.run", lambda self, id_, **_: fails(id_)
    )
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    retval, info, *_ = trace(app)
    assert info
    assert isinstance(getattr(retval.exception, "exc", retval.exception), Reject)
    assert calls == ["i"]


def test_other_messages_pass_celerys_own_tracer(app: Any) -> None:
    retval, info, *_ = trace(app, None, "by-message")
    assert info
    assert retval.tb is not None
    assert app.durable.get("by-message").runtime_status is RuntimeStatus.RUNNING


def test_a_tracer_that_someone_has_wrapped_is_not_passed_by(app: Any) -> None:
    start(app)
    seen: list[str] = []
    task = app.tasks["tracing.waits"]
    tracer = build_tracer(task.name, task, app=app)

    @functools.wraps(tracer)
    def wrapper(uuid: str, *args: Any) -> Any:
        seen.append(uuid)
        return tracer(uuid, *args)

    task.__trace__ = wrapper
    assert trace(app)[0].type is Ignore
    assert seen == ["i"]
    assert app.durable.get("i").runtime_status is RuntimeStatus.RUNNING
