"""What the rows of a history say together: since when, for whom, what is open, and what came in."""

from __future__ import annotations

from typing import Any

from celery_durable.core.history import Event, EventKind, dump_events
from celery_durable.engine.summary import ExecutionSummary, PendingCall, summary_of

from .rows import SECOND

K = EventKind


def started(at: int, **facts: Any) -> Event:
    return Event(K.EXECUTION_STARTED, at, name="flow", facts=facts)


def asked(command: int, at: int = SECOND, attempt: int = 1) -> Event:
    return Event(K.ACTIVITY_SCHEDULED, at, command, attempt, "charge")


def done(command: int, at: int = 2 * SECOND) -> Event:
    return Event(K.ACTIVITY_COMPLETED, at, command, 1)


def canceled(command: int) -> Event:
    return Event(K.ACTIVITY_CANCELED, 2 * SECOND, command, 1)


def summed(*rows: list[Event]) -> ExecutionSummary:
    return summary_of(map(dump_events, rows))


def came(summary: ExecutionSummary) -> list[str]:
    return [str(event.kind) for event, _ in summary.came]


def test_each_row_is_one_turn_and_its_start_tells_since_when() -> None:
    found = summed([started(5)], [asked(1)])
    assert (found.sequence, found.first_at, found.begun_at, found.seed) == (2, 5, 5, None)


def test_a_later_execution_began_when_the_first_one_did() -> None:
    found = summed([started(50, began=5, seed="first", trace="t")])
    assert (found.first_at, found.begun_at, found.seed) == (5, 50, "first")
    assert found.start["trace"] == "t"


def test_damaged_facts_of_a_start_count_as_not_said() -> None:
    found = summed([started(50, began="yesterday", seed=7)])
    assert (found.first_at, found.begun_at, found.seed) == (50, 50, None)


def test_what_was_asked_for_is_open_until_it_is_resolved_or_taken_back() -> None:
    found = summed([started(1), asked(1), asked(2, at=9, attempt=3), asked(4)], [done(1)])
    assert found.open[2] == PendingCall(K.ACTIVITY_SCHEDULED, 9, "charge", 3)
    assert sorted(found.open) == [2, 4]
    found.note([canceled(2)])
    assert sorted(found.open) == [4]


def test_what_came_is_of_the_last_row_with_what_it_answers() -> None:
    found = summed([started(1), asked(1)], [done(1), Event(K.EVENT_RAISED, 3, name="paid")])
    assert came(found) == [K.ACTIVITY_COMPLETED, K.EVENT_RAISED]
    (_, call), (_, nothing) = found.came
    assert call is not None and (call.name, call.at) == ("charge", SECOND)
    assert nothing is None
    found.note([asked(2)])
    assert found.came == []


def test_a_rewritten_history_is_a_rewind_in_which_only_what_follows_it_came_in() -> None:
    found = summed([started(1), asked(1), asked(2)])
    rewritten = [
        Event(K.HISTORY_REWRITTEN, 70),
        started(1),
        asked(1),
        done(1),
        Event(K.WORK_RENEWED, 70),
        Event(K.EVENT_RAISED, 71, name="late"),
    ]
    found.note(rewritten)
    assert (found.rewinds, found.sequence, found.begun_at, found.first_at) == (1, 2, 70, 1)
    assert (sorted(found.open), came(found)) == ([], [K.EVENT_RAISED])


def test_a_fork_begins_where_it_was_forked() -> None:
    found = summed([started(1), Event(K.WORK_RENEWED, 80, facts={"fork_of": "a", "at": 3})])
    assert (found.first_at, found.begun_at, found.forked["fork_of"]) == (80, 80, "a")
    assert summed([started(1), Event(K.WORK_RENEWED, 80)]).first_at == 1
