"""What several transactions have in common: inserting an instance, sending a message, putting a new
instance in the place of an old one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.status import RuntimeStatus
from ..engine.records import InboxKind
from ..engine.writes import ChildInstance, NewInbox, NewInstance
from . import admission, history, inbox, instances, outbox
from .runner import Cursor, Runner

__all__ = ["ReleaseLocks", "LockedError", "insert_instance", "replace", "send", "take_over"]

#: Given an execution that ends undelivered and its history, it returns what that leaves to others.
ReleaseLocks = Callable[[str, Sequence[str]], Sequence[NewInbox]]
_DEEPEST_FAMILY = 100


class LockedError(Exception):
    """Another transaction holds an instance that this one is to replace, or to ask for a rewind:
    the turn is to be read again.
    """


def insert_instance(database: Runner, cursor: Cursor, new: NewInstance, now: int) -> bool:
    """Insert an instance with its start message, and let it wait for admission where it has to.

    False if the id is taken.
    """
    if not instances.insert(database, cursor, new):
        return False
    inbox.insert(database, cursor, inbox.start_message(new), now)
    if new.admission is not None:
        admission.insert_waiting(database, cursor, new, now)
    return True


def send(database: Runner, cursor: Cursor, message: NewInbox, now: int) -> int:
    """Insert a message, with its receiver where that is to be made.

    Return 1 if it is new, else 0.
    """
    sent = inbox.send(database, cursor, message, now)
    new = message.creates
    if sent or new is None:
        return sent
    run = database.run
    if (
        not insert_instance(database, cursor, new, now)
        and run(cursor, instances.DELETE_ENDED, id=new.id).rowcount
    ):
        run(cursor, history.CLEAR_HISTORY, id=new.id)
        insert_instance(database, cursor, new, now)
    return inbox.send(database, cursor, message, now)


def replace(
    database: Runner, cursor: Cursor, new: NewInstance, release_locks: ReleaseLocks | None
) -> list[NewInbox] | None:
    """Put a new instance in the place of the one that has its id; return what was sent to others.

    None if that is gone, or another transaction holds it.
    """
    run = database.run
    row = run(cursor, instances.LOCK_INSTANCE, id=new.id).fetchone()
    if row is None:
        return None
    execution, policy, now = row
    if execution == new.execution:
        return []  # it was put there by a commit whose answer was lost
    if policy is not None or new.admission is not None:
        admission.free_slots(database, cursor, new.id)
    left = _left_to_others(database, cursor, new.id, execution, release_locks)
    outbox.clear(database, cursor, execution)
    run(cursor, inbox.CLEAR_INBOX, id=new.id)
    run(cursor, history.CLEAR_HISTORY, id=new.id)
    run(cursor, instances.DELETE_INSTANCE, id=new.id)
    # always in the same order of receivers: two transactions cannot wait for each other
    for message in sorted(left, key=lambda message: message.instance):
        send(database, cursor, message, now)
    insert_instance(database, cursor, new, now)
    return left


def _left_to_others(
    database: Runner,
    cursor: Cursor,
    instance_id: str,
    execution: str,
    release_locks: ReleaseLocks | None,
) -> list[NewInbox]:
    """Return the messages that an execution leaves that ends undelivered."""
    # under the lock of the instance: no turn starts another child now
    children = database.run(cursor, instances.OPEN_CHILDREN, id=instance_id).fetchall()
    facts = {"reason": f"its parent {instance_id} was replaced", "recursive": True}
    left = [
        NewInbox(child, InboxKind.TERMINATE, "terminate", facts=facts, check_after=0)
        for (child,) in children
    ]
    if release_locks is not None:
        left += release_locks(execution, history.whole(database, cursor, instance_id, execution))
    left += inbox.refusals(database, cursor, instance_id)
    return left


def take_over(database: Runner, cursor: Cursor, child: ChildInstance, left: list[NewInbox]) -> bool:
    """Put a child in the place of one that an earlier execution of its parent has left under its
    id; add to ``left`` what was sent to others.

    False if that may not be.

    Raises:
        LockedError: another transaction holds that one.
    """
    if not _is_left_behind(database, cursor, child):
        return False
    messages = replace(database, cursor, child, child.release_locks)
    if messages is None:
        raise LockedError
    left += messages
    return True


def _is_left_behind(database: Runner, cursor: Cursor, child: ChildInstance) -> bool:
    """Tell whether the instance under a child's id is of an earlier execution of its family, and
    over or about to end.

    One that may continue, as after a continue-as-new, keeps its id.
    """
    id_, is_ending = child.id, False
    for depth in range(_DEEPEST_FAMILY):
        row = database.run(cursor, instances.LINEAGE_OF, id=id_).fetchone()
        if row is None:
            return False
        status, root_id, parent_id, parent_execution, parents_own, endings = row
        if depth == 0:
            is_sibling = (parent_id, parent_execution) == (child.parent_id, child.parent_execution)
            if is_sibling or (parent_id != child.parent_id and root_id != child.root_id):
                return False
            is_ending = RuntimeStatus(status).is_terminal
        is_ending = is_ending or endings > 0
        if parent_id is None or parents_own != parent_execution:
            return parent_id is not None and is_ending
        id_ = parent_id
    return False
