"""What stands above and beside lists: how many there are of each status, which names there are, and
custom statuses. Each is bounded: however many rows match, few are read.

Of every status as many rows are looked at as make a number worth reading; beyond that there are
"more". Completed ones and young live ones, which have no index (see ``lists``), are looked for
among those that were created last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..core.entity import ORCHESTRATORS
from ..core.status import RuntimeStatus
from ..engine.listing import Tally
from . import queries, upkeep
from .lists import BLOCKED
from .runner import Runner
from .schema import instances
from .values import Elsewhere, text_of

__all__ = ["Overview"]

#: So many rows of each status are counted, and so many of those created last.
_MOST, _LAST = 5_000, 2_000
#: A custom status that is longer, in bytes, is not read for a list.
_LONGEST = 4_096
_LIVE = ("PENDING", "RUNNING")
_LISTED = (*_LIVE, "SUSPENDED", "FAILED", "CANCELED", "TERMINATED")


class Overview:
    """Reads what stands above and beside lists (``engine.row_ports.Overview``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def tally(self) -> dict[RuntimeStatus, Tally]:
        """Count orchestrations by status, as far as that is cheap; entities are left out."""
        until = upkeep.listed_until(self.database)
        parts = [_listed(status, _constant(status)) for status in _LISTED]
        parts += [_listed(BLOCKED, instances.c.status), _last(until)]
        numbers: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        oldest = None
        for row in queries.fetch(self.database, sa.union_all(*parts)):
            part, status, rows, count, since = tuple(row)
            seen[part] += int(rows)
            if part != "rest" or status == "COMPLETED":  # others are counted where they are listed
                numbers[status] += int(count)
            if part in ("young", "rest"):
                oldest = since if oldest is None else min(oldest, since)
        is_whole = seen["young"] + seen["rest"] < _LAST
        has_all_young = is_whole or (oldest is not None and oldest <= until)
        return {
            status: Tally(
                numbers[status],
                is_whole
                if status is RuntimeStatus.COMPLETED
                else seen[status] < _MOST
                and (status not in _LIVE or (seen[BLOCKED] < _MOST and has_all_young)),
            )
            for status in RuntimeStatus
        }

    def names(self, limit: int) -> list[str]:
        """Return the names that instances have, in order, at most so many: one look-up for each."""
        c = instances.c
        first = sa.select(c.name).order_by(c.name).limit(1).scalar_subquery()
        found = sa.select(first.label("name")).cte("names", recursive=True)
        following = sa.select(c.name).where(c.name > found.c.name).order_by(c.name).limit(1)
        found = found.union_all(
            sa.select(following.scalar_subquery()).where(found.c.name.is_not(None))
        )
        wanted = sa.select(found.c.name).where(found.c.name.is_not(None)).limit(limit)
        return [str(row.name) for row in queries.fetch(self.database, wanted)]

    def custom_statuses(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the encoded custom statuses of these instances, of those that have a short one."""
        c = instances.c
        wanted = sa.select(c.id, c.custom_status).where(
            c.id.in_(ids), c.custom_status.is_not(None), sa.func.length(c.custom_status) <= _LONGEST
        )
        rows = queries.fetch(self.database, wanted) if ids else []
        small = {row.id: row.custom_status for row in rows if not _is_large(row.custom_status)}
        return {id_: text for id_, data in small.items() if (text := text_of(data)) is not None}


def _is_large(data: object) -> bool:
    """Tell whether a custom status would be fetched from the payload store for a list in vain."""
    return isinstance(data, Elsewhere) and data.size > _LONGEST


def _is_orchestration(name: Any) -> sa.ColumnElement[int]:
    is_entity = sa.func.substr(name, 1, len(ORCHESTRATORS)) == ORCHESTRATORS
    return sa.case((is_entity, 0), else_=1)


def _constant(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.String)


def _listed(listed_as: str, status: Any) -> sa.Select[Any]:
    """Count those that are listed so, the newest of them."""
    c = instances.c
    newest = (
        sa.select(c.name, status.label("status"))
        .where(c.listed_as == listed_as)
        .order_by(c.created_at.desc(), c.id.desc())
        .limit(_MOST)
        .subquery()
    )
    part = _constant(listed_as).label("part")
    return _counted(part, newest, sa.cast(sa.null(), sa.BigInteger)).group_by(newest.c.status)


def _last(listed_until: int) -> sa.Select[Any]:
    """Count those that were created last: the young ones, which are not listed yet, and the
    rest.
    """
    c = instances.c
    newest = (
        sa.select(c.name, c.status, c.listed_as, c.created_at)
        .order_by(c.created_at.desc(), c.id.desc())
        .limit(_LAST)
        .subquery()
    )
    is_young = sa.and_(
        newest.c.created_at > listed_until, newest.c.listed_as.is_(None), newest.c.status.in_(_LIVE)
    )
    part = sa.case((is_young, _constant("young")), else_=_constant("rest")).label("part")
    return _counted(part, newest, sa.func.min(newest.c.created_at)).group_by(part, newest.c.status)


def _counted(part: Any, rows: Any, since: Any) -> sa.Select[Any]:
    return sa.select(
        part, rows.c.status, sa.func.count(), sa.func.sum(_is_orchestration(rows.c.name)), since
    )
