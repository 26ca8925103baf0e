"""How values are kept, and how keys are cut, so that statements of few lengths are compiled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.status import RuntimeStatus
from celery_durable.errors import ConfigurationError
from celery_durable.store.values import (
    ENCODED,
    Elsewhere,
    blob,
    facts_of,
    full_portions,
    portions,
    readable,
    reference,
    status_in,
    tags_of,
    tags_text,
    text_of,
)


@pytest.mark.parametrize("number", [0, 1, 2, 9, 10, 11, 99, 100, 101, 110, 111, 250, 500])
def test_all_come_in_order_and_few_lengths(number: int) -> None:
    things = list(range(number))
    plain, full = list(portions(things)), list(full_portions(things))
    assert [thing for part in plain for thing in part] == things
    assert list(dict.fromkeys(thing for part in full for thing in part)) == things
    assert {len(part) for part in [*plain, *full]} <= {1, 10, 100}
    assert len(full) == -(-number // 100)


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_tags_are_read_as_they_were_written_and_each_pair_is_a_line(tags: dict[str, str]) -> None:
    text = tags_text(tags)
    assert (text is None) == (not tags)
    assert tags_of(text or "") == tags
    for name, value in tags.items():
        assert (tags_text({name: value}) or "?") in (text or "")


def test_tags_have_one_order_however_they_were_given() -> None:
    assert tags_text({"b": "2", "a": "ü"}) == '\n["a", "\\u00fc"]\n["b", "2"]\n'


@pytest.mark.parametrize("damage", ["{", "5", '["a"]', '["a", 1]', "[" * 100_000])
def test_a_damaged_tag_does_not_hide_the_others(damage: str) -> None:
    assert tags_of(f'\n{damage}\n["b", "1"]\n') == {"b": "1"}


@pytest.mark.parametrize(
    ("text", "facts"),
    [('{"a": 1}', {"a": 1}), ("[1]", "[1]"), ("{", "{"), ("[" * 100_000, "[" * 100_000)],
)
def test_facts_that_are_damaged_stay_text(text: str, facts: object) -> None:
    assert facts_of(text) == facts


def test_a_payload_is_read_from_where_it_lies_or_its_setting_is_named() -> None:
    assert text_of(None) is None
    assert text_of(blob("ü")) == text_of(memoryview("ü".encode())) == "ü"
    assert text_of(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert text_of(Elsewhere(reference(2, "key"), 2, lambda: b"ab")) == "ab"
    with pytest.raises(ConfigurationError, match="durable_payload_store"):
        text_of(reference(2, "key"))
    with pytest.raises(ConfigurationError, match="durable_codec"):
        text_of(ENCODED + b"x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, None),
        ("why", "why"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800", "a?"),
        ("x" * 10_001, "x" * 10_000),
    ],
)
def test_text_for_people_is_what_any_database_takes(text: str | None, shown: str | None) -> None:
    assert readable(text) == shown


def test_a_status_is_one_of_those_there_are() -> None:
    assert [status_in(str(status)) for status in RuntimeStatus] == list(RuntimeStatus)
    with pytest.raises(ValueError, match="GONE"):
        status_in("GONE")
