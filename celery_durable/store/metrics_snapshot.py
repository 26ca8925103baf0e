"""A snapshot of the store, for metrics: how many live instances there are, and what is late.

It counts only what lives, and reads all of that; look at how long it took before you take it
often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.history import EventKind
from ..core.status import RuntimeStatus
from ..engine.activity_limits import LIMIT_GATE
from ..engine.archive_rows import ArchiveState
from ..engine.switches import GATED
from .causes import waits_statement
from .filters import is_stuck, parts_by_status
from .migrate import found_revision
from .schema import inbox, instances, outbox, workers
from .store import Store
from .upkeep import listed_until

__all__ = ["MOST", "MetricsSnapshot", "Population", "Queue", "take_snapshot", "waiting_activities"]

#: How many microseconds after its time a timer counts as overdue.
OVERDUE_AFTER = 5_000_000
#: How much waits by one cause is counted up to this, so that a look stays short.
MOST = 100_000
_RUNS = "runs"
_LIVE = [status for status in RuntimeStatus if not status.is_terminal]


@dataclass(frozen=True)
class Population:
    """The live instances of one orchestrator that have one status.

    Times are microseconds since the epoch.
    """

    name: str
    status: str
    count: int
    stuck: int
    oldest_at: int
    most_turns: int
    #: How many of them are sub-orchestrations.
    children: int = 0


@dataclass(frozen=True)
class Queue:
    """The activities that wait in one Celery queue for a worker.

    ``name`` is empty where the queue is not known.
    """

    name: str
    count: int
    oldest_at: int | None
    #: How many messages were sent again for those that wait.
    resent: int = 0


@dataclass(frozen=True)
class MetricsSnapshot:
    """One look at everything that lives."""

    populations: list[Population]
    queues: list[Queue]
    #: How much waits, by cause (``telemetry.names.CAUSES``); most are counted up to ``MOST``.
    waits: dict[str, int]
    running_activities: int
    overdue_timers: int
    #: Messages in inboxes that want a turn, are due, and have not been taken.
    waiting_turns: int
    #: Since when the one has waited that waits longest; None if there is none.
    oldest_turn_at: int | None
    living_workers: int
    revision: str | None
    #: What waits for the archive; None where there is none.
    archive: ArchiveState | None = None


def take_snapshot(store: Store, lease: int, *, archives: bool = False) -> MetricsSnapshot:
    """Count what lives in a store.

    Args:
        store: to look at.
        lease: how many microseconds a worker may be silent before it counts as dead.
        archives: whether there is an archive, for which something may wait.

    Raises:
        StoreError: the store cannot be reached.
        ConfigurationError: it has no tables, or those of another release.
    """
    now = store.now()
    waiting, states = _activities(store)
    overdue = _one(store, _overdue_timers(now))
    turns, oldest_turn = tuple(_rows(store, _due_turns(now))[0])
    alive = _one(
        store,
        sa.select(sa.func.count()).select_from(workers).where(workers.c.last_seen > now - lease),
    )
    populations = _populations(store, now)
    waits = states | waits_by_cause(store, now)
    waits["pause"] = waits.get("pause", 0) + states.get("pause", 0)
    waits["child"] = sum(each.children for each in populations)
    return MetricsSnapshot(
        populations,
        waiting,
        waits,
        waits.pop(_RUNS, 0),
        overdue,
        int(turns),
        oldest_turn,
        alive,
        found_revision(store.database),
        store.archiving.state(MOST) if archives else None,
    )


def _rows(store: Store, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
    try:
        with store.database.using() as engine, engine.connect() as connection:
            return connection.execute(statement).fetchall()
    except sa.exc.SQLAlchemyError as error:
        raise store.database.store_error(error) from error


def _one(store: Store, statement: sa.Executable) -> int:
    ((number,),) = _rows(store, statement)
    return int(number)


def _populations(store: Store, now: int) -> list[Population]:
    c, stuck_ones = instances.c, Counter[tuple[str, str]]()
    live = sa.select(c.name, c.status, c.created_at, c.sequence, c.parent_id)
    until = listed_until(store.database)
    parts = sa.union_all(*(live.where(part) for part in parts_by_status(_LIVE, until))).subquery()
    found = sa.select(
        parts.c.name,
        parts.c.status,
        sa.func.count(),
        sa.func.min(parts.c.created_at),
        sa.func.max(parts.c.sequence),
        sa.func.count(parts.c.parent_id),
    ).group_by(parts.c.name, parts.c.status)
    stuck = (
        sa.select(c.name, c.status, sa.func.count())
        .where(is_stuck(now, store.database.family))
        .group_by(c.name, c.status)
    )
    for name, status, number in map(tuple, _rows(store, stuck)):
        stuck_ones[name, status] += int(number)
    return [
        Population(
            name,
            status,
            int(count),
            stuck_ones[name, status],
            int(oldest),
            int(turns),
            int(children),
        )
        for name, status, count, oldest, turns, children in map(tuple, _rows(store, found))
    ]


def waits_by_cause(store: Store, now: int) -> dict[str, int]:
    """Return how many live instances wait for what no activity tells, by cause."""
    found = Counter[str]()
    until = listed_until(store.database)
    for cause, count in map(tuple, _rows(store, waits_statement(now, until, MOST))):
        found[cause] += int(count)
    return dict(found)


def waiting_activities(store: Store) -> list[Queue]:
    """Return what waits for a worker, by queue.

    Raises:
        StoreError: the store cannot be reached.
    """
    return _activities(store)[0]


def _activities(store: Store) -> tuple[list[Queue], dict[str, int]]:
    """Return what waits for a worker, by queue, and how many activities there are in each state."""
    o = outbox.c
    state = sa.case(
        (o.gate == LIMIT_GATE, _word("limit")),
        (o.gate == GATED, _word("pause")),
        (o.is_held.is_(sa.true()), _word("throttled")),
        (o.deferred_at.is_not(None), _word("completion")),
        (o.is_delegated.is_(sa.true()), _word("replacement")),
        (o.holder.is_not(None), _word(_RUNS)),
        else_=_word("worker"),
    ).label("state")
    each = sa.select(
        o.queue, state, sa.func.coalesce(o.sent_at, o.check_at).label("moment"), o.sends
    ).where(o.kind == "activity")
    c = each.subquery().c
    statement = sa.select(
        c.queue, c.state, sa.func.count(), sa.func.min(c.moment), sa.func.sum(c.sends)
    ).group_by(c.queue, c.state)
    queues, states = list[Queue](), Counter[str]()
    for queue, found, count, oldest, resent in map(tuple, _rows(store, statement)):
        states[found] += int(count)
        if found == "worker":
            queues.append(Queue(queue or "", int(count), oldest, int(resent)))
    return queues, dict(states)


def _word(text: str) -> sa.ColumnElement[Any]:
    return sa.literal_column(f"'{text}'")


def _due_turns(now: int) -> sa.Select[Any]:
    """Those of suspended instances are not looked at: their messages are parked."""
    m = inbox.c
    return sa.select(sa.func.count(), sa.func.min(m.wake_at)).where(
        m.check_at.is_not(None), m.wake_at > 0, m.wake_at <= now
    )


def _overdue_timers(now: int) -> sa.Select[Any]:
    """Those of suspended instances are not looked at: their messages are parked."""
    m = inbox.c
    return (
        sa.select(sa.func.count())
        .select_from(inbox)
        .where(
            m.kind == str(EventKind.TIMER_FIRED),
            m.check_at.is_not(None),
            m.visible_at <= now - OVERDUE_AFTER,
        )
    )
