"""What a commit writes at the end of an execution: its output, and who hears of it."""

from __future__ import annotations

from ...core.entity import MESSAGE
from ...core.history import EventKind
from ...core.kinds import (
    Aside,
    CancelExecution,
    CompleteExecution,
    ContinueAsNew,
    FailExecution,
    revoked_child,
)
from ...core.ports import Codec
from ...core.status import RuntimeStatus
from ..draft import CommitDraft, new_execution_id
from ..ports import Publisher
from ..records import CARRIED_OVER, Snapshot
from ..writes import CHECK_MESSAGE_AFTER, NewActivity, NewInbox, TurnCommit, child_reply
from .request import unanswered

__all__ = ["cancel", "complete", "continue_as_new", "fail", "revoke"]


def complete(draft: CommitDraft, command: CompleteExecution) -> None:
    """End with an output."""
    draft.commit.status, draft.commit.output = RuntimeStatus.COMPLETED, command.output
    notify_parent(
        draft.commit, draft.snapshot, draft.publisher, EventKind.CHILD_COMPLETED, command.output
    )


def fail(draft: CommitDraft, command: FailExecution) -> None:
    """End with a failure."""
    draft.commit.status, draft.commit.failure = RuntimeStatus.FAILED, command.failure
    draft.commit.reason = command.text
    notify_parent(
        draft.commit, draft.snapshot, draft.publisher, EventKind.CHILD_FAILED, command.failure
    )


def cancel(draft: CommitDraft, command: CancelExecution) -> None:
    """End as canceled."""
    revoke(
        draft.commit,
        draft.snapshot,
        draft.publisher,
        draft.codec,
        RuntimeStatus.CANCELED,
        command.reason,
    )


def continue_as_new(draft: CommitDraft, command: ContinueAsNew) -> None:
    """Begin the next execution of the instance, with its messages."""
    commit = draft.commit
    commit.next_execution, commit.next_input = new_execution_id(), command.input
    commit.own_inbox.append(
        NewInbox(
            commit.instance_id,
            EventKind.EXECUTION_STARTED,
            f"start:{commit.next_execution}",
            execution=commit.next_execution,
            facts={**draft.carried.successor, **(command.limit.facts if command.limit else {})}
            or None,
            wakes=not command.awaits_message,
            check_after=None if command.awaits_message else CHECK_MESSAGE_AFTER,
        )
    )
    commit.awaits_message = command.awaits_message
    if command.aside is not None:
        _put_aside(commit, command.aside)
    commit.answers += unanswered(command.unanswered)
    for number, event in enumerate(command.events):
        commit.own_inbox.append(
            NewInbox(
                commit.instance_id,
                event.kind,
                f"kept:{commit.next_execution}:{number}",
                attempt=CARRIED_OVER,
                name=event.name,
                payload=event.payload,
                facts=event.facts,
                since=event.at,
            )
        )


def _put_aside(commit: TurnCommit, aside: Aside) -> None:
    """Carry out what an entity leaves for later.

    A batch that is shown ends with a message that wakes it.
    """
    for number, dedup, payload in aside.put:
        commit.own_inbox.append(
            NewInbox(
                commit.instance_id,
                EventKind.EVENT_RAISED,
                f"aside:{number if dedup is None else dedup}",
                name=MESSAGE,
                payload=payload,
                wakes=False,
                aside=number,
            )
        )
    commit.withdrawn = [f"aside:{dedup}" for dedup in aside.withdrawn]
    commit.shows = aside.shows
    if aside.shows is not None:
        commit.own_inbox.append(
            NewInbox(
                commit.instance_id,
                EventKind.EVENT_RAISED,
                f"shown:{aside.shows}",
                name=MESSAGE,
                payload=aside.end,
                check_after=CHECK_MESSAGE_AFTER,
            )
        )


def revoke(
    commit: TurnCommit,
    snapshot: Snapshot,
    publisher: Publisher,
    codec: Codec,
    status: RuntimeStatus,
    reason: str | None,
) -> None:
    """End an instance without an output, and let its parent and Celery know."""
    commit.status, commit.reason = status, reason
    failure = codec.encode_failure(revoked_child(snapshot.instance.id, status, reason))
    notify_parent(commit, snapshot, publisher, EventKind.CHILD_FAILED, failure)


def notify_parent(
    commit: TurnCommit, snapshot: Snapshot, publisher: Publisher, kind: EventKind, payload: str
) -> None:
    """Let the parent know, and Celery."""
    instance, status = snapshot.instance, commit.status
    if instance.parent_id is not None and instance.parent_execution is not None:
        reply = child_reply(
            instance.parent_id,
            instance.parent_execution,
            instance.parent_command or 0,
            instance.parent_attempt or 0,
            kind,
            payload,
        )
        commit.other_inboxes.append(reply)
    if status is not None and publisher.needs_finish(instance.name, instance.canvas, status):
        commit.activities.append(
            NewActivity(0, 0, "finish", instance.name, message="", queue=instance.queue)
        )
