"""The last message of an orchestration breaks off: that is no end of the orchestration."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.task import Context
from celery.backends.base import BaseKeyValueStoreBackend
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

BROKEN_OFF = [SoftTimeLimitExceeded(), TimeLimitExceeded(3), WorkerLostError("gone"), MemoryError()]


def ended(new_app: Any) -> tuple[Any, Any, Any]:
    """Return an application with a result backend, an orchestration that has ended, and whose last
    message is still to be dealt with, and the request of that.
    """
    app = new_app(result_backend="cache+memory://", durable_start_inline=False)

    @app.durable.orchestrator(name="flow")
    async def flow(ctx: Any) -> int:
        return 7

    runtime = app.durable.runtime
    run = app.durable.start(flow.s())
    runtime.publisher.finisher.finish = lambda *_, **__: None
    runtime.runner.run(run.id)
    record = runtime.client.fetch(run.id)
    header = {"t": "finish", "s": runtime.store.id[:12], "x": record.execution}
    request = Context(id=run.id, task="flow", headers={"durable": header}, ignore_result=False)
    return app, run, request


@pytest.mark.parametrize("error", BROKEN_OFF, ids=lambda error: type(error).__name__)
def test_what_breaks_it_off_is_not_the_result(new_app: Any, error: Exception) -> None:
    app, run, request = ended(new_app)
    app.backend.mark_as_failure(run.id, error, request=request)
    assert app.backend.get_state(run.id) == "PENDING"
    assert not app.durable.runtime.store.reads.is_finished_for_celery(request_execution(request))
    app.tasks["flow"].push_request(**{**vars(request), "called_directly": False})
    try:
        assert app.tasks["flow"].durable_call() == 7
    finally:
        app.tasks["flow"].pop_request()


def test_the_failure_of_the_orchestration_is(new_app: Any) -> None:
    app, run, request = ended(new_app)
    request.durable_tells_end = True
    app.backend.mark_as_failure(run.id, ValueError("its own"), request=request)
    assert app.backend.get_state(run.id) == "FAILURE"
    assert app.durable.runtime.store.reads.is_finished_for_celery(request_execution(request))


def request_execution(request: Any) -> str:
    execution: str = request.headers["durable"]["x"]
    return execution


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the backend is asked for."""
    asked: list[str] = []
    read = BaseKeyValueStoreBackend._get_task_meta_for

    def noted(self: Any, task_id: str) -> Any:
        asked.append(task_id)
        return read(self, task_id)

    monkeypatch.setattr(BaseKeyValueStoreBackend, "_get_task_meta_for", noted)
    return asked


def test_a_first_success_is_stored_without_a_look_at_what_is_there(
    new_app: Any, reads: list[str]
) -> None:
    app, run, request = ended(new_app)
    app.backend.store_result(run.id, 7, "SUCCESS", request=request)
    assert reads == []
    assert app.backend.get_result(run.id) == 7
    assert reads == [run.id]


def test_whatever_else_is_told_leaves_a_success_alone(new_app: Any, reads: list[str]) -> None:
    app, run, request = ended(new_app)
    app.backend.store_result(run.id, 7, "SUCCESS", request=request)
    app.backend.store_result(run.id, ValueError("late"), "FAILURE", request=request)
    request.headers["durable"]["n"] = 2
    app.backend.store_result(run.id, 8, "SUCCESS", request=request)
    assert app.backend.get_result(run.id) == 7
    assert reads == [run.id] * 3


def test_other_tasks_are_stored_as_ever(new_app: Any, reads: list[str]) -> None:
    app, _, _ = ended(new_app)
    app.backend.store_result("plain", 1, "SUCCESS", request=Context(id="plain"))
    assert reads == ["plain"]


def test_a_first_success_takes_the_place_of_an_earlier_one_under_the_id(new_app: Any) -> None:
    app, run, request = ended(new_app)
    app.backend.store_result(run.id, "earlier", "SUCCESS", request=Context(id=run.id))
    app.backend.store_result(run.id, 7, "SUCCESS", request=request)
    assert app.backend.get_result(run.id) == 7
