"""One look at an instance: what wants a turn, and which request counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.loaded_turn import LoadedTurn
from celery_durable.engine.records import InboxKind, InboxRow

from .rows import NOW, inbox_row, snapshot


def look(*inbox: InboxRow, cached: Any = None) -> LoadedTurn:
    unused: Any = None
    return LoadedTurn(snapshot(inbox), cached, unused, unused)


@pytest.mark.parametrize("takes_all", [False, True])
def test_an_empty_inbox_wants_no_turn(takes_all: bool) -> None:
    assert not look().is_due(takes_all=takes_all)


@pytest.mark.parametrize("wake_at", [0, NOW])
def test_a_message_that_wakes_wants_a_turn(wake_at: int) -> None:
    assert look(inbox_row(1), inbox_row(2, wake_at=wake_at)).is_due(takes_all=False)


def test_a_message_that_does_not_wake_wants_one_only_where_all_is_taken() -> None:
    loaded = look(inbox_row(1))
    assert not loaded.is_due(takes_all=False)
    assert loaded.is_due(takes_all=True)


def test_a_join_wants_a_turn_only_once_it_wakes() -> None:
    waits = inbox_row(1, kind=InboxKind.JOIN)
    assert not look(waits).is_due(takes_all=True)
    assert look(inbox_row(1, kind=InboxKind.JOIN, wake_at=NOW)).is_due(takes_all=True)


def test_what_was_more_than_one_look_takes_wants_a_turn() -> None:
    loaded = look()
    loaded.snapshot.is_due_later = True
    assert loaded.is_due(takes_all=False)


def test_a_request_is_found_by_its_kind() -> None:
    rewind = inbox_row(2, kind=InboxKind.REWIND)
    loaded = look(inbox_row(1, kind=InboxKind.TERMINATE), rewind)
    assert loaded.newest_request(InboxKind.REWIND) is rewind
    assert look(inbox_row(1)).newest_request(InboxKind.REWIND) is None


def test_of_several_requests_the_one_that_overrides_an_outcome_counts() -> None:
    rows = [inbox_row(n, kind=InboxKind.REWIND, command=c) for n, c in [(1, 0), (2, 5), (3, 0)]]
    assert look(*rows).newest_request(InboxKind.REWIND) is rows[1]


def test_an_execution_in_memory_is_dropped_once() -> None:
    dropped: list[str] = []
    loaded = look(cached=SimpleNamespace(abandon=lambda: dropped.append("dropped")))
    loaded.abandon()
    loaded.abandon()
    assert (dropped, loaded.cached) == (["dropped"], None)
