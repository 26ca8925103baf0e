"""What a commit writes for a sub-orchestration: its instance, or a message to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..._errors import ConfigurationError, InstanceExists, InstanceNotFound
from ...core.canvas_options import CanvasOptions
from ...core.history import EventKind
from ...core.kinds import CancelChild, ReattachChild, StartChild, revoked_child
from ...core.options import stamped
from ...core.status import RuntimeStatus
from ..draft import CommitDraft, new_execution_id
from ..entities import releases_in
from ..records import InboxKind, InstanceEnd
from ..writes import CHECK_MESSAGE_AFTER, EXPIRES, ChildInstance, NewInbox, Revival, child_reply

__all__ = ["cancel_child", "reattach_child", "start_child"]


def start_child(draft: CommitDraft, command: StartChild) -> None:
    """Add the instance of a sub-orchestration, with its start message."""
    instance = draft.snapshot.instance
    refusal = InstanceExists(
        f"orchestration {instance.id!r} cannot start {command.name} as {command.child_id!r}: the id"
        " is in use",
        instance_id=command.child_id,
    )
    reply = partial(child_reply, instance.id, draft.execution, command.command, command.attempt)
    given = stamped(command.options, draft.stamps)
    queue, options = _placed(draft, command, given)
    canvas = CanvasOptions.of_start(options).with_context(_context(draft, options)).kept
    facts = {
        **draft.carried.child,
        **({} if command.expires is None else {EXPIRES: command.expires}),
    }
    version, _ = draft.versions.of_start(command.name, command.child_id)
    draft.commit.children.append(
        ChildInstance(
            command.child_id,
            new_execution_id(),
            command.name,
            version,
            command.input,
            queue=queue,
            canvas=draft.codec.encode(canvas) if canvas else None,
            root_id=instance.root_id or instance.id,
            parent_id=instance.id,
            parent_execution=draft.execution,
            parent_command=command.command,
            parent_attempt=command.attempt,
            check_after=CHECK_MESSAGE_AFTER,
            refusal=reply(EventKind.CHILD_FAILED, draft.codec.encode_failure(refusal)),
            release_locks=lambda _, rows: releases_in(command.child_id, rows, draft.codec),
            facts=facts or None,
        )
    )


def _context(draft: CommitDraft, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what travels with a child: what its parent has, but for headers of this very call."""
    given = options.get("headers") or {}
    own = {name: given[name] for name in draft.settings.propagate if name in given}
    if not own:
        return draft.context
    return {**draft.context, "headers": {**(draft.context.get("headers") or {}), **own}}


def _placed(
    draft: CommitDraft, command: StartChild, options: Mapping[str, Any]
) -> tuple[str | None, Mapping[str, Any]]:
    try:
        return draft.publisher.place(
            command.name, options, lambda: _arguments(draft, command.input)
        )
    except Exception as error:
        raise ConfigurationError(
            f"sub-orchestration {command.child_id!r} ({command.name}) cannot be sent anywhere:"
            " task_routes and task_queues of the app that takes the turn say"
            f" {type(error).__name__}: {error}",
            instance_id=draft.snapshot.instance.id,
        ) from error


def _arguments(draft: CommitDraft, payload: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
    args, kwargs = draft.codec.decode(payload)
    return args, kwargs


def reattach_child(draft: CommitDraft, command: ReattachChild) -> None:
    """Ask a child, after a rewind, for its outcome again, or to rewind, too."""
    codec, child_id = draft.codec, command.child_id
    asker = draft.commit.instance_id, draft.execution, command.command, command.attempt
    reply = partial(child_reply, *asker)

    def answer(end: InstanceEnd | None) -> NewInbox:
        if end is None:
            gone = InstanceNotFound(
                f"sub-orchestration {child_id!r} is not there any more", instance_id=child_id
            )
            return reply(EventKind.CHILD_FAILED, codec.encode_failure(gone))
        if end.status is RuntimeStatus.COMPLETED:
            return reply(EventKind.CHILD_COMPLETED, end.output)
        failure = end.failure or codec.encode_failure(
            revoked_child(child_id, end.status, end.reason)
        )
        return reply(EventKind.CHILD_FAILED, failure)

    request = None
    if command.rewinds:
        dedup = f"rewind:{draft.execution}:{draft.commit.sequence}:{command.command}"
        reason = f"its parent {draft.commit.instance_id} was rewound"
        request = NewInbox(
            child_id,
            InboxKind.REWIND,
            dedup,
            payload=answer(None).payload,
            facts={"reason": reason, "asker": list(asker)},
            check_after=CHECK_MESSAGE_AFTER,
        )
    draft.commit.revivals.append(Revival(child_id, request, answer))


def cancel_child(draft: CommitDraft, command: CancelChild) -> None:
    """Ask a child to cancel itself."""
    draft.commit.other_inboxes.append(
        NewInbox(
            command.child_id,
            EventKind.CANCEL_REQUESTED,
            "cancel",
            check_after=CHECK_MESSAGE_AFTER,
            facts={"reason": f"its parent {draft.commit.instance_id} no longer wants it"},
        )
    )
