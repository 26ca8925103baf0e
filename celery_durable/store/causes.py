"""What live instances wait for that no activity tells, counted by cause, in one statement.

Each part reads what lives alone, by an index, and counts up to a limit: what has finished costs it
nothing, and no number of instances makes it long.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..core.entity import ORCHESTRATORS
from ..core.history import EventKind
from ..core.status import RuntimeStatus
from .filters import parts_by_status
from .inbox import FAR
from .lists import BLOCKED
from .schema import held, inbox, instances, outbox, waiting
from .waits import is_awaited

__all__ = ["LACKS_CODE", "waits_statement"]

#: How the reason of an instance begins for which no worker has the code (``inbox_recovery``).
LACKS_CODE = "waits for a worker that knows"
_LIVE = ("PENDING", "RUNNING", "SUSPENDED")


def waits_statement(now: int, listed_until: int, most: int) -> sa.Executable:
    """Return the statement; its rows are (cause, how many).

    Args:
        now: the store's clock.
        listed_until: see ``filters.parts_by_status``.
        most: is counted up to.
    """
    return sa.union_all(
        *_timers(now, most),
        _counted("admission", sa.select(waiting.c.instance), most),
        _counted("pause", _held(), most),
        _counted("code", _lacking(), most),
        _counted("message", _asleep(listed_until, most), most),
    )


def _counted(cause: str, rows: sa.Select[Any], most: int) -> sa.Select[Any]:
    part = rows.limit(most).subquery()
    return sa.select(_word(cause).label("cause"), sa.func.count()).select_from(part)


def _timers(now: int, most: int) -> list[sa.Select[Any]]:
    """Count moments that are waited for: of timers, of starts, and of those that end another wait.

    Those of suspended instances are parked, and not looked at.
    """
    m = inbox.c
    ahead = sa.and_(m.check_at.is_not(None), m.visible_at > now, m.visible_at < FAR)
    cause = sa.case(
        (m.kind == str(EventKind.EXECUTION_STARTED), _word("start")),
        (m.facts.like('{"event":%'), _word("event")),
        (m.facts.like('{"request":%'), _word("request")),
        else_=_word("timer"),
    ).label("cause")
    kinds = [str(EventKind.TIMER_FIRED), str(EventKind.EXECUTION_STARTED)]
    part = sa.select(cause).where(ahead, m.kind.in_(kinds), is_awaited()).limit(most).subquery()
    return [sa.select(part.c.cause, sa.func.count()).group_by(part.c.cause)]


def _held() -> sa.Select[Any]:
    """Return the instances that a pause keeps from taking turns."""
    h, c = held.c, instances.c
    is_there = sa.exists().where(
        c.id == h.instance, c.execution == h.execution, c.status.in_(_LIVE)
    )
    return sa.select(h.instance).where(h.command == 0, is_there)


def _lacking() -> sa.Select[Any]:
    c = instances.c
    return sa.select(c.id).where(c.listed_as == BLOCKED, c.reason.like(f"{LACKS_CODE}%"))


def _asleep(listed_until: int, most: int) -> sa.Select[Any]:
    """Return running orchestrations that have nothing under way: only a message wakes them.

    So many of them are looked at.
    """
    c, o, m, child = instances.c, outbox.c, inbox.c, instances.alias("child").c
    is_entity = sa.func.substr(c.name, 1, len(ORCHESTRATORS)) == ORCHESTRATORS
    parts = parts_by_status([RuntimeStatus.RUNNING], listed_until)
    found = [sa.select(c.id, c.execution).where(part, sa.not_(is_entity)) for part in parts]
    r = sa.union_all(*found).limit(most).subquery().c
    return sa.select(r.id).where(
        sa.not_(sa.exists().where(o.execution == r.execution)),
        sa.not_(sa.exists().where(m.instance == r.id, is_awaited())),
        sa.not_(sa.exists().where(child.parent_id == r.id, child.status.in_(_LIVE))),
    )


def _word(text: str) -> sa.ColumnElement[Any]:
    return sa.literal_column(f"'{text}'")
