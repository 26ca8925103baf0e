"""What went wrong with an orchestration, and what to do next: for the pages that people look at.

What failed is named by its call, through sub-orchestrations down to the activity whose body raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.history import Event, EventKind
from ..core.kinds import CALL_FAILURES, CALL_RESULTS, CALLS_ASKED, KINDS
from ..core.status import RuntimeStatus
from ..core.text import encodable
from ..engine.last_failure import Failure
from ..engine.listing import InstanceRecord
from ..engine.runtime import Runtime
from ..errors import ActivityError, DurableError
from ..handles.fields import record_of, runtime_of_handle
from ..handles.orchestration import Orchestration
from .traces import TracePart, parts_of_trace

__all__ = ["FailedCall", "FailureView", "Step", "failure_of"]

#: So many sub-orchestrations are followed down.
_DEEPEST = 8
#: How the engine begins a reason that tells of an error.
_OF_AN_ERROR = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exceeded|Failed|Lost|Timeout)\b")
_HISTORY_AT_ODDS = "NonDeterminismError"


@dataclass(frozen=True)
class FailedCall:
    """A call that failed, of the orchestration itself or of one below it."""

    #: Of the orchestration that asked for it.
    instance_id: str
    #: "activity" or "sub-orchestration".
    kind: str
    #: Of the task or the orchestrator.
    name: str
    #: The command number.
    command: int
    attempt: int
    #: The number in history of the event that tells of the failure.
    event: int
    #: Of a sub-orchestration; "" of an activity.
    child_id: str = ""


@dataclass(frozen=True)
class Step:
    """Something to do next."""

    #: In a few words, such as "Rewind".
    title: str
    #: What comes of it, and how it is done.
    text: str
    #: The verb that does it; "" if it is none that a page has a button for.
    verb: str = ""


@dataclass(frozen=True)
class FailureView:
    """What went wrong with an orchestration.

    Example:
        >>> found = failure_of(run)
        >>> found.calls[-1].name, found.calls[-1].attempt
        ('shop.charge', 3)
    """

    #: Whether the orchestration has ended by it; else it is tried again, or waits for someone.
    is_final: bool
    #: What failed, from the orchestration's own call down; empty if its own code raised.
    calls: tuple[FailedCall, ...]
    #: The dotted name of the exception; "" if it is not known.
    type: str
    message: str
    #: The traceback, with its libraries' frames apart.
    trace: tuple[TracePart, ...]
    #: What to do next, the likeliest first.
    steps: tuple[Step, ...] = field(default=())


def failure_of(run: Orchestration, events: Sequence[Event] | None = None) -> FailureView | None:
    """Return what went wrong with an orchestration.

    None if nothing has: also where all that failed has succeeded since.

    Args:
        run: the handle.
        events: its history, if it is at hand.

    Raises:
        PayloadError: its history is damaged.
        StoreError: the store cannot be reached.
    """
    runtime, record = runtime_of_handle(run), record_of(run)
    status = record.status
    if status.is_terminal and status is not RuntimeStatus.FAILED:
        return None
    events = run.history() if events is None else events
    found = _last_failed(events, record.id)
    if status is RuntimeStatus.FAILED:
        full = runtime.client.fetch(record.id)
        own = _decoded(runtime, full.failure)
        if found is None or not _made_it_fail(found[1], full):
            return _view(runtime, record, (), own)
        return _view(runtime, record, _chain(runtime, found[0]), own)
    if status is RuntimeStatus.SUSPENDED and _OF_AN_ERROR.match(record.reason or ""):
        kind, _, message = str(record.reason).partition(": ")
        return _view(runtime, record, (), ActivityError(kind, type=kind, message=message))
    if found is None or not _is_tried_again(events, found[0]):
        return None
    return _view(runtime, record, _chain(runtime, found[0]), _decoded(runtime, found[1].payload))


def _last_failed(events: Sequence[Event], instance_id: str) -> tuple[FailedCall, Event] | None:
    """Return the call that failed last since the last rewind, and the event that tells of it."""
    failed: tuple[int, Event] | None = None
    for number in range(len(events), 0, -1):
        event = events[number - 1]
        if failed is None:
            if event.kind is EventKind.HISTORY_REWRITTEN:
                return None
            failed = (number, event) if event.kind in CALL_FAILURES else None
        elif event.kind in CALLS_ASKED and event.command == failed[1].command:
            return _call(instance_id, *failed, event), failed[1]
    return None


def _call(instance_id: str, number: int, failed: Event, asked: Event) -> FailedCall:
    kind = KINDS.owners[failed.kind]
    return FailedCall(
        instance_id,
        kind.name,
        asked.name,
        failed.command,
        failed.attempt,
        number,
        kind.child_of(asked),
    )


def _made_it_fail(failed: Event, record: InstanceRecord) -> bool:
    return Failure("", None, failed.payload).is_reason_of(record)


def _is_tried_again(events: Sequence[Event], call: FailedCall) -> bool:
    """Tell whether a call that failed is tried again, and has no better outcome yet: else its
    orchestrator has dealt with the failure.
    """
    failed, later = events[call.event - 1], events[call.event :]
    own = [event.kind for event in later if event.command == call.command]
    if any(kind in CALL_RESULTS for kind in own):
        return False
    waits = later[:1] and later[0].kind is EventKind.TIMER_CREATED and later[0].at == failed.at
    return bool(waits) or any(kind in CALLS_ASKED for kind in own)


def _chain(runtime: Runtime, call: FailedCall) -> tuple[FailedCall, ...]:
    """Follow a failure down through sub-orchestrations; what is not there any more ends it."""
    calls = [call]
    while calls[-1].child_id and len(calls) < _DEEPEST:
        child = runtime.store.reads.fetch(calls[-1].child_id)
        if child is None or child.status is not RuntimeStatus.FAILED:
            break
        try:
            found = _last_failed(runtime.client.history(child.id), child.id)
        except DurableError:
            break
        if found is None or not _made_it_fail(found[1], child):
            break
        calls.append(found[0])
    return tuple(calls)


def _decoded(runtime: Runtime, payload: str | None) -> ActivityError:
    """Return an encoded failure as its facts; no class of the user's is made."""
    try:
        error, _ = runtime.codec.decode_failure(payload or "", may_rebuild=False)
    except DurableError:
        error = None
    if isinstance(error, ActivityError):
        return error
    return ActivityError("", type="", message="a failure that cannot be decoded", traceback=None)


def _view(
    runtime: Runtime, record: InstanceRecord, calls: tuple[FailedCall, ...], error: ActivityError
) -> FailureView:
    names = [record.name, *(call.name for call in calls)]
    own = {name.partition(".")[0] for name in names if "." in name}
    trace = parts_of_trace(encodable(error.traceback or ""), own)
    is_final = record.status is RuntimeStatus.FAILED
    steps = _steps(record, calls, error.type)
    message = encodable(error.message)
    return FailureView(is_final, calls, error.type, message, tuple(trace), steps)


# -- what to do next -------------------------------------------------------------------------------


def _steps(record: InstanceRecord, calls: tuple[FailedCall, ...], error: str) -> tuple[Step, ...]:
    if record.status is RuntimeStatus.SUSPENDED:
        return (_AT_ODDS if error.endswith(_HISTORY_AT_ODDS) else _RESUME, _GIVE_UP)
    if record.status is not RuntimeStatus.FAILED:
        return (_WAIT,)
    if not calls:
        return (_FIX, _RESTART)
    call = calls[0]
    below = " with the sub-orchestrations above it" if len(calls) > 1 else ""
    again = Step(
        "Rewind",
        f"Once the cause is gone, it runs {calls[-1].name} again{below}, with a fresh count of"
        " attempts, and keeps what succeeded. If the code is at fault, deploy it first.",
        "rewind",
    )
    by_hand = Step(
        "Give the outcome by hand",
        f"celery -A … durable override {record.id} {call.command} --result JSON takes that in the"
        " place of the failure, and continues.",
    )
    return (again, by_hand, _RESTART)


_FIX = Step(
    "Fix and rewind",
    "Its own code raised this: fix that, deploy it to the workers, and rewind. It continues where"
    " it failed, and keeps what succeeded.",
    "rewind",
)
_RESTART = Step(
    "Restart", "It begins once more with the same input, and runs everything.", "restart"
)
_AT_ODDS = Step(
    "Fix and resume",
    "The code that ran does not fit its history: deploy code that does (the version that began it,"
    " or one with a patch), and resume. Nothing is lost meanwhile.",
    "resume",
)
_RESUME = Step(
    "Fix and resume",
    "Let the cause be gone, deploy code if that is at fault, and resume. What arrives is kept until"
    " then.",
    "resume",
)
_GIVE_UP = Step("Terminate", "It ends as it is, with its sub-orchestrations.", "terminate")
_WAIT = Step("Wait", "It is under way: it is tried again by itself, or its code deals with it.")
