"""The audit trail as clients read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..core.guard import refuse_inside_orchestrator
from ..core.times import EPOCH, as_microseconds
from ..engine.audit import AuditFilters, AuditRow
from ..engine.listing import check_page_size

if TYPE_CHECKING:
    from ..engine.runtime import Runtime

__all__ = ["AuditEntry", "AuditPage", "read_audit"]


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the audit trail: who did what, as ``durable.audit()`` found it.

    Example:
        >>> at = datetime(2026, 5, 4, tzinfo=UTC)
        >>> AuditEntry("a1", at, "orchestration", "order-1", "purge", "ann", "cli").effect
        'done'
    """

    #: Tells it from every other.
    id: str
    #: When, by the store's clock; aware UTC.
    at: datetime
    #: What it was done to: "orchestration", "schedule", or, by a switch, "task", "queue" or
    #: "orchestrator".
    kind: str
    #: Its id or name; None where it was not found, as by a token that is over.
    target: str | None
    #: What was done: a verb of ``Orchestration``, "start", "complete", "fail", "pause", "unpause",
    #: "ramp", or of a schedule "declare", "pause", "resume", "trigger", "backfill", "delete".
    verb: str
    #: Who did it; None where the door does not know.
    actor: str | None
    #: Over which door: "cli", "admin", "flower", "http" or "code".
    door: str
    #: Why, as it was given.
    reason: str | None = None
    #: With what else it was called; payloads are "(hidden)".
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: "done"; "nothing" if there was nothing to do; "refused".
    effect: str = "done"
    #: Why it was refused.
    error: str | None = None
    #: The id of the orchestration that was made by it, if that is another one.
    made: str | None = None


@dataclass(frozen=True)
class AuditPage:
    """One page of ``durable.audit``, newest first; ``next_cursor`` is None on the last.

    Example:
        >>> AuditPage([]).next_cursor is None
        True
    """

    items: list[AuditEntry]
    next_cursor: str | None = None


def read_audit(
    runtime: Runtime,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    **chosen: str | None,
) -> AuditPage:
    """Return a page of the trail; see ``Durable.audit``."""
    refuse_inside_orchestrator("durable.audit()")
    for name, text in {"target": target, **chosen}.items():
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name}= takes a text, not {text!r}")
    check_page_size(limit)
    filters = AuditFilters(
        target,
        chosen.get("kind"),
        chosen.get("actor"),
        chosen.get("door"),
        chosen.get("verb"),
        None if since is None else as_microseconds(since),
        None if until is None else as_microseconds(until),
    )
    rows, next_cursor = runtime.store.audit.read(filters, limit, cursor)
    return AuditPage([_entry(row) for row in rows], next_cursor)


def _entry(row: AuditRow) -> AuditEntry:
    at = EPOCH + timedelta(microseconds=row.at)
    values = row._asdict() | {"at": at, "arguments": _arguments(row.arguments)}
    return AuditEntry(**values)


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
