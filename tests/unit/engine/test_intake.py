"""What a turn takes from an inbox: in which order, how much, and what it leaves there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.decision import Decision
from celery_durable.core.history import Event, EventKind
from celery_durable.core.kinds import CompleteExecution, ContinueAsNew
from celery_durable.core.names import request_key
from celery_durable.core.status import MOVING, RuntimeStatus
from celery_durable.engine.intake import (
    Message,
    changes_joins,
    in_order,
    leaves_more,
    portion,
    settle_inbox,
    undelivered_events,
)
from celery_durable.engine.records import CARRIED_OVER, UNANSWERED, InboxKind, InboxRow
from celery_durable.engine.writes import TurnCommit
from celery_durable.errors import PayloadError

from .rows import NOW, SECOND, inbox_row, snapshot

ENDS = CompleteExecution(9, "null")
AGAIN = ContinueAsNew(9, "[[], {}]")


def ids(rows: list[InboxRow], **instance: Any) -> list[int]:
    return [row.id for row, _ in in_order(snapshot(rows, **instance))]


def at_once(id_: int, at: int, **values: Any) -> InboxRow:
    return inbox_row(id_, visible_at=at, is_at_once=True, **values)


# -- the order -------------------------------------------------------------------------------------


def test_what_arrived_and_what_was_due_come_by_their_times() -> None:
    rows = [at_once(1, NOW + 5), inbox_row(2, visible_at=NOW + 3), at_once(3, NOW + 9)]
    assert ids(rows) == [2, 1, 3]


def test_of_one_time_a_timer_comes_last_and_the_others_as_they_arrived() -> None:
    timer = inbox_row(1, kind=EventKind.TIMER_FIRED, execution="e", command=4)
    assert ids([timer, at_once(3, NOW), at_once(2, NOW)]) == [2, 3, 1]


def test_a_clock_that_was_set_back_does_not_change_the_order_of_arrival() -> None:
    rows = [at_once(1, NOW), at_once(2, NOW - 60 * SECOND), at_once(3, NOW - 59 * SECOND)]
    events = undelivered_events(snapshot(rows))
    assert ids(rows) == [1, 2, 3]
    assert [event.at for event in events] == [NOW] * 3
    # less than a second is two connections of one database, not a clock
    assert ids([at_once(1, NOW), at_once(2, NOW - SECOND)]) == [2, 1]


def test_what_an_execution_has_kept_for_the_next_one_comes_before_all_else() -> None:
    kept = [at_once(8, NOW + 1, attempt=CARRIED_OVER), at_once(7, NOW + 2, attempt=CARRIED_OVER)]
    assert ids([at_once(1, NOW + 3), *kept]) == [8, 7, 1]
    [event, *_] = undelivered_events(snapshot(kept))
    assert event.attempt == 0  # history knows nothing of that


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8))
def test_nothing_is_lost_or_doubled_by_the_order(drawn: list[tuple[int, bool]]) -> None:
    rows = [
        inbox_row(number, visible_at=NOW + seconds * SECOND, is_at_once=is_at_once)
        for number, (seconds, is_at_once) in enumerate(drawn)
    ]
    assert sorted(ids(rows)) == [row.id for row in rows]
    times = [event.at for event in undelivered_events(snapshot(rows))]
    assert times == sorted(times)


# -- which rows, as which events -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "is_taken"),
    [
        ({}, True),
        ({"execution": "e"}, True),
        ({"execution": "before"}, False),
        ({"kind": InboxKind.JOIN, "execution": "e"}, False),
        ({"kind": InboxKind.REWIND, "execution": "e"}, False),
    ],
)
def test_rows_of_another_execution_and_of_the_engine_are_no_events(
    values: dict[str, Any], is_taken: bool
) -> None:
    assert ids([inbox_row(1, **values)]) == ([1] if is_taken else [])


def test_a_start_has_the_input_of_its_instance() -> None:
    start = inbox_row(1, kind=EventKind.EXECUTION_STARTED, payload=None, name=None)
    [event] = undelivered_events(snapshot([start]))
    assert (event.kind, event.payload, event.name) == (
        EventKind.EXECUTION_STARTED,
        '[["in"], {}]',
        "",
    )


@pytest.mark.parametrize(
    ("expires", "kind"),
    [
        (NOW - 1, EventKind.CANCEL_REQUESTED),
        (NOW, EventKind.EXECUTION_STARTED),
        ("soon", EventKind.EXECUTION_STARTED),
    ],
)
def test_a_start_that_has_expired_is_a_cancel(expires: object, kind: EventKind) -> None:
    start = inbox_row(1, kind=EventKind.EXECUTION_STARTED, facts={"expires": expires})
    [event] = undelivered_events(snapshot([start]))
    assert event.kind is kind
    assert (event.facts == {"reason": "expired"}) == (kind is EventKind.CANCEL_REQUESTED)


@pytest.mark.parametrize("values", [{"kind": "FromLater"}, {"facts": "{damaged"}])
def test_a_row_that_cannot_be_read_is_told_with_what_it_is(values: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match=r"message 7 in the inbox of 'i' is damaged"):
        in_order(snapshot([inbox_row(7, **values)]))


# -- how much --------------------------------------------------------------------------------------


def messages(*sizes: int) -> list[Message]:
    return [
        (inbox_row(number, payload="x" * size), Event(EventKind.EVENT_RAISED, NOW))
        for number, size in enumerate(sizes, 1)
    ]


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ((), 0),
        ((10, 10, 10), 3),
        ((2_000_000, 1_999_800), 2),
        ((2_000_000, 1_999_801), 1),
        ((9_000_000, 1), 1),
        ((1, 9_000_000, 1), 1),
    ],
)
def test_a_turn_takes_four_million_bytes_and_one_message_at_least(
    sizes: tuple[int, ...], taken: int
) -> None:
    given = messages(*sizes)
    first, rest = portion(given)
    assert (len(first), [*first, *rest]) == (taken, given)


# -- what stays ------------------------------------------------------------------------------------


def settled(
    commit: TurnCommit, decision: Decision, rows: list[InboxRow], *, taken: int, has_more: bool
) -> TurnCommit:
    """Settle an inbox of which a turn was given so many rows."""
    seen = snapshot(rows, has_more=has_more)
    found = in_order(seen)
    settle_inbox(seen, decision, commit, found[:taken], found[taken:])
    return commit


def new_commit(**values: Any) -> TurnCommit:
    return TurnCommit("i", "e", 1, MOVING, **values)


@pytest.mark.parametrize("has_more", [False, True])
def test_while_it_lives_the_rest_stays_and_nothing_is_cleared(has_more: bool) -> None:
    rows = [inbox_row(1), inbox_row(2), inbox_row(3)]
    commit = settled(new_commit(), Decision(applied=2), rows, taken=2, has_more=has_more)
    assert (commit.taken, commit.clears, commit.drops_until) == ([1, 2], False, None)


@pytest.mark.parametrize("has_more", [False, True])
def test_at_its_end_all_goes_also_what_was_not_read(has_more: bool) -> None:
    rows = [inbox_row(1), inbox_row(2)]
    commit = settled(
        new_commit(status=RuntimeStatus.COMPLETED),
        Decision(applied=1, final=ENDS),
        rows,
        taken=2,
        has_more=has_more,
    )
    assert (commit.taken, commit.clears) == ([1, 2], has_more)


def test_a_failed_one_keeps_for_a_rewind_what_it_has_not_heard() -> None:
    rows = [
        inbox_row(1),
        inbox_row(2),
        inbox_row(3, kind=EventKind.TIMER_FIRED, execution="e"),
        inbox_row(4, kind=EventKind.ACTIVITY_COMPLETED, execution="e"),
    ]
    commit = settled(
        new_commit(status=RuntimeStatus.FAILED),
        Decision(applied=1, final=ENDS),
        rows,
        taken=2,
        has_more=False,
    )
    assert (commit.taken, commit.clears) == ([1, 3], True)  # a timer is set again


@pytest.mark.parametrize(
    ("keeps_events", "taken", "drops_until"), [(True, [1, 3], None), (False, [1, 2, 3, 4], NOW)]
)
def test_the_next_execution_has_what_was_sent_to_the_instance(
    keeps_events: bool, taken: list[int], drops_until: int | None
) -> None:
    rows = [
        inbox_row(1),
        inbox_row(2),
        inbox_row(3, kind=EventKind.ACTIVITY_COMPLETED, execution="e"),
        inbox_row(4, kind=EventKind.REQUEST_RECEIVED, facts={"id": "r4"}),
    ]
    commit = settled(
        new_commit(next_execution="next"),
        Decision(applied=1, final=AGAIN, keeps_events=keeps_events),
        rows,
        taken=3,
        has_more=True,
    )
    assert (commit.taken, commit.drops_until, commit.clears) == (taken, drops_until, False)
    told = [(answer.request, answer.answer) for answer in commit.answers]
    assert told == ([] if keeps_events else [(request_key("r4"), UNANSWERED)])


@pytest.mark.parametrize(
    ("values", "taken", "reset"),
    [
        ({"command": 3, "execution": "e", "wake_at": NOW}, [], [1]),
        ({"command": 3, "execution": "e"}, [], []),
        ({"command": 4, "execution": "e", "wake_at": NOW}, [1], []),
        ({"command": 3, "execution": "before", "wake_at": NOW}, [1], []),
    ],
    ids=["waits on", "was not woken", "is waited for no more", "of another execution"],
)
def test_a_join_that_waits_on_sleeps_again(
    values: dict[str, Any], taken: list[int], reset: list[int]
) -> None:
    join = inbox_row(1, kind=InboxKind.JOIN, **values)
    commit = settled(new_commit(), Decision(joins={5: 3}), [join], taken=0, has_more=False)
    assert (commit.taken, commit.reset_joins) == (taken, reset)


# -- whether another turn follows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "has_more", "shows", "lives", "awaits", "expected"),
    [
        (1, False, None, True, False, True),
        (0, True, None, True, False, True),
        (0, False, 3, True, False, True),
        (0, False, None, True, False, False),
        (1, True, 3, False, False, False),
        (1, False, None, False, True, True),  # an entity's next execution takes it
    ],
)
def test_another_turn_follows_if_there_is_more_for_one_that_lives(
    rest: int, has_more: bool, shows: int | None, lives: bool, awaits: bool, expected: bool
) -> None:
    decision = Decision(final=None if lives else ENDS)
    commit = new_commit(shows=shows, awaits_message=awaits)
    seen = snapshot(has_more=has_more)
    assert leaves_more(seen, messages(*[1] * rest), decision, commit) is expected


@pytest.mark.parametrize(
    ("decision", "commit", "expected"),
    [
        (Decision(), {}, False),
        (Decision(), {"join_changes": {1: None}}, True),
        (Decision(), {"reset_joins": [1]}, True),
        (Decision(joins_formed={1}), {}, True),
        (Decision(joins_ended={1}), {}, True),
        (Decision(joins_formed={1}), {"clears": True}, False),
    ],
)
def test_joins_that_change_want_a_look_unless_all_is_cleared(
    decision: Decision, commit: dict[str, Any], expected: bool
) -> None:
    assert changes_joins(decision, new_commit(**commit)) is expected
