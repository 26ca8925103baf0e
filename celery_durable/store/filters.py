"""What the filters of a list mean, as conditions on the table of instances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..core.entity import ORCHESTRATORS
from ..core.plain_task import TASK
from ..core.status import RuntimeStatus
from ..engine.listing import Filters
from ..engine.version_choice import OPEN
from .lists import BLOCKED, LONG_TAGS, RESENT, TAG_KEYS, UNSENT
from .schema import inbox, instances, outbox, workers

__all__ = ["condition", "is_stuck", "parts_by_status"]

STUCK_AFTER = 60_000_000
#: No message that is overdue is looked at later than this: recovery backs off to an hour at most.
_LATEST_CHECK = 7_200_000_000
_LIVE = ("PENDING", "RUNNING")


def condition(filters: Filters, family: str, now: int) -> sa.ColumnElement[bool]:
    """Return what rows must fulfil beside their status, which is ``parts_by_status``.

    ``now`` counts only where stuck ones are asked for.
    """
    c = instances.c
    texts = (filters.name, filters.version, filters.parent_id, filters.id_prefix)
    if any("\x00" in text or not _is_whole(text) for text in texts if text is not None):
        return sa.false()  # no column holds such text
    if filters.version in (OPEN, TASK):
        return sa.false()  # what is stored in the place of a version is none
    found: list[sa.ColumnElement[bool]] = [sa.true()]
    for column, value in (
        (c.name, filters.name),
        (c.version, filters.version),
        (c.parent_id, filters.parent_id),
    ):
        if value is not None:
            found.append(column == value)
    for pair in filters.tags:
        found += _has_tag(json.dumps(list(pair), ensure_ascii=True), family)
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
    if filters.tasks is not None:
        is_plain = sa.func.coalesce(c.version, "") == TASK
        found.append(is_plain if filters.tasks else sa.not_(is_plain))
    if filters.stuck is not None:
        found.append(is_stuck(now, family) if filters.stuck else sa.not_(_is_stuck(now)))
    return sa.and_(*found)


def parts_by_status(
    statuses: Sequence[RuntimeStatus], listed_until: int
) -> list[sa.ColumnElement[bool]]:
    """Return conditions of which one holds of each row with one of these statuses, and none of any
    other row; each is found by an index in the order of lists.

    ``listed_until`` is when those were created at the latest that are listed if they live.
    """
    c, wanted = instances.c, [str(status) for status in dict.fromkeys(statuses)]
    found = [
        c.status == status if status == str(RuntimeStatus.COMPLETED) else c.listed_as == status
        for status in wanted
    ]
    if live := [status for status in wanted if status in _LIVE]:
        has_status = c.status.in_(live)
        found.append(sa.and_(c.listed_as == BLOCKED, has_status))
        is_young = sa.and_(c.created_at > listed_until, c.listed_as.is_(None))
        found.append(sa.and_(is_young, has_status))
    return found


def _has_tag(pair: str, family: str) -> list[sa.ColumnElement[bool]]:
    c = instances.c
    if family != "postgresql":
        return [sa.func.instr(c.tags, f"\n{pair}\n") > 0]  # LIKE would fold case
    keys: Any = sa.literal_column(TAG_KEYS, sa.ARRAY(sa.Text))
    is_indexed = keys.op("&&", is_comparison=True)(sa.cast([pair, LONG_TAGS], sa.ARRAY(sa.Text)))
    return [c.tags.is_not(None), is_indexed, sa.func.strpos(c.tags, f"\n{pair}\n") > 0]


def _is_suspect(now: int, family: str) -> sa.ColumnElement[bool]:
    """Tell which instances may be stuck, by what they have in inbox and outbox: no other is."""
    c, m, o, blocked = instances.c, inbox.c, outbox.c, instances.alias("blocked")
    is_alive = sa.exists().where(workers.c.id == o.holder, workers.c.last_seen > now - STUCK_AFTER)
    suspects: Any = sa.union(
        sa.select(blocked.c.id).where(blocked.c.listed_as == BLOCKED),
        sa.select(m.instance).where(
            m.check_at <= now + _LATEST_CHECK, m.wake_at <= now - STUCK_AFTER
        ),
        sa.select(o.instance).where(sa.text(RESENT)),
        sa.select(o.instance).where(sa.text(UNSENT)),
        sa.select(o.instance).where(o.holder.is_not(None), sa.not_(is_alive)),
    )
    if family != "postgresql":
        return sa.and_(c.id.in_(suspects))
    ids: Any = sa.func.array(suspects.scalar_subquery())
    return sa.and_(c.id == sa.any_(ids))  # it reads these first, and then the rows by their keys


def is_stuck(now: int, family: str) -> sa.ColumnElement[bool]:
    """Tell what is stuck; only rows that may be are read."""
    return sa.and_(_is_suspect(now, family), _is_stuck(now))


def _is_stuck(now: int) -> sa.ColumnElement[bool]:
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
