"""A turn message that has a due time: how often the store is asked for the time because of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import Ignore

from celery_durable.worker.headers import MessageHeader, store_tag


class Worker:
    """An orchestration that sleeps, and the message that ends its sleep."""

    def __init__(self, new_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        app = new_app(durable_start_inline=False)

        @app.durable.orchestrator(name="sleeps")
        async def sleeps(ctx: Any) -> int:
            await ctx.sleep(timedelta(milliseconds=300))
            return 7

        self.runtime = app.durable.runtime
        self.task = app.tasks["sleeps"]
        dues: list[int] = []
        monkeypatch.setattr(
            type(self.runtime.publisher), "publish_turn", lambda *_, due=0, **__: dues.append(due)
        )
        self.run = app.durable.start(sleeps.s())
        self.runtime.runner.run(self.run.id)
        self.due = dues[-1]
        self.looks = 0
        now = self.runtime.store.now

        def looked() -> int:
            self.looks += 1
            moment: int = now()
            return moment

        monkeypatch.setattr(type(self.runtime.store), "now", lambda _: looked())

    def receive(self) -> None:
        """Deliver the message of the timer."""
        header = MessageHeader("turn", store_tag(self.runtime.store.id), due=self.due)
        headers = {"durable": header.to_wire()}
        self.task.push_request(id=self.run.id, headers=headers, called_directly=False)
        try:
            with pytest.raises(Ignore):
                self.task()
        finally:
            self.task.pop_request()


def test_what_is_due_takes_its_turn_without_a_look_at_the_clock(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(new_app, monkeypatch)
    clock = worker.runtime.runner.clock
    monkeypatch.setattr(type(clock), "now", lambda _: worker.due)
    while worker.runtime.store.now() < worker.due:
        pass
    worker.looks = 0
    worker.receive()
    assert worker.looks == 0
    assert worker.run.refresh().output == 7


def test_what_may_be_early_is_waited_for_by_the_stores_clock(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(new_app, monkeypatch)
    clock = worker.runtime.runner.clock
    monkeypatch.setattr(type(clock), "now", lambda _: 0)
    worker.receive()
    assert worker.looks == 1
    assert worker.run.refresh().output == 7
