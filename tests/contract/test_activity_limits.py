"""Limits of activities in each store: who is let in, that never too many are, and what gives slots
back.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from celery_durable.core.permits import Permit
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.writes import NewActivity
from celery_durable.store import Store, admission, outbox
from celery_durable.store.database import Statement

from .builders import (
    SECOND,
    activity,
    at_once,
    begin,
    commit,
    failed,
    record,
    rows,
    succeeded,
    take,
)

LEASE = 60 * SECOND
CRM = Permit("crm", None, 2, None, "crm")
RATE = Permit("rate", None, 3, SECOND, "rate")


def paused(task: str, queue: str | None) -> bool:
    return task.startswith("paused")


def admit(store: Store, **numbers: int) -> list[int]:
    """Let in what has room, and return the commands."""
    found = store.limits.admit(numbers, paused)
    assert found is not None
    return [row.ticket.command for row in found]


def limited(command: int, *permits: Permit, **values: Any) -> NewActivity:
    return activity(command, permits=permits or (CRM,), **values)


def left(store: Store) -> tuple[int, int]:
    """Return how many rows wait, and how many are taken, dead ones included."""
    counts = [
        store.database.fetch_one(Statement(f"SELECT COUNT(*) FROM durable_activity_{table}"))
        for table in ("waiting", "places")
    ]
    return tuple(int(count) for (count,) in counts)  # type: ignore[return-value]


def test_what_waits_begins_nowhere_and_is_let_in_with_its_time_limits(store: Store) -> None:
    execution = begin(store, activities=[limited(1, timeout=9 * SECOND, start_timeout=5 * SECOND)])
    ticket = ActivityAttemptId(execution, 1, 1)
    (row,) = rows(store, "outbox")
    assert (row["gate"], row["sent_at"], row["check_at"]) == ("limit", None, None)
    assert not take(store, ticket, "w", LEASE)
    assert store.recovery.read_backlog(LEASE).has_limited and store.limits.is_due(0)
    assert store.limits.may_admit({}, paused)
    now = store.now()
    (sent,) = store.limits.admit({}, paused, notes_try=True) or ()
    assert (sent.ticket, sent.instance, sent.name) == (ticket, "i", "task")
    (row,) = rows(store, "outbox")
    assert row["gate"] is None and row["sent_at"] >= now
    assert row["deadline_at"] - row["sent_at"] == 9 * SECOND
    assert row["start_by"] - row["sent_at"] == 5 * SECOND
    assert row["check_at"] <= row["start_by"]
    assert not store.recovery.read_backlog(LEASE).has_limited and not store.limits.is_due(0)
    assert take(store, ticket, "w", LEASE)
    assert not store.limits.may_admit({}, paused) and admit(store) == []


def test_priority_then_age_and_no_lane_holds_up_another(store: Store) -> None:
    one, other = CRM._replace(most=1, key="a"), CRM._replace(most=1, key="b")
    begin(
        store,
        activities=[
            limited(1, one),
            limited(2, one, priority=1),
            limited(3, one, priority=1),
            limited(4, other),
            limited(5, one, CRM._replace(label="all")),
            limited(6, name="paused.task"),
            limited(7),
        ],
    )
    assert admit(store) == [2, 4, 7]
    assert admit(store) == []
    uses = {(use.name, use.key): use for use in store.limits.uses({})}
    assert uses["crm", "a"][2:] == (1, None, 1, 3)


def test_an_end_of_any_kind_gives_a_place_back(store: Store) -> None:
    execution = begin(store, activities=[limited(number) for number in range(1, 9)])
    assert admit(store) == [1, 2]
    assert record(store, succeeded(execution, 1)) is not None
    assert admit(store) == [3]
    assert record(store, failed(execution, 2)) is not None
    commit(store, canceled_commands=[3, 4])
    assert admit(store) == [5, 6]
    commit(store, outcome=ActivityAttemptId(execution, 5, 1))
    assert admit(store) == [7]
    assert left(store) == (2, 2)  # of 4, and of 8
    commit(store, clears=True)
    assert [use.taken for use in store.limits.uses({})] == []
    assert store.limits.free_lost() == 4 and left(store) == (0, 0)


def test_the_smaller_of_two_numbers_holds_and_a_declared_one_is_that_of_now(store: Store) -> None:
    declared = CRM._replace(most=2, is_declared=True)
    begin(store, activities=[limited(number, declared) for number in range(1, 8)])
    assert admit(store, crm=3) == [1, 2, 3]  # it was raised since
    assert admit(store, crm=1) == []
    begin(store, "j", activities=[limited(11, CRM._replace(most=4))])
    assert admit(store, crm=9) == [4]
    assert store.limits.uses({"crm": 9})[0][2:] == (4, None, 4, 4)


def test_a_rate_counts_what_was_sent_whatever_became_of_it(store: Store) -> None:
    execution = begin(store, activities=[limited(number, RATE) for number in range(1, 6)])
    assert admit(store) == [1, 2, 3]
    for number in range(1, 4):
        record(store, succeeded(execution, number))
    assert admit(store) == []
    store.database.change_one(
        Statement("UPDATE durable_activity_places SET expires_at = 1 WHERE command = 1")
    )
    assert admit(store) == [4]


def test_a_window_lets_go_first(store: Store) -> None:
    members = [limited(number, window_command=1, is_held=number > 2) for number in range(1, 5)]
    execution = begin(store, activities=members)
    assert admit(store) == [1, 2] and store.limits.standings(execution, {}) == []
    recorded = store.outcomes.record(succeeded(execution, 1), release=True)
    assert recorded is not None and recorded.released == []
    (standing,) = store.limits.standings(execution, {})
    assert (standing.command, standing.slots[0][1], standing.before) == (3, 1, 0)
    assert admit(store) == [3] and left(store) == (1, 2)


def test_what_is_left_of_a_canceled_window_is_deleted(store: Store) -> None:
    begin(store, activities=[limited(number, window_command=1, is_held=True) for number in (1, 2)])
    assert not store.recovery.read_backlog(LEASE).has_limited
    assert store.limits.free_lost() == 0
    commit(store, canceled_commands=[1, 2])
    assert store.recovery.read_backlog(LEASE).has_slots
    assert store.limits.free_lost() == 2 and left(store) == (0, 0)
    assert not store.recovery.read_backlog(LEASE).has_slots


def test_who_finds_the_lock_taken_leaves_it(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    begin(store, activities=[limited(1)])

    def hold(cursor: Any) -> Any:
        assert admission.lock(store.database, cursor, "")
        return at_once([lambda: store.limits.admit({}, paused)])[0]

    admit(store)
    assert store.database.transact(hold) is None


def test_never_too_many_by_many_at_once(store: Store) -> None:
    number = 40
    executions = {
        f"i{each}": begin(store, f"i{each}", activities=[limited(1), limited(2)])
        for each in range(number // 2)
    }
    sent: dict[ActivityAttemptId, bool] = {}
    running: list[int] = []

    def work(seed: int) -> None:
        """Let in and end something, as many processes do."""
        rng = random.Random(seed)  # noqa: S311
        for _ in range(200):
            if len(sent) >= number:
                return
            for row in store.limits.admit({}, paused) or ():
                assert row.ticket not in sent
                sent[row.ticket] = True
            running.append(sum(1 for row in rows(store, "outbox") if row["sent_at"] is not None))
            ticket = next((each for each in list(sent) if sent[each]), None)
            if ticket is not None and rng.random() < 0.8:
                record(store, succeeded(*ticket))
                sent[ticket] = False

    at_once([lambda n=each: work(n) for each in range(4)])
    assert max(running) <= 2 and len(sent) == number
    assert set(sent) == {
        ActivityAttemptId(execution, command, 1)
        for execution in executions.values()
        for command in (1, 2)
    }


def test_a_cancel_under_way_is_not_waited_for(store: Store) -> None:
    if store.database.family == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    execution = begin(store, activities=[limited(1), limited(2), limited(3)])
    ticket = ActivityAttemptId(execution, 1, 1)

    def cancel(cursor: Any) -> Any:
        assert outbox.cancel(store.database, cursor, execution, [1])
        return at_once([lambda: admit(store)])[0]

    assert store.database.transact(cancel) == [2]
    assert admit(store) == [3] and not take(store, ticket, "w", LEASE)
