"""What a commit writes for an event that is sent to another instance: its inbox row."""

from __future__ import annotations

from ...core.history import EventKind
from ...core.kinds import SendEvent
from ..draft import CommitDraft, new_execution_id
from ..entities import new_entity
from ..writes import CHECK_MESSAGE_AFTER, NewInbox

__all__ = ["send_event"]


def send_event(draft: CommitDraft, command: SendEvent) -> None:
    """Put an event into the inbox of another instance, at once or when it is due."""
    horizon = int(draft.settings.timer_horizon * 1_000_000)
    is_far = command.due is not None and command.due - draft.snapshot.now > horizon
    dedup, creates = f"sent:{draft.execution}:{command.command}", None
    if command.again is None:
        dedup = f"{dedup}:at:{draft.commit.sequence}"
    elif command.again:
        dedup = f"{dedup}:{command.again}"
    if command.creates is not None:
        queue = draft.publisher.route(command.creates, {})
        creates = new_entity(command.instance_id, new_execution_id(), command.creates, queue)
    draft.commit.other_inboxes.append(
        NewInbox(
            command.instance_id,
            EventKind.EVENT_RAISED,
            dedup,
            name=command.name,
            payload=command.payload,
            visible_at=command.due,
            check_after=-horizon if is_far else CHECK_MESSAGE_AFTER,
            creates=creates,
        )
    )
