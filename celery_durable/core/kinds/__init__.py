"""Internal. The kinds of commands there are: one module each, registered here.

A new kind is a module with its commands, a subclass of ``Kind`` and what it adds to ``ctx``, and
one line in ``KINDS``.
"""

from __future__ import annotations

from .activity import Activities, ActivityCall, CancelActivity, ScheduleActivity
from .call import Call, CallOptions, Calls
from .calling import CallContext, call, leaf, window
from .child import CancelChild, ChildCall, Children, ReattachChild, StartChild, revoked_child
from .entity_call import EntityCalls
from .execution import (
    Aside,
    CancelExecution,
    CompleteExecution,
    ContinueAsNew,
    ContinueAsNewRequested,
    FailExecution,
    Lifecycle,
)
from .external_event import ExternalEventContext, ExternalEvents, SendEvent
from .kind import ContextPart, Kind, Registry, Reissue
from .patch import PatchContext, Patches, RecordPatch
from .request import AnswerRequest, Request, RequestContext, Requests
from .side_effect import RecordRun, SideEffectContext, SideEffects
from .state import State, StateContext
from .timer import CancelTimer, CreateTimer, TimerContext, Timers
from .typed_payload import RefusePayload, TypedPayloads, converted

__all__ = [
    "ASKED",
    "CALLS_ASKED",
    "CALL_FAILURES",
    "CALL_OUTCOMES",
    "CALL_RESULTS",
    "WITHDRAWN",
    "CONFIRMATIONS",
    "INPUTS",
    "KINDS",
    "LAPSING",
    "RESOLUTIONS",
    "Activities",
    "ActivityCall",
    "AnswerRequest",
    "Aside",
    "Call",
    "CallOptions",
    "Calls",
    "CancelActivity",
    "CancelChild",
    "CancelExecution",
    "CancelTimer",
    "ChildCall",
    "Children",
    "CompleteExecution",
    "ContextPart",
    "ContinueAsNew",
    "ContinueAsNewRequested",
    "CreateTimer",
    "EntityCalls",
    "ExternalEvents",
    "FailExecution",
    "Kind",
    "KindsContext",
    "Lifecycle",
    "Patches",
    "RecordPatch",
    "RecordRun",
    "RefusePayload",
    "Registry",
    "Reissue",
    "Request",
    "Requests",
    "ReattachChild",
    "ScheduleActivity",
    "SendEvent",
    "SideEffects",
    "StartChild",
    "State",
    "Timers",
    "TypedPayloads",
    "call",
    "leaf",
    "revoked_child",
    "window",
    "converted",
]

#: In the order in which they ask again after a rewind: calls by number, the timers that were open,
#: the answers of entities. That order is recorded in histories.
KINDS = Registry(
    (
        Calls,
        Activities,
        Children,
        Timers,
        EntityCalls,
        ExternalEvents,
        Requests,
        SideEffects,
        Patches,
        TypedPayloads,
        Lifecycle,
    )
)
# what follows from it, for those who ask of events; a kind that is added later is in there too
#: The events that are given to the code.
INPUTS = KINDS.inputs.keys()
#: Those of them that lapse when their instance fails; a rewind gives the others to the code.
LAPSING = KINDS.lapsing
#: Command -> the one event that confirms it.
CONFIRMATIONS = KINDS.confirmations
#: Input -> the command that it resolves; a command is resolved at most once.
RESOLUTIONS = KINDS.resolutions
#: The inputs that tell how a call has ended; those of them that bring a result, or a failure.
CALL_RESULTS = frozenset({Activities.completed, Children.completed})
CALL_FAILURES = frozenset({Activities.failed, Children.failed})
CALL_OUTCOMES = CALL_RESULTS | CALL_FAILURES
#: The events that record a call.
CALLS_ASKED = frozenset({ScheduleActivity.confirmed_by, StartChild.confirmed_by})
#: The events that record a command which stays open until an input resolves it.
ASKED = KINDS.asked
#: The events that record how such a command is taken back.
WITHDRAWN = KINDS.withdrawn


class KindsContext(
    CallContext,
    TimerContext,
    ExternalEventContext,
    RequestContext,
    SideEffectContext,
    PatchContext,
    StateContext,
):
    """What the kinds add to ``ctx``."""
