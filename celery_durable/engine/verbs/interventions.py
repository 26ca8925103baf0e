"""``fork`` and ``override``: another orchestration from a point in history, and an outcome by
hand.
"""

from __future__ import annotations

import uuid
from typing import Any

from ..._errors import InstanceExists, InvalidState
from ...core.guard import refuse_inside_orchestrator
from ...core.history import Event, EventKind
from ...core.kinds import CALL_RESULTS
from ...core.rewind import Override
from ...core.status import RuntimeStatus
from .. import start
from ..control import Control
from ..draft import new_execution_id
from ..forecast import Forecast, call_in, forecast, fork_rows
from ..records import Snapshot
from ..replay import current_events
from ..verb import N_, Argument, Kind, Surface, Verb, Words
from ..writes import CHECK_MESSAGE_AFTER, NewInbox, NewInstance
from .rewinding import as_row, rewind, rewind_request

__all__ = ["ROWS", "foresee_override", "fork", "override"]

_IN_CODE = frozenset({Surface.CODE, Surface.CLI})


def fork(
    control: Control,
    instance_id: str,
    at: int,
    new_id: str | None = None,
    reason: str | None = None,
) -> str:
    """Start another orchestration from a point in the history of this one.

    See ``Orchestration.fork``.

    Raises:
        ValueError: there is no such point.
        InstanceNotFound: there is no such orchestration.
        InstanceExists: ``new_id`` is in use.
    """
    refuse_inside_orchestrator("fork()")
    old = control.fetch(instance_id)
    FORK.acts(old.status, instance_id)
    rows = fork_rows(snapshot := control.snapshot(instance_id), at)
    new = NewInstance(
        start.new_id(new_id, old.name),
        new_execution_id(),
        old.name,
        old.version,
        snapshot.instance.input or "[[], {}]",
        queue=old.queue,
        canvas=control.kept_canvas(old),
        tags=old.tags,
    )
    control.runner.starter.complete(new, control.registry.get(old.name, old.version))
    new.admission = None  # it has begun already
    message = _origin(new, instance_id, at, reason)
    if not control.store.starts.insert_fork(new, rows, message):
        raise InstanceExists(f"there is an orchestration {new.id!r} already", instance_id=new.id)
    control.runner.notifier.started(new)
    control.publish([new.id])
    return new.id


def _origin(new: NewInstance, instance_id: str, at: int, reason: str | None) -> NewInbox:
    """Return the first message of a fork: where it comes from, and why."""
    facts: dict[str, Any] = {"seed": new.execution, "fork_of": instance_id, "at": at}
    if "trace" in (new.facts or {}):
        facts["trace"] = (new.facts or {})["trace"]
    if reason:
        facts["reason"] = reason
    return NewInbox(
        new.id,
        EventKind.WORK_RENEWED,
        f"fork:{new.execution}",
        execution=new.execution,
        facts=facts,
        check_after=CHECK_MESSAGE_AFTER,
    )


def override(
    control: Control,
    instance_id: str,
    call: int,
    result: Any = None,
    error: BaseException | None = None,
    reason: str | None = None,
) -> None:
    """Give an activity or sub-orchestration an outcome from outside.

    See ``Orchestration.override``.

    Raises:
        InvalidState: the orchestration has ended and has not failed, or the call has its outcome
            already.
        ValueError: there is no such call.
        PayloadError: the result cannot be encoded.
    """
    chosen, snapshot, asked = _checked(control, instance_id, call, result, error, reason)
    if snapshot.instance.status is RuntimeStatus.FAILED:
        rewind(control, instance_id, reason, override=chosen)
    else:
        control.send(_message(snapshot, chosen, asked), OVERRIDE)


def foresee_override(
    control: Control,
    instance_id: str,
    call: int,
    result: Any = None,
    error: BaseException | None = None,
    reason: str | None = None,
) -> Forecast:
    """Tell what the orchestrator would do after ``override``."""
    chosen, snapshot, asked = _checked(control, instance_id, call, result, error, reason)
    if snapshot.instance.status is RuntimeStatus.FAILED:
        message = rewind_request(snapshot, reason, chosen)
    else:
        message = _message(snapshot, chosen, asked)
    return forecast(control.runner, snapshot, as_row(message, snapshot))


def _checked(
    control: Control,
    instance_id: str,
    call: int,
    result: Any,
    error: BaseException | None,
    reason: str | None,
) -> tuple[Override, Snapshot, Event]:
    """Return the outcome, the instance, and the event that asked for the call."""
    refuse_inside_orchestrator("override()")
    codec = control.codec
    payload = codec.encode(result) if error is None else codec.encode_failure(error)
    snapshot = control.snapshot(instance_id)
    status = snapshot.instance.status
    OVERRIDE.acts(status, instance_id)
    asked, outcome = call_in(current_events(snapshot.history, instance_id), call, instance_id)
    if status is RuntimeStatus.FAILED:
        problem = "has no outcome; a rewind runs it again" if outcome is None else None
    else:
        is_taken = outcome is not None and outcome.kind in CALL_RESULTS
        problem = "has its outcome already" if is_taken else None
    if problem is not None:
        raise InvalidState(
            f"call {call} ({asked.name}) of {instance_id!r}, which is {status}, {problem}",
            instance_id=instance_id,
            status=status,
        )
    return Override(call, payload, error is not None, reason), snapshot, asked


def _message(snapshot: Snapshot, chosen: Override, asked: Event) -> NewInbox:
    instance = snapshot.instance
    return NewInbox(
        instance.id,
        chosen.kind_for(asked),
        # each override counts by itself: the last one that finds the call open wins
        f"override:{instance.execution}:{chosen.command}:{uuid.uuid4().hex}",
        execution=instance.execution,
        command=chosen.command,
        attempt=asked.attempt,
        payload=chosen.payload,
        facts=chosen.facts,
        check_after=CHECK_MESSAGE_AFTER,
    )


FORK = Verb(
    "fork",
    acts_in=tuple(status for status in RuntimeStatus if status is not RuntimeStatus.PENDING),
    ignored_in=(),
    arguments=(
        Argument(
            "at",
            Kind.NUMBER,
            "The number of the last event to keep; see history.",
            is_required=True,
        ),
        Argument("new_id", Kind.TEXT, "Of the new one.", names={Surface.CLI: "id"}),
    ),
    is_bulk=False,
    offered_in=_IN_CODE,
    function=fork,
    words=Words(
        N_("Fork"),
        N_("Fork orchestrations"),
        N_("Others with the same history up to an event begin, and continue by themselves."),
        N_("forked"),
        reference="Another orchestration with the same history up to event number `at`, which"
        " continues from there by itself.",
        texts={
            Surface.CLI: "Start another orchestration from a point in the history of this one, and"
            " print its id."
        },
    ),
)
OVERRIDE = Verb(
    "override",
    acts_in=(RuntimeStatus.RUNNING, RuntimeStatus.SUSPENDED, RuntimeStatus.FAILED),
    ignored_in=(),
    arguments=(
        Argument("call", Kind.NUMBER, is_required=True, is_positional=True),
        Argument("result", Kind.JSON, "What it returns, as JSON; null if left out."),
        Argument("error", Kind.ERROR, "The text of an error that it raises, instead."),
    ),
    is_bulk=False,
    offered_in=_IN_CODE,
    function=override,
    forecast=foresee_override,
    words=Words(
        N_("Override"),
        N_("Override outcomes in orchestrations"),
        N_("One activity or sub-orchestration gets its outcome by hand."),
        N_("given the outcome"),
        reference="Give one activity or sub-orchestration its outcome by hand. On a failed"
        " orchestration it replaces the recorded one, and rewinds. `skip(call)` gives None.",
        reported="",
        permits="override outcomes in orchestrations",
        texts={
            Surface.CLI: "Give the call CALL (its command number) of one orchestration its outcome"
            " by hand."
        },
    ),
)
ROWS = (FORK, OVERRIDE)
