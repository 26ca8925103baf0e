"""Switches as they are asked for: which pause holds a name, and which starts are in a ramp."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.entity import ORCHESTRATORS
from celery_durable.core.plain_task import TASK
from celery_durable.engine.switches import Ramp, Switch, SwitchBoard, Switched, SwitchKind, until_of
from celery_durable.errors import StoreError


def pause(kind: str, name: str, **values: Any) -> Switch:
    return Switch(kind, name, None, None, 0, None)._replace(**values)


# -- pauses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("shop.charge", "shop.charge"),  # its very name before any pattern
        ("shop.ship", "s*"),  # of several patterns always the same
        ("Shop.ship", None),
        ("x[1]", "x[1]"),  # a name is no pattern of itself
        ("x1", "x[1]"),
        (None, None),
    ],
)
def test_a_pause_holds_its_name_and_what_its_pattern_matches(
    name: str | None, holder: str | None
) -> None:
    names = ["shop.*", "s*", "shop.charge", "x[1]"]
    board = Switched.of([pause("task", each) for each in names])
    found = board.pause(SwitchKind.TASK, name)
    assert (found and found.name) == holder
    assert board.pause(SwitchKind.QUEUE, name) is None


def test_what_is_lifted_holds_nothing() -> None:
    assert Switched.of([pause("task", "charge", lifted_at=5)]).pauses == {}


@pytest.mark.parametrize(
    ("name", "version", "queue", "holder"),
    [
        ("flow", "1", "slow", "flow"),
        ("flow", "1", None, "flow"),
        ("other", None, "slow", "slow"),
        ("other", None, "fast", None),
        ("flow", TASK, None, None),  # a plain task is paused as a task
        (f"{ORCHESTRATORS}flow", None, None, None),
        (f"{ORCHESTRATORS}flow", None, "slow", "slow"),
    ],
)
def test_turns_wait_for_their_orchestrator_and_their_queue(
    name: str, version: str | None, queue: str | None, holder: str | None
) -> None:
    rows = [pause("orchestrator", "*flow"), pause("orchestrator", "flow"), pause("queue", "slow")]
    found = Switched.of(rows).of_turns(name, version, queue)
    assert (found and found.name) == holder


@pytest.mark.parametrize(
    ("value", "until"),
    [
        (None, None),
        ('{"until": 5}', 5),
        ('{"until": "5"}', None),
        ("{}", None),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_a_pause_ends_when_it_says_so(value: str | None, until: int | None) -> None:
    assert until_of(pause("task", "charge", value=value)) == until


def test_limits_that_cannot_be_read_are_none_and_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Switched.of([pause("limit", "charge", value="{")]).limits == {"charge": ()}
    assert "the limits of task 'charge' in the store cannot be read" in caplog.text


# -- ramps -----------------------------------------------------------------------------------------

SHARES = st.floats(0, 1)


@given(st.text(max_size=20), SHARES, SHARES)
def test_a_larger_share_takes_no_start_out(id_: str, one: float, other: float) -> None:
    smaller, larger = sorted([one, other])
    if Ramp("2", smaller).has("flow", id_):
        assert Ramp("2", larger).has("flow", id_)


@given(st.text(max_size=20))
def test_a_share_of_0_has_no_start_and_of_1_each(id_: str) -> None:
    assert not Ramp("2", 0).has("flow", id_)
    assert Ramp("2", 1).has("flow", id_)


def test_a_share_has_about_as_many_and_others_of_another_name() -> None:
    ramp, ids = Ramp("2", 0.3), [f"order-{number}" for number in range(2_000)]
    chosen = {name: {id_ for id_ in ids if ramp.has(name, id_)} for name in ("flow", "other")}
    assert all(500 < len(each) < 700 for each in chosen.values())
    assert chosen["flow"] != chosen["other"]
    # workers of other releases choose alike
    assert [id_ for id_ in ids[:12] if id_ in chosen["flow"]] == [
        "order-2",
        "order-3",
        "order-8",
        "order-11",
    ]


@given(st.none() | st.text(), SHARES)
def test_what_was_stored_is_read(version: str | None, share: float) -> None:
    assert Ramp.parse(Ramp(version, share).to_text()) == Ramp(version, share)


def test_what_is_not_stored_is_a_share_of_none() -> None:
    assert Ramp.parse(None) == Ramp(None, 0.0)
    assert Switched.of([pause("ramp", "flow", value=json.dumps({"version": "2"}))]).ramps == {
        "flow": Ramp("2", 0.0)
    }


# -- the board -------------------------------------------------------------------------------------


class Rows:
    """A store that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_gone = False

    def read(self) -> list[Switch]:
        self.reads += 1
        if self.is_gone:
            raise StoreError("gone")
        return [pause("task", f"charge-{self.reads}")]


def board_over(rows: Any, interval: float) -> SwitchBoard:
    return SwitchBoard(rows, interval)


def test_a_board_is_read_at_first_and_then_after_its_interval() -> None:
    rows = Rows()
    board = board_over(rows, 3600)
    assert board.is_due
    assert board.current() is board.current()
    assert (rows.reads, board.is_due) == (1, False)
    board.refresh()
    assert board.current().pause(SwitchKind.TASK, "charge-2")
    board = board_over(rows, 0)
    assert board.current() is not board.current()


def test_what_was_read_already_is_taken() -> None:
    rows = Rows()
    board = board_over(rows, 3600)
    board.refresh([pause("queue", "slow")])
    assert board.current().pause(SwitchKind.QUEUE, "slow")
    assert rows.reads == 0


def test_a_store_that_is_gone_leaves_it_due() -> None:
    rows = Rows()
    rows.is_gone = True
    board = board_over(rows, 3600)
    with pytest.raises(StoreError):
        board.current()
    assert board.is_due
