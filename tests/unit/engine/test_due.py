"""A loss in bulk waits until all of it is proven; what is lost by itself, or was never sent, does
not.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.due import DueActivity, DueWake, Lost, Settling
from celery_durable.engine.inbox_recovery import InboxRecovery
from celery_durable.engine.outbox_recovery import OutboxRecovery
from celery_durable.engine.records import ActivityAttemptId, ActivityRow

SECOND = 1_000_000
BATCH = 5
ALL = Lost({"q": 10**18}, 10**18)


def activity(number: int, now: int, sent: bool) -> DueActivity:
    row = ActivityRow(ActivityAttemptId("e", number, 1), "i", "activity", "a", "", "q", 0)
    return DueActivity(row, 1 if sent else None, None, False, 0, None, None, None, 0, now)


def wake(number: int, now: int, sent: bool) -> DueWake:
    sends = 0 if sent else -1
    return DueWake(
        number, "event", f"i{number}", None, 0, 0, 0, sends, "o", "q", None, "RUNNING", now, 0
    )


class Rows:
    """What recovery reads, and what it takes to send again."""

    def __init__(self) -> None:
        self.due: list[Any] = []
        self.taken: list[Any] = []
        self.has_fresh = True
        self.has_fresh_activities = self.has_fresh_wakes = lambda after: self.has_fresh
        self.due_activities = self.due_wakes = lambda limit, lost: self.due[:limit]

    def resend(self, rows: Any, back_off: Any) -> list[Any]:
        self.taken += rows
        return list(rows)

    resend_activities = resend_wakes = resend


def recovery(kind: str, rows: Rows) -> Any:
    store: Any = SimpleNamespace(recovery=rows)
    publisher: Any = SimpleNamespace(
        knows_task=lambda name: True, publish_turn=lambda address, **_: True
    )
    if kind == "turns":
        return InboxRecovery(store, publisher, {"o"})  # type: ignore[arg-type]
    engine: Any = SimpleNamespace(
        pausing=SimpleNamespace(holds=lambda *_: False),
        dispatcher=SimpleNamespace(activities=lambda rows: None),
    )
    options: Any = SimpleNamespace(max_activity_crashes=3)
    codec: Any = None
    return OutboxRecovery(store, engine, publisher, codec, options, RuntimeError)


@pytest.mark.parametrize(("kind", "due"), [("turns", wake), ("activities", activity)])
def test_a_full_batch_of_lost_messages_waits_and_nothing_else(kind: str, due: Any) -> None:
    rows = Rows()
    tested = recovery(kind, rows)

    def repaired(number: int, at: int, *, sent: bool = True) -> int:
        rows.due = [due(each, at * SECOND, sent) for each in range(1, number + 1)]
        rows.taken.clear()
        tested.repair(BATCH, ALL)
        return len(rows.taken)

    assert repaired(BATCH - 1, 100) == BATCH - 1
    assert repaired(BATCH, 100, sent=False) == BATCH
    assert [repaired(BATCH, 100 + n) for n in range(8)] == [0] * 7 + [BATCH]
    assert repaired(BATCH, 108) == BATCH
    assert repaired(BATCH, 200) == 0  # another one
    rows.has_fresh = False
    assert repaired(BATCH, 300) == BATCH  # all of it is proven
    rows.has_fresh = True
    rows.taken.clear()
    rows.due = [due(each, 200 * SECOND, True) for each in range(BATCH)]
    assert tested.repair(BATCH) == BATCH and len(rows.taken) == BATCH  # all that may be lost


def test_a_clock_that_steps_back_begins_again() -> None:
    settling = Settling()
    assert settling.holds(1_000 * SECOND)
    assert settling.holds(10 * SECOND)
    assert not settling.holds(17 * SECOND)
