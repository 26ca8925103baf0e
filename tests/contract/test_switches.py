"""Switches in each store: one row a name, holds under the lock of their pause, and letting go."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.switches import Switch, until_of
from celery_durable.store import Store

from .builders import SECOND, activity, at_once, begin, commit, event, record, rows, succeeded, take

LEASE = 60 * SECOND
TASK = ("task", "task")


def paused(store: Store, kind: str = "task", name: str = "task") -> Switch:
    return store.switches.set(kind, name, None, "why")


def tickets(execution: str, number: int) -> list[ActivityAttemptId]:
    return [ActivityAttemptId(execution, command, 1) for command in range(1, number + 1)]


def due(store: Store) -> list[int]:
    """Return the commands that recovery would send now, in its order."""
    return [each.row.ticket.command for each in store.recovery.due_activities(100)]


def test_a_switch_is_one_row_and_keeps_its_time_while_it_is_in_force(store: Store) -> None:
    first, second = paused(store), store.switches.set(*TASK, None, "later")
    assert (second.since, second.reason) == (first.since, "later")
    assert store.switches.lift(*TASK) and not store.switches.lift(*TASK)
    assert [row.lifted_at is None for row in store.switches.read()] == [False]
    assert paused(store).since > first.since
    assert [row.lifted_at for row in store.switches.read()] == [None]
    assert store.switches.delete(*TASK) and not store.switches.delete(*TASK)


def test_what_is_held_begins_nowhere_and_is_let_go_in_its_order(store: Store) -> None:
    pause = paused(store)
    made = [activity(number, is_sent=True, timeout=5 * SECOND) for number in range(1, 7)]
    each = tickets(begin(store, activities=made), 6)
    assert all(store.switches.hold_activity(ticket, pause, LEASE) for ticket in reversed(each[:5]))
    assert not store.switches.hold_activity(each[0], pause, LEASE)
    assert not take(store, each[0], "w", LEASE)
    assert store.attempts.begin_once(each[0], "w", 1, 1) is None
    assert store.switches.held(*TASK) == 5
    assert store.switches.release(10) == 0
    store.switches.lift(*TASK)
    assert [store.switches.release(3) for _ in range(3)] == [3, 2, 0]
    assert due(store)[:5] == [1, 2, 3, 4, 5]  # the sixth may be taken for lost meanwhile
    assert store.switches.read() == []
    now = store.now()
    for row in rows(store, "outbox"):
        assert now + 4 * SECOND < row["deadline_at"] <= now + 5 * SECOND, row
    assert take(store, each[0], "w", LEASE)


def test_what_runs_is_not_held_and_what_is_lifted_holds_nothing(store: Store) -> None:
    pause = paused(store)
    first, second = tickets(begin(store, activities=[activity(1), activity(2)]), 2)
    store.workers.heartbeat("w", "host")
    assert take(store, first, "w", LEASE)
    assert not store.switches.hold_activity(first, pause, LEASE)
    store.switches.lift(*TASK)
    assert not store.switches.hold_activity(second, pause, LEASE)
    assert store.switches.held(*TASK) == 0


def test_what_ends_while_it_is_held_counts_no_more(store: Store) -> None:
    pause = paused(store)
    execution = begin(store, activities=[activity(1), activity(2)])
    for ticket in tickets(execution, 2):
        assert store.switches.hold_activity(ticket, pause, LEASE)
    commit(store, canceled_commands=[1])
    assert store.switches.held(*TASK) == 1
    assert record(store, succeeded(execution, 2)) is not None
    assert store.switches.held(*TASK) == 0
    store.switches.lift(*TASK)
    assert [store.switches.release(10), store.switches.release(10)] == [2, 0]
    assert store.switches.read() == []


def test_the_messages_of_a_held_instance_wait_without_a_time(store: Store) -> None:
    pause = paused(store, "orchestrator", "orchestrator")
    execution = begin(store)
    store.inbox.put([event(check_after=SECOND), event(visible_at=store.now() + 3_600 * SECOND)])
    assert store.switches.hold_turns("i", execution, pause)
    assert store.switches.hold_turns("i", execution, pause)
    assert {row["check_at"] for row in rows(store, "inbox")} == {None}
    assert store.switches.held("orchestrator", "orchestrator") == 1
    store.switches.lift("orchestrator", "orchestrator")
    assert not store.switches.hold_turns("i", execution, pause)
    assert store.switches.release(10) == 1
    now = store.now()
    soon, later = sorted(row["check_at"] for row in rows(store, "inbox"))
    assert soon <= now < later
    assert [wake.instance for wake in store.recovery.due_wakes(10)] == ["i"]


def test_held_instances_are_woken_in_the_order_in_which_they_were_held(store: Store) -> None:
    pause, order = paused(store, "orchestrator", "orchestrator"), ["c", "a", "d", "b"]
    executions = {id_: begin(store, id_) for id_ in reversed(order)}
    for id_ in order:
        store.inbox.put([event(id_, check_after=SECOND)])
        assert store.switches.hold_turns(id_, executions[id_], pause)
    store.switches.lift("orchestrator", "orchestrator")
    assert store.switches.release(10) == 4
    assert [wake.instance for wake in store.recovery.due_wakes(10)] == order


def test_holding_and_lifting_at_once_leaves_nothing_behind(store: Store) -> None:
    made = [activity(number, is_sent=True) for number in range(1, 13)]
    each = tickets(begin(store, activities=made), 12)
    pause = paused(store)
    holds = [
        lambda ticket=ticket: store.switches.hold_activity(ticket, pause, LEASE) for ticket in each
    ]
    at_once([*holds[:6], lambda: store.switches.lift(*TASK), *holds[6:]])
    while store.switches.read():
        store.switches.release(5)
    assert {row["gate"] for row in rows(store, "outbox")} == {None}


# -- pauses that tasks set by themselves -----------------------------------------------------------


def failures(store: Store, number: int, window: int = 60 * SECOND, **options: int) -> list[Any]:
    given = {"most": 3, "length": None, **options}
    return [
        store.switches.count_failure("task", window=window, reason=f"why {n}", **given)
        for n in range(number)
    ]


def test_failures_are_counted_and_pause_at_the_last(store: Store) -> None:
    assert failures(store, 2) == [None, None] and store.switches.read() == []
    (pause,) = failures(store, 1)
    assert pause == store.switches.read()[0] and pause.reason == "why 0"
    assert failures(store, 3) == [None] * 3  # it is in force
    assert store.switches.read() == [pause] and store.switches.release(10) == 0
    assert failures(store, 1) == [None]
    assert store.switches.lift(*TASK)
    assert failures(store, 2) == [None, None]
    (again,) = failures(store, 1)
    assert again.since > pause.since and again.lifted_at is None


def test_old_failures_are_forgotten(store: Store) -> None:
    assert failures(store, 10, window=0) == [None] * 10


def test_many_fail_at_once_and_one_of_them_pauses(store: Store) -> None:
    counts = at_once([lambda: failures(store, 5, most=20) for _ in range(4)])
    assert sum(pause is not None for each in counts for pause in each) == 1


def test_a_pause_ends_by_itself_at_its_time(store: Store) -> None:
    lease = 60 * SECOND
    *_, pause = failures(store, 3, length=3600 * SECOND)
    assert until_of(pause) == pytest.approx(pause.since + 3600 * SECOND, abs=5 * SECOND)
    (ticket,) = tickets(begin(store, activities=[activity()]), 1)
    assert store.switches.hold_activity(ticket, pause, LEASE)
    assert store.recovery.read_backlog(lease).has_lifted
    assert store.switches.release(10) == 0 and store.switches.held(*TASK) == 1
    store.switches.set(*TASK, '{"until": 1}', "over")
    assert store.switches.release(10) == 1 and store.switches.release(10) == 0
    assert store.switches.read() == [] and not store.recovery.read_backlog(lease).has_lifted
    store.switches.set(*TASK, "damaged", "stays")
    assert store.switches.release(10) == 0 and len(store.switches.read()) == 1
