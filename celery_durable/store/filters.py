"""What the filters of a list mean, as conditions on the table of instances."""

from __future__ import annotations

import json

import sqlalchemy as sa

from ..core.entity import ORCHESTRATORS
from ..engine.listing import Filters
from .schema import inbox, instances, outbox, workers

__all__ = ["condition", "is_stuck"]

STUCK_AFTER = 60_000_000


def condition(filters: Filters, family: str, now: int) -> sa.ColumnElement[bool]:
    """Return what rows must fulfil; ``now`` counts only where stuck ones are asked for."""
    c = instances.c
    texts = (filters.name, filters.version, filters.parent_id, filters.id_prefix)
    if any("\x00" in text or not _is_whole(text) for text in texts if text is not None):
        return sa.false()  # no column holds such text
    found: list[sa.ColumnElement[bool]] = [sa.true()]
    if filters.statuses:
        found.append(c.status.in_([str(status) for status in filters.statuses]))
    for column, value in (
        (c.name, filters.name),
        (c.version, filters.version),
        (c.parent_id, filters.parent_id),
    ):
        if value is not None:
            found.append(column == value)
    for pair in filters.tags:
        place = sa.func.strpos if family == "postgresql" else sa.func.instr  # LIKE would fold case
        found.append(place(c.tags, "\n" + json.dumps(list(pair), ensure_ascii=True) + "\n") > 0)
    if filters.id_prefix:
        found += [
            c.id >= filters.id_prefix,
            sa.func.substr(c.id, 1, len(filters.id_prefix)) == filters.id_prefix,
        ]
        if (end := _after(filters.id_prefix)) is not None:
            found.append(c.id < end)
    if filters.roots is not None:
        found.append(c.parent_id.is_(None) if filters.roots else c.parent_id.is_not(None))
    if filters.created_after is not None:
        found.append(c.created_at >= filters.created_after)
    if filters.created_before is not None:
        found.append(c.created_at < filters.created_before)
    if filters.entities is not None:
        is_entity = sa.func.substr(c.name, 1, len(ORCHESTRATORS)) == ORCHESTRATORS
        found.append(is_entity if filters.entities else sa.not_(is_entity))
    if filters.stuck is not None:
        found.append(is_stuck(now) if filters.stuck else sa.not_(is_stuck(now)))
    return sa.and_(*found)


def is_stuck(now: int) -> sa.ColumnElement[bool]:
    """Tell what does not move and should: a turn that no worker takes, code that none has, what is
    over but Celery was not told.

    And an activity whose message no worker runs or could send, or whose worker is gone without
    another one to judge that.
    """
    c, m, o = instances.c, inbox.c, outbox.c
    # what a pause holds has no time at which recovery looks
    overdue = sa.exists().where(
        m.instance == c.id, m.wake_at <= now - STUCK_AFTER, m.check_at.is_not(None)
    )
    unseen = sa.exists().where(
        o.execution == c.execution,
        o.kind == "activity",
        o.holder.is_(None),
        o.is_delegated.is_(sa.false()),
        o.sends >= 3,
        o.sent_at <= now - STUCK_AFTER,
        o.gate.is_(None),
    )
    unsent = sa.exists().where(
        o.execution == c.execution,
        o.kind == "activity",
        o.sent_at.is_(None),
        o.holder.is_(None),
        o.is_held.is_(sa.false()),
        o.is_delegated.is_(sa.false()),
        o.gate.is_(None),
        c.updated_at <= now - STUCK_AFTER,
    )
    is_alive = sa.exists().where(workers.c.id == o.holder, workers.c.last_seen > now - STUCK_AFTER)
    forsaken = sa.exists().where(
        o.execution == c.execution,
        o.kind == "activity",
        o.holder.is_not(None),
        sa.not_(is_alive),
        c.updated_at <= now - STUCK_AFTER,
    )
    reasons = (c.reason.is_not(None), overdue, unseen, unsent, forsaken)
    waits = sa.and_(c.status.in_(["PENDING", "RUNNING"]), sa.or_(*reasons))
    owed = sa.select(o.execution).where(
        o.kind == "finish", o.sends >= 3, o.sent_at <= now - STUCK_AFTER
    )
    return sa.or_(sa.func.coalesce(waits, sa.false()), c.execution.in_(owed))


def _after(prefix: str) -> str | None:
    """Return the text that follows all that begin with a prefix.

    None where there is no such character.
    """
    last = ord(prefix[-1]) + 1
    return None if 0xD800 <= last <= 0xDFFF or last > 0x10FFFF else prefix[:-1] + chr(last)


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
