"""A schedule that is paused, and one that continues: what of its row changes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from celery_durable.engine.due import ScheduleRow
from celery_durable.handles.schedule_rows import paused, planned, resumed

SECOND = 1_000_000
NOW = 100 * SECOND
GIVEN: dict[str, Any] = {
    **dict.fromkeys(field.name for field in fields(ScheduleRow)),
    "name": "s",
    "every": 30 * SECOND,
    "timezone": "UTC",
    "anchor_at": 0,
    "overlap": "skip",
    "is_paused": False,
    "next_at": 90 * SECOND,
    "check_at": 90 * SECOND,
}


def row(**values: Any) -> ScheduleRow:
    return ScheduleRow(**{**GIVEN, **values})


def test_a_plan_begins_with_the_first_tick_after_now() -> None:
    found = planned(row(), NOW)
    assert found.next_at == found.check_at == 120 * SECOND
    assert replace(found, next_at=90 * SECOND, check_at=90 * SECOND) == row()


def test_one_that_is_paused_starts_nothing_and_says_why() -> None:
    found = paused(row(), "holidays")
    assert (found.is_paused, found.reason, found.next_at, found.check_at) == (
        True,
        "holidays",
        None,
        None,
    )
    assert paused(found, "another reason") is found


def test_one_that_continues_leaves_out_what_was_missed() -> None:
    found = resumed(paused(row(), "holidays"), NOW)
    assert (found.is_paused, found.reason, found.next_at) == (False, None, 120 * SECOND)
    assert resumed(found, NOW + 60 * SECOND) is found
