"""The end of an execution: what is kept, and who hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import (
    Aside,
    CancelExecution,
    CompleteExecution,
    ContinueAsNew,
    FailExecution,
)
from celery_durable.core.names import request_key
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.compilers import COMPILERS
from celery_durable.engine.draft import CommitDraft
from celery_durable.engine.observers import PropagatedContext
from celery_durable.engine.records import CARRIED_OVER
from celery_durable.engine.writes import TurnCommit

from .drafts import CODEC, Asked, new_draft

OF_A_PARENT = {"parent_id": "p", "parent_execution": "pe", "parent_command": 4, "parent_attempt": 2}
ENDS = [
    CompleteExecution(9, "5"),
    FailExecution(9, '{"type": "ValueError"}', "ValueError: no"),
    CancelExecution(9, "why"),
]


def compiled(command: Any, asked: Asked | None = None, **more: Any) -> TurnCommit:
    draft: CommitDraft = new_draft(asked, **more)
    COMPILERS[type(command)](draft, command)
    return draft.commit


def test_each_end_has_its_status_and_what_people_and_callers_are_told() -> None:
    ends = [compiled(command) for command in ENDS]
    assert [(end.status, end.output, end.failure, end.reason) for end in ends] == [
        (RuntimeStatus.COMPLETED, "5", None, None),
        (RuntimeStatus.FAILED, None, '{"type": "ValueError"}', "ValueError: no"),
        (RuntimeStatus.CANCELED, None, None, "why"),
    ]
    assert not any(end.other_inboxes or end.activities for end in ends)


@pytest.mark.parametrize("command", ENDS, ids=lambda command: command.kind)
def test_a_parent_hears_of_it_under_one_key(command: Any) -> None:
    [told] = compiled(command, **OF_A_PARENT).other_inboxes
    assert (told.instance, told.execution, told.dedup) == ("p", "pe", "child:pe:4:2")
    is_good = isinstance(command, CompleteExecution)
    assert told.kind == (EventKind.CHILD_COMPLETED if is_good else EventKind.CHILD_FAILED)
    if isinstance(command, CancelExecution):
        assert "CANCELED" in str(CODEC.decode_failure(told.payload or "")[0])
    else:
        assert told.payload == (command.output if is_good else command.failure)


def test_one_without_an_execution_to_hear_it_tells_nothing() -> None:
    assert compiled(ENDS[0], parent_id="p").other_inboxes == []


def test_where_celery_is_to_hear_of_it_a_last_message_is_sent() -> None:
    asked = Asked()
    asked.needs_message_at_end = True
    [last] = compiled(ENDS[0], asked, queue="q").activities
    assert (last.kind, last.command, last.name, last.queue) == ("finish", 0, "flow", "q")


# -- continue-as-new -------------------------------------------------------------------------------


def continued(**values: Any) -> TurnCommit:
    more = {name: values.pop(name) for name in ("carried",) if name in values}
    return compiled(ContinueAsNew(9, "[[2], {}]", **values), **more)


def test_the_next_execution_starts_with_its_input() -> None:
    commit = continued(carried=PropagatedContext(successor={"trace": "t"}))
    assert (commit.next_input, commit.status) == ("[[2], {}]", None)
    assert commit.next_execution not in (None, "e")
    [start] = commit.own_inbox
    assert (start.kind, start.execution) == (EventKind.EXECUTION_STARTED, commit.next_execution)
    assert (start.facts, start.wakes, start.check_after is None) == ({"trace": "t"}, True, False)


def test_one_that_awaits_a_message_is_not_woken_by_its_start() -> None:
    commit = continued(awaits_message=True)
    [start] = commit.own_inbox
    assert (commit.awaits_message, start.wakes, start.check_after) == (True, False, None)
    assert start.facts is None


def test_what_was_not_taken_keeps_its_order_and_its_times() -> None:
    events = [
        Event(EventKind.EVENT_RAISED, at, name="paid", payload=f"{at}", facts={"id": f"e{at}"})
        for at in (7, 8)
    ]
    commit = continued(events=events, unanswered=["r1"])
    kept = commit.own_inbox[1:]
    assert [message.dedup for message in kept] == [
        f"kept:{commit.next_execution}:{number}" for number in (0, 1)
    ]
    assert [(message.since, message.payload, message.attempt) for message in kept] == [
        (7, "7", CARRIED_OVER),
        (8, "8", CARRIED_OVER),
    ]
    assert [answer.request for answer in commit.answers] == [request_key("r1")]


def test_what_an_entity_puts_aside_wakes_it_only_when_it_is_shown() -> None:
    put: list[tuple[int, str | None, str]] = [(1, None, "a"), (2, "lock", "b")]
    commit = continued(aside=Aside(put, ["old"]))
    aside = commit.own_inbox[1:]
    assert [(message.dedup, message.aside, message.wakes) for message in aside] == [
        ("aside:1", 1, False),
        ("aside:lock", 2, False),
    ]
    assert (commit.withdrawn, commit.shows) == (["aside:old"], None)
    commit = continued(aside=Aside(shows=2, end="all"))
    [_, last] = commit.own_inbox
    assert (commit.shows, last.dedup, last.payload, last.wakes) == (2, "shown:2", "all", True)
