"""Marks of runs that must not be repeated: one number holds them, and only one run may begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.engine.at_most_once import (
    MARKED,
    RunMark,
    counted_crashes,
    is_begun,
    level_of,
    may_begin,
)

LEVELS = st.integers(0, 958)
RUNS = st.integers(1, 1 << 19)
LARGEST_COLUMN = 2**31 - 1


@given(LEVELS, RUNS)
def test_a_mark_is_one_number_that_a_column_holds_and_no_count_reaches(
    level: int, run: int
) -> None:
    packed = RunMark(level, run).pack()
    assert MARKED <= packed <= LARGEST_COLUMN
    assert RunMark.unpack(packed) == RunMark(level, run)
    assert is_begun(packed) and counted_crashes(packed) == 0
    assert not is_begun(RunMark(level, run).waiting().pack())


@given(LEVELS, RUNS, st.integers(0, 1 << 19))
def test_a_count_that_is_added_to_a_mark_leaves_its_level(level: int, run: int, more: int) -> None:
    mark = RunMark.unpack(RunMark(level, run).pack() + min(more, (1 << 20) - 1 - run))
    assert mark is not None and mark.level == level


@given(st.integers(0, MARKED - 1))
def test_a_count_is_no_mark(crashes: int) -> None:
    assert RunMark.unpack(crashes) is None
    assert (counted_crashes(crashes), is_begun(crashes)) == (crashes, False)


@given(LEVELS)
def test_each_run_has_a_number_of_its_own(level: int) -> None:
    mark = RunMark.new(level)
    assert mark.level == level and 1 <= mark.run <= 1 << 19


@pytest.mark.parametrize(
    ("retries", "nesting", "level"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (63, 0, 63),
        (64, 0, 63),
        (0, 1, 64),
        (2, 3, 3 * 64 + 2),
        (99, 99, 14 * 64 + 63),
        (-1, None, 0),
        ("many", [], 0),
    ],
)
def test_each_run_that_a_body_asked_for_is_a_level_higher(
    retries: object, nesting: object, level: int
) -> None:
    assert level_of(retries, nesting) == level


OWN = RunMark(0, 7)


@pytest.mark.parametrize(
    ("there", "level", "is_again", "mark"),
    [
        (3, 0, False, OWN),  # a count: nothing has begun
        (RunMark(0, 5).pack(), 0, False, None),  # another run has begun
        (RunMark(0, 5).pack(), 0, True, None),
        (RunMark(0, 7).pack(), 0, True, RunMark(0, 7)),  # its answer was lost
        (RunMark(0, 7).pack(), 0, False, None),
        (RunMark(0, 5).pack(), 1, False, OWN),  # the body before has asked for this one
        (RunMark(1, 5).pack(), 1, False, None),
        (RunMark(0, 0).pack(), 0, False, RunMark(1, 7)),  # its mark says so, its message does not
        (RunMark(2, 0).pack(), 5, False, OWN),
    ],
)
def test_a_run_begins_where_none_has_or_where_it_was_asked_for(
    there: int, level: int, is_again: bool, mark: RunMark | None
) -> None:
    assert may_begin(there, level, OWN, is_again=is_again) == mark


@given(st.lists(st.tuples(st.integers(0, 3), RUNS, st.booleans()), max_size=8))
def test_of_messages_of_one_level_one_run_begins(given: list[tuple[int, int, bool]]) -> None:
    crashes, begun = 0, list[int]()
    for level, run, lets_go in given:
        mark = may_begin(crashes, level, RunMark(level, run))
        if mark is None:
            continue
        begun.append(mark.level)
        crashes = (mark.waiting() if lets_go else mark).pack()
    assert begun == sorted(set(begun))
