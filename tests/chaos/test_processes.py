"""Workers and their pool processes die, shut down, freeze and have wrong clocks.

Every orchestration ends as it must.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import wait_until
from tests.tiers import is_long

from .chaosapp import next_of, true_time
from .load import Job, mixed
from .report import Figures
from .scene import Scene, plays

SKEWED = Path(__file__).parent / "skewed"

# -- death -----------------------------------------------------------------------------------------


def processes_that_die(scene: Scene) -> Figures:
    cluster = scene.cluster(scene.redis, scene.database(scene.postgres), pace=3)
    cluster.workers(3)
    faults = {
        "SIGKILL of a pool's child": (5, cluster.kill_child),
        "SIGKILL of a worker": (2, cluster.kill_worker),
        "warm shutdown and redeploy": (1, cluster.redeploy),
    }
    return cluster.storm(16, 7, faults)


@plays(processes_that_die)
def test_processes_that_are_killed_at_random(outcome):
    assert outcome.faults["SIGKILL of a worker"] >= 2
    if is_long():  # in a short storm on a slow machine each may hit a moment of rest
        assert outcome.doubles or any(outcome.recoveries.values()), "no fault has hit anything"


def children_of_one_task(scene: Scene) -> Figures:
    store = scene.database(scene.postgres)
    cluster = scene.cluster(scene.redis, store, pace=2)
    cluster.workers(2, options=["--max-tasks-per-child=1"])
    engine = sa.create_engine(store, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)

    def end_connections() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                " current_database() AND pid <> pg_backend_pid()"
            )

    faults = {
        "all connections to PostgreSQL ended": (4, end_connections),
        "SIGKILL of a worker": (1, cluster.kill_worker),
    }
    figures = cluster.storm(16, 9, faults)
    figures.facts["messages for each activity"] = cluster.messages()
    return figures


@pytest.mark.long  # without faults: tests/integration/test_no_copies.py
@plays(children_of_one_task)
def test_children_that_end_after_each_task_get_no_copies(outcome):
    assert outcome.faults["all connections to PostgreSQL ended"] >= 4
    assert outcome.facts["messages for each activity"] <= 1.1


def death_with_the_default_settings(scene: Scene) -> Figures:
    cluster = scene.cluster(scene.redis, scene.database(scene.postgres), conf={})
    cluster.workers(2)
    cluster.start(Job("held", "held", (["one", "two", "three"],), ["one", "two", "three"]))
    wait_until(
        lambda: len({start.worker for start in cluster.starts()}) == 2, 60, "a start on each worker"
    )
    wait_until(
        lambda: cluster.held() == 3,
        60,
        "the store's knowledge of who has them: their messages are gone now",
    )
    victim = cluster.starts()[0].worker
    lost = {start.task_id for start in cluster.starts() if start.worker == victim}
    killed_at = true_time()
    cluster.end(victim)
    cluster.release("one")
    cluster.release("two")
    cluster.release("three")

    def again() -> set[str]:
        return {start.task_id for start in cluster.starts() if start.at > killed_at} & lost

    wait_until(lambda: again() == lost, 90, "another run of what was in hand")
    cluster.run([])
    figures = cluster.check()
    figures.facts["again after"] = max(
        start.at - killed_at for start in cluster.starts() if start.task_id in lost
    )
    return figures


@plays(death_with_the_default_settings)
def test_activities_in_hand_of_a_killed_worker_run_again(outcome):
    """Nothing is set but the URLs.

    After how long follows from the lease, which the store's contract tests.
    """
    assert outcome.facts["again after"] > 0


# -- frozen ----------------------------------------------------------------------------------------


def frozen_in_activities(scene: Scene) -> Figures:
    """All that a worker has in hand is run by another one, and the frozen one wakes when all is
    over.
    """
    cluster = scene.cluster(scene.redis, scene.database(scene.postgres))
    frozen = cluster.worker("frozen")
    cluster.start(Job("alone", "held", (["one"],), ["one"]))
    cluster.start(Job("several", "held", (["one", "two"],), ["one", "two"]))
    wait_until(lambda: cluster.held() == len(cluster.starts()) == 2, 60, "two activities that run")
    frozen.freeze()
    cluster.worker("other", concurrency=4)
    cluster.release("one")
    cluster.release("two")
    cluster.wait_over()
    ended = cluster.all_histories()
    runs = len(cluster.starts())
    frozen.thaw()
    wait_until(
        lambda: frozen.text().count("came too late and is dropped") == 2,
        60,
        "two outcomes that are dropped",
    )
    cluster.end("other")
    # the one that slept is a good worker still
    cluster.run(mixed(scene.seed, 4))
    figures = cluster.check()
    histories = cluster.all_histories()
    figures.facts["changed"] = [id_ for id_, events in ended.items() if histories[id_] != events]
    figures.facts["late runs"] = [
        start
        for start in cluster.starts()[runs:]
        if start.instance in ended and start.worker == "frozen"
    ]
    return figures


@plays(frozen_in_activities)
def test_a_frozen_worker_that_wakes_too_late_changes_nothing(outcome):
    assert outcome.facts["changed"] == []
    assert outcome.facts["late runs"] == []
    assert outcome.doubles == 2, "what another worker took over ran there once"


def frozen_in_a_turn(scene: Scene) -> Figures:
    cluster = scene.cluster(scene.redis, scene.database(scene.postgres))
    frozen = cluster.worker("frozen", concurrency=1)
    cluster.start(Job("turn", "held_in_turn", ("key",), next_of(1, 2)))
    wait_until(lambda: (cluster.directory / "markers" / "key-began").exists(), 60, "the turn")
    frozen.freeze()
    cluster.worker("other")
    cluster.wait_over()
    ended = cluster.all_histories()
    cluster.release("key")
    frozen.thaw()
    cluster.end("other")
    cluster.run(mixed(scene.seed, 4))
    figures = cluster.check()
    figures.facts["changed"] = cluster.all_histories()["turn"] != ended["turn"]
    return figures


@plays(frozen_in_a_turn)
def test_a_worker_that_freezes_in_a_turn_holds_no_one_up(outcome):
    assert outcome.facts["changed"] is False


# -- wrong clocks ----------------------------------------------------------------------------------


def wrong_clocks(scene: Scene) -> Figures:
    cluster = scene.cluster(scene.redis, scene.database(scene.postgres))
    for name, offset in (("fast", 420), ("slow", -300), ("right", 0)):
        skew = (
            {"environment": {"CHAOS_CLOCK_OFFSET": str(offset)}, "paths": [str(SKEWED)]}
            if offset
            else {}
        )
        cluster.worker(name, waits=False, **skew)
    for slot in cluster.running():
        slot.process.wait_ready(120)
    began = time.time_ns() // 1000
    kinds = ("timed", "timed", "chained", "stubborn", "told")
    figures = cluster.storm(
        24, 4, {"SIGKILL of a worker": (1, cluster.kill_worker)}, size=1, kinds=kinds
    )
    ended = time.time_ns() // 1000
    histories = cluster.all_histories()
    times = {id_: [event.at for event in events] for id_, events in histories.items()}
    figures.facts["outside"] = [
        id_ for id_, found in times.items() if not began <= min(found) <= max(found) <= ended
    ]
    figures.facts["backwards"] = [id_ for id_, found in times.items() if found != sorted(found)]
    figures.facts["lateness"] = cluster.lateness_of_timers()
    figures.facts["workers"] = {start.worker for start in cluster.starts()}
    return figures


@plays(wrong_clocks)
def test_only_the_clock_of_the_store_counts(outcome):
    """One worker is seven minutes fast, one is five minutes slow; a third is right."""
    assert outcome.facts["workers"] == {"fast", "slow", "right"}
    assert outcome.facts["outside"] == []
    assert outcome.facts["backwards"] == []
    lateness = outcome.facts["lateness"]
    assert len(lateness) >= 20
    assert lateness[0] >= 0, "a timer fired early"
    assert lateness[-1] < 240, "a timer waited for a wrong clock"
