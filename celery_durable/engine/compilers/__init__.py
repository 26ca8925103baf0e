"""The compilers: what a commit writes for each kind of command, one module a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.commands import Command
from ...core.kinds import (
    AnswerRequest,
    CancelActivity,
    CancelChild,
    CancelExecution,
    CancelTimer,
    CompleteExecution,
    ContinueAsNew,
    CreateTimer,
    FailExecution,
    ReattachChild,
    ScheduleActivity,
    SendEvent,
    StartChild,
)
from ..draft import CommitDraft
from .activity import cancel_activity, schedule_activity
from .child import cancel_child, reattach_child, start_child
from .execution import cancel, complete, continue_as_new, fail
from .external_event import send_event
from .request import answer_request
from .timer import cancel_timer, create_timer

__all__ = ["COMPILERS"]

#: Each adds to the draft what carries its command out; commands that are facts alone have none.
COMPILERS: dict[type[Command], Callable[[CommitDraft, Any], None]] = {
    ScheduleActivity: schedule_activity,
    CancelActivity: cancel_activity,
    CreateTimer: create_timer,
    CancelTimer: cancel_timer,
    StartChild: start_child,
    CancelChild: cancel_child,
    ReattachChild: reattach_child,
    SendEvent: send_event,
    AnswerRequest: answer_request,
    CompleteExecution: complete,
    FailExecution: fail,
    CancelExecution: cancel,
    ContinueAsNew: continue_as_new,
}
