"""What a turn does with an instance: one table, whose first matching row decides.

A turn looks at the instance and at the messages in its inbox, and asks ``route`` what to do.
Nothing here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from ..core.status import MOVING, RuntimeStatus
from .records import InboxKind, InboxRow

__all__ = ["ROUTES", "Action", "Request", "Route", "TurnView", "request_of", "route"]


class Request(Enum):
    """The strongest request of an operator or a parent among the messages."""

    NONE = auto()
    #: Make a failed instance run again; counts only while nothing that ends it has come after.
    REWIND = auto()
    #: End it at once.
    TERMINATE = auto()


class Action(Enum):
    """What a turn can do."""

    #: A failed instance becomes one that runs; then everything is read again.
    REOPEN = auto()
    #: It has ended: delete messages that will never be taken.
    DISCARD = auto()
    #: End it as the request asks.
    TERMINATE = auto()
    #: Nothing is to be done now; its messages stay.
    LEAVE = auto()
    #: A pause keeps it from taking turns: its messages stay, and recovery leaves them alone.
    HOLD = auto()
    #: This process does not have its code; another one is to take the turn.
    UNKNOWN_CODE = auto()
    #: Run it again from its whole history, without what failed.
    REWIND = auto()
    #: Replay, apply the new messages, commit.
    TURN = auto()


class TurnView(NamedTuple):
    """All that the choice depends on."""

    status: RuntimeStatus
    request: Request
    #: Something in the inbox wants a turn now.
    is_due: bool
    #: This process has the orchestrator, in the version of the instance.
    has_code: bool
    #: A pause holds it.
    is_paused: bool = False


class Route(NamedTuple):
    """A row of the table; None matches everything."""

    statuses: frozenset[RuntimeStatus]
    request: Request | None
    is_due: bool | None
    has_code: bool | None
    is_paused: bool | None
    action: Action


_MOVING = frozenset(MOVING)
_ENDED = frozenset(status for status in RuntimeStatus if status.is_terminal)
_LIVE = frozenset(RuntimeStatus) - _ENDED

ROUTES = (
    Route(frozenset({RuntimeStatus.FAILED}), Request.REWIND, None, None, None, Action.REOPEN),
    Route(_ENDED, None, None, None, None, Action.DISCARD),
    # before everything else that concerns a live one: it needs neither its code nor its turn
    Route(_LIVE, Request.TERMINATE, None, None, None, Action.TERMINATE),
    Route(frozenset({RuntimeStatus.SUSPENDED}), None, None, None, None, Action.LEAVE),
    Route(_MOVING, None, False, None, None, Action.LEAVE),
    Route(_MOVING, None, True, None, True, Action.HOLD),
    Route(_MOVING, None, True, False, None, Action.UNKNOWN_CODE),
    Route(_MOVING, Request.REWIND, True, True, None, Action.REWIND),
    Route(_MOVING, None, True, True, None, Action.TURN),
)


def request_of(status: RuntimeStatus, inbox: Sequence[InboxRow]) -> Request:
    """Return the strongest request among the messages of an instance."""
    kinds = {row.kind for row in inbox}
    if InboxKind.TERMINATE in kinds:
        return Request.TERMINATE
    if InboxKind.REWIND not in kinds:
        return Request.NONE
    # a parent that has asked a failed child to rewind may have taken that back by ending it
    is_taken_back = status is RuntimeStatus.FAILED and not kinds.isdisjoint(InboxKind.ENDING)
    return Request.NONE if is_taken_back else Request.REWIND


@cache
def route(view: TurnView) -> Action:
    """Return what to do: the action of the first row that matches."""
    for statuses, request, is_due, has_code, is_paused, action in ROUTES:
        if (
            view.status in statuses
            and (request is None or request is view.request)
            and (is_due is None or is_due is view.is_due)
            and (has_code is None or has_code is view.has_code)
            and (is_paused is None or is_paused is view.is_paused)
        ):
            return action
    raise AssertionError(f"no route for {view}")
