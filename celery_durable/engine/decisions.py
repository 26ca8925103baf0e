"""From what the orchestrator decided to what one commit writes: each kind of command has its entry in one table."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..conf import Settings
from ..core.calls import revoked_child
from ..core.commands import (
    CancelActivity,
    CancelChild,
    CancelExecution,
    CancelTimer,
    Command,
    CompleteExecution,
    ContinueAsNew,
    CreateTimer,
    FailExecution,
    ReviveChild,
    ScheduleActivity,
    SendEvent,
    StartChild,
)
from ..core.events import Event, EventKind, dump_events
from ..core.references import LOCKED
from ..core.replay import Codec, Decision, Execution
from ..core.status import RuntimeStatus
from ..errors import InstanceExists, InstanceNotFound
from .entities import farewell, new_entity
from .observation import Carried
from .protocols import Publisher
from .records import (
    ActivityRow,
    ActivityTicket,
    ChildInstance,
    InboxKind,
    InstanceEnd,
    NewActivity,
    NewInbox,
    Revival,
    Snapshot,
    TurnCommit,
)

__all__ = ["activity_rows", "new_execution_id", "termination", "translate"]

PRESUMED_SENT = 1_000
WHOLE_INSTANCE = 0
MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
_CHECK_WAKE_AFTER = 2_000_000
_NOTHING = Carried()


def new_execution_id() -> str:
    """Return a random id for one life of an instance."""
    return uuid.uuid4().hex[:20]


@dataclass(slots=True)
class _Draft:
    """A commit in the making, and what the entries of the table need beside the command."""

    commit: TurnCommit
    snapshot: Snapshot
    decision: Decision
    settings: Settings
    publisher: Publisher
    codec: Codec
    leaves_rest: bool
    max_activities: int | None = None
    carried: Carried = _NOTHING

    @property
    def execution(self) -> str:
        return self.snapshot.instance.execution


def translate(
    decision: Decision,
    snapshot: Snapshot,
    execution: Execution,
    settings: Settings,
    publisher: Publisher,
    codec: Codec,
    max_activities: int | None = None,
    carried: Carried | None = None,
) -> TurnCommit:
    """Return the commit that carries out a decision; ``carried`` goes with what it sends."""
    instance = snapshot.instance
    commit = TurnCommit(instance.id, instance.execution, instance.sequence, MOVING)
    commit.custom_status = decision.custom_status
    commit.join_changes = dict(decision.join_changes)
    commit.released_slots = decision.released_slots
    begins = any(event.kind is EventKind.EXECUTION_STARTED for event in decision.events)
    if instance.status is RuntimeStatus.PENDING and begins:
        commit.status = RuntimeStatus.RUNNING
    draft = _Draft(
        commit, snapshot, decision, settings, publisher, codec, execution.has_outstanding,
        max_activities or settings.max_instance_activities or None, carried or _NOTHING,
    )  # fmt: skip
    commit.max_activities = draft.max_activities
    for command in decision.commands:
        if (entry := _ENTRIES.get(type(command))) is not None:
            entry(draft, command)
    for join in sorted(decision.joins_formed):
        commit.own_inbox.append(_join_row(draft, join))
    commit.canceled_dedups += [f"join:{draft.execution}:{join}" for join in sorted(decision.joins_ended)]
    if decision.final is None:
        fresh = {new.command for new in commit.activities}
        commit.join_changes = {c: j for c, j in commit.join_changes.items() if c not in fresh}
    else:
        _close(draft)
        if instance.status is RuntimeStatus.PENDING and not begins:
            commit.clears = True  # its start message is there still, for later
    if decision.suspend_reason is not None:
        note = Event(EventKind.EXECUTION_SUSPENDED, decision.now, facts={"reason": decision.suspend_reason})
        decision.events.append(note)
        commit.status, commit.reason, commit.parks_inbox = RuntimeStatus.SUSPENDED, decision.suspend_reason, True
    commit.events = dump_events(decision.events)
    return commit


def _close(draft: _Draft) -> None:
    """The execution is over: nothing that it started and did not await is kept."""
    commit = draft.commit
    is_rest = draft.leaves_rest or bool(commit.canceled_commands or commit.canceled_dedups)
    commit.activities = [new for new in commit.activities if new.kind != "activity"]
    commit.own_inbox = [message for message in commit.own_inbox if message.execution != draft.execution]
    commit.canceled_commands, commit.canceled_dedups, commit.join_changes, commit.released_slots = [], [], {}, {}
    commit.max_activities = None
    commit.clears = is_rest


def _join_row(draft: _Draft, join: int) -> NewInbox:
    return NewInbox(
        draft.commit.instance_id, InboxKind.JOIN, f"join:{draft.execution}:{join}", execution=draft.execution, command=join,
        wakes=False, check_after=int(draft.settings.resend_after * 2_000_000),
    )  # fmt: skip


def _schedule_activity(draft: _Draft, command: ScheduleActivity) -> None:
    commit, window, is_held = draft.commit, command.window, command.is_held
    if draft.max_activities is not None and window is None:
        window, is_held = WHOLE_INSTANCE, True  # the commit lets as many go as there is room for
    is_sent = sum(1 for new in commit.activities if not new.is_held) < PRESUMED_SENT
    options = command.options
    carried = {**draft.carried.headers, **({"durable_redo": command.redo} if command.redo else {})}
    if carried:
        options = {**options, "headers": {**(options.get("headers") or {}), **carried}}
    commit.activities.append(
        NewActivity(
            command.command, command.attempt, "activity", command.task,
            message=draft.codec.encode([command.input, dict(options)]),
            queue=draft.publisher.route(command.task, command.options),
            join_command=draft.decision.joins.get(command.command),
            window_command=window, is_held=is_held, is_sent=is_sent,
            timeout=command.timeout, start_timeout=command.start_timeout, heartbeat_timeout=command.heartbeat_timeout,
            signature=(command.args, command.kwargs, options),
        )
    )  # fmt: skip


def _cancel_activity(draft: _Draft, command: CancelActivity) -> None:
    commit = draft.commit
    kept = [new for new in commit.activities if new.command != command.command]
    if len(kept) < len(commit.activities):
        commit.activities = kept
    else:
        commit.canceled_commands.append(command.command)


def _create_timer(draft: _Draft, command: CreateTimer) -> None:
    if command.command in draft.decision.fired:
        return
    horizon = int(draft.settings.timer_horizon * 1_000_000)
    is_near = command.due - draft.snapshot.now <= horizon
    draft.commit.own_inbox.append(
        NewInbox(
            draft.commit.instance_id, EventKind.TIMER_FIRED, _timer_dedup(draft, command), execution=draft.execution,
            command=command.command, facts={"event": command.event} if command.event else None, visible_at=command.due,
            check_after=_CHECK_WAKE_AFTER if is_near else -horizon,
        )
    )  # fmt: skip


def _cancel_timer(draft: _Draft, command: CancelTimer) -> None:
    commit, dedup = draft.commit, _timer_dedup(draft, command)
    kept = [message for message in commit.own_inbox if message.dedup != dedup]
    if len(kept) < len(commit.own_inbox):
        commit.own_inbox = kept
    else:
        commit.canceled_dedups.append(dedup)


def _timer_dedup(draft: _Draft, command: Command) -> str:
    return f"timer:{draft.execution}:{command.command}"


def _start_child(draft: _Draft, command: StartChild) -> None:
    instance = draft.snapshot.instance
    refusal = InstanceExists(
        f"orchestration {instance.id!r} cannot start {command.name} as {command.child_id!r}: the id is in use",
        instance_id=command.child_id,
    )
    reply = _child_reply(instance.id, draft.execution, command.command, command.attempt)
    draft.commit.children.append(
        ChildInstance(
            command.child_id, new_execution_id(), command.name, _newest_version(draft, command.name), command.input,
            queue=draft.publisher.route(command.name, command.options),
            canvas=draft.codec.encode({"options": dict(command.options)}) if command.options else None,
            root_id=instance.root_id or instance.id, parent_id=instance.id, parent_execution=draft.execution,
            parent_command=command.command, parent_attempt=command.attempt, check_after=_CHECK_WAKE_AFTER * 2,
            refusal=reply(EventKind.CHILD_FAILED, draft.codec.encode_failure(refusal)),
            facts=dict(draft.carried.child) or None,
        )
    )  # fmt: skip


def _newest_version(draft: _Draft, name: str) -> str | None:
    return draft.publisher.newest_version(name)


def _child_reply(
    parent_id: str, parent_execution: str, command: int, attempt: int
) -> Callable[[EventKind, str | None], NewInbox]:
    def reply(kind: EventKind, payload: str | None) -> NewInbox:
        return NewInbox(
            parent_id, kind, f"child:{parent_execution}:{command}:{attempt}", execution=parent_execution,
            command=command, attempt=attempt, payload=payload, check_after=_CHECK_WAKE_AFTER * 2,
        )  # fmt: skip

    return reply


def _revive_child(draft: _Draft, command: ReviveChild) -> None:
    codec, child_id = draft.codec, command.child_id
    reply = _child_reply(draft.commit.instance_id, draft.execution, command.command, command.attempt)

    def answer(end: InstanceEnd | None) -> NewInbox:
        if end is None:
            gone = InstanceNotFound(f"sub-orchestration {child_id!r} is not there any more", instance_id=child_id)
            return reply(EventKind.CHILD_FAILED, codec.encode_failure(gone))
        if end.status is RuntimeStatus.COMPLETED:
            return reply(EventKind.CHILD_COMPLETED, end.output)
        failure = end.failure or codec.encode_failure(revoked_child(child_id, end.status, end.reason))
        return reply(EventKind.CHILD_FAILED, failure)

    wish = None
    if command.rewinds:
        dedup = f"rewind:{draft.execution}:{draft.commit.sequence}:{command.command}"
        facts = {"reason": f"its parent {draft.commit.instance_id} was rewound"}
        wish = NewInbox(child_id, InboxKind.REWIND, dedup, facts=facts, check_after=_CHECK_WAKE_AFTER * 2)
    draft.commit.revivals.append(Revival(child_id, wish, answer))


def _cancel_child(draft: _Draft, command: CancelChild) -> None:
    draft.commit.other_inboxes.append(
        NewInbox(
            command.child_id, EventKind.CANCEL_REQUESTED, "cancel", check_after=_CHECK_WAKE_AFTER * 2,
            facts={"reason": f"its parent {draft.commit.instance_id} no longer wants it"},
        )
    )  # fmt: skip


def _send_event(draft: _Draft, command: SendEvent) -> None:
    horizon = int(draft.settings.timer_horizon * 1_000_000)
    is_far = command.due is not None and command.due - draft.snapshot.now > horizon
    dedup, creates = f"sent:{draft.execution}:{command.command}", None
    if LOCKED in (command.note or {}):  # a wish of before a rewind was given back, and is another one
        dedup = f"{dedup}:{draft.commit.sequence}"
    if command.creates is not None:
        queue = draft.publisher.route(command.creates, {})
        creates = new_entity(command.instance_id, new_execution_id(), command.creates, queue)
    draft.commit.other_inboxes.append(
        NewInbox(
            command.instance_id, EventKind.EVENT_RAISED, dedup,
            name=command.name, payload=command.payload, visible_at=command.due,
            check_after=-horizon if is_far else _CHECK_WAKE_AFTER * 2, creates=creates,
        )
    )  # fmt: skip


def _complete(draft: _Draft, command: CompleteExecution) -> None:
    draft.commit.status, draft.commit.output = RuntimeStatus.COMPLETED, command.output
    _tell(draft.commit, draft.snapshot, draft.publisher, EventKind.CHILD_COMPLETED, command.output)


def _fail(draft: _Draft, command: FailExecution) -> None:
    facts = json.loads(command.failure)
    draft.commit.status, draft.commit.failure = RuntimeStatus.FAILED, command.failure
    draft.commit.reason = f"{facts['type']}: {facts['message']}"
    _tell(draft.commit, draft.snapshot, draft.publisher, EventKind.CHILD_FAILED, command.failure)


def _cancel(draft: _Draft, command: CancelExecution) -> None:
    _revoke(draft.commit, draft.snapshot, draft.publisher, draft.codec, RuntimeStatus.CANCELED, command.reason)


def _continue_as_new(draft: _Draft, command: ContinueAsNew) -> None:
    commit = draft.commit
    commit.next_execution, commit.next_input = new_execution_id(), command.input
    commit.own_inbox.append(
        NewInbox(
            commit.instance_id, EventKind.EXECUTION_STARTED, f"start:{commit.next_execution}",
            execution=commit.next_execution, facts=dict(draft.carried.successor) or None, wakes=not command.rests,
            check_after=None if command.rests else _CHECK_WAKE_AFTER * 2,
        )
    )  # fmt: skip
    commit.rests = command.rests
    for number, event in enumerate(command.events):
        commit.own_inbox.append(
            NewInbox(
                commit.instance_id, EventKind.EVENT_RAISED, f"kept:{commit.next_execution}:{number}", name=event.name,
                payload=event.payload, facts=event.facts, visible_at=event.at,
            )
        )  # fmt: skip


def _revoke(
    commit: TurnCommit,
    snapshot: Snapshot,
    publisher: Publisher,
    codec: Codec,
    status: RuntimeStatus,
    reason: str | None,
) -> None:
    commit.status, commit.reason = status, reason
    failure = codec.encode_failure(revoked_child(snapshot.instance.id, status, reason))
    _tell(commit, snapshot, publisher, EventKind.CHILD_FAILED, failure)


def _tell(commit: TurnCommit, snapshot: Snapshot, publisher: Publisher, kind: EventKind, payload: str) -> None:
    """Let the parent know, and Celery."""
    instance = snapshot.instance
    if instance.parent_id is not None and instance.parent_execution is not None:
        reply = _child_reply(
            instance.parent_id, instance.parent_execution, instance.parent_command or 0, instance.parent_attempt or 0
        )
        commit.other_inboxes.append(reply(kind, payload))
    if publisher.needs_finish(instance.canvas):
        commit.activities.append(NewActivity(0, 0, "finish", instance.name, message="", queue=instance.queue))


def termination(
    snapshot: Snapshot,
    reason: str | None,
    output: str | None,
    publisher: Publisher,
    codec: Codec,
    children: Iterable[str],
) -> TurnCommit:
    """Return the commit that ends an instance from outside, and asks its children to end."""
    instance = snapshot.instance
    commit = TurnCommit(instance.id, instance.execution, instance.sequence, (*MOVING, RuntimeStatus.SUSPENDED))
    note = Event(EventKind.EXECUTION_TERMINATED, snapshot.now, facts={"reason": reason})
    commit.events, commit.clears, commit.output = dump_events([note]), True, output
    _revoke(commit, snapshot, publisher, codec, RuntimeStatus.TERMINATED, reason)
    commit.other_inboxes += [
        NewInbox(
            child, InboxKind.TERMINATE, "terminate", check_after=_CHECK_WAKE_AFTER * 2,
            facts={"reason": f"its parent {instance.id} was terminated", "recursive": True},
        )
        for child in sorted(children)
    ]  # fmt: skip
    commit.other_inboxes += farewell(snapshot, codec, reason)
    return commit


def activity_rows(commit: TurnCommit, root_id: str) -> Sequence[ActivityRow]:
    """Return the activities of a commit that are to be sent at once."""
    return [
        ActivityRow(
            ActivityTicket(commit.execution, new.command, new.attempt), commit.instance_id, new.kind, new.name,
            new.message, new.queue, 0, root_id, new.signature,
        )
        for new in commit.activities
        if new.kind == "activity" and new.is_sent and not new.is_held
    ]  # fmt: skip


_ENTRIES: dict[type[Command], Callable[[_Draft, Any], None]] = {
    ScheduleActivity: _schedule_activity,
    CancelActivity: _cancel_activity,
    CreateTimer: _create_timer,
    CancelTimer: _cancel_timer,
    StartChild: _start_child,
    CancelChild: _cancel_child,
    ReviveChild: _revive_child,
    SendEvent: _send_event,
    CompleteExecution: _complete,
    FailExecution: _fail,
    CancelExecution: _cancel,
    ContinueAsNew: _continue_as_new,
}
