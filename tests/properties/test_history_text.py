"""History as text: what is written is read back, and what is no history is refused with the errors
that are promised.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from celery_durable.core.history import NOTES, Event, EventKind, dump_events, load_events
from celery_durable.core.kinds import CONFIRMATIONS, INPUTS, RESOLUTIONS
from tests.tiers import is_long

PROMISED = (ValueError, TypeError, KeyError, IndexError)
plain = settings(max_examples=200 if is_long() else 80)

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
events = st.builds(
    Event,
    st.sampled_from(EventKind),
    st.integers(0, 2**60),
    st.integers(0, 2**31),
    st.integers(0, 99),
    texts,
    st.none() | texts,
    st.none() | st.dictionaries(texts, values, max_size=3),
)


@plain
@given(st.lists(events, max_size=6))
def test_a_history_row_is_read_back_as_it_was_written(row):
    text = dump_events(row)
    assert load_events(text) == row
    assert load_events(text.encode()) == row
    assert dump_events(load_events(text)) == text


@plain
@given(texts | st.binary(max_size=30) | values.map(json.dumps))
@example("")
@example("null")
@example("[null]")
@example("[[]]")
@example('[["TimerFired"]]')
@example('[["NoSuchKind",1]]')
@example('[["TimerFired",1,2,3,"n",null,null,"more"]]')
@example('[[["TimerFired"],1]]')
@example('[{"0":"TimerFired"}]')
@example(b"\xff\xfe\x00")
@example("9" * 5000)
def test_hostile_text_raises_only_what_is_promised(text):
    try:
        loaded = load_events(text)
    except PROMISED:
        return
    assert all(isinstance(event, Event) and isinstance(event.kind, EventKind) for event in loaded)


def test_text_that_is_nested_too_deeply_is_refused_like_any_other():
    with pytest.raises(PROMISED):
        load_events("[" * 3_000)


@plain
@given(st.lists(events, min_size=1, max_size=3), st.data())
def test_a_truncated_row_is_refused(row, data):
    text = dump_events(row)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(PROMISED):
        load_events(text[:cut])


def test_the_grammar_is_whole():
    confirmations = set(CONFIRMATIONS.values())
    assert len(confirmations) == len(CONFIRMATIONS)
    assert confirmations | INPUTS | NOTES == set(EventKind)
    assert not confirmations & INPUTS
    assert not NOTES & (confirmations | INPUTS)
    assert set(RESOLUTIONS) <= INPUTS
    assert set(RESOLUTIONS.values()) <= set(CONFIRMATIONS)


def test_stored_names_are_fixed():
    assert [str(kind) for kind in EventKind] == [
        "ExecutionStarted",
        "ActivityCompleted",
        "ActivityFailed",
        "ActivityDeferred",
        "TimerFired",
        "ChildCompleted",
        "ChildFailed",
        "EventRaised",
        "RequestReceived",
        "CancelRequested",
        "ExecutionResumed",
        "WorkRenewed",
        "ActivityScheduled",
        "ActivityCanceled",
        "TimerCreated",
        "TimerCanceled",
        "ChildStarted",
        "ChildCanceled",
        "ChildRevived",
        "RunRecorded",
        "PatchRecorded",
        "PayloadRefused",
        "EventSent",
        "RequestAnswered",
        "ExecutionCompleted",
        "ExecutionFailed",
        "ExecutionCanceled",
        "ContinuedAsNew",
        "ExecutionSuspended",
        "ExecutionTerminated",
        "ExecutionRewound",
        "HistoryRewritten",
        "ActivityAbandoned",
        "JoinFormed",
        "JoinDissolved",
    ]
    assert dump_events([Event(EventKind.TIMER_FIRED, 5, 2)]) == '[["TimerFired",5,2]]'
    assert dump_events([Event(EventKind.CANCEL_REQUESTED, 5)]) == '[["CancelRequested",5]]'
