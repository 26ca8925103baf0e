"""The message of an event that is sent: its key, its time, and whom it creates."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.kinds import SendEvent
from celery_durable.engine.compilers.external_event import send_event
from celery_durable.engine.draft import CHECK_AFTER
from celery_durable.engine.writes import NewInbox
from celery_durable.settings import Settings
from tests.unit.engine.rows import NOW, SECOND

from .drafts import new_draft


def sent(**values: Any) -> NewInbox:
    draft = new_draft(settings=Settings(timer_horizon=60))
    send_event(draft, SendEvent(3, "other", "paid", "5", **values))
    [message] = draft.commit.other_inboxes
    return message


@pytest.mark.parametrize(
    ("again", "dedup"), [(0, "sent:e:3"), (2, "sent:e:3:2"), (None, "sent:e:3:at:1")]
)
def test_its_key_tells_it_from_others_of_its_number(again: int | None, dedup: str) -> None:
    message = sent(again=again)
    assert (message.dedup, message.instance, message.name) == (dedup, "other", "paid")


@pytest.mark.parametrize(
    ("due", "check_after"),
    [
        (None, CHECK_AFTER * 2),
        (NOW + 60 * SECOND, CHECK_AFTER * 2),
        (NOW + 60 * SECOND + 1, -60 * SECOND),
    ],
)
def test_it_is_seen_when_it_is_due(due: int | None, check_after: int) -> None:
    message = sent(due=due)
    assert (message.visible_at, message.check_after) == (due, check_after)


def test_an_entity_is_created_by_it_and_no_other_instance() -> None:
    assert sent().creates is None
    made = sent(creates="counter").creates
    assert made is not None
    assert (made.id, made.name, made.queue) == ("other", "counter", "counter.queue")
    assert made.awaits_message
