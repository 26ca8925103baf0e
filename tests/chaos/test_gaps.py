"""A store that is away for seconds, and what a worker has in hand meanwhile: nothing is left to a
worker that lost it.
"""

from __future__ import annotations

import os
import signal
import time

from tests.conftest import wait_until

from .load import Job, chain_of
from .report import Figures
from .scene import Scene, plays


def begun_in_a_gap(scene: Scene) -> Figures:
    """Activities begin while the store is away: their worker can say that it has them before they
    can look.
    """
    cable = scene.cable(scene.database(scene.postgres))
    cluster = scene.cluster(scene.redis, cable.url)
    process = cluster.worker(concurrency=6)
    process.freeze()
    for n in range(6):
        job = Job(f"chained-{n}", "chained", (1, n), chain_of(1, n))
        cluster.start(job)
        cluster.durable.runtime.runner.run(job.id)  # the activities wait in the queue now
    cable.pull()
    process.thaw()
    wait_until(
        lambda: process.text().count("trying again in 1.0 s") >= 6,
        60,
        "six activities that wait patiently",
    )
    cable.plug()
    cluster.wait_over()
    return cluster.check()


@plays(begun_in_a_gap)
def test_activities_that_begin_while_the_store_is_away(outcome):
    assert outcome.activities == 6


def child_lost_in_a_gap(scene: Scene) -> Figures:
    """A pool's child is killed while nobody can record that."""
    cable = scene.cable(scene.database(scene.postgres))
    cluster = scene.cluster(scene.redis, cable.url)
    process = cluster.worker(concurrency=1)
    cluster.start(Job("held", "held", (["key"],), ["key"]))
    # the body begins a moment after the activity is in hand
    wait_until(lambda: cluster.held() == 1 and cluster.starts(), 60, "the activity in hand")
    cable.pull()
    os.kill(cluster.starts()[0].pid, signal.SIGKILL)
    wait_until(lambda: "WorkerLostError" in process.text(), 60, "the worker's word")
    time.sleep(1)
    cable.plug()
    cluster.release("key")
    cluster.wait_over()
    return cluster.check()


@plays(child_lost_in_a_gap)
def test_a_pool_process_that_is_lost_while_the_store_is_away(outcome):
    assert outcome.doubles == 1
