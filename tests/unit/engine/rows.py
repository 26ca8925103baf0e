"""What a turn reads, with everything that does not matter filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import InboxRow, InstanceRow, Snapshot

__all__ = ["NOW", "SECOND", "inbox_row", "instance_row", "snapshot"]

SECOND = 1_000_000
NOW = 1_000 * SECOND
_INSTANCE: dict[str, Any] = {
    "id": "i",
    "execution": "e",
    "name": "flow",
    "version": None,
    "status": RuntimeStatus.RUNNING,
    "sequence": 1,
    "parent_id": None,
    "parent_execution": None,
    "parent_command": None,
    "parent_attempt": None,
    "root_id": None,
    "queue": None,
    "crashes": 0,
    "input": '[["in"], {}]',
    "canvas": None,
}
_MESSAGE: dict[str, Any] = {
    "kind": EventKind.EVENT_RAISED,
    "execution": None,
    "command": 0,
    "attempt": 0,
    "name": "paid",
    "payload": "null",
    "facts": None,
    "visible_at": NOW,
    "wake_at": None,
}


def instance_row(**values: Any) -> InstanceRow:
    """Return an orchestration that runs."""
    return InstanceRow(**{**_INSTANCE, **values})


def inbox_row(id_: int, **values: Any) -> InboxRow:
    """Return an external event."""
    return InboxRow(id_, **{**_MESSAGE, **values})


def snapshot(inbox: Sequence[InboxRow] = (), **values: Any) -> Snapshot:
    """Return a look at an instance; ``values`` are of that, but for ``has_more``."""
    has_more = values.pop("has_more", False)
    return Snapshot(instance_row(**values), [], list(inbox), NOW, has_more)
