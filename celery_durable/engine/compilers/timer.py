"""What a commit writes for a timer: an inbox row of its own instance that is due later."""

from __future__ import annotations

from typing import Any

from ...core.commands import Command
from ...core.history import EventKind
from ...core.kinds import CancelTimer, CreateTimer
from ..draft import CHECK_AFTER, CommitDraft
from ..writes import DEADLINE, NewInbox

__all__ = ["cancel_timer", "create_timer"]


def create_timer(draft: CommitDraft, command: CreateTimer) -> None:
    """Add a message to the own inbox that is due later."""
    if command.command in draft.decision.fired:
        return
    horizon = int(draft.settings.timer_horizon * 1_000_000)
    is_near = command.due - draft.snapshot.now <= horizon
    draft.commit.own_inbox.append(
        NewInbox(
            draft.commit.instance_id,
            EventKind.TIMER_FIRED,
            _dedup_of(draft, command),
            execution=draft.execution,
            command=command.command,
            facts=_facts_of(command),
            visible_at=command.due,
            check_after=CHECK_AFTER if is_near else -horizon,
        )
    )


def _facts_of(command: CreateTimer) -> dict[str, Any] | None:
    if command.is_deadline:
        return DEADLINE
    return None if command.awaits is None else dict([command.awaits])


def cancel_timer(draft: CommitDraft, command: CancelTimer) -> None:
    """Delete the message of a timer, or drop it if it was decided in this very turn."""
    commit, dedup = draft.commit, _dedup_of(draft, command)
    kept = [message for message in commit.own_inbox if message.dedup != dedup]
    if len(kept) < len(commit.own_inbox):
        commit.own_inbox = kept
    else:
        commit.canceled_dedups.append(dedup)


def _dedup_of(draft: CommitDraft, command: Command) -> str:
    return f"timer:{draft.execution}:{command.command}"
