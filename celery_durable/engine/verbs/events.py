"""``raise_event``: an external event, put into the inbox of an orchestration."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from ..._errors import InstanceNotFound, InvalidState
from ...core.entity import RESERVED
from ...core.guard import refuse_inside_orchestrator
from ...core.history import EventKind
from ...core.names import LONGEST_EVENT, check_instance_id, checked_key, checked_text
from ...core.status import RuntimeStatus
from ..control import Control
from ..records import Snapshot
from ..store_ports import Store
from ..verb import LIVE, N_, Argument, Kind, Surface, Verb, Words
from ..writes import CHECK_MESSAGE_AFTER, NewInbox

__all__ = ["RAISE_EVENT", "ROWS", "answer", "answered", "event_message", "raise_event"]


def raise_event(
    control: Control,
    instance_id: str,
    name: str,
    data: Any = None,
    event_id: str | None = None,
    session: Any = None,
) -> None:
    """Put an external event into an instance's inbox, within the caller's transaction where there
    is one.

    Raises:
        InvalidState: the orchestration has ended.
        InstanceNotFound: there is none.
    """
    message = event_message(control, instance_id, name, data, event_id)
    if (transaction := control.transactions.find(session)) is None:
        control.send(message, RAISE_EVENT)
        return

    def put(store: Store, cursor: Any) -> RuntimeStatus | None:
        if store.inbox.put_within(cursor, [message]):
            return RuntimeStatus.RUNNING
        status: RuntimeStatus | None = store.reads.status_within(cursor, instance_id)
        return status

    if (status := transaction.write(put)) is None:
        raise InstanceNotFound(
            f"there is no orchestration {instance_id!r}", instance_id=instance_id
        )
    RAISE_EVENT.acts(status, instance_id)
    transaction.after_commit(lambda: control.publish([instance_id]))


def answer(
    control: Control, instance_id: str, execution: str, name: str, data: Any, event_id: str
) -> None:
    """Put an external event into an instance's inbox if it still is in this execution.

    It is committed at once, whatever transaction is open.

    Raises:
        InvalidState: the orchestration has ended, or is in another execution.
        InstanceNotFound: there is none.
    """
    message = event_message(control, instance_id, name, data, event_id)

    def commit(snapshot: Snapshot) -> bool:
        instance = snapshot.instance
        RAISE_EVENT.acts(instance.status, instance_id)
        if instance.execution != execution:
            raise InvalidState(
                f"orchestration {instance_id!r} is in another execution", instance_id=instance_id
            )
        return bool(control.store.inbox.put_into(message, execution))

    control.change(instance_id, commit)
    control.publish([instance_id])


def answered(control: Control, instance_id: str, event_id: str) -> str | None:
    """Return the payload of the event with this id in the current execution, also of one that was
    not heard yet; None if there is none.

    Raises:
        PayloadError: the history is damaged.
    """
    # the inbox first: what a turn takes meanwhile is in history then
    snapshot = control.store.turns.load(instance_id, None)
    for each in (*control.history(instance_id), *(() if snapshot is None else snapshot.inbox)):
        facts = each.facts if isinstance(each.facts, dict) else {}
        if each.kind == EventKind.EVENT_RAISED and facts.get("id") == event_id:
            return each.payload or "null"
    return None


def event_message(
    control: Control, instance_id: str, name: str, data: Any, event_id: str | None
) -> NewInbox:
    """Return the inbox row of an external event.

    ``event_id`` deduplicates within an execution.

    Raises:
        TypeError: the name or the id is no string.
        ValueError: one of them is empty or too long, or contains NUL, or the name is reserved.
        PayloadError: the data cannot be encoded.
    """
    refuse_inside_orchestrator("raise_event()")
    name = checked_text(name, "an event's name", LONGEST_EVENT)
    if name.startswith(RESERVED):
        raise ValueError(
            f"event names that begin with {RESERVED!r} are reserved; {name[:60]!r} does"
        )
    if event_id is None:
        event_id = uuid.uuid4().hex  # a repeat after a lost answer is recognised by it
    event_id = checked_key(event_id, "an event's id")
    return NewInbox(
        check_instance_id(instance_id),
        EventKind.EVENT_RAISED,
        f"event:{hashlib.sha256(event_id.encode()).hexdigest()[:48]}",
        name=name,
        payload=control.codec.encode(data),
        facts={"id": event_id},
        check_after=CHECK_MESSAGE_AFTER,
    )


RAISE_EVENT = Verb(
    "raise_event",
    acts_in=LIVE,
    ignored_in=(),
    arguments=(
        Argument(
            "name",
            Kind.TEXT,
            is_required=True,
            is_positional=True,
            label=N_("Event name"),
            names={Surface.ADMIN: "event_name", Surface.FLOWER: "event"},
        ),
        Argument(
            "data",
            Kind.JSON,
            "The payload, as JSON, @file or -.",
            label=N_("Data"),
            hint=N_('JSON, such as {"by": "ann"} or "yes"; nothing is null.'),
            longest=1_000_000,
        ),
        Argument(
            "event_id",
            Kind.TEXT,
            "Deduplicates.",
            label=N_("Event id"),
            hint=N_(
                "An event of an id that has arrived already is left out; empty is a fresh one."
            ),
            offered_in=frozenset({Surface.CODE, Surface.CLI, Surface.ADMIN}),
        ),
    ),
    keeps_reason=False,
    is_bulk=False,
    command="event",
    function=raise_event,
    words=Words(
        N_("Raise event"),
        N_("Raise an event on orchestrations"),
        N_("The event waits for the orchestration until its code asks for it."),
        N_("given the event"),
        reference="Raise an external event; kept until the orchestrator waits for it. `event_id`"
        " deduplicates within an execution.",
        reported="event {name!r} raised",
        permits="raise events on orchestrations",
        texts={
            Surface.CLI: "Raise the external event NAME on one orchestration.",
            Surface.HTTP: "Raise an external event.",
            Surface.FLOWER: "It gets the event at its next turn.",
        },
    ),
)
ROWS = (RAISE_EVENT,)
