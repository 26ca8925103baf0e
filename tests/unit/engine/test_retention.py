"""The policy that is kept with an instance: what is stored, and what damage means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.retention import Retention

ENDED = [str(status) for status in RuntimeStatus if status.is_terminal]


@given(st.dictionaries(st.sampled_from(ENDED), st.integers(0, 2**62)), st.booleans())
def test_what_was_stored_is_read(keep: dict[str, int], is_limited: bool) -> None:
    kept = Retention(keep, is_limited)
    assert Retention.parse(kept.to_text()) == kept


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Retention(), None),
        (Retention({"FAILED": 0}), '{"keep": {"FAILED": 0}}'),
        (Retention(is_limited=True), '{"limited": true}'),
    ],
)
def test_what_has_nothing_to_say_is_not_stored(policy: Retention, text: str | None) -> None:
    assert policy.to_text() == text


@pytest.mark.parametrize("text", ["{", "[]", "5", "null", "[" * 100_000])
def test_damaged_text_keeps_for_ever_and_frees_a_slot(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert Retention.parse(text) == Retention({}, True)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("text", "keep", "is_limited"),
    [
        (None, {}, False),
        ("", {}, False),
        ('{"keep": null}', {}, False),
        ('{"keep": [1]}', {}, False),
        ('{"limited": 1}', {}, False),
        ('{"later": 1, "limited": true}', {}, True),
    ],
)
def test_what_is_not_there_or_of_another_shape_says_nothing(
    text: str | None, keep: dict[str, int], is_limited: bool
) -> None:
    assert Retention.parse(text) == Retention(keep, is_limited)


@pytest.mark.parametrize(
    ("kept", "period"), [(5, 5), (0, 0), (None, None), ("5", None), (True, None), (1.5, None)]
)
def test_a_period_is_a_number_of_microseconds(kept: object, period: int | None) -> None:
    policy = Retention({"FAILED": kept})  # type: ignore[dict-item]
    assert policy.period(RuntimeStatus.FAILED) == period
    assert policy.period(RuntimeStatus.COMPLETED) is None
