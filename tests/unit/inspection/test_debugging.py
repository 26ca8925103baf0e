"""Values that a debugger shows: bounded, the same each time, whatever their classes do."""

from __future__ import annotations

from celery_durable.inspection.debugging import value_text, values_view


class Plain:
    pass


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Huge:
    def __repr__(self) -> str:
        return "x" * 1_000_000


def test_values_are_bounded() -> None:
    for value in (Huge(), "y" * 10**6, list(range(10**6)), {n: "z" * 500 for n in range(1000)}):
        assert len(value_text(value)) <= 400
    endless: list[object] = []
    endless.append(endless)
    assert "..." in value_text(endless)


def test_values_have_no_addresses() -> None:
    assert value_text(Plain()) == value_text(Plain())
    assert value_text([Plain()]).endswith("Plain object>]")


def test_a_repr_that_raises_is_said() -> None:
    assert "Bad" in value_text(Bad())
    assert "Bad" in value_text({"a": [Bad()]})


def test_hidden_values_show_their_type() -> None:
    shown = values_view({"a": 1, "b": Plain()}, payloads=False)
    assert shown == {"a": "(int)", "b": "(Plain)"}
