"""``rewind``: a failed orchestration runs again what made it fail."""

from __future__ import annotations

from typing import Any

from ...core.rewind import Override
from ...core.status import RuntimeStatus
from ..control import Control
from ..forecast import Forecast, forecast
from ..records import InboxKind, InboxRow, Snapshot
from ..verb import LIVE, N_, Surface, Verb, Words
from ..writes import CHECK_MESSAGE_AFTER, NewInbox

__all__ = ["ROWS", "as_row", "foresee_rewind", "rewind", "rewind_request"]


def rewind(
    control: Control,
    instance_id: str,
    reason: str | None = None,
    *,
    override: Override | None = None,
) -> None:
    """Let a failed orchestration run what failed again, and keep what has succeeded.

    See ``Orchestration.rewind``.

    Args:
        control: what verbs share.
        instance_id: of the orchestration.
        reason: kept in history.
        override: an outcome that is to replace the recorded one.

    Raises:
        InvalidState: it has not failed, or Celery has not been notified of its end yet.
    """

    def commit(snapshot: Snapshot) -> bool:
        instance = snapshot.instance
        if not REWIND.acts(instance.status, instance_id):
            return True
        control.refuse_unfinished(instance_id, instance.execution, instance.status)
        request = rewind_request(snapshot, reason, override)
        return control.runner.lifecycle.reopen(snapshot, reason, request)

    control.change(instance_id, commit)
    control.publish([instance_id])


def foresee_rewind(control: Control, instance_id: str, reason: str | None = None) -> Forecast:
    """Tell what a rewind would do; see ``Orchestration.rewind``."""
    snapshot = control.snapshot(instance_id)
    status = snapshot.instance.status
    if not REWIND.acts(status, instance_id):
        return Forecast(status)
    request = rewind_request(snapshot, None, None)
    return forecast(control.runner, snapshot, as_row(request, snapshot))


def rewind_request(snapshot: Snapshot, reason: str | None, override: Override | None) -> NewInbox:
    """Return the inbox row that asks for a rewind."""
    instance, facts = snapshot.instance, dict[str, Any](reason=reason)
    if override is not None:
        facts["failed"] = override.has_failed
    return NewInbox(
        instance.id,
        InboxKind.REWIND,
        f"rewind:{instance.execution}:{instance.sequence}",
        execution=instance.execution,
        command=override.command if override else 0,
        payload=override.payload if override else None,
        facts=facts,
        check_after=CHECK_MESSAGE_AFTER,
    )


def as_row(message: NewInbox, snapshot: Snapshot) -> InboxRow:
    """Return the row that a turn would read if a message were put into the inbox now."""
    return InboxRow(
        0,
        message.kind,
        message.execution,
        message.command,
        message.attempt,
        message.name,
        message.payload,
        message.facts,
        snapshot.now,
        snapshot.now,
    )


REWIND = Verb(
    "rewind",
    acts_in=(RuntimeStatus.FAILED,),
    ignored_in=LIVE,
    function=rewind,
    forecast=foresee_rewind,
    words=Words(
        N_("Rewind"),
        N_("Rewind failed orchestrations"),
        N_("What failed runs again, with a fresh count of attempts; what has succeeded is kept."),
        N_("rewound"),
        reference="Run again what made it fail, and keep what has succeeded; failed"
        " sub-orchestrations are rewound, what a saga undid is done again.",
        texts={
            Surface.CLI: "Run again what failed, and keep what succeeded.",
            Surface.HTTP: "Run again what made it fail.",
            Surface.FLOWER: "What failed runs again; what succeeded is kept.",
        },
    ),
)
ROWS = (REWIND,)
