"""How recovery finds the rows of the outbox that it should look at, and reads no others.

Most rows there are activities that were sent and wait in a queue for a worker: none of them is of
interest before its message is known to be lost, or a limit of its time has passed. They have
indexes of their own: by queue, and by each limit. Whatever else has a ``check_at`` is found by
that, in an index that holds nothing that merely waits. So a row is in one of the two as it was in
one before, and writing it costs the same; only an attempt with a time limit has one entry more, as
long as it waits.

MySQL has no partial indexes: there one index has all that has a ``check_at``.
"""

from __future__ import annotations

from functools import cache

from .statements import Statement

__all__ = [
    "LOOK",
    "LOOK_BY_ONE_INDEX",
    "CHECKED",
    "DUE_ACTIVITIES",
    "QUEUED",
    "due_by_one_index",
    "due_if_lost",
    "lost_if",
]

#: An activity that was sent once and has not begun: a worker will take it, or its message is lost.
QUEUED = (
    "check_at IS NOT NULL AND gate IS NULL AND kind = 'activity' AND sent_at IS NOT NULL AND holder"
    " IS NULL AND is_delegated IS FALSE AND crashes IS NULL"
)
#: All else that is looked at when its time has come.
CHECKED = (
    "check_at IS NOT NULL AND gate IS NULL AND (kind <> 'activity' OR sent_at IS NULL OR holder IS"
    " NOT NULL OR is_delegated IS TRUE OR crashes IS NOT NULL)"
)

_LOOK = (
    "SELECT {now}, (SELECT MIN(check_at) FROM durable_inbox WHERE check_at IS NOT NULL),"
    " <outbox>, (SELECT MIN(last_seen) FROM"
    " durable_workers), (SELECT MAX(last_seen) FROM durable_workers), (SELECT MIN(check_at) FROM"
    " durable_schedules WHERE check_at IS NOT NULL), (SELECT MIN(ready_at) FROM durable_waiting),"
    " (SELECT MIN(id) FROM durable_places), (SELECT MIN(CASE WHEN kind ="
    " 'task' AND value IS NOT NULL THEN since ELSE lifted_at END) FROM durable_switches), (SELECT"
    " MIN(purge_at) FROM durable_instances WHERE purge_at IS NOT NULL), (SELECT MIN(holder) FROM"
    " durable_outbox WHERE holder = :worker), (SELECT MIN(ready_at) FROM durable_activity_waiting"
    " WHERE ready_at IS NOT NULL), COALESCE((SELECT MIN(id) FROM"
    " durable_activity_places), (SELECT MIN(id) FROM durable_activity_waiting))"
)
_FIRST = "(SELECT MIN({}) FROM durable_outbox WHERE {})"
# one step for each queue, however much waits there
_FIRST_QUEUED = (
    "(WITH RECURSIVE q (queue) AS (SELECT MIN(queue) FROM durable_outbox WHERE"
    f" {QUEUED} AND queue IS NOT NULL UNION ALL SELECT (SELECT MIN(o.queue) FROM durable_outbox o"
    f" WHERE {QUEUED} AND o.queue > q.queue) FROM q WHERE q.queue IS NOT NULL)"
    f" SELECT MIN((SELECT MIN(check_at) FROM durable_outbox o WHERE {QUEUED} AND o.queue ="
    " q.queue)) FROM q)"
)
# PostgreSQL takes no IS NULL for an order
_FIRST_UNPLACED = (
    f"(SELECT check_at FROM durable_outbox WHERE {QUEUED} AND queue IS NULL ORDER BY queue,"
    " check_at LIMIT 1)"
)
#: What there is to do: of each kind of rows the first moment at which one is to be looked at.
LOOK = Statement(
    _LOOK.replace(
        "<outbox>",
        ", ".join(
            [
                _FIRST.format("check_at", CHECKED),
                _FIRST.format("deadline_at", f"{QUEUED} AND deadline_at IS NOT NULL"),
                _FIRST.format("start_by", f"{QUEUED} AND start_by IS NOT NULL"),
                _FIRST_QUEUED,
                _FIRST_UNPLACED,
            ]
        ),
    )
)
#: The same for MySQL, which cannot tell the rows of the outbox apart.
LOOK_BY_ONE_INDEX = Statement(
    _LOOK.replace(
        "<outbox>", f"NULL, NULL, NULL, {_FIRST.format('check_at', 'check_at IS NOT NULL')}, NULL"
    )
)

_NAMES = (
    "execution, command, attempt, instance, kind, name, message, queue, sends, sent_at, holder,"
    " is_delegated, check_at, deadline_at, start_by, beat_by, crashes, deferred_at"
)
_COLUMNS = f"{_NAMES}, (SELECT i.root_id FROM durable_instances i WHERE i.id = o.instance), {{now}}"
_IN_ORDER = "ORDER BY check_at, execution, command LIMIT :limit"
_OVERDUE_FINISH = "(kind = 'finish' AND check_at <= {once} - 60000000)"


def _joined(*conditions: tuple[str, str]) -> Statement:
    """Return the statement that reads the first rows of these, each by an index in its order."""
    parts = [
        f"SELECT * FROM (SELECT {_NAMES} FROM durable_outbox WHERE {condition} ORDER BY {order}"
        f" LIMIT :limit) AS part{number}"
        for number, (condition, order) in enumerate(conditions)
    ]
    return Statement(f"SELECT {_COLUMNS} FROM ({' UNION ALL '.join(parts)}) AS o {_IN_ORDER}")


#: What is due, whether its message is lost or not.
DUE_ACTIVITIES = _joined(
    (f"{CHECKED} AND check_at <= {{once}}", "check_at"),
    (f"{QUEUED} AND check_at <= {{once}}", "check_at"),
)


def lost_if(number: int, queue: str = "queue", moment: str = "check_at") -> str:
    """Return the condition under which a row's message is lost: ``bound0`` is up to when on
    ``queue0``, and so on, ``rest`` on queues that are not known.

    Args:
        number: how many queues are known.
        queue: the column of the row's queue.
        moment: the column of when the row is to be looked at.
    """
    return " OR ".join(
        f"({which} AND {moment} <= {bound})" for which, bound in _bounds(number, queue)
    )


def _bounds(number: int, queue: str = "queue") -> list[tuple[str, str]]:
    known = [(f"{queue} = :queue{n}", f":bound{n}") for n in range(number)]
    return [(f"{queue} IS NULL", ":rest"), *known]


@cache
def due_if_lost(number: int) -> Statement:
    """Return the statement that reads what is due, what only lacks a message if that is lost."""
    in_time = "(deadline_at IS NULL OR deadline_at > {once})"
    may_begin = f"{in_time} AND (start_by IS NULL OR start_by > {{once}})"
    return _joined(
        (
            f"{CHECKED} AND check_at <= {{once}} AND (kind <> 'finish' OR sent_at IS NULL OR"
            f" {_OVERDUE_FINISH} OR {lost_if(number)})",
            "check_at",
        ),
        (f"{QUEUED} AND deadline_at <= {{once}} AND check_at <= {{once}}", "deadline_at"),
        (f"{QUEUED} AND start_by <= {{once}} AND check_at <= {{once}} AND {in_time}", "start_by"),
        *(
            # of two bounds SQLite would range by the one, and read up to that
            (
                f"{QUEUED} AND {queue} AND check_at <= {{least}}({bound}, {{once}}) AND"
                f" {may_begin}",
                "queue, check_at",
            )
            for queue, bound in _bounds(number)
        ),
    )


@cache
def due_by_one_index(number: int | None) -> Statement:
    """Return the same for MySQL; None is whether the message is lost or not."""
    reasons = (
        "sent_at IS NULL OR holder IS NOT NULL OR is_delegated OR crashes > 0 OR deadline_at <="
        f" {{once}} OR start_by <= {{once}} OR {_OVERDUE_FINISH} OR {lost_if(number or 0)}"
    )
    is_wanted = "" if number is None else f" AND ({reasons})"
    return Statement(
        f"SELECT {_COLUMNS} FROM durable_outbox o WHERE check_at <= {{once}} AND gate IS"
        f" NULL{is_wanted} {_IN_ORDER}"
    )
