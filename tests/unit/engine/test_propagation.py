"""Context that travels: what is captured at a start, and how it surrounds what runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import pytest

from celery_durable.core.canvas_options import CanvasOptions
from celery_durable.engine.propagation import (
    ContextNotRestored,
    Propagators,
    as_context,
    context_of,
)
from celery_durable.errors import ConfigurationError, PayloadError
from celery_durable.payload import PayloadCodec

CODEC = PayloadCodec()


class Language:
    def __init__(self, value: Any = "de", key: Any = "language") -> None:
        self.key, self.value = key, value
        self.restored: list[Any] = []

    def capture(self) -> Any:
        return self.value

    @contextmanager
    def restore(self, value: Any) -> Iterator[None]:
        self.restored.append(value)
        yield
        self.restored.append("left")


class Unable(Language):
    def restore(self, value: Any) -> Any:
        raise LookupError("no such tenant")


class Swallows(Language):
    """Says that what fails within it has not failed."""

    def restore(self, value: Any) -> Any:
        return self

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return True


def propagators(*some: Any) -> Propagators:
    found = Propagators()
    for each in some:
        found.add(each)
    return found


def kept_text(kept: Any) -> str:
    text = CODEC.encode(CanvasOptions().with_context(kept).kept)
    assert isinstance(text, str)
    return text


def test_values_and_headers_are_captured_and_nothing_is_kept_of_nothing() -> None:
    found = propagators(Language(), Language(None, "tenant"))
    assert found.capture({"x": "1"}) == {"headers": {"x": "1"}, "values": {"language": "de"}}
    assert found.capture({}) == {"values": {"language": "de"}}
    assert found.captured_values() == {"language": "de"}
    assert propagators(Language(None)).capture({}) is None
    assert propagators(Language(0)).captured_values() == {"language": 0}
    assert propagators().captured_values() == {}
    assert "language" in found and "currency" not in found


@pytest.mark.parametrize("value", [{1: "a"}, (1, 2), float("nan"), object(), {"a": {2}}])
def test_a_value_that_json_would_not_give_back_is_refused(value: Any) -> None:
    with pytest.raises(PayloadError, match="'language'"):
        propagators(Language(value)).capture({})
    with pytest.raises(PayloadError, match="'x'"):
        propagators().capture({"x": value})


def test_a_context_has_a_greatest_length_in_bytes() -> None:
    frame = len('{"values": {"language": ""}}')
    assert propagators(Language("x" * (4_096 - frame))).capture({}) is not None
    with pytest.raises(PayloadError, match=r"4,096 bytes, not 4,097: language"):
        propagators(Language("x" * (4_097 - frame))).capture({})


@pytest.mark.parametrize("key", ["", None, 5])
def test_one_without_a_key_is_no_propagator(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="no propagator"):
        propagators(Language(key=key))


def test_a_class_and_a_second_one_of_a_key_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"durable\.propagate\(Language\(\)\)"):
        propagators(Language)
    one = Language()
    assert propagators(one, one).captured_values() == {"language": "de"}
    with pytest.raises(ConfigurationError, match="two propagators have the key 'language'"):
        propagators(one, Language())


def test_each_value_surrounds_what_runs_and_those_of_others_are_left_alone() -> None:
    here, other = Language(), Language(key="tenant")
    canvas = kept_text({"values": {"language": "fr", "currency": "EUR"}})
    with propagators(here, other).restored(CODEC, canvas):
        assert here.restored == ["fr"]
    assert (here.restored, other.restored) == (["fr", "left"], [])
    with propagators(here).restored(CODEC, None):
        assert here.restored == ["fr", "left"]


def test_damaged_options_do_not_matter_where_nothing_is_propagated() -> None:
    with propagators().restored(CODEC, "{damaged"):
        pass
    with pytest.raises(PayloadError):
        propagators(Language()).restored(CODEC, "{damaged")


def test_one_that_cannot_be_restored_says_which_and_leaves_the_others() -> None:
    before = Language()
    surrounded = propagators(before, Unable(key="tenant")).restored_values(
        {"language": "fr", "tenant": "acme"}
    )
    with pytest.raises(ContextNotRestored, match="'tenant'.*LookupError: no such tenant"):
        with surrounded:
            raise AssertionError("nothing runs without its context")
    assert before.restored == ["fr"]


def test_no_propagator_hides_an_error() -> None:
    with pytest.raises(ZeroDivisionError), propagators(Swallows()).restored_values({"language": 1}):
        raise ZeroDivisionError


def test_code_sees_headers_and_values_by_their_names_and_changes_neither() -> None:
    kept = {"headers": {"x": "1"}, "values": {"language": "fr"}}
    found: Any = context_of(CODEC, kept_text(kept))
    assert dict(found) == {"x": "1", "language": "fr"}
    with pytest.raises(TypeError):
        found["x"] = "2"
    assert dict(as_context({})) == dict(context_of(CODEC, None)) == {}
