"""What durability costs beside plain Celery canvas: the same worker, broker and run, interleaved.

    python -m tests.benchmarks                               # every workload, Redis and PostgreSQL
    python -m tests.benchmarks "200 x 5" chain               # those whose names contain one of these
    python -m tests.benchmarks --place rabbitmq-mariadb durable-sqlite --pool threads gevent
    python -m tests.benchmarks --hogs 4 --json figures.json  # beside four busy processes

Needs the servers of the place, found as the tests find them. One table; nothing is asserted: ratios
and processor time can be compared between machines, seconds cannot.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests import leftovers

from .places import PLACES
from .report import footprint, table

POOLS = ("prefork", "threads", "gevent")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("workloads", nargs="*", help="parts of names; all without any")
    parser.add_argument("--place", nargs="+", choices=PLACES, default=["redis-postgresql"])
    parser.add_argument("--pool", nargs="+", choices=POOLS, default=["prefork"])
    parser.add_argument("--rounds", type=int, help="rounds of each workload, instead of its own")
    parser.add_argument("--hogs", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    leftovers.begin()
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{platform.machine()}, {psutil.cpu_count()} processors, {memory:.0f} GiB,"
        f" Python {platform.python_version()}, {options.hogs} busy processes beside it",
        flush=True,
    )
    rows = []
    with hogs(options.hogs):
        for place in options.place:
            for pool in options.pool:
                rows += _measured(place, pool, options.rounds, options.workloads)
    print(table(rows))
    if not options.workloads:
        print(footprint())
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _measured(place: str, pool: str, rounds: int | None, chosen: list[str]) -> list[dict]:
    """Measure in a process of its own: an app has one broker and one store."""
    with tempfile.NamedTemporaryFile("r") as file:
        command = [sys.executable, "-m", "tests.benchmarks.measure", file.name, place, pool]
        done = subprocess.run([*command, str(rounds or 0), *chosen])
        if done.returncode:
            print(f"{place}, {pool}: ended with {done.returncode} before its end")
        return json.loads(file.read() or "[]")


@contextmanager
def hogs(number: int) -> Iterator[None]:
    """Keep the processor busy with other work."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
