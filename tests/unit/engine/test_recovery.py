"""A loss in bulk waits until all of it is proven; what is lost by itself, or was never sent, does
not.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.due import DueActivity, DueWake, Lost, Settling
from celery_durable.engine.records import ActivityAttemptId, ActivityRow
from celery_durable.engine.recovery import Recovery
from celery_durable.settings import Settings

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
        taken = list(rows)
        self.taken += taken
        self.due = [row for row in self.due if row not in taken]
        return taken


def recovery(rows: Rows, wakes: Rows) -> Recovery:
    """Return the recovery of a worker that reads and takes these, and the rows of inboxes."""
    store: Any = SimpleNamespace(
        workers=None,
        recovery=SimpleNamespace(
            due_activities=rows.due_activities,
            resend_activities=rows.resend,
            has_fresh_activities=rows.has_fresh_activities,
            due_wakes=wakes.due_wakes,
            resend_wakes=wakes.resend,
            has_fresh_wakes=wakes.has_fresh_wakes,
        ),
    )
    publisher: Any = SimpleNamespace(
        knows_task=lambda name: True,
        publish_turn=lambda address, **_: True,
        turn_queue_of=lambda queue: queue,
    )
    engine: Any = SimpleNamespace(
        pausing=SimpleNamespace(holds=lambda *_: False),
        dispatcher=SimpleNamespace(activities=lambda rows: None),
    )
    anything: Any = None
    known: Any = {"o"}
    tested = Recovery(
        store, engine, publisher, known, anything, Settings(), "w1", "w1", anything, RuntimeError
    )
    tested.batch, tested._lost = BATCH, ALL
    return tested


@pytest.fixture
def activities() -> Rows:
    return Rows()


@pytest.fixture
def wakes() -> Rows:
    return Rows()


@pytest.fixture
def tested(activities: Rows, wakes: Rows) -> Recovery:
    return recovery(activities, wakes)


@pytest.mark.parametrize(("kind", "due"), [("turns", wake), ("activities", activity)])
def test_a_full_batch_of_lost_messages_waits_and_nothing_else(
    kind: str, due: Any, tested: Recovery, activities: Rows, wakes: Rows
) -> None:
    rows = wakes if kind == "turns" else activities

    def repaired(number: int, at: int, *, sent: bool = True) -> int:
        rows.due = [due(each, at * SECOND, sent) for each in range(1, number + 1)]
        rows.taken.clear()
        tested._in_batches(reads_wakes=True, reads_outbox=True)
        return len(rows.taken)

    assert repaired(BATCH - 1, 100) == BATCH - 1
    assert repaired(BATCH, 100, sent=False) == BATCH
    assert [repaired(BATCH, 100 + n) for n in range(8)] == [0] * 7 + [BATCH]
    assert repaired(BATCH, 108) == BATCH
    assert repaired(BATCH, 200) == 0  # another one
    activities.has_fresh = wakes.has_fresh = False
    assert repaired(BATCH, 300) == BATCH  # all of it is proven
    activities.has_fresh = wakes.has_fresh = True
    assert repaired(BATCH, 301) == BATCH  # what was sent meanwhile is no part of that loss
    rows.taken.clear()
    rows.due = [due(each, 200 * SECOND, True) for each in range(BATCH)]
    repair = tested.repair_wakes if kind == "turns" else tested.repair_activities
    assert repair() == BATCH and len(rows.taken) == BATCH  # all that may be lost


def test_turns_and_activities_wait_for_each_other(
    tested: Recovery, activities: Rows, wakes: Rows
) -> None:
    def repaired(at: int) -> tuple[int, int]:
        wakes.due = [wake(1, at * SECOND, sent=True)]
        activities.due = [activity(each, at * SECOND, sent=True) for each in range(BATCH - 1)]
        activities.taken.clear(), wakes.taken.clear()
        assert tested._in_batches(reads_wakes=True, reads_outbox=True) == BATCH  # no rest yet
        return len(wakes.taken), len(activities.taken)

    wakes.has_fresh = False
    assert repaired(100) == (0, 0)
    assert repaired(102) == (0, 0)
    activities.has_fresh = False
    assert repaired(103) == (1, BATCH - 1)


def test_batch_after_batch_is_sent_while_there_is_time(
    tested: Recovery, activities: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    activities.due = [activity(each, SECOND, sent=False) for each in range(9 * BATCH)]
    assert tested._in_batches(reads_wakes=False, reads_outbox=True) == 3 * BATCH
    assert next(seconds) == 4


def test_a_clock_that_steps_back_begins_again() -> None:
    settling = Settling()
    assert settling.holds(1_000 * SECOND, lambda: True)
    assert settling.holds(10 * SECOND, lambda: True)
    assert not settling.holds(17 * SECOND, lambda: True)


def test_what_no_task_here_can_run_is_read_once_a_tick(
    tested: Recovery, activities: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tested.publisher, "knows_task", lambda name: False)
    activities.due = [activity(each, SECOND, sent=True) for each in range(9 * BATCH)]
    assert tested._in_batches(reads_wakes=False, reads_outbox=True) == BATCH
    assert activities.taken == []
