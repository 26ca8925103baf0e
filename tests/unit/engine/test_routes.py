"""What a turn does with what it has read: the table, whole."""

from __future__ import annotations

import itertools

import pytest

from celery_durable.core.status import RuntimeStatus as S
from celery_durable.engine.records import InboxKind, InboxRow
from celery_durable.engine.routes import ROUTES, Action, Request, TurnView, request_of, route

ALL = [
    TurnView(status, request, is_due, has_code, is_paused)
    for status, request, is_due, has_code, is_paused in itertools.product(
        S, Request, (False, True), (False, True), (False, True)
    )
]


@pytest.mark.parametrize("view", ALL, ids=lambda view: "-".join(map(str, view)))
def test_every_view_has_one_action(view: TurnView) -> None:
    action = route(view)
    if view.status is S.FAILED and view.request is Request.REWIND:
        assert action is Action.REOPEN
    elif view.status.is_terminal:
        assert action is Action.DISCARD
    elif view.request is Request.TERMINATE:
        assert action is Action.TERMINATE
    elif view.status is S.SUSPENDED or not view.is_due:
        assert action is Action.LEAVE
    elif view.is_paused:
        assert action is Action.HOLD
    elif not view.has_code:
        assert action is Action.UNKNOWN_CODE
    else:
        assert action is (Action.REWIND if view.request is Request.REWIND else Action.TURN)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.action.name)
def test_every_row_of_the_table_is_reached(row: object) -> None:
    first = [next(each for each in ROUTES if _matches(each, view)) for view in ALL]
    assert row in first


def _matches(row: tuple[object, ...], view: TurnView) -> bool:
    statuses, *rest, _ = row
    return (
        view.status in statuses
        and all(  # type: ignore[operator]
            wanted is None or wanted is given for wanted, given in zip(rest, view[1:], strict=True)
        )
    )


def message(kind: str) -> InboxRow:
    return InboxRow(1, kind, None, 0, 0, None, None, None, 0, 0)


@pytest.mark.parametrize(
    ("status", "kinds", "request_"),
    [
        (S.RUNNING, [], Request.NONE),
        (S.RUNNING, ["EventRaised", InboxKind.JOIN], Request.NONE),
        (S.RUNNING, [InboxKind.REWIND], Request.REWIND),
        (S.RUNNING, [InboxKind.REWIND, "CancelRequested"], Request.REWIND),
        (S.RUNNING, [InboxKind.REWIND, InboxKind.TERMINATE], Request.TERMINATE),
        (S.FAILED, [InboxKind.REWIND], Request.REWIND),
        (S.FAILED, [InboxKind.REWIND, "CancelRequested"], Request.NONE),
        (S.FAILED, [InboxKind.REWIND, InboxKind.TERMINATE], Request.TERMINATE),
        (S.FAILED, ["EventRaised"], Request.NONE),
    ],
)
def test_the_strongest_request_counts(status: S, kinds: list[str], request_: Request) -> None:
    assert request_of(status, [message(kind) for kind in kinds]) is request_
