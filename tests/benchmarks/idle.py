"""What recovery and operators ask of a store that is empty, and of one that is full.

    python -m tests.benchmarks.idle              # a million ended, 100,000 waiting, on PostgreSQL
    python -m tests.benchmarks.idle 10000000     # ten million ended

Prints milliseconds (medians), and the plans of recovery's statements.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

from celery_durable.store import checks, inbox, sql_store
from tests import leftovers
from tests.contract.filling import fill

from .places import PLACES

WAITING = 100_000


def main(ended: int = 1_000_000) -> None:
    leftovers.begin()
    with PLACES["redis-postgresql"].open():
        from .app import durable

        durable.migrate()
        store = sql_store(durable.runtime.store)
        lease = int(durable.settings.worker_lease * 1_000_000)
        store.workers.heartbeat("benchmark", "host")
        questions: dict[str, Callable[[], object]] = {
            "recovery's look, once a second and worker": lambda: store.recovery.read_backlog(lease),
            'find(status="FAILED")': lambda: durable.find(status="FAILED"),
            'find(status="SUSPENDED")': lambda: durable.find(status="SUSPENDED"),
            'find(name="nobody\'s")': lambda: durable.find(name="nobody's"),
            'find(tags={"no": "one"})': lambda: durable.find(tags={"no": "one"}),
            "find(stuck=True)": lambda: durable.find(stuck=True),
            'count(status="RUNNING")': lambda: durable.count(status="RUNNING"),
            "find(): the first page": lambda: durable.find(),
        }
        empty = {name: _milliseconds(ask) for name, ask in questions.items()}
        fill(store, ended, WAITING)
        full = {name: _milliseconds(ask) for name, ask in questions.items()}
        print(f"{'question':45} {'empty':>9} {f'{ended:,} ended, {WAITING:,} waiting':>35}")
        for name in questions:
            print(f"{name:45} {empty[name]:6.2f} ms {full[name]:32.2f} ms")
        for name, statement in {
            "LOOK": checks.LOOK,
            "DUE_WAKES": inbox.DUE_WAKES,
            "DUE_ACTIVITIES": checks.DUE_ACTIVITIES,
        }.items():
            _explain(store, name, statement)


def _milliseconds(ask: Callable[[], object]) -> float:
    took = []
    while len(took) < 5 or (len(took) < 100 and sum(took) < 2):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


def _explain(store, name, statement) -> None:
    sql, _ = statement.compiled(store.database)
    sql = sql.replace("%(limit)s", "500").replace("%(worker)s", "''")
    with store.database.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + sql)
        print(f"-- {name}", *(row[0] for row in cursor.fetchall()), sep="\n  ", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
