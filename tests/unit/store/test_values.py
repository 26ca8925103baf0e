"""Cutting keys, so that statements of few lengths are compiled."""

from __future__ import annotations

import pytest

from celery_durable.store.values import full_portions, portions


@pytest.mark.parametrize("number", [0, 1, 2, 9, 10, 11, 99, 100, 101, 110, 111, 250, 500])
def test_all_come_in_order_and_few_lengths(number: int) -> None:
    things = list(range(number))
    plain, full = list(portions(things)), list(full_portions(things))
    assert [thing for part in plain for thing in part] == things
    assert list(dict.fromkeys(thing for part in full for thing in part)) == things
    assert {len(part) for part in [*plain, *full]} <= {1, 10, 100}
    assert len(full) == -(-number // 100)
