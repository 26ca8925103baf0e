"""The commit that ends an instance from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.history import Event, EventKind, dump_events
from ..core.ports import Codec
from ..core.status import MOVING, RuntimeStatus
from .compilers.execution import revoke
from .entities import is_entity, release_locks
from .ports import Publisher
from .records import InboxKind, Snapshot
from .writes import CHECK_MESSAGE_AFTER, NewInbox, TurnCommit

__all__ = ["termination"]


def termination(
    snapshot: Snapshot,
    reason: str | None,
    output: str | None,
    publisher: Publisher,
    codec: Codec,
    children: Iterable[str],
    whole_inbox: Sequence[tuple[int, str | None]] = (),
) -> TurnCommit:
    """Return the commit that ends an instance from outside, and asks its children to end.

    ``whole_inbox`` is that of an entity: these rows go, and what comes after them is answered when
    it is seen.
    """
    instance = snapshot.instance
    commit = TurnCommit(
        instance.id, instance.execution, instance.sequence, (*MOVING, RuntimeStatus.SUSPENDED)
    )
    note = Event(EventKind.EXECUTION_TERMINATED, snapshot.now, facts={"reason": reason})
    commit.events, commit.clears, commit.output = (
        dump_events([note]),
        not is_entity(instance),
        output,
    )
    commit.taken = [row for row, _ in whole_inbox]
    revoke(commit, snapshot, publisher, codec, RuntimeStatus.TERMINATED, reason)
    commit.other_inboxes += [
        NewInbox(
            child,
            InboxKind.TERMINATE,
            "terminate",
            check_after=CHECK_MESSAGE_AFTER,
            facts={"reason": f"its parent {instance.id} was terminated", "recursive": True},
        )
        for child in sorted(children)
    ]
    undelivered = [payload for _, payload in whole_inbox if payload is not None]
    commit.other_inboxes += release_locks(snapshot, codec, reason, undelivered)
    return commit
