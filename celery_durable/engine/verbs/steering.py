"""``suspend``, ``resume``, ``cancel`` and ``terminate``: verbs for orchestrations that have not
ended.
"""

from __future__ import annotations

from typing import Any

from ..._errors import PayloadError
from ...core.guard import refuse_inside_orchestrator
from ...core.history import EventKind
from ...core.status import MOVING, RuntimeStatus
from ..control import Control
from ..records import Snapshot
from ..verb import ENDED, EVERYWHERE, LIVE, N_, RECURSIVE, Argument, Kind, Surface, Verb, Words
from ..writes import CHECK_MESSAGE_AFTER, NewInbox, TurnCommit

__all__ = ["ROWS", "cancel", "resume", "suspend", "terminate"]


def suspend(control: Control, instance_id: str, reason: str | None = None) -> None:
    """Stop taking turns; what arrives is kept for ``resume``.

    Raises:
        InvalidState: the orchestration has ended.
    """

    def commit(snapshot: Snapshot) -> bool:
        if not SUSPEND.acts(snapshot.instance.status, instance_id):
            return True
        return control.runner.lifecycle.suspend(snapshot, reason or "suspended by request")

    control.change(instance_id, commit)


def resume(control: Control, instance_id: str, reason: str | None = None) -> None:
    """Continue after a suspension; what has arrived meanwhile is delivered in order.

    Raises:
        InvalidState: the orchestration has ended.
    """

    def commit(snapshot: Snapshot) -> bool:
        instance = snapshot.instance
        if not RESUME.acts(instance.status, instance_id):
            return True
        wake = NewInbox(
            instance_id,
            EventKind.EXECUTION_RESUMED,
            f"resume:{instance.execution}:{instance.sequence}",
            execution=instance.execution,
            facts={"reason": reason} if reason else None,
            check_after=CHECK_MESSAGE_AFTER,
        )
        has_begun = _has_begun(control, instance_id)
        return control.runner.lifecycle.commit_alone(
            instance,
            TurnCommit(
                instance_id,
                instance.execution,
                instance.sequence,
                (RuntimeStatus.SUSPENDED,),
                events="[]",
                status=RuntimeStatus.RUNNING if has_begun else RuntimeStatus.PENDING,
                own_inbox=[wake] if has_begun else [],
                wakes_all=True,
            ),
        )

    control.change(instance_id, commit)
    control.publish([instance_id])


def _has_begun(control: Control, instance_id: str) -> bool:
    try:
        return any(
            event.kind is EventKind.EXECUTION_STARTED for event in control.history(instance_id)
        )
    except PayloadError:
        return True  # its next turn finds the damage, and reports it


def cancel(control: Control, instance_id: str, reason: str | None = None) -> None:
    """Ask an orchestration to cancel itself; without effect on one that has ended."""
    refuse_inside_orchestrator("cancel()")
    message = NewInbox(
        instance_id,
        EventKind.CANCEL_REQUESTED,
        "cancel",
        facts={"reason": reason},
        check_after=CHECK_MESSAGE_AFTER,
    )
    if CANCEL.acts(control.fetch(instance_id).status, instance_id):
        control.send(message, CANCEL)


def terminate(
    control: Control,
    instance_id: str,
    reason: str | None = None,
    output: Any = None,
    *,
    recursive: bool = True,
) -> None:
    """End an orchestration at once, with its children; without effect on one that has ended."""
    payload = None if output is None else control.codec.encode(output)

    def commit(snapshot: Snapshot) -> bool:
        if not TERMINATE.acts(snapshot.instance.status, instance_id):
            return True
        return control.runner.lifecycle.end(snapshot, reason, payload, is_recursive=recursive)

    control.change(instance_id, commit)


SUSPEND = Verb(
    "suspend",
    acts_in=MOVING,
    ignored_in=(RuntimeStatus.SUSPENDED,),
    for_entities=True,
    function=suspend,
    words=Words(
        N_("Suspend"),
        N_("Suspend orchestrations"),
        N_("They stop taking turns. What arrives is kept, and running activities finish."),
        N_("suspended"),
        reference="Take no more turns. What arrives is kept and delivered in order on resumption;"
        " running activities finish.",
        texts={
            Surface.CLI: "Take no more turns until they are resumed.",
            Surface.HTTP: "Let it take no more turns.",
            Surface.FLOWER: "It takes no more turns; running activities finish, and what arrives"
            " is kept.",
        },
    ),
)
RESUME = Verb(
    "resume",
    acts_in=(RuntimeStatus.SUSPENDED,),
    ignored_in=MOVING,
    for_entities=True,
    function=resume,
    words=Words(
        N_("Resume"),
        N_("Resume orchestrations"),
        N_("They continue; what has arrived meanwhile is delivered in order."),
        N_("resumed"),
        reference="Continue; also after the engine suspended it (code that disagrees with history,"
        ' damage, `on_exhausted="suspend"`).',
        texts={
            Surface.CLI: "Continue after a suspension.",
            Surface.HTTP: "Let it continue.",
            Surface.FLOWER: "It continues, with what has arrived meanwhile.",
        },
    ),
)
CANCEL = Verb(
    "cancel",
    acts_in=LIVE,
    ignored_in=ENDED,
    is_destructive=True,
    offered_in=EVERYWHERE - {Surface.HTTP},  # the contract of Durable Functions has none
    function=cancel,
    words=Words(
        N_("Cancel"),
        N_("Cancel orchestrations"),
        N_(
            "Their code is asked to cancel at its current await: compensation runs before they end."
        ),
        N_("asked to cancel"),
        reference="`CancelledError` in the orchestrator, once, at its current await; compensation"
        " may run, and its children are canceled.",
        texts={
            Surface.CLI: "Ask to cancel: compensation may run.",
            Surface.FLOWER: "Its code is asked to stop, and may clean up and compensate.",
        },
    ),
)
TERMINATE = Verb(
    "terminate",
    acts_in=LIVE,
    ignored_in=ENDED,
    arguments=(Argument("output", Kind.JSON, offered_in=frozenset({Surface.CODE})), RECURSIVE),
    for_entities=True,
    is_destructive=True,
    function=terminate,
    words=Words(
        N_("Terminate"),
        N_("Terminate orchestrations"),
        N_("They end at once, with their sub-orchestrations. Compensation does not run."),
        N_("terminated"),
        reference="End it at once, with its children. Queued activities do not start, running ones"
        " see `durable_context().cancelled`.",
        texts={
            Surface.CLI: "End at once.",
            Surface.HTTP: "End it at once, with its children.",
            Surface.FLOWER: "It ends at once, with its sub-orchestrations. Nothing is compensated.",
        },
    ),
)
ROWS = (SUSPEND, RESUME, CANCEL, TERMINATE)
