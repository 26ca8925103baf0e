"""What many instances wait for, at a glance: one statement for a page of them, by indexes only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from ..core.history import EventKind
from ..core.status import RuntimeStatus
from ..engine.activity_limits import LIMIT_GATE
from ..engine.listing import Waits
from ..engine.writes import DEADLINE
from .inbox import FAR
from .schema import inbox, instances, outbox, waiting

__all__ = ["OF_THE_RUN", "gathered", "is_awaited", "waits_statement"]

#: The facts of the timer that ends the time of a whole run, as they are stored.
OF_THE_RUN = json.dumps(DEADLINE)
_ENDED = [str(status) for status in RuntimeStatus if status.is_terminal]


def is_awaited() -> sa.ColumnElement[bool]:
    """Return the condition of a timer that the code waits for: not the one of the whole run."""
    facts = inbox.c.facts
    return sa.or_(facts.is_(None), facts != OF_THE_RUN)


def waits_statement(executions: Sequence[str], ids: Sequence[str], now: int) -> sa.Executable:
    """Return the statement.

    Its rows are (what, whose, how many, a name, an attempt, a moment, facts); of activities, in the
    place of a moment, how many of them wait for their completion by token, and in that of facts,
    how many for slots.
    """
    o, c, m, w = outbox.c, instances.c, inbox.c, waiting.c
    none: sa.ColumnElement[Any] = sa.literal_column("0")
    nothing: sa.ColumnElement[Any] = sa.literal_column("''")
    due = sa.and_(m.instance.in_(ids), m.visible_at > now, m.visible_at < FAR)

    def per(
        whose: sa.ColumnElement[Any],
        what: str,
        name: Any = nothing,
        attempt: Any = none,
        moment: Any = none,
        facts: Any = nothing,
    ) -> sa.Select[Any]:
        label: sa.ColumnElement[str] = sa.literal_column(f"'{what}'").label("what")
        return sa.select(label, whose, sa.func.count(), name, attempt, moment, facts).group_by(
            whose
        )

    first = sa.func.min(m.visible_at)
    return sa.union_all(
        per(
            o.execution,
            "activity",
            name=sa.func.min(o.name),
            attempt=sa.func.max(o.attempt),
            moment=sa.func.count(o.deferred_at),
            facts=sa.cast(sa.func.sum(sa.case((o.gate == LIMIT_GATE, 1), else_=0)), sa.String(20)),
        ).where(o.execution.in_(executions), o.kind == "activity"),
        per(c.parent_id, "child", name=sa.func.min(c.id)).where(
            c.parent_id.in_(ids), c.status.not_in(_ENDED)
        ),
        per(m.instance, "timer", moment=first, facts=sa.func.min(m.facts)).where(
            due, is_awaited(), m.kind == str(EventKind.TIMER_FIRED)
        ),
        per(m.instance, "start", moment=first).where(
            due, m.kind == str(EventKind.EXECUTION_STARTED)
        ),
        per(m.instance, "turn", moment=sa.func.min(m.wake_at)).where(
            m.instance.in_(ids), m.visible_at <= now, m.wake_at <= now
        ),
        per(w.instance, "admission").where(w.instance.in_(ids)),
    )


def gathered(rows: Iterable[Sequence[Any]], id_of: dict[str, str]) -> dict[str, Waits]:
    """Return what the rows say, by instance id; ``id_of`` gives the id of an execution."""
    found: dict[str, Waits] = {}
    for what, whose, number, name, attempt, moment, facts in rows:
        waits = found.setdefault(id_of[whose] if what == "activity" else whose, Waits())
        match what:
            case "activity":
                waits.activities, waits.activity, waits.attempt = int(number), name, int(attempt)
                waits.deferred, waits.limited = int(moment), int(facts)
            case "child":
                waits.children, waits.child = int(number), name
            case "timer":
                waits.timer = int(moment)
                waits.awaits = _awaited_in(facts) if number == 1 else None
            case "admission":
                waits.is_waiting_for_admission = True
            case _:
                setattr(waits, what, int(moment))
    return found


def _awaited_in(facts: str | None) -> tuple[str, str] | None:
    """Return what the facts of a timer say that is waited for until it is due."""
    try:
        found = json.loads(facts or "{}")
        return next(
            ((noun, str(found[noun])) for noun in ("event", "request") if noun in found), None
        )
    except (ValueError, TypeError):  # damaged: the turn will say so
        return None
