"""The end of an orchestration does not depend on how its messages were batched into turns: two ways
in which it once did.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.registry import Definition, Registry
from celery_durable.engine.start import StartRequest
from tests.contract.world import sig

from .clock import SECOND, VirtualTime, virtual_time
from .cluster import Cluster, Trouble


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with virtual_time() as time:
        yield time


@pytest.fixture
def cluster(sqlite_template: Path, time: VirtualTime) -> Iterator[Cluster]:
    async def patient(ctx: Any) -> Any:
        try:
            return await ctx.wait_event("e", timeout=1)
        except TimeoutError:
            return "late"

    async def parent(ctx: Any) -> Any:
        return await ctx.call(sig("patient"))

    registry = Registry()
    for function in (patient, parent):
        registry.add(Definition(function.__name__, None, function))
    cluster = Cluster(sqlite_template, time, registry, [100, 100])
    yield cluster
    cluster.close()


@pytest.mark.parametrize("is_prompt", [True, False])
def test_an_event_after_the_deadline_is_late_however_late_the_worker_is(
    cluster: Cluster, time: VirtualTime, is_prompt: bool
) -> None:
    worker = cluster.processes[0]
    worker.start("patient")
    if is_prompt:
        worker.turn("i")
    time.advance(2 * SECOND)
    worker.raise_event("i", "e", "in time")
    while not worker.status().is_terminal:
        time.advance(SECOND)
        worker.turn("i")
    assert worker.output() == "late"


@pytest.mark.parametrize("gap", [1, 3, 5, 7, 9])
def test_a_replaced_life_leaves_no_child_that_a_turn_starts_meanwhile(
    cluster: Cluster, gap: int
) -> None:
    """The turn falls into every gap between two calls to the store."""
    client, worker = cluster.processes
    client.start("parent")
    start = StartRequest("parent", (), {}, instance_id="i", if_exists="replace")
    cluster.step(
        client,
        lambda: client.client.start(start),
        Trouble(gap, "meanwhile", lambda: worker.turn("i")),
    )
    for _ in range(3):
        for (id_,) in cluster.rows("SELECT id FROM durable_instances"):
            worker.turn(id_)
    execution = client.client.fetch("i").execution
    old = cluster.rows(
        f"SELECT id, status FROM durable_instances WHERE parent_execution <> '{execution}'"
    )
    assert [row for row in old if not RuntimeStatus(row[1]).is_terminal] == []
