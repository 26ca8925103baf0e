"""The outbox row of an activity: what its message says, and how it is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.canvas_options import CanvasOptions
from celery_durable.core.decision import Decision
from celery_durable.core.kinds import CancelActivity, ScheduleActivity
from celery_durable.core.permits import Permit
from celery_durable.engine.activity_limits import LIMITED
from celery_durable.engine.compilers.activity import (
    PRESUMED_SENT,
    WHOLE_INSTANCE,
    cancel_activity,
    schedule_activity,
)
from celery_durable.engine.draft import CommitDraft
from celery_durable.engine.observers import PropagatedContext

from .drafts import CODEC, Asked, new_draft

PERMIT = Permit("crm", None, 1, None, "crm")


def scheduled(command: int = 1, **values: Any) -> ScheduleActivity:
    given: dict[str, Any] = {"attempt": 1, "options": {}, **values}
    return ScheduleActivity(
        command, task="charge", input='[["a"], {}]', args=("a",), kwargs={}, **given
    )


def headers_of(draft: CommitDraft) -> Any:
    [new] = draft.commit.activities
    _, options = CODEC.decode(new.message)
    return options.get("headers")


def test_its_row_holds_the_message_and_where_it_goes() -> None:
    draft = new_draft(decision=Decision(joins={1: 4}))
    schedule_activity(draft, scheduled(timeout=5, start_timeout=6, heartbeat_timeout=7))
    [new] = draft.commit.activities
    assert CODEC.decode(new.message) == ['[["a"], {}]', {}]
    assert (new.queue, new.join_command, new.kind) == ("charge.queue", 4, "activity")
    assert (new.timeout, new.start_timeout, new.heartbeat_timeout) == (5, 6, 7)
    assert (new.is_sent, new.is_held, new.permits, new.priority) == (True, False, (), 0)


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ({}, None),
        ({"options": {"headers": {"own": 1}}}, {"own": 1}),
        ({"redo": 3}, {"durable_redo": 3}),
        ({"terms": {"left": 2}}, {"durable_retry": {"left": 2}}),
        ({"is_in_chord": True}, {"durable_chord": True}),
    ],
)
def test_headers_tell_its_worker_what_it_needs_to_know(
    values: dict[str, Any], headers: Any
) -> None:
    draft = new_draft()
    schedule_activity(draft, scheduled(**values))
    assert headers_of(draft) == headers


def test_of_headers_of_one_name_the_callers_come_after_what_travels_and_the_engines_last() -> None:
    kept = CanvasOptions.of_start({}).with_context({"headers": {"a": "start", "b": "start"}}).kept
    draft = new_draft(
        canvas=CODEC.encode(kept), carried=PropagatedContext(headers={"c": "trace", "d": "trace"})
    )
    schedule_activity(draft, scheduled(options={"headers": {"b": "call", "c": "call"}}))
    assert headers_of(draft) == {"a": "start", "b": "call", "c": "trace", "d": "trace"}


def test_one_that_needs_a_slot_says_so_and_has_its_priority() -> None:
    asked = Asked()
    asked.needed = (PERMIT,)
    draft = new_draft(asked)
    schedule_activity(draft, scheduled())
    [new] = draft.commit.activities
    assert (new.permits, new.priority) == ((PERMIT,), 7)
    assert headers_of(draft) == {LIMITED: True}
    assert draft.sent_at_once == 0


@pytest.mark.parametrize(
    ("most", "window", "expected"),
    [(5, None, (WHOLE_INSTANCE, True)), (5, 3, (3, False)), (None, None, (None, False))],
)
def test_one_of_a_limited_instance_waits_unless_it_has_a_window(
    most: int | None, window: int | None, expected: tuple[int | None, bool]
) -> None:
    draft = new_draft(max_activities=most)
    schedule_activity(draft, scheduled(window=window))
    [new] = draft.commit.activities
    assert (new.window_command, new.is_held) == expected


def test_so_many_are_sent_at_once_and_recovery_sends_the_rest() -> None:
    draft = new_draft()
    draft.sent_at_once = PRESUMED_SENT - 1
    for number in (1, 2, 3):
        schedule_activity(draft, scheduled(number))
    assert [new.is_sent for new in draft.commit.activities] == [True, False, False]


# -- taken back ------------------------------------------------------------------------------------


def test_one_of_an_earlier_turn_is_deleted_and_its_slot_may_be_free() -> None:
    draft = new_draft()
    cancel_activity(draft, CancelActivity(1, attempt=2))
    cancel_activity(draft, CancelActivity(2, attempt=3, window=9))
    assert draft.commit.canceled_commands == [1, 2]
    assert draft.commit.vacated == {2: (9, 3)}
    assert draft.commit.released_slots == {}


@pytest.mark.parametrize(("is_held", "freed"), [(False, {9: 1}), (True, {})])
def test_one_of_this_very_turn_is_never_written(is_held: bool, freed: dict[int, int]) -> None:
    draft = new_draft()
    schedule_activity(draft, scheduled(1, window=9, is_held=is_held))
    schedule_activity(draft, scheduled(2, window=9))
    cancel_activity(draft, CancelActivity(1, attempt=1, window=9))
    assert [new.command for new in draft.commit.activities] == [2]
    assert (draft.commit.canceled_commands, draft.commit.vacated) == ([], {})
    assert (draft.commit.released_slots, draft.sent_at_once) == (freed, 1)
