"""Crontab lines mean what they mean to Celery."""

from __future__ import annotations

import pytest
from celery.schedules import ParseException, crontab
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.cron import CronTimes, _fields, checked_line

NAMES = ("sun", "Monday", "tue", "jan", "December", "may", "odd", "xyz")
NUMBERS = st.one_of(st.integers(0, 70).map(str), st.sampled_from(NAMES))
SPANS = st.one_of(st.just("*"), NUMBERS, st.builds("{}-{}".format, NUMBERS, NUMBERS))
PARTS = st.one_of(SPANS, st.builds("{}/{}".format, SPANS, st.integers(0, 40)))
FIELDS = st.lists(PARTS, min_size=1, max_size=3).map(",".join)
NAMED = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


@given(st.sampled_from(NAMED), FIELDS)
def test_field_means_what_it_means_to_celery(name: str, field: str) -> None:
    line = " ".join(field if each == name else "*" for each in NAMED)
    try:
        theirs = crontab(**{name: field})
    except (ValueError, ParseException):
        with pytest.raises(ValueError, match="crontab line"):
            checked_line(line)
        return
    ours = _fields(checked_line(line))
    assert ours == (
        theirs.minute,
        theirs.hour,
        theirs.day_of_month,
        theirs.month_of_year,
        theirs.day_of_week,
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("60 * * * *", "not between 0 and 59"),
        ("5/10 * * * *", "step without a range"),
        ("*/0 * * * *", "step of 0"),
        ("* * * * xyz", "neither a number nor the name"),
        ("* * 30 2 *", "no such month has such a day"),
        ("* * *", "five fields"),
    ],
)
def test_refused_line_says_why(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked_line(line)


def test_range_goes_around_the_end() -> None:
    assert _fields("0 22-3 * * *").hours == {22, 23, 0, 1, 2, 3}
    assert CronTimes("0 22-3 * * *", "UTC").after(0) == 3_600_000_000
