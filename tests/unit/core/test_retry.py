"""``RetryPolicy``: data that is checked when it is declared."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.retry import RetryPolicy, in_microseconds, is_followed
from celery_durable.errors import ActivityInterrupted

SECOND = 1_000_000


def delays(policy, count, error=None, dice=lambda: 0.5):
    return [
        policy.delay(attempt, error or ValueError(), 0, dice) for attempt in range(1, count + 1)
    ]


def test_the_defaults_try_three_times_with_one_and_two_seconds_between():
    assert delays(RetryPolicy(), 3) == [SECOND, 2 * SECOND, None]


def test_seconds_and_timedelta_mean_the_same():
    assert delays(RetryPolicy(first_interval=1.5), 2) == delays(
        RetryPolicy(first_interval=timedelta(seconds=1.5)), 2
    )


def test_one_attempt_means_no_retry():
    assert delays(RetryPolicy(max_attempts=1), 1) == [None]


def test_a_huge_backoff_stays_finite():
    policy = RetryPolicy(backoff=1e300, max_attempts=10_000)
    assert all(isinstance(delay, int) for delay in delays(policy, 9_999))
    assert (
        delays(RetryPolicy(backoff=1e300, max_attempts=99, max_interval=60), 9)[1:]
        == [60 * SECOND] * 8
    )


def test_no_first_interval_and_a_huge_backoff_is_still_no_pause():
    assert delays(RetryPolicy(first_interval=0, backoff=1e300, max_attempts=9), 4) == [0, 0, 0, 0]


def test_total_timeout_refuses_an_attempt_that_would_begin_too_late():
    policy = RetryPolicy(first_interval=10, total_timeout=30, max_attempts=9)
    assert policy.delay(1, ValueError(), 20 * SECOND, lambda: 0) == 10 * SECOND
    assert policy.delay(1, ValueError(), 20 * SECOND + 1, lambda: 0) is None


def test_jitter_shrinks_and_grows_by_its_share():
    policy = RetryPolicy(first_interval=100, jitter=0.1)
    assert policy.delay(1, ValueError(), 0, lambda: 0.0) == 90 * SECOND
    assert policy.delay(1, ValueError(), 0, lambda: 0.5) == 100 * SECOND
    assert policy.delay(1, ValueError(), 0, lambda: 0.999999999) == pytest.approx(
        110 * SECOND, rel=1e-6
    )


def test_give_up_on_wins_over_retry_on():
    policy = RetryPolicy(retry_on=(LookupError,), give_up_on=(KeyError,))
    assert policy.delay(1, IndexError(), 0, lambda: 0) == SECOND
    assert policy.delay(1, KeyError(), 0, lambda: 0) is None
    assert policy.delay(1, ValueError(), 0, lambda: 0) is None


@pytest.mark.parametrize("name", ["retry_on", "give_up_on"])
@pytest.mark.parametrize("given", [LookupError, (LookupError,), [LookupError]])
def test_one_class_a_tuple_and_a_list_of_classes_are_the_same(name, given):
    policy = RetryPolicy(**{name: given})
    assert policy.delay(1, KeyError(), 0, lambda: 0) == (SECOND if name == "retry_on" else None)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("first_interval", -1, ValueError),
        ("first_interval", "1", TypeError),
        ("first_interval", float("nan"), ValueError),
        ("max_interval", float("inf"), ValueError),
        ("max_interval", timedelta(seconds=-1), ValueError),
        ("total_timeout", -0.5, ValueError),
        ("total_timeout", True, TypeError),
        ("max_attempts", 0, ValueError),
        ("max_attempts", 1.5, ValueError),
        ("max_attempts", "3", ValueError),
        ("backoff", 0.5, ValueError),
        ("backoff", float("nan"), ValueError),
        ("backoff", "2", TypeError),
        ("jitter", -0.1, ValueError),
        ("jitter", 1.1, ValueError),
        ("jitter", float("nan"), ValueError),
        ("retry_on", ("ValueError",), TypeError),
        ("retry_on", ValueError("an instance"), TypeError),
        ("give_up_on", int, TypeError),
        ("give_up_on", (int,), TypeError),
    ],
)
def test_a_policy_that_cannot_work_is_refused_when_it_is_declared(field, value, error):
    with pytest.raises(error):
        RetryPolicy(**{field: value})


def test_intervals_are_whole_microseconds():
    assert in_microseconds(1.0000004) == SECOND
    assert in_microseconds(timedelta(days=400)) == 400 * 86_400 * SECOND
    with pytest.raises(ValueError, match="timeout must be finite"):
        in_microseconds(float("inf"), "timeout")


KINDS = st.lists(
    st.sampled_from([Exception, LookupError, KeyError, ValueError, OSError, ActivityInterrupted]),
    max_size=3,
).map(tuple)
POLICIES = st.builds(
    RetryPolicy,
    first_interval=st.integers(0, 20),
    max_attempts=st.integers(1, 4),
    backoff=st.sampled_from([1, 2, 3.5]),
    max_interval=st.none() | st.integers(0, 30),
    total_timeout=st.none() | st.integers(0, 60),
    jitter=st.sampled_from([0, 0.5]),
    retry_on=KINDS,
    give_up_on=KINDS,
)


@given(
    POLICIES,
    st.integers(1, 4),
    st.integers(0, 10**15),
    st.integers(0, 70 * SECOND),
    st.sampled_from([0.0, 0.5, 0.99]),
    st.sampled_from(
        [KeyError(), ValueError(), FileNotFoundError(), ActivityInterrupted("x"), Exception()]
    ),
)
def test_a_worker_knows_whether_a_failure_is_the_last_one(
    policy, attempt, first_at, elapsed, roll, error
):
    terms = policy.terms(attempt, first_at, lambda: roll)
    decided = policy.delay(attempt, error, elapsed, lambda: roll)
    assert (terms is not None and is_followed(terms, error, first_at + elapsed)) == (
        decided is not None
    )
