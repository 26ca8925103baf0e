"""What many instances wait for, at a glance: one statement for a page of them, by indexes only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.events import EventKind
from ..core.status import RuntimeStatus
from .admissions import FAR
from .schema import inbox, instances, outbox, waiting

__all__ = ["Waits", "gathered", "waits_statement"]

_ENDED = [str(status) for status in RuntimeStatus if status.is_terminal]


@dataclass(slots=True)
class Waits:
    """What rows say of one instance; times are microseconds since the epoch. ``activity`` and ``child`` are one of them."""

    activities: int = 0
    activity: str = ""
    attempt: int = 0
    children: int = 0
    child: str = ""
    timer: int | None = None
    start: int | None = None
    turn: int | None = None
    is_waiting_for_admission: bool = False


def waits_statement(executions: Sequence[str], ids: Sequence[str], now: int) -> sa.Executable:
    """Return the statement; its rows are (what, whose, how many, a name, an attempt, a moment)."""
    o, c, m, w = outbox.c, instances.c, inbox.c, waiting.c
    none: sa.ColumnElement[Any] = sa.literal_column("0")
    nothing: sa.ColumnElement[Any] = sa.literal_column("''")
    due = sa.and_(m.instance.in_(ids), m.visible_at > now, m.visible_at < FAR)

    def what(name: str) -> sa.ColumnElement[str]:
        return sa.literal_column(f"'{name}'").label("what")

    return sa.union_all(
        sa.select(what("activity"), o.execution, sa.func.count(), sa.func.min(o.name), sa.func.max(o.attempt), none)
        .where(o.execution.in_(executions), o.kind == "activity")
        .group_by(o.execution),
        sa.select(what("child"), c.parent_id, sa.func.count(), sa.func.min(c.id), none, none)
        .where(c.parent_id.in_(ids), c.status.not_in(_ENDED))
        .group_by(c.parent_id),
        sa.select(what("timer"), m.instance, sa.func.count(), nothing, none, sa.func.min(m.visible_at))
        .where(due, m.kind == str(EventKind.TIMER_FIRED))
        .group_by(m.instance),
        sa.select(what("start"), m.instance, sa.func.count(), nothing, none, sa.func.min(m.visible_at))
        .where(due, m.kind == str(EventKind.EXECUTION_STARTED))
        .group_by(m.instance),
        sa.select(what("turn"), m.instance, sa.func.count(), nothing, none, sa.func.min(m.wake_at))
        .where(m.instance.in_(ids), m.visible_at <= now, m.wake_at <= now)
        .group_by(m.instance),
        sa.select(what("admission"), w.instance, none, nothing, none, none).where(w.instance.in_(ids)),
    )


def gathered(rows: Iterable[Sequence[Any]], id_of: dict[str, str]) -> dict[str, Waits]:
    """Return what the rows say, by instance id; ``id_of`` gives the id of an execution."""
    found: dict[str, Waits] = {}
    for what, whose, number, name, attempt, moment in rows:
        waits = found.setdefault(id_of[whose] if what == "activity" else whose, Waits())
        match what:
            case "activity":
                waits.activities, waits.activity, waits.attempt = int(number), name, int(attempt)
            case "child":
                waits.children, waits.child = int(number), name
            case "admission":
                waits.is_waiting_for_admission = True
            case _:
                setattr(waits, what, int(moment))
    return found
