"""Measure the workloads on one broker, store and pool, and write the figures into a file."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any

from .meters import ROLES, Cost, Meter
from .places import PLACES, worker
from .workloads import Workload, workloads


def main(file: str, place: str, pool: str, rounds: str, *chosen: str) -> None:
    at, rows = PLACES[place], list[dict[str, Any]]()

    def note(row: dict[str, Any]) -> None:
        rows.append({"place": place, "pool": pool, **row})
        Path(file).write_text(json.dumps(rows))
        print(f"  {row.get('workload', 'memory')}", file=sys.stderr, flush=True)

    with at.open():
        from .app import app, durable

        durable.migrate()
        print(f"{at.words()}, pool {pool} of 2", file=sys.stderr, flush=True)
        with worker(pool) as pid:
            meter = Meter(pid, at)
            for work in workloads():
                if not chosen or any(part in work.name for part in chosen):
                    note(figures(work, _interleaved(work, meter, int(rounds) or work.rounds)))
            memory = meter.memory()
        if not chosen:
            app.control.purge()
            with worker(pool, BENCH_PLAIN="1") as pid:
                for work in workloads():
                    if work.plain is not None and work.size <= 1000:
                        work.plain()
                plain = Meter(pid, at).memory()
            note({"memory": memory, "plain_memory": plain})


def _interleaved(work: Workload, meter: Meter, rounds: int) -> dict[str, list[Cost]]:
    forms = {"plain": work.plain, "durable": work.durable}
    forms = {name: form for name, form in forms.items() if form is not None}
    found: dict[str, list[Cost]] = defaultdict(list)
    with _settings(work):
        for number in range(work.warm + rounds):
            for name in sorted(forms, reverse=number % 2 == 0):
                with meter.reading() as cost:
                    cost.values = forms[name]()
                if number >= work.warm:
                    found[name].append(cost)
    return found


@contextmanager
def _settings(work: Workload) -> Any:
    from .app import durable

    before = {name: getattr(durable.settings, name) for name, _ in work.settings}
    try:
        for name, value in work.settings:
            object.__setattr__(durable.settings, name, value)
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(durable.settings, name, value)


def figures(work: Workload, costs: dict[str, list[Cost]]) -> dict[str, Any]:
    """Return what a workload took in its rounds, for each form: medians, and means of processor
    time, which the system counts in hundredths of a second.
    """
    row: dict[str, Any] = {"workload": work.name, "size": work.size, "unit": work.unit}
    for form, each in costs.items():
        values = sorted(value for cost in each for value in cost.values)
        names = {name for cost in each for name in cost.received}
        row[form] = {
            "rounds": len(each),
            "seconds": median(cost.seconds for cost in each),
            "cpu": fmean(cost.all_cpu for cost in each),
            "cpu_by_role": {role: fmean(cost.cpu[role] for cost in each) for role in ROLES},
            "received": {
                name: median(cost.received.get(name, 0) for cost in each) for name in sorted(names)
            },
        }
        written = {name for cost in each for name in cost.written}
        row[form]["written"] = {
            name: median(cost.written[name] for cost in each) for name in sorted(written)
        }
        if values:
            row[form]["p50"] = values[len(values) // 2]
            row[form]["p95"] = values[min(len(values) * 95 // 100, len(values) - 1)]
    return row


if __name__ == "__main__":
    main(*sys.argv[1:])
