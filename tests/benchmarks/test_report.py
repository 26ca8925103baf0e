"""The benchmarks' own arithmetic; what they measure is not tested."""

from __future__ import annotations

import pytest

from tests.benchmarks.report import table
from tests.benchmarks.scaling import Costs, simulate

COSTS = Costs(main=0.001, child=0.002, database=0.0005, broker=0.0002, client=0.0004)


def form(seconds: float, cpu: float, messages: int) -> dict:
    roles = dict.fromkeys(("client", "main", "children", "database", "broker"), cpu / 5)
    return {"seconds": seconds, "cpu": cpu, "cpu_by_role": roles, "received": {"noop": messages}}


def test_the_table_has_times_for_one_unit_and_ratios_to_plain_celery() -> None:
    row = {"workload": "chain", "place": "redis-postgresql", "pool": "prefork", "size": 10}
    plain, durable = form(0.1, 0.05, 10), {**form(0.2, 0.15, 11), "p50": 0.5, "p95": 0.75}
    head, first, second = table([{**row, "plain": plain, "durable": durable}]).splitlines()
    assert head.split()[:3] == ["workload", "wall", "ms"]
    assert first.split()[3:5] == ["plain", "10.00"]
    cells = second.split()
    assert cells[:3] == ["durable", "20.00", "2.00"]
    assert cells[-5:] == ["15.00", "3.00", "1.10", "500.0", "750.0"]


@pytest.mark.parametrize("workers", [1, 10, 100])
def test_a_simulation_is_bounded_by_its_narrowest_place(workers: int) -> None:
    stations = {"database": 4, "broker": 1}
    rate, used = simulate(COSTS, workers, 2, 0.01, stations, 4_000)
    a_round = 0.01 + COSTS.main + COSTS.child + COSTS.database + COSTS.broker + COSTS.disk
    most = min(workers * 2 / a_round, 4 / COSTS.database, 1 / COSTS.broker)
    assert 0.8 * most <= rate <= 1.05 * most
    assert all(share <= 1.01 for share in used.values())
    assert (used["broker"] > 0.9) is (workers == 100)


def test_one_machine_does_everything() -> None:
    rate, used = simulate(COSTS, 4, 2, 0.0, {"machine": 2}, 4_000)
    everything = COSTS.main + COSTS.child + COSTS.database + COSTS.broker + COSTS.client
    assert rate == pytest.approx(2 / everything, rel=0.05)
    assert used["machine"] > 0.95
