"""Outcomes: recorded once each, a join woken once, a window opened once per free slot."""

from __future__ import annotations

import pytest

from celery_durable.engine.records import ActivityAttemptId
from celery_durable.store import Store

from .builders import (
    activity,
    at_once,
    begin,
    begin_join,
    commit,
    event,
    everything,
    failed,
    kinds,
    next_turn,
    record,
    rows,
    succeeded,
)

TAKES_BOTH_WAYS = True


def test_an_outcome_is_recorded_once(store: Store) -> None:
    execution = begin(store, activities=[activity(1)])
    recorded = record(store, succeeded(execution, payload='"done"'))
    assert (recorded.instance, recorded.join_command, recorded.wakes, recorded.released) == (
        "i",
        None,
        True,
        [],
    )
    before = everything(store)
    assert record(store, succeeded(execution)) is None
    assert record(store, failed(execution)) is None
    assert everything(store) == before
    (row,) = store.turns.load("i", None).inbox
    assert (row.kind, row.command, row.attempt, row.payload) == (
        "ActivityCompleted",
        1,
        1,
        '"done"',
    )
    assert row.wake_at is not None
    assert store.outcomes.was_recorded(ActivityAttemptId(execution, 1, 1), "i")


def test_of_many_simultaneous_outcomes_of_one_attempt_one_is_recorded(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 6)])
    for number in range(1, 6):
        outcome = succeeded(execution, number)
        done = at_once([lambda o=outcome: record(store, o)] * 8)
        assert sum(result is not None for result in done) == 1
    assert kinds(store) == ["ActivityCompleted"] * 5
    assert rows(store, "outbox") == []


@pytest.mark.parametrize(
    "strange", [{"execution": "x"}, {"command": 2}, {"attempt": 2}, {"attempt": 0}]
)
def test_an_outcome_of_something_else_is_refused(store: Store, strange: dict[str, object]) -> None:
    execution = begin(store, activities=[activity(1)])
    before = everything(store)
    outcome = succeeded(execution)
    outcome.ticket = outcome.ticket._replace(**strange)
    assert record(store, outcome) is None
    assert not store.outcomes.was_recorded(outcome.ticket, "i")
    assert everything(store) == before


def test_the_last_message_to_celery_has_no_outcome(store: Store) -> None:
    execution = begin(store, activities=[activity(0, 0, kind="finish")])
    assert record(store, succeeded(execution, 0, 0)) is None
    assert store.attempts.begin(ActivityAttemptId(execution, 0, 0), None) is None
    assert len(rows(store, "outbox")) == 1


# -- joins -----------------------------------------------------------------------------------------


def test_a_success_that_only_feeds_a_join_rides_along(store: Store) -> None:
    execution = begin_join(store, 3)
    recorded = record(store, succeeded(execution, 1))
    assert (recorded.join_command, recorded.wakes) == (1, False)
    assert not store.outcomes.finish_join(execution, "i", 1)
    assert [row.wake_at for row in store.turns.load("i", None).inbox] == [None, None]


def test_a_failure_in_a_join_always_wakes(store: Store) -> None:
    execution = begin_join(store, 3)
    recorded = record(store, failed(execution, 2))
    assert (recorded.join_command, recorded.wakes) == (1, True)
    assert [row.kind for row in store.turns.load("i", None).inbox if row.wake_at is not None] == [
        "ActivityFailed"
    ]


def test_the_last_member_wakes_the_join(store: Store) -> None:
    execution = begin_join(store, 2)
    record(store, succeeded(execution, 2))
    assert not store.outcomes.finish_join(execution, "i", 1)
    record(store, succeeded(execution, 1))
    assert store.outcomes.finish_join(execution, "i", 1)
    assert not store.outcomes.finish_join(execution, "i", 1)
    assert [row.kind for row in store.turns.load("i", None).inbox if row.wake_at is not None] == [
        "Join"
    ]


def test_exactly_one_of_many_simultaneous_members_wakes_the_join(store: Store) -> None:
    for round_ in range(6):
        id_ = f"i{round_}"
        execution = begin_join(store, 8, id_)

        def end(command: int, execution: str = execution, id_: str = id_) -> bool:
            assert record(store, succeeded(execution, command)) is not None
            return store.outcomes.finish_join(execution, id_, 1)

        assert at_once([lambda n=number: end(n) for number in range(1, 9)]).count(True) == 1


def test_a_join_that_is_waited_for_again_can_be_woken_again(store: Store) -> None:
    execution = begin_join(store, 1)
    record(store, succeeded(execution, 1))
    assert store.outcomes.finish_join(execution, "i", 1)
    (woken,) = [row for row in store.turns.load("i", None).inbox if row.kind == "Join"]
    commit(store, taken=[], reset_joins=[woken.id], activities=[activity(5, join_command=1)])
    assert not store.outcomes.finish_join(execution, "i", 1)
    record(store, succeeded(execution, 5))
    assert store.outcomes.finish_join(execution, "i", 1)


def test_a_join_that_is_gone_wakes_no_one(store: Store) -> None:
    execution = begin_join(store, 1)
    commit(store, canceled_dedups=[f"join:{execution}:1"])
    record(store, succeeded(execution, 1))
    assert not store.outcomes.finish_join(execution, "i", 1)
    assert not store.outcomes.finish_join("unknown", "i", 1)


def test_joins_of_different_executions_do_not_meet(store: Store) -> None:
    first, second = begin_join(store, 1, "a"), begin_join(store, 1, "b")
    record(store, succeeded(first, 1))
    assert not store.outcomes.finish_join(second, "b", 1)
    assert store.outcomes.finish_join(first, "a", 1)


def test_a_changed_join_counts_for_outcomes_that_come_after(store: Store) -> None:
    execution = begin_join(store, 3)
    commit(store, join_changes={1: None, 2: 7}, taken=[])
    assert record(store, succeeded(execution, 1)).wakes
    assert record(store, succeeded(execution, 2)).join_command == 7
    assert record(store, succeeded(execution, 3)).join_command == 1


# -- windows ---------------------------------------------------------------------------------------


def begin_window(store: Store, width: int, held: int, id_: str = "i") -> str:
    return begin(
        store,
        id_,
        [
            activity(n, window_command=1, is_held=n > width, message=f'["[[{n}], {{}}]", {{}}]')
            for n in range(1, width + held + 1)
        ],
    )


def test_each_success_opens_the_window_by_one_in_order(store: Store) -> None:
    execution = begin_window(store, 2, 3)
    assert [row["is_held"] for row in rows(store, "outbox")] == [False, False, True, True, True]
    for command, released in ((2, 3), (1, 4), (3, 5)):
        (row,) = store.outcomes.record(succeeded(execution, command)).released
        assert row.ticket == ActivityAttemptId(execution, released, 1)
        assert (row.instance, row.kind, row.name, row.sends) == ("i", "activity", "task", 0)
        assert row.message == f'["[[{released}], {{}}]", {{}}]'
    assert store.outcomes.record(succeeded(execution, 4)).released == []
    assert not any(row["is_held"] for row in rows(store, "outbox"))


def test_a_failure_leaves_its_slot_to_the_turn(store: Store) -> None:
    execution = begin_window(store, 1, 2)
    assert store.outcomes.record(failed(execution, 1)).released == []
    committed = commit(store, released_slots={1: 5})
    assert [row.ticket.command for row in committed.released] == [2, 3]


def test_a_held_row_is_not_due_and_a_released_one_is_looked_at(store: Store) -> None:
    execution = begin_window(store, 1, 1)
    looks = {row["command"]: (row["check_at"], row["sent_at"]) for row in rows(store, "outbox")}
    assert looks[2] == (None, None)
    store.outcomes.record(succeeded(execution, 1))
    (row,) = rows(store, "outbox")
    assert row["check_at"] > row["sent_at"] > 0


def test_simultaneous_successes_release_each_row_once(store: Store) -> None:
    execution = begin_window(store, 8, 40)
    done = at_once(
        [lambda n=n: store.outcomes.record(succeeded(execution, n)).released for n in range(1, 9)]
    )
    released = sorted(row.ticket.command for rows_ in done for row in rows_)
    assert released == list(range(9, 17))
    assert [row["command"] for row in rows(store, "outbox") if row["is_held"]] == list(
        range(17, 49)
    )


def test_a_window_drains_under_concurrency_with_nothing_released_twice(store: Store) -> None:
    execution = begin_window(store, 4, 36)
    started: list[int] = [1, 2, 3, 4]

    def drain(first: int) -> None:
        todo = [first]
        while todo:
            released = store.outcomes.record(succeeded(execution, todo.pop())).released
            started.extend(row.ticket.command for row in released)
            todo.extend(row.ticket.command for row in released)

    at_once([lambda n=n: drain(n) for n in range(1, 5)])
    assert sorted(started) == list(range(1, 41))
    assert rows(store, "outbox") == []
    assert len(kinds(store)) == 40


# -- outcomes and turns ----------------------------------------------------------------------------


def test_an_outcome_that_is_canceled_by_a_turn_is_refused(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    commit(store, canceled_commands=[1])
    assert record(store, succeeded(execution, 1)) is None
    assert record(store, succeeded(execution, 2)) is not None


def test_an_outcome_races_the_turn_that_cancels_it(store: Store) -> None:
    for round_ in range(8):
        id_ = f"i{round_}"
        execution = begin(store, id_, [activity(1)])
        turn = next_turn(store, id_, canceled_commands=[1])
        recorded, committed = at_once(
            [lambda e=execution: record(store, succeeded(e)), lambda t=turn: store.turns.commit(t)]
        )
        assert committed is not None
        assert kinds(store, id_) == (["ActivityCompleted"] if recorded is not None else [])
        assert rows(store, "outbox") == []


def test_messages_pour_in_while_turns_are_committed(store: Store) -> None:
    begin(store)
    total = 60

    def send(sender: int) -> None:
        for number in range(total // 3):
            assert store.inbox.put([event(dedup=f"{sender}:{number}")]) == 1

    def take() -> int:
        taken = 0
        while taken < total // 2:
            turn = next_turn(store)
            if store.turns.commit(turn) is not None:
                taken += len(turn.taken)
        return taken

    done = at_once([lambda: send(1), lambda: send(2), lambda: send(3), take, take][:4])
    left = len(store.turns.load("i", None).inbox)
    assert done[3] + left == total
