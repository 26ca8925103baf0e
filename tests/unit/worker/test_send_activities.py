"""What becomes of activities that are sent together, and of what is sent beside them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

from celery_durable.engine.records import ActivityAttemptId, ActivityRow
from celery_durable.worker.batches import Batch


@pytest.mark.parametrize("others", [[], ["a turn's message"]])
def test_those_that_the_broker_refused_are_told_and_no_other(
    new_app: Any, monkeypatch: pytest.MonkeyPatch, others: list[str]
) -> None:
    app = new_app()
    sender = app.durable.runtime.publisher.activity_sender
    tickets = [ActivityAttemptId("x" * 32, number, 1) for number in range(1, 5)]
    rows = [ActivityRow(ticket, "i", "activity", "task", "[]", None, 0) for ticket in tickets]
    error = ConnectionError("gone")

    @contextmanager
    def together(_what: str) -> Any:
        batch = Batch()
        yield batch
        refused = [tickets[1].task_id, *others, tickets[3].task_id]
        batch.refused = dict.fromkeys(refused, error)

    monkeypatch.setattr(sender._light, "together", together)
    monkeypatch.setattr(sender, "_send", lambda _row: None)
    assert sender.publish(rows) == {tickets[1]: error, tickets[3]: error}
