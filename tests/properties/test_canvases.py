"""Any canvas gives on this engine what it gives in Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, _state, chain, chord, group
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.tiers import is_long

Make = Callable[[Any], Any]

numbers = st.integers(0, 9)


def _task(number: int, is_immutable: bool) -> Make:
    return lambda tell: tell.si(number) if is_immutable else tell.s(number)


def _map(items: list[int]) -> Make:
    return lambda tell: tell.map(items)


def _starmap(items: list[int]) -> Make:
    return lambda tell: tell.starmap([(item, "with", item) for item in items])


def _chain(parts: list[Make]) -> Make:
    return lambda tell: chain(*(part(tell) for part in parts))


def _group(parts: list[Make]) -> Make:
    return lambda tell: group(*(part(tell) for part in parts))


def _chord(header: list[Make], body: Make) -> Make:
    return lambda tell: chord([part(tell) for part in header], body(tell))


leaves = st.one_of(
    st.builds(_task, numbers, st.booleans()),
    st.builds(_map, st.lists(numbers, min_size=1, max_size=3)),
    st.builds(_starmap, st.lists(numbers, min_size=1, max_size=3)),
)
canvases = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(_chain, st.lists(inner, min_size=1, max_size=4)),
        # of one, Celery makes two things: in eager mode a list, on a worker the member
        st.builds(_group, st.lists(inner, min_size=2, max_size=3)),
        st.builds(_chord, st.lists(inner, min_size=1, max_size=3), inner),
    ),
    max_leaves=8,
)


@pytest.fixture
def tell(new_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A task that returns all that it was given."""
    app = new_app(task_always_eager=True)
    monkeypatch.setattr(_state._tls, "current_app", app)

    @app.task(name="canvases.tell", shared=False)
    def tell(*args: Any) -> list[Any]:
        return list(args)

    return tell


@settings(
    max_examples=150 if is_long() else 50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(make=canvases, args=st.lists(numbers, max_size=2))
def test_it_gives_what_celery_gives(tell: Any, make: Make, args: list[int]) -> None:
    note(repr(make(tell)))
    theirs = make(tell).apply(tuple(args)).get()
    ours = tell.app.durable.canvas(make(tell)).apply_async(tuple(args)).get(timeout=300)
    assert ours == theirs
