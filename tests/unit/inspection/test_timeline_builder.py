"""Rows of histories: recorded ones, and ones made to show a single thing."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable import RuntimeStatus
from celery_durable.core.commands import Command
from celery_durable.core.history import Event, EventKind, load_events
from celery_durable.core.kinds import KINDS, Kind
from celery_durable.engine.listing import Outstanding, Pending
from celery_durable.inspection.timeline_builder import TimelineBuilder
from celery_durable.inspection.timeline_kinds import handlers_of
from celery_durable.inspection.timeline_rows import Row
from celery_durable.payload import PayloadCodec

K = EventKind
HANDLERS = handlers_of(KINDS)
CODEC = PayloadCodec()
RECORDED = sorted((Path(__file__).parents[2] / "histories" / "0.1.0").glob("*.json"))
BOOM = CODEC.encode_failure(ValueError("boom"))


def lanes_of(*events: Event, created_at: int = 0, started_at: int | None = None) -> TimelineBuilder:
    lanes = TimelineBuilder(CODEC, "sale", created_at, started_at)
    lanes.read(events, HANDLERS)
    return lanes


def begun(*events: Event) -> TimelineBuilder:
    return lanes_of(Event(K.EXECUTION_STARTED, 100), *events)


def segments(lane: Row) -> list[tuple[str, int, int, int]]:
    return [(each.kind, each.begin, each.end, each.attempt) for each in lane.spans]


def scheduled(at: int, command: int = 1, attempt: int = 1, name: str = "charge") -> Event:
    return Event(K.ACTIVITY_SCHEDULED, at, command, attempt, name)


def test_a_label_is_shown_and_the_task_noted() -> None:
    named = {"label": "the big one"}
    lanes = begun(
        scheduled(200)._replace(facts=named),
        Event(K.CHILD_STARTED, 200, 2, 1, "ship", None, {"id": "i:2", **named}),
    )
    assert (the(lanes, "activity").label, the(lanes, "activity").note) == ("the big one", "charge")
    assert (the(lanes, "child").label, the(lanes, "child").note) == ("the big one", "i:2")


def the(lanes: TimelineBuilder, kind: str) -> Row:
    [found] = [lane for lane in lanes if lane.kind == kind]
    return found


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_histories_have_lanes_within_their_time(path: Path) -> None:
    whole = json.loads(path.read_text())
    events = [event for row in whole["history"] for event in load_events(json.dumps(row))]
    lanes = lanes_of(*events, created_at=events[0].at, started_at=events[0].at)
    lanes.end(lanes.last_at, RuntimeStatus(whole["status"]))
    drafts = list(lanes)
    assert drafts[0].kind == "orchestration"
    asked = {
        event.command for event in events if event.kind in (K.ACTIVITY_SCHEDULED, K.CHILD_STARTED)
    }
    assert asked == {lane.number for lane in drafts if lane.kind in ("activity", "child")}
    for lane in drafts:
        assert lane.spans, lane
        assert lane.outcome in ("completed", "failed", "canceled") or whole["status"] == "RUNNING"
        for each in lane.spans:
            assert lanes.begin <= each.begin <= each.end <= lanes.last_at
            assert each.kind in ("queued", "running", "waiting", "failed")
        assert all(before.end <= after.begin for before, after in itertools.pairwise(lane.spans)), (
            lane
        )


def test_what_an_outcome_tells_of_its_time_separates_queued_from_running() -> None:
    lanes = begun(scheduled(100), Event(K.ACTIVITY_COMPLETED, 200, 1, 1, facts={"ran": 30}))
    assert segments(the(lanes, "activity")) == [("queued", 100, 170, 1), ("running", 170, 200, 1)]
    assert segments(
        the(begun(scheduled(100), Event(K.ACTIVITY_COMPLETED, 200, 1, 1)), "activity")
    ) == [("running", 100, 200, 1)]


@pytest.mark.parametrize("ran", [-5, 10**9, "x", None, True, 1.5, []])
def test_a_time_that_cannot_be_stays_within_the_attempt(ran: Any) -> None:
    lanes = begun(
        scheduled(100), Event(K.ACTIVITY_FAILED, 200, 1, 1, payload=BOOM, facts={"ran": ran})
    )
    for each in the(lanes, "activity").spans:
        assert 100 <= each.begin <= each.end <= 200


def test_a_retry_waits_in_the_lane_of_its_activity() -> None:
    lanes = begun(
        scheduled(100),
        Event(K.ACTIVITY_FAILED, 200, 1, 1, payload=BOOM),
        Event(K.TIMER_CREATED, 200, 2, facts={"due": 300}),
        Event(K.TIMER_FIRED, 300, 2),
        scheduled(300, attempt=2),
        Event(K.ACTIVITY_COMPLETED, 400, 1, 2),
    )
    assert [lane.kind for lane in lanes] == ["orchestration", "activity"]
    lane = the(lanes, "activity")
    assert segments(lane) == [
        ("failed", 100, 200, 1),
        ("waiting", 200, 300, 2),
        ("running", 300, 400, 2),
    ]
    assert (lane.outcome, lane.spans[0].note) == ("completed", "builtins.ValueError: boom")


def test_a_sleep_before_a_call_is_a_lane_of_its_own() -> None:
    lanes = begun(
        Event(K.TIMER_CREATED, 100, 1, facts={"due": 200}),
        Event(K.TIMER_FIRED, 200, 1),
        scheduled(200, command=2),
    )
    assert segments(the(lanes, "timer")) == [("waiting", 100, 200, 0)]


def test_an_event_waits_since_the_timer_that_it_ends_or_since_nothing_else_was_under_way() -> None:
    raised = Event(K.EVENT_RAISED, 500, name="approved")
    with_timeout = begun(
        Event(K.TIMER_CREATED, 150, 1, facts={"due": 900}),
        scheduled(300, command=2),
        raised,
        Event(K.TIMER_CANCELED, 500, 1),
    )
    assert segments(the(with_timeout, "event")) == [("waiting", 150, 500, 0)]
    assert segments(the(begun(raised), "event")) == [("waiting", 100, 500, 0)]
    assert segments(the(begun(scheduled(100), raised), "event")) == [("waiting", 500, 500, 0)]


def test_what_is_under_way_is_told_by_its_rows() -> None:
    lanes = begun(*(scheduled(100, command=number) for number in (1, 2, 3, 4, 5)))
    rows = [
        Outstanding("charge", 1, 1, "q", False, "w", "host-1", 100, 0),
        Outstanding("charge", 2, 1, "q", False, None, None, 100, 0),
        Outstanding("charge", 3, 1, None, True, None, None, None, 0),
        Outstanding("charge", 4, 1, None, False, None, None, None, 0),
    ]
    lanes.end_live(700, Pending(rows, [], None, None), [("event", "go")], "")
    told = [(lane.kind, lane.outcome, lane.spans[-1].kind, lane.spans[-1].note) for lane in lanes]
    assert told == [
        ("orchestration", "live", "running", ""),
        ("activity", "live", "running", "on host-1"),
        ("activity", "live", "queued", "in queue 'q'"),
        ("activity", "live", "queued", "until others of its window are done"),
        ("activity", "live", "queued", "could not be sent yet"),
        ("activity", "live", "running", ""),
        ("event", "live", "waiting", "at least since then"),
    ]
    assert {lane.spans[-1].end for lane in lanes} == {700}


def test_entities_signals_and_functions_have_lanes() -> None:
    ask = CODEC.encode({"op": "add", "args": [1], "reply": ["i", "celery_durable.reply:e:1"]})
    lanes = begun(
        Event(
            K.EVENT_SENT, 100, 1, name="celery_durable.entity", payload=ask, facts={"to": "@Till@1"}
        ),
        Event(
            K.EVENT_RAISED,
            200,
            1,
            name="celery_durable.reply:e:1",
            payload=CODEC.encode({"failure": BOOM}),
        ),
        Event(K.EVENT_SENT, 200, 2, name="shipped", payload="1", facts={"to": "other"}),
        Event(K.RUN_RECORDED, 200, 3, name="price", payload=BOOM, facts={"failed": True}),
    )
    assert [(lane.kind, lane.label, lane.outcome) for lane in lanes][1:] == [
        ("entity", "Till 1: add()", "failed"),
        ("signal", "shipped to other", "completed"),
        ("run", "price", "failed"),
    ]


def test_the_whole_is_split_by_suspensions_and_ends() -> None:
    lanes = lanes_of(
        Event(K.EXECUTION_STARTED, 100),
        scheduled(100),
        Event(K.EXECUTION_SUSPENDED, 200, facts={"reason": "stop"}),
        Event(K.EXECUTION_RESUMED, 300),
        Event(K.EXECUTION_TERMINATED, 400, facts={"reason": "enough"}),
        created_at=50,
        started_at=100,
    )
    assert segments(lanes.whole.row) == [
        ("queued", 50, 100, 0),
        ("running", 100, 200, 0),
        ("waiting", 200, 300, 0),
        ("running", 300, 400, 0),
    ]
    assert (lanes.whole.row.outcome, lanes.whole.row.note, lanes.has_ended) == (
        "canceled",
        "enough",
        True,
    )
    assert [(kind, at, note) for kind, at, note in lanes.whole.marks] == [
        ("suspended", 200, "stop"),
        ("resumed", 300, ""),
        ("terminated", 400, "enough"),
    ]
    assert the(lanes, "activity").spans[-1].note == "left behind"


def test_one_that_was_continued_begins_with_its_own_execution() -> None:
    assert lanes_of(Event(K.EXECUTION_STARTED, 900), created_at=50, started_at=100).begin == 900


def test_what_cannot_be_decoded_does_not_hide_the_rest() -> None:
    lanes = begun(
        scheduled(100),
        Event(K.ACTIVITY_FAILED, 200, 1, 1, payload="{"),
        Event(K.EVENT_SENT, 200, 2, name="celery_durable.entity", payload="{", facts={"to": "odd"}),
        Event(K.TIMER_CREATED, 200, 3, facts={"due": 10**30}),
        Event(K.ACTIVITY_COMPLETED, 300, 77, 1),
    )
    told = {
        lane.kind: (lane.label, lane.note, [each.note for each in lane.spans]) for lane in lanes
    }
    assert told["activity"][2] == ["an error that cannot be decoded"]
    assert told["entity"][0] == "odd: ?()"
    assert told["timer"][1] == "due beyond the calendar"


EVENTS = st.builds(
    Event,
    st.sampled_from(EventKind),
    st.integers(100, 120),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(["", "charge", "celery_durable.entity", "celery_durable.reply:e:1"]),
    st.sampled_from([None, BOOM, "1", "{}"]),
    st.sampled_from(
        [
            None,
            {"due": 110, "to": "@Till@1", "id": "c"},
            {"fork_of": "x"},
            {"ran": 5},
            {"injected": True},
        ]
    ),
)


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=12), st.booleans())
def test_any_order_of_events_gives_lanes_within_their_time(
    events: list[Event], is_live: bool
) -> None:
    lanes = lanes_of(*sorted(events, key=lambda event: event.at), created_at=100, started_at=105)
    if is_live and not lanes.has_ended:
        lanes.end_live(130, Pending([], [], None, None), [("event", "go")], "")
    else:
        lanes.end(lanes.last_at, RuntimeStatus.COMPLETED)
    for lane in lanes:
        for each in lane.spans:
            assert lanes.begin <= each.begin <= each.end <= lanes.last_at


def test_a_long_history_is_read_fast() -> None:
    events = [Event(K.EXECUTION_STARTED, 0)]
    for number in range(1, 2500):
        events += [
            scheduled(number, command=number),
            Event(K.ACTIVITY_COMPLETED, number + 1, number, 1),
        ]
    began = time.perf_counter()
    lanes = lanes_of(*events)
    assert len(list(lanes)) == 2500
    assert time.perf_counter() - began < 2


# -- kinds that are not built in -------------------------------------------------------------------


class Ask(Command):
    confirmed_by = "Asked"  # type: ignore[assignment]


class Withdraw(Command):
    confirmed_by = "Withdrawn"  # type: ignore[assignment]


class Questions(Kind):
    name = "question"
    commands = (Ask, Withdraw)
    inputs = {"Answered": Ask, "AnswerFailed": Ask}


def test_a_kind_without_handlers_has_rows_of_its_name() -> None:
    lanes = TimelineBuilder(CODEC, "sale", 0, None)
    events: list[Any] = [
        Event(K.EXECUTION_STARTED, 100),
        Event("Asked", 200, 1, 1, "how many"),  # type: ignore[arg-type]
        Event("Asked", 200, 2, 1),  # type: ignore[arg-type]
        Event("Asked", 200, 3, 1),  # type: ignore[arg-type]
        Event("Answered", 250, 1, 1),  # type: ignore[arg-type]
        Event("AnswerFailed", 260, 2, 1, payload=BOOM),  # type: ignore[arg-type]
        Event("Withdrawn", 270, 3),  # type: ignore[arg-type]
    ]
    lanes.read(events, handlers_of(KINDS.with_kinds(Questions)))
    _, *rows = lanes
    assert [(row.kind, row.number, row.label, row.outcome) for row in rows] == [
        ("question", 1, "how many", "completed"),
        ("question", 2, "question", "failed"),
        ("question", 3, "question", "canceled"),
    ]
    assert segments(rows[0]) == [("running", 200, 250, 1)]
