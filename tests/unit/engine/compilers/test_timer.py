"""The message of a timer: when it is seen, when recovery looks, and how it is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.decision import Decision
from celery_durable.core.kinds import CancelTimer, CreateTimer
from celery_durable.engine.compilers.timer import cancel_timer, create_timer
from celery_durable.engine.draft import CHECK_AFTER
from celery_durable.settings import Settings
from tests.unit.engine.rows import NOW, SECOND

from .drafts import new_draft

HORIZON = 60
NEAR, FAR = NOW + HORIZON * SECOND, NOW + HORIZON * SECOND + 1


def draft(**more: Any) -> Any:
    return new_draft(settings=Settings(timer_horizon=HORIZON), **more)


@pytest.mark.parametrize(
    ("due", "check_after"), [(NOW, CHECK_AFTER), (NEAR, CHECK_AFTER), (FAR, -HORIZON * SECOND)]
)
def test_of_one_that_is_far_ahead_recovery_looks_before_it_is_due(
    due: int, check_after: int
) -> None:
    made = draft()
    create_timer(made, CreateTimer(3, due))
    [message] = made.commit.own_inbox
    assert (message.visible_at, message.check_after) == (due, check_after)
    assert (message.instance, message.execution, message.command) == ("i", "e", 3)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({}, None),
        ({"awaits": ("event", "paid")}, {"event": "paid"}),
        ({"is_deadline": True}, {"deadline": True}),
        ({"is_deadline": True, "awaits": ("event", "paid")}, {"deadline": True}),
    ],
)
def test_it_says_what_is_waited_for(values: dict[str, Any], facts: dict[str, Any] | None) -> None:
    made = draft()
    create_timer(made, CreateTimer(3, NOW, **values))
    assert made.commit.own_inbox[0].facts == facts


def test_one_that_has_fired_in_this_turn_is_not_written() -> None:
    made = draft(decision=Decision(fired={3}))
    create_timer(made, CreateTimer(3, NOW))
    assert made.commit.own_inbox == []


def test_one_of_this_very_turn_is_dropped_and_one_before_is_deleted_by_its_key() -> None:
    made = draft()
    create_timer(made, CreateTimer(3, NOW))
    create_timer(made, CreateTimer(4, NOW))
    cancel_timer(made, CancelTimer(3))
    cancel_timer(made, CancelTimer(2))
    assert [message.dedup for message in made.commit.own_inbox] == ["timer:e:4"]
    assert made.commit.canceled_dedups == ["timer:e:2"]
