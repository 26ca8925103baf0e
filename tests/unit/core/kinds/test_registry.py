"""The kinds of commands: each event and each command belongs to one."""

from __future__ import annotations

from celery_durable.core.history import NOTES, EventKind
from celery_durable.core.kinds import (
    ASKED,
    CALL_FAILURES,
    CALL_OUTCOMES,
    CALL_RESULTS,
    CALLS_ASKED,
    CONFIRMATIONS,
    INPUTS,
    KINDS,
    WITHDRAWN,
)


def test_every_event_is_an_input_a_confirmation_or_a_note():
    assert INPUTS | KINDS.confirming | NOTES == set(EventKind)
    assert set(KINDS.notes) <= NOTES
    assert set(KINDS.foreseen) <= KINDS.confirming


def test_what_is_said_of_calls_timers_and_their_ends():
    assert {"ActivityScheduled", "ChildStarted", "TimerCreated"} == ASKED
    assert {"ActivityCanceled", "ChildCanceled", "TimerCanceled"} == WITHDRAWN
    assert {"ActivityScheduled", "ChildStarted"} == CALLS_ASKED
    assert CALL_RESULTS | CALL_FAILURES == CALL_OUTCOMES


def test_only_what_the_commit_itself_carries_out_is_repeated_by_a_rewind():
    one_shot = {command.__name__ for command in CONFIRMATIONS if command.is_one_shot}
    assert one_shot == {"SendEvent", "CancelChild", "RecordRun", "AnswerRequest"}
    final = {command.__name__ for command in CONFIRMATIONS if command.is_final}
    assert final == {"CompleteExecution", "FailExecution", "CancelExecution", "ContinueAsNew"}
