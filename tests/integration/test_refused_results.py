"""A result backend that does not take an end: what it refuses for good is told of otherwise, and
given up in time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend

from celery_durable import InvalidState, PayloadError
from celery_durable.engine.records import ActivityAttemptId, ActivityRow
from celery_durable.store.schema import outbox

THIS = f"{__name__}:Picky"


class Picky(KeyValueStoreBackend):
    """A backend that takes little, or nothing."""

    values: dict[str, Any] = {}
    refusal: Exception | None = None
    most = 60_000

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        if self.refusal is not None:
            raise self.refusal
        if len(value) > self.most:
            raise ValueError("too large")
        self.values[key] = value

    def mget(self, keys):
        return [self.values.get(key) for key in keys]

    def delete(self, key):
        self.values.pop(key, None)


@pytest.fixture(autouse=True)
def picky() -> Iterator[type[Picky]]:
    Picky.values, Picky.refusal, Picky.most = {}, None, 60_000
    sys.modules.setdefault(THIS.partition(":")[0], sys.modules[__name__])
    return Picky


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    app = new_app(result_backend=THIS, result_extended=True)

    @app.durable.orchestrator(name="refused.output")
    async def output(ctx: Any, n: int) -> str:
        return "y" * n

    @app.durable.orchestrator(name="refused.failure")
    async def failure(ctx: Any, n: int) -> str:
        raise ValueError("y" * n)

    @app.durable.orchestrator(name="refused.input")
    async def input_(ctx: Any, text: str) -> str:
        return "small"

    return app


def ended(app: Any, name: str, *args: Any) -> Any:
    run = app.tasks[name].apply_async(args)
    app.durable.runtime.runner.run(run.id)
    return run.refresh()


def try_again(app: Any, run: Any, sends: int = 1) -> None:
    """Do what recovery does when the row of a last message is due."""
    execution = app.durable.runtime.client.fetch(run.id).execution
    with app.durable.runtime.store.database.engine.begin() as connection:
        connection.execute(
            sa.update(outbox).values(
                sends=sends, sent_at=app.durable.runtime.store.now() - 61_000_000
            )
        )
    ticket = ActivityAttemptId(execution, 0, 0)
    app.durable.runtime.publisher.finish_again(
        ActivityRow(ticket, run.id, "finish", run.name, "", None, sends)
    )


@pytest.mark.parametrize(
    ("name", "argument", "state"),
    [
        ("refused.output", 90_000, "FAILURE"),
        ("refused.failure", 90_000, "FAILURE"),
        ("refused.input", "x" * 90_000, "FAILURE"),
    ],
    ids=["output", "failure", "input"],
)
def test_what_is_too_large_is_told_of_in_a_few_words(
    app: Any, name: str, argument: Any, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = ended(app, name, argument)
    assert app.backend.get_state(run.id) == "PENDING", "once may be chance"
    with pytest.raises(InvalidState, match="too large"):
        run.purge()
    try_again(app, run)
    assert app.backend.get_state(run.id) == state
    told = app.backend.get_result(run.id)
    assert isinstance(told, PayloadError) and "too large" in str(told) and run.id in str(told)
    assert "refuses" in caplog.text
    assert run.get() if name != "refused.failure" else run.failure, "its end is known as ever"
    run.purge()


@pytest.mark.parametrize(
    "refusal",
    [
        ConnectionError("away"),
        OSError(28, "full"),
        type("OperationalError", (Exception,), {})("busy"),
    ],
)
def test_what_may_pass_is_tried_again(app: Any, refusal: Exception) -> None:
    Picky.refusal = refusal
    run = ended(app, "refused.output", 10)
    for sends in range(1, 6):
        try_again(app, run, sends)
    assert "Celery to be told of its end, which was tried 6 times; the last time" in str(
        run.explain()
    )
    assert str(refusal) in str(run.explain())
    Picky.refusal = None
    try_again(app, run, 6)
    assert app.backend.get_result(run.id) == "y" * 10
    assert "Celery" not in str(run.explain())
    run.purge()


def test_what_takes_nothing_for_a_day_is_given_up(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Picky.refusal = PermissionError("no such user")
    run = ended(app, "refused.output", 10)
    assert app.durable.find(stuck=True).items == []
    for sends in range(1, 30):
        try_again(app, run, sends)
    with pytest.raises(InvalidState, match="no such user"):
        run.purge()
    assert [each.id for each in app.durable.find(stuck=True).items] == [run.id]
    caplog.clear()
    try_again(app, run, 30)
    assert "no such user" in caplog.text and "Celery" not in str(run.explain())
    assert app.durable.find(stuck=True).items == []
    run.purge()


def test_a_last_message_that_is_refused_says_so_when_it_comes_again(app: Any) -> None:
    Picky.most = 0
    run = ended(app, "refused.output", 10)
    Picky.most = 60_000
    execution = app.durable.runtime.client.fetch(run.id).execution

    def told(**more: Any) -> None:
        request = Context(
            task=run.name, headers={"durable": {"t": "finish", "x": execution, **more}}
        )
        app.backend.mark_as_done(run.id, "y" * 90_000, request)

    with pytest.raises(ValueError, match="too large"):
        told()
    assert "the last time: ValueError: too large" in str(run.explain())
    told(n=1)
    assert app.backend.get_state(run.id) == "FAILURE"
    run.purge()
