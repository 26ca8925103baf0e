"""``restart`` and ``purge``: verbs for orchestrations that have ended."""

from __future__ import annotations

from ...core.guard import refuse_inside_orchestrator
from ...core.names import check_instance_id
from ..audit import also
from ..control import Control
from ..verb import ENDED, N_, RECURSIVE, Argument, Kind, Surface, Verb, Words

__all__ = ["RESTART", "ROWS", "purge", "restart"]


def restart(control: Control, instance_id: str, new_id: str | None = None) -> str:
    """Start an orchestration once more with the input of its current execution, on the newest
    version; return the id.

    It is committed at once, whatever transaction is open.

    Args:
        control: what verbs share.
        instance_id: of the one to repeat.
        new_id: of the new one; None takes the place of the old one, whose history is deleted.

    Raises:
        InvalidState: it has not ended, and no ``new_id`` is given.
        InstanceNotFound: there is none.
        InstanceExists: ``new_id`` is in use.
    """
    return control.start_again(control.fetch(instance_id), new_id)


def purge(control: Control, instance_id: str, *, recursive: bool = True) -> None:
    """Delete a finished orchestration and its history; without effect if there is none.

    Raises:
        InvalidState: it has not ended, or Celery has not been notified of its end yet, or the
            archive failed: then it is kept.
    """
    refuse_inside_orchestrator("purge()")
    record = control.store.reads.fetch(check_instance_id(instance_id))
    if record is None:
        return
    PURGE.acts(record.status, instance_id)
    control.refuse_unfinished(instance_id, record.execution, record.status)
    if recursive:
        for child in control.children(instance_id):
            if child.status.is_terminal:
                with also(child.id, {"parent": instance_id}):
                    purge(control, child.id)
    sequence = None
    if control.archiver is not None:
        control.archiver.archive(record)
        sequence = record.sequence
    if control.store.cleanup.purge(instance_id, record.execution, sequence):
        control.runner.notifier.purged(instance_id, record.name)


RESTART = Verb(
    "restart",
    acts_in=ENDED,
    ignored_in=(),
    arguments=(
        Argument("new_id", Kind.TEXT, offered_in=frozenset({Surface.CODE})),  # HTTP makes one up
    ),
    keeps_reason=False,
    is_destructive=True,
    function=restart,
    words=Words(
        N_("Restart"),
        N_("Restart orchestrations"),
        N_(
            "They begin once more with the same input, on the newest version. The history of the"
            " old life is deleted."
        ),
        N_("restarted"),
        reference="Once more with the same input, on the newest version. Without `new_id` in its"
        " own place: the history is deleted.",
        texts={
            Surface.CLI: "Start finished ones once more, in their own place.",
            Surface.HTTP: "Start an orchestration once more with the same input.",
            Surface.FLOWER: "It begins once more with the same input, in its own place: its history"
            " is deleted.",
        },
    ),
)
PURGE = Verb(
    "purge",
    acts_in=ENDED,
    ignored_in=(),
    arguments=(RECURSIVE,),
    keeps_reason=False,
    for_entities=True,
    is_destructive=True,
    deletes=True,
    function=purge,
    words=Words(
        N_("Purge"),
        N_("Purge finished orchestrations"),
        N_(
            "They are deleted, with their history and their finished sub-orchestrations. This"
            " cannot be undone."
        ),
        N_("purged"),
        reference="Delete it with its history and its finished children.",
        reported="deleted",
        texts={
            Surface.CLI: "Delete finished ones with their history.",
            Surface.HTTP: "Delete a finished orchestration, its history and its children.",
            Surface.FLOWER: "It is deleted, with its history and its sub-orchestrations.",
        },
    ),
)
ROWS = (RESTART, PURGE)
