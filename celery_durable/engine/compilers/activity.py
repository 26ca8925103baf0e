"""What a commit writes for an activity: its outbox row."""

from __future__ import annotations

from ...core.kinds import CancelActivity, ScheduleActivity
from ...core.options import stamped
from ..activity_limits import LIMITED
from ..draft import CommitDraft
from ..writes import NewActivity

#: So many activities of one commit are sent at once; recovery sends the others.
PRESUMED_SENT = 1_000
#: The window of an instance whose number of activities is limited.
WHOLE_INSTANCE = 0

__all__ = ["cancel_activity", "schedule_activity"]


def schedule_activity(draft: CommitDraft, command: ScheduleActivity) -> None:
    """Add an outbox row, which holds the message of the activity."""
    commit, window, is_held = draft.commit, command.window, command.is_held
    if draft.max_activities is not None and window is None:
        window, is_held = WHOLE_INSTANCE, True  # the commit lets as many go as there is room for
    permits = draft.limits.permits(command)
    is_sent = draft.sent_at_once < PRESUMED_SENT
    draft.sent_at_once += not (is_held or permits)
    options = stamped(command.options, draft.stamps)
    carried = {**draft.carried.headers, **({"durable_redo": command.redo} if command.redo else {})}
    if command.terms:
        carried["durable_retry"] = dict(command.terms)
    if command.is_in_chord:
        carried["durable_chord"] = True
    if permits:
        carried[LIMITED] = True
    travels = draft.context.get("headers") or {}
    if carried or travels:
        headers = {**travels, **(options.get("headers") or {}), **carried}
        options = {**options, "headers": headers}
    commit.activities.append(
        NewActivity(
            command.command,
            command.attempt,
            "activity",
            command.task,
            message=draft.codec.encode([command.input, dict(options)], is_checked=True),
            queue=draft.publisher.route(
                command.task, command.options, lambda: (command.args, command.kwargs)
            ),
            join_command=draft.decision.joins.get(command.command),
            window_command=window,
            is_held=is_held,
            is_sent=is_sent,
            timeout=command.timeout,
            start_timeout=command.start_timeout,
            heartbeat_timeout=command.heartbeat_timeout,
            permits=permits,
            priority=draft.limits.priority(command) if permits else 0,
            signature=(command.args, command.kwargs, options),
        )
    )


def cancel_activity(draft: CommitDraft, command: CancelActivity) -> None:
    """Delete the outbox row of an activity, or drop it if it was decided in this very turn."""
    commit, window = draft.commit, command.window
    dropped = [new for new in commit.activities if new.command == command.command]
    if not dropped:
        commit.canceled_commands.append(command.command)
        if window is not None:
            commit.vacated[command.command] = window, command.attempt
        return
    commit.activities = [new for new in commit.activities if new.command != command.command]
    draft.sent_at_once -= sum(not (new.is_held or new.permits) for new in dropped)
    if window is not None and not any(new.is_held for new in dropped):
        commit.released_slots[window] = commit.released_slots.get(window, 0) + 1
