"""What a step costs does not grow with what waits beside it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from celery_durable.engine.records import ActivityAttemptId, Claim
from celery_durable.store import Store, connecting

from .builders import SECOND, activity, begin, event


def _reads_of_the_clock(store: Store, ticket: ActivityAttemptId) -> int:
    store.database.dispose()  # a new connection takes the clock that counts
    with mock.patch.object(connecting, "_clock", wraps=connecting._clock) as clock:
        start = store.attempts.begin(ticket, None, Claim("worker", 60 * SECOND))
    store.database.dispose()
    assert start is not None
    assert start.is_claimed
    count: int = clock.call_count
    return count


@pytest.mark.parametrize("waiting", [0, 1, 200])
def test_beginning_an_activity_reads_the_clock_a_few_times(
    sqlite_store: Store, waiting: int
) -> None:
    """SQLite calls back into this process for each reading."""
    execution = begin(sqlite_store, activities=[activity()])
    messages: list[Any] = [event() for _ in range(waiting)]
    if messages:
        sqlite_store.inbox.put(messages)
    assert _reads_of_the_clock(sqlite_store, ActivityAttemptId(execution, 1, 1)) <= 12
