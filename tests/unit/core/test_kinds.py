"""The kinds of commands: each event and each command belongs to one."""

from __future__ import annotations

import re
from copy import copy
from pathlib import Path
from typing import ClassVar

import pytest

from celery_durable.core.commands import Command
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
    LAPSING,
    WITHDRAWN,
    Kind,
)


def test_every_event_is_an_input_a_confirmation_or_a_note():
    assert INPUTS | KINDS.confirming | NOTES == set(EventKind)
    assert set(KINDS.notes) <= NOTES
    assert set(KINDS.foreseen) <= KINDS.confirming


def test_a_failed_instance_keeps_events_requests_and_outcomes_for_a_rewind():
    assert INPUTS >= LAPSING
    assert INPUTS - LAPSING == {
        "EventRaised",
        "RequestReceived",
        "ActivityCompleted",
        "ActivityFailed",
        "ChildCompleted",
        "ChildFailed",
    }


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


KINDS_FOLDER = Path(__file__).parent / "kinds"


@pytest.mark.parametrize("kind", KINDS.kinds, ids=lambda kind: kind.name)
def test_each_kind_has_a_test_of_its_own_that_names_all_its_events_and_commands(kind):
    path = KINDS_FOLDER / f"test_{kind.__module__.rpartition('.')[2]}.py"
    assert path.is_file(), f"write {path.name}: how it is asked, answered, replayed and canceled"
    text = path.read_text()
    events = {EventKind(event).name: str(event) for event in {*kind.inputs, *kind.notes}}
    confirmed = {
        EventKind(each.confirmed_by).name: str(each.confirmed_by) for each in kind.commands
    }
    missing = [
        name for member, name in {**events, **confirmed}.items() if not {member, name} & names(text)
    ]
    missing += [each.__name__ for each in kind.commands if each.__name__ not in names(text)]
    assert not missing, f"{path.name} does not test {missing}"


def names(text):
    return set(re.findall(r"\w+", text))


def test_a_kind_from_outside_that_shares_a_name_changes_nothing():
    registry = KINDS.with_kinds()
    before = {name: copy(value) for name, value in vars(registry).items()}

    class Impostor(Kind):
        name = "impostor"
        inputs: ClassVar = {"ImpostorCame": None, EventKind.TIMER_FIRED: None}

    with pytest.raises(ValueError, match="TimerFired belongs to two kinds"):
        registry.add(Impostor)
    assert vars(registry) == before


def test_what_follows_from_the_registry_is_alive():
    registry = KINDS.with_kinds()
    asked = registry.asked

    class Ask(Command):
        confirmed_by: ClassVar[str] = "Asked"

    class Questions(Kind):
        name = "questions"
        commands = (Ask,)
        inputs: ClassVar = {"Answered": Ask}

    registry.add(Questions)
    assert "Asked" in asked
    assert "Asked" in registry.confirming
    assert registry.resolutions["Answered"] is Ask
    assert "Asked" not in KINDS.asked
