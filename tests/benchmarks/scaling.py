"""How many activities a second many workers get through against one store: a simulation that goes
by the measured costs of one activity, and a check of it against real workers on this machine.

    python -m tests.benchmarks "200 x 5" --json costs.json
    python -m tests.benchmarks.scaling costs.json             # 1 to 1,000 workers, machines of their own
    python -m tests.benchmarks.scaling costs.json --check 2 4 # real workers, all on this machine

The model: a closed network. Each slot of a worker is a customer that goes round: broker, the
worker's main process, a child before the body, the store (what ``begin`` reads), the body, the
store (the commit, then the wait for its disk), a child after it. A burst of work takes a server of
its station for its measured processor time, first come first served; bodies and the wait for the
disk take none. With ``--check`` there is one station for everything: this machine's processors.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from celery_durable import RuntimeStatus
from tests import leftovers

Step = tuple[str | None, float]


@dataclass(frozen=True)
class Costs:
    """What one activity costs, in seconds: of processor time, but for the wait for the disk."""

    main: float
    child: float
    database: float
    broker: float
    client: float
    disk: float = 0.0005

    @classmethod
    def read(cls, file: Path, workload: str) -> Costs:
        """Return those of a workload in the benchmark's JSON."""
        row = next(row for row in json.loads(file.read_text()) if row.get("workload") == workload)
        cpu = {role: spent / row["size"] for role, spent in row["durable"]["cpu_by_role"].items()}
        return cls(cpu["main"], cpu["children"], cpu["database"], cpu["broker"], cpu["client"])


@dataclass
class Station:
    """Some equal servers with one queue before them."""

    servers: int
    busy: int = 0
    waiting: deque[int] = field(default_factory=deque)
    spent: float = 0.0


def simulate(
    costs: Costs, workers: int, slots: int, body: float, stations: dict[str, int], activities: int
) -> tuple[float, dict[str, float]]:
    """Return activities per second, and how much of each kind of station was in use.

    Args:
        costs: of one activity.
        workers: how many, each with so many ``slots``.
        slots: of one worker.
        body: how long an activity's own body takes, in seconds.
        stations: servers by name: ``database``, ``broker``; or ``machine``, which does everything.
        activities: how many to simulate.
    """
    found = {name: Station(servers) for name, servers in stations.items()}
    if "machine" not in stations:
        for worker in range(workers):
            found[f"main {worker}"], found[f"pool {worker}"] = Station(1), Station(slots)
    customers = [
        list(_round(costs, customer // slots, body, "machine" in stations))
        for customer in range(workers * slots)
    ]
    position, done, now = [0] * len(customers), 0, 0.0
    numbers, events = itertools.count(), list[tuple[float, int, int, str | None]]()

    def enter(customer: int) -> None:
        place, seconds = customers[customer][position[customer]]
        if place is None:
            heapq.heappush(events, (now + seconds, next(numbers), customer, None))
            return
        station = found[place]
        if station.busy == station.servers:
            station.waiting.append(customer)
        else:
            serve(customer, place, seconds)

    def serve(customer: int, place: str, seconds: float) -> None:
        found[place].busy += 1
        found[place].spent += seconds
        heapq.heappush(events, (now + seconds, next(numbers), customer, place))

    for customer in range(len(customers)):
        enter(customer)
    while done < activities:
        now, _, customer, place = heapq.heappop(events)
        if place is not None:
            station = found[place]
            station.busy -= 1
            if station.waiting:
                follower = station.waiting.popleft()
                serve(follower, place, customers[follower][position[follower]][1])
        position[customer] = (position[customer] + 1) % len(customers[customer])
        done += position[customer] == 0
        enter(customer)
    used: dict[str, float] = {}
    for name, station in found.items():
        kind = name.partition(" ")[0]
        used[kind] = max(used.get(kind, 0.0), station.spent / (now * station.servers))
    return done / now, used


def _round(costs: Costs, worker: int, body: float, is_one_machine: bool) -> Iterator[Step]:
    """Yield where one activity passes, and for how long."""
    main, pool = (f"main {worker}", f"pool {worker}")
    steps: list[Step] = [
        ("broker", costs.broker),
        (main, costs.main),
        (pool, costs.child / 2),
        ("database", costs.database / 2),
        (None, body),
        ("database", costs.database / 2),
        (None, costs.disk),
        (pool, costs.child / 2),
    ]
    if is_one_machine:
        steps = [("machine" if place else None, seconds) for place, seconds in steps]
        steps.append(("machine", costs.client))
    yield from steps


def check(costs: Costs, numbers: list[int]) -> None:
    """Run real workers here, and print what they get through beside what was predicted."""
    from .places import PLACES, worker

    with PLACES["redis-postgresql"].open():
        from .app import durable, sequence

        def get_through(orchestrations: int, steps: int = 5) -> float:
            began = time.perf_counter()
            for _ in range(orchestrations):
                durable.start(sequence.s(steps).set(ignore_result=True))
            while durable.count(status=[RuntimeStatus.PENDING, RuntimeStatus.RUNNING]):
                time.sleep(0.02)
            return orchestrations * steps / (time.perf_counter() - began)

        durable.migrate()
        cores = psutil.cpu_count() or 1
        for number in numbers:
            with ExitStack() as stack:
                for place in range(number):
                    stack.enter_context(worker("prefork", hostname=f"w{place}@%h"))
                get_through(200)
                real = median(get_through(600) for _ in range(3))
            guessed, _ = simulate(costs, number, 2, 0.0, {"machine": cores}, 20_000)
            print(
                f"{number} workers here: {real:.0f} activities/s, predicted {guessed:.0f}"
                f" ({guessed / real:.2f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling")
    parser.add_argument("costs", type=Path, help="the benchmark's JSON")
    parser.add_argument("--workload", default="200 x 5")
    parser.add_argument("--cores", type=int, default=16, help="of the store's machine")
    parser.add_argument("--slots", type=int, default=8, help="of each worker (-c)")
    parser.add_argument("--body", type=float, default=0.05, help="seconds that a body takes")
    parser.add_argument(
        "--check", type=int, nargs="+", help="so many real workers, on this machine"
    )
    options = parser.parse_args()
    costs = Costs.read(options.costs, options.workload)
    if options.check:
        leftovers.begin()
        check(costs, options.check)
        return
    stations = {"database": options.cores, "broker": 1}
    print(
        f"{options.slots} slots each, bodies of {options.body * 1e3:.0f} ms, a store of"
        f" {options.cores} cores, one broker"
    )
    for number in (1, 10, 100, 1000):
        rate, used = simulate(costs, number, options.slots, options.body, stations, 60_000)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in used.items())
        print(f"{number:5} workers {rate:9.0f} activities/s   in use: {shares}", flush=True)


if __name__ == "__main__":
    main()
