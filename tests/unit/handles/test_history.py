"""Events of a history as clients read them: values, errors, and through pickle."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_durable.core.entity_names import REPLY
from celery_durable.core.history import Event, EventKind
from celery_durable.handles.history import HistoryEvent, read_events
from celery_durable.payload import PayloadCodec

CODEC = PayloadCodec()
FAILURE = CODEC.encode_failure(ValueError("no"))


def read(kind: str, payload: str | None, **values: Any) -> HistoryEvent:
    [event] = read_events([Event(kind, 1_000_000, payload=payload, **values)], CODEC)
    return event


@pytest.mark.parametrize(
    ("event", "value"),
    [
        (read(EventKind.ACTIVITY_COMPLETED, "5"), 5),
        (read(EventKind.ACTIVITY_COMPLETED, None), None),
        (read(EventKind.EVENT_RAISED, '{"result": 5}', name="paid"), {"result": 5}),
        (read(EventKind.EVENT_RAISED, '{"result": 5}', name=f"{REPLY}1"), 5),
        (read(EventKind.EVENT_RAISED, "[1]", name=f"{REPLY}1"), [1]),
    ],
)
def test_a_value_is_what_the_payload_holds(event: HistoryEvent, value: Any) -> None:
    assert (event.value, event.error) == (value, None)


@pytest.mark.parametrize(
    "event",
    [
        read(EventKind.ACTIVITY_FAILED, FAILURE),
        read(EventKind.CHILD_FAILED, FAILURE),
        read(EventKind.REQUEST_ANSWERED, FAILURE, facts={"failed": True}),
        read(EventKind.EVENT_RAISED, CODEC.encode({"failure": FAILURE}), name=f"{REPLY}1"),
    ],
    ids=["of an activity", "of a child", "of a request", "of an entity"],
)
def test_a_failure_is_an_error_and_no_value(event: HistoryEvent) -> None:
    assert event.value is None
    assert isinstance(event.error, ValueError) and str(event.error) == "no"


def test_events_are_numbered_from_1_and_keep_that_through_pickle() -> None:
    events = read_events([Event(EventKind.TIMER_FIRED, at) for at in (0, 1_000_000)], CODEC)
    assert [event.number for event in events] == [1, 2]
    assert events[1].time == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    again = pickle.loads(pickle.dumps(events))
    assert again == events
    assert [event.number for event in again] == [1, 2]
