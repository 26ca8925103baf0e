"""Numbers of commands, and the check of what is asked for against history."""

from __future__ import annotations

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CancelTimer, CreateTimer, RecordPatch
from celery_durable.core.ports import ExecutionInfo
from celery_durable.core.recorder import Recorder, TooManyCommandsError
from celery_durable.errors import NonDeterminismError, TurnLimitExceeded

INFO = ExecutionInfo("order-42", "e" * 20, "shop.fulfil_order", "3")


def recorder(most: int = 3, *, checks_arguments: bool = False) -> Recorder:
    return Recorder(
        INFO, most=most, traces=False, checks_arguments=checks_arguments, waiting_line=lambda: None
    )


def test_numbers_are_given_in_order_and_what_a_rewind_used_is_passed_over():
    numbers = recorder()
    assert [numbers.next_number() for _ in range(3)] == [1, 2, 3]
    numbers.skip_numbers(10)
    numbers.skip_numbers(5)
    assert numbers.next_number() == 11


def test_a_turn_that_asks_for_too_much_is_stopped_and_refused():
    numbers = recorder(most=2)
    numbers.begin_turn()
    numbers.next_number(), numbers.next_number()
    with pytest.raises(TooManyCommandsError):
        numbers.next_number()
    with pytest.raises(TurnLimitExceeded, match="more than 2 commands in one turn"):
        numbers.end_turn()


def test_passed_over_numbers_do_not_count_as_asked_for():
    numbers = recorder(most=2)
    numbers.begin_turn()
    numbers.skip_numbers(100)
    assert [numbers.next_number(), numbers.next_number()] == [101, 102]
    numbers.end_turn()
    assert numbers.next_number() == 103


def test_what_is_withdrawn_before_it_is_recorded_leaves_no_trace():
    asked = recorder()
    asked.ask(CreateTimer(1, 5))
    assert asked.withdraw(1, CancelTimer(1))
    assert asked.drain() == []
    asked.ask(CreateTimer(2, 5))
    asked.drain()
    assert not asked.withdraw(2, CancelTimer(2))
    assert asked.drain() == [CancelTimer(2)]


def test_two_commands_under_one_number_are_both_kept_in_order():
    asked = recorder()
    asked.ask(CreateTimer(1, 5))
    asked.ask(CancelTimer(1))
    assert asked.drain() == [CreateTimer(1, 5), CancelTimer(1)]
    assert asked.drain() == []


def test_history_confirms_one_command_after_the_other():
    asked = recorder()
    asked.ask(CreateTimer(1, 5))
    asked.ask(RecordPatch(2, "change"))
    asked.confirm(Event(EventKind.TIMER_CREATED, 1, 1, facts={"due": 5}))
    with pytest.raises(NonDeterminismError, match="history has TimerFired, the code now asks for"):
        asked.expect_nothing_asked(Event(EventKind.TIMER_FIRED, 5, 1))
    asked.confirm(Event(EventKind.PATCH_RECORDED, 1, 2, name="change"))
    asked.expect_nothing_asked(None)


def test_a_disagreement_names_both_sides_and_the_version():
    asked = recorder()
    asked.length = 7
    asked.ask(RecordPatch(1, "new"))
    with pytest.raises(NonDeterminismError) as caught:
        asked.confirm(Event(EventKind.PATCH_RECORDED, 1, 1, name="old"))
    assert str(caught.value) == (
        "orchestration 'order-42' (shop.fulfil_order v3), event 7: history has PatchRecorded 'old',"
        " the code now asks for RecordPatch 'new'"
    )
    assert (caught.value.event, caught.value.instance_id) == (7, "order-42")
