"""From what the orchestrator decided to what one commit writes; each kind of command has its
compiler (``compilers``).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.decision import Decision
from ..core.history import Event, EventKind, dump_events
from ..core.machine import Machine
from ..core.ports import Codec
from ..core.status import MOVING, RuntimeStatus
from ..settings import Settings
from .activity_limits import ActivityLimits
from .compilers import COMPILERS
from .draft import CommitDraft
from .observers import PropagatedContext
from .ports import Publisher
from .records import ActivityAttemptId, ActivityRow, InboxKind, Snapshot
from .version_choice import VersionChoice
from .writes import NewInbox, TurnCommit

__all__ = ["activity_rows", "compile_decision"]


def compile_decision(
    decision: Decision,
    snapshot: Snapshot,
    execution: Machine,
    settings: Settings,
    publisher: Publisher,
    codec: Codec,
    versions: VersionChoice,
    limits: ActivityLimits,
    max_activities: int | None = None,
    carried: PropagatedContext | None = None,
) -> TurnCommit:
    """Return the commit that carries out a decision; ``carried`` goes with what it sends."""
    instance = snapshot.instance
    commit = TurnCommit(instance.id, instance.execution, instance.sequence, MOVING)
    commit.custom_status = decision.custom_status
    commit.tag_changes = decision.tag_changes
    commit.join_changes = dict(decision.join_changes)
    commit.released_slots = decision.released_slots
    begins = any(event.kind is EventKind.EXECUTION_STARTED for event in decision.events)
    if instance.status is RuntimeStatus.PENDING and begins:
        commit.status = RuntimeStatus.RUNNING
    draft = CommitDraft(
        commit,
        snapshot,
        decision,
        settings,
        publisher,
        codec,
        versions,
        limits,
        execution.has_outstanding,
        max_activities or settings.max_instance_activities or None,
        carried or PropagatedContext(),
    )
    commit.max_activities = draft.max_activities
    # in the order in which the code asked: a withdrawal finds what it takes back
    for command in decision.commands:
        if (compiler := COMPILERS.get(type(command))) is not None:
            compiler(draft, command)
    for join in sorted(decision.joins_formed):
        commit.own_inbox.append(_join_row(draft, join))
    commit.canceled_dedups += [
        f"join:{draft.execution}:{join}" for join in sorted(decision.joins_ended)
    ]
    if decision.final is None:
        # a row of this very commit has its join from the beginning
        fresh = {new.command for new in commit.activities}
        commit.join_changes = {c: j for c, j in commit.join_changes.items() if c not in fresh}
    else:
        _close(draft)
        if instance.status is RuntimeStatus.PENDING and not begins:
            commit.clears = True  # its start message is there still, for later
    if decision.suspend_reason is not None:
        # what has been decided is committed all the same: a resume continues from there
        note = Event(
            EventKind.EXECUTION_SUSPENDED, decision.now, facts={"reason": decision.suspend_reason}
        )
        decision.events.append(note)
        commit.status, commit.reason, commit.parks_inbox = (
            RuntimeStatus.SUSPENDED,
            decision.suspend_reason,
            True,
        )
    commit.events = dump_events(decision.events)
    return commit


def _close(draft: CommitDraft) -> None:
    """The execution is over: nothing that it started and did not await is kept."""
    commit = draft.commit
    # without any rest the commit stays one that is one statement
    is_rest = draft.leaves_rest or bool(commit.canceled_commands or commit.canceled_dedups)
    # the last message to Celery is no activity, and stays
    commit.activities = [new for new in commit.activities if new.kind != "activity"]
    commit.own_inbox = [
        message for message in commit.own_inbox if message.execution != draft.execution
    ]
    commit.canceled_commands, commit.canceled_dedups, commit.join_changes, commit.released_slots = (
        [],
        [],
        {},
        {},
    )
    commit.vacated = {}
    commit.max_activities = None
    commit.clears = is_rest


def _join_row(draft: CommitDraft, join: int) -> NewInbox:
    return NewInbox(
        draft.commit.instance_id,
        InboxKind.JOIN,
        f"join:{draft.execution}:{join}",
        execution=draft.execution,
        command=join,
        wakes=False,
        check_after=int(draft.settings.resend_after * 2_000_000),
    )


def activity_rows(commit: TurnCommit, root_id: str) -> Sequence[ActivityRow]:
    """Return the activities of a commit that are to be sent at once."""
    return [
        ActivityRow(
            ActivityAttemptId(commit.execution, new.command, new.attempt),
            commit.instance_id,
            new.kind,
            new.name,
            new.message,
            new.queue,
            0,
            root_id,
            new.signature,
        )
        for new in commit.activities
        if new.kind == "activity" and new.is_sent and not (new.is_held or new.permits)
    ]
