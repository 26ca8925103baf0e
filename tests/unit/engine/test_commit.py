"""From a decision to one commit: what holds for all commands together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.commands import Command
from celery_durable.core.decision import Decision
from celery_durable.core.history import Event, EventKind, load_events
from celery_durable.core.kinds import (
    CancelActivity,
    CompleteExecution,
    CreateTimer,
    ScheduleActivity,
    SendEvent,
)
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.commit import activity_rows, compile_decision
from celery_durable.engine.writes import TurnCommit
from celery_durable.settings import Settings

from .compilers.drafts import CODEC, Asked
from .rows import NOW, snapshot

BEGUN = Event(EventKind.EXECUTION_STARTED, NOW)
END = CompleteExecution(9, "5")


def called(number: int, **values: Any) -> ScheduleActivity:
    return ScheduleActivity(number, 1, "charge", "[[], {}]", (), {}, {}, **values)


def compiled(
    *commands: Command,
    asked: Asked | None = None,
    has_outstanding: bool = False,
    max_activities: int | None = None,
    settings: Settings | None = None,
    status: RuntimeStatus = RuntimeStatus.RUNNING,
    **decided: Any,
) -> TurnCommit:
    answers: Any = asked or Asked()
    execution: Any = SimpleNamespace(has_outstanding=has_outstanding)
    final = next((each for each in commands if each.is_final), None)
    return compile_decision(
        Decision(commands=list(commands), final=final, now=NOW, **decided),
        snapshot(status=status),
        execution,
        settings or Settings(resend_after=5),
        answers,
        CODEC,
        answers,
        answers,
        max_activities,
    )


def test_it_is_guarded_by_where_the_turn_has_read_the_instance() -> None:
    commit = compiled(events=[BEGUN], custom_status="1", tag_changes={"a": None})
    assert (commit.instance_id, commit.execution, commit.sequence) == ("i", "e", 1)
    assert commit.statuses == (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
    assert [event.kind for event in load_events(commit.events or "")] == [BEGUN.kind]
    assert (commit.custom_status, commit.tag_changes) == ("1", {"a": None})


@pytest.mark.parametrize(
    ("status", "events", "after"),
    [
        (RuntimeStatus.PENDING, [BEGUN], RuntimeStatus.RUNNING),
        (RuntimeStatus.PENDING, [], None),
        (RuntimeStatus.RUNNING, [BEGUN], None),
    ],
)
def test_one_that_waits_runs_from_its_first_turn_on(
    status: RuntimeStatus, events: list[Event], after: RuntimeStatus | None
) -> None:
    assert compiled(status=status, events=events).status == after


def test_commands_are_compiled_in_the_order_in_which_they_were_asked_for() -> None:
    commit = compiled(called(1), called(2), CancelActivity(1, 1))
    assert [new.command for new in commit.activities] == [2]
    assert commit.canceled_commands == []
    commit = compiled(CancelActivity(1, 1), called(2))
    assert commit.canceled_commands == [1]


def test_joins_that_are_formed_have_a_row_that_sleeps_and_those_that_ended_lose_it() -> None:
    commit = compiled(joins_formed={7, 3}, joins_ended={2, 1})
    assert [message.dedup for message in commit.own_inbox] == ["join:e:3", "join:e:7"]
    assert [(message.wakes, message.check_after) for message in commit.own_inbox] == [
        (False, 10_000_000)
    ] * 2
    assert commit.canceled_dedups == ["join:e:1", "join:e:2"]


def test_a_new_row_has_its_join_from_the_beginning() -> None:
    commit = compiled(called(2), join_changes={1: 3, 2: 3}, joins={2: 3})
    assert commit.join_changes == {1: 3}
    assert [new.join_command for new in commit.activities] == [3]


@pytest.mark.parametrize(
    ("given", "setting", "most"), [(3, 5, 3), (None, 5, 5), (None, 0, None), (3, 0, 3)]
)
def test_what_is_declared_limits_activities_before_the_setting(
    given: int | None, setting: int, most: int | None
) -> None:
    settings = Settings(max_instance_activities=setting)
    assert compiled(max_activities=given, settings=settings).max_activities == most


# -- the end ---------------------------------------------------------------------------------------


def test_at_the_end_nothing_is_written_that_was_asked_for_and_not_awaited() -> None:
    asked = Asked()
    asked.needs_message_at_end = True
    commit = compiled(
        called(1),
        CreateTimer(2, NOW),
        SendEvent(3, "other", "paid", "5"),
        END,
        asked=asked,
        max_activities=5,
        joins_formed={4},
        join_changes={1: 4},
        released_slots={0: 1},
    )
    assert [new.kind for new in commit.activities] == ["finish"]
    assert [message.instance for message in commit.other_inboxes] == ["other"]  # that was sent
    assert (commit.own_inbox, commit.join_changes, commit.released_slots) == ([], {}, {})
    assert (commit.max_activities, commit.clears) == (None, False)


@pytest.mark.parametrize(
    ("has_outstanding", "commands", "ended", "clears"),
    [
        (False, [], set(), False),
        (True, [], set(), True),
        (False, [CancelActivity(1, 1, 4)], set(), True),
        (False, [], {1}, True),
    ],
)
def test_what_earlier_turns_have_left_is_cleared_as_a_whole(
    has_outstanding: bool, commands: list[Command], ended: set[int], clears: bool
) -> None:
    commit = compiled(*commands, END, has_outstanding=has_outstanding, joins_ended=ended)
    assert commit.clears is clears
    assert (commit.canceled_commands, commit.canceled_dedups, commit.vacated) == ([], [], {})


def test_one_that_ends_unbegun_has_its_start_message_still() -> None:
    assert compiled(END, status=RuntimeStatus.PENDING).clears
    assert not compiled(END, status=RuntimeStatus.PENDING, events=[BEGUN]).clears


def test_a_suspension_keeps_what_was_decided_and_says_why() -> None:
    commit = compiled(called(1), suspend_reason="it waits for nothing", events=[BEGUN])
    assert (commit.status, commit.reason) == (RuntimeStatus.SUSPENDED, "it waits for nothing")
    assert commit.parks_inbox
    assert [new.command for new in commit.activities] == [1]
    note = load_events(commit.events or "")[-1]
    assert (note.kind, note.at, note.facts) == (
        EventKind.EXECUTION_SUSPENDED,
        NOW,
        {"reason": "it waits for nothing"},
    )


# -- what is sent ----------------------------------------------------------------------------------


def test_only_activities_that_wait_for_nothing_are_sent_at_once() -> None:
    commit = compiled(called(1), called(2, window=9, is_held=True), called(3))
    commit.activities[2].is_sent = False
    [row] = activity_rows(commit, "root")
    assert (row.ticket.execution, row.ticket.command, row.ticket.attempt) == ("e", 1, 1)
    assert (row.name, row.queue) == ("charge", "charge.queue")
