"""Databases and brokers stop, forget, cut connections, fall silent and misbehave under load.

All ends as it must.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.conftest import PATIENCE
from tests.nodes import OwnPostgres, OwnRedis

from .report import Figures
from .scene import Scene, plays

# -- the store -------------------------------------------------------------------------------------


def postgres_that_stops(scene: Scene) -> Figures:
    postgres = scene.own_postgres()
    cluster = scene.cluster(scene.redis, postgres.url, pace=2)
    cluster.workers(2)

    def stop(mode: str) -> None:
        postgres.stop() if mode == "crash" else postgres.shut_down(mode)
        time.sleep(cluster.dice.uniform(0.2, 2))
        postgres.start()

    faults = {
        "fast shutdown of PostgreSQL": (1, lambda: stop("fast")),
        "immediate shutdown of PostgreSQL": (1, lambda: stop("immediate")),
        "crash of PostgreSQL": (1, lambda: stop("crash")),
    }
    return cluster.storm(16, 6, faults)


@plays(postgres_that_stops)
def test_a_postgres_that_stops_in_every_way(outcome):
    assert sum(outcome.faults.values()) == 3 * outcome.rounds
    assert outcome.recoveries["crash of PostgreSQL"]


# -- brokers ---------------------------------------------------------------------------------------


def redis_that_forgets(scene: Scene) -> Figures:
    redis = scene.own_redis()
    cluster = scene.cluster(redis.url, scene.database(scene.postgres), pace=2)
    cluster.workers(2)

    def restart() -> None:
        redis.stop()
        time.sleep(cluster.dice.uniform(0, 1))
        redis.start()

    faults = {"Redis restarted empty": (2, restart)}
    return cluster.storm(16, 5, faults)


@plays(redis_that_forgets)
def test_a_redis_that_restarts_empty_under_load(outcome):
    assert outcome.recoveries["Redis restarted empty"]


def rabbit_that_restarts(scene: Scene) -> Figures:
    rabbit = scene.own_rabbit()
    cluster = scene.cluster(rabbit.url, scene.database(scene.mariadb), pace=2)
    cluster.workers(2)

    def restart() -> None:
        rabbit.stop()
        rabbit.start()

    faults = {"RabbitMQ killed and restarted": (1, restart)}
    return cluster.storm(16, 4, faults)


@plays(rabbit_that_restarts)
def test_a_rabbitmq_that_restarts_under_load(outcome):
    assert outcome.recoveries["RabbitMQ killed and restarted"]


def cut_cables(scene: Scene, broker: str) -> Figures:
    cable = scene.cable(getattr(scene, broker))
    cluster = scene.cluster(cable.url, scene.database(scene.postgres), pace=2)
    cluster.workers(2)

    def pull() -> None:
        cable.pull()
        time.sleep(cluster.dice.uniform(0.2, 1.5))
        cable.plug()

    def silence() -> None:
        cable.silence()
        time.sleep(cluster.dice.uniform(0.5, 2))
        cable.speak()

    faults = {
        "connections cut": (3, cable.cut),
        "cable pulled": (1, pull),
        "cable silent": (1, silence),
    }
    figures = cluster.storm(16, 6, faults)
    figures.facts["cuts"] = cable.cuts
    return figures


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@plays(cut_cables)
def test_connections_to_the_broker_that_are_cut(outcome, broker):
    assert outcome.facts["cuts"] >= 8


def reckless_broker(scene: Scene) -> Figures:
    """Of every hundred messages: 8 lost, 15 doubled, 15 late by up to three seconds, 15 out of
    turn.
    """
    log = scene.path() / "reckless.log"
    shares = {
        "drops": 0.08,
        "doubles": 0.15,
        "delays": 0.15,
        "reorders": 0.15,
        "seed": scene.seed,
        "log": str(log),
    }
    url = scene.redis.replace("redis://", "reckless://")
    cluster = scene.cluster(
        url, scene.database(scene.postgres), broker_options={"reckless": shares}
    )
    cluster.workers(2)
    # a message that is lost four times in a row is sent again after 5, 10, 20 and 40 seconds
    figures = cluster.storm(32, limit=2 * PATIENCE)
    figures.facts["fates"] = Counter(log.read_text().split())
    figures.faults.update(
        {f"messages: {name}": count for name, count in figures.facts["fates"].items()}
    )
    return figures


@plays(reckless_broker)
def test_a_broker_that_loses_doubles_delays_and_reorders(outcome):
    fates = outcome.facts["fates"]
    assert all(fates[name] >= 5 for name in ("drops", "doubles", "delays", "reorders")), fates


# -- everything ------------------------------------------------------------------------------------


def storm(scene: Scene) -> Figures:
    """Processes, the store, the broker and the cables between them, all in one run."""
    redis, postgres = scene.own_redis(), scene.own_postgres()
    broker, store = scene.cable(redis.url), scene.cable(postgres.url)
    cluster = scene.cluster(broker.url, store.url, pace=2)
    cluster.workers(3)

    def stop(server: OwnRedis | OwnPostgres) -> None:
        server.stop()
        time.sleep(cluster.dice.uniform(0.2, 1))
        server.start()

    faults = {
        "SIGKILL of a worker": (2, cluster.kill_worker),
        "SIGKILL of a pool's child": (3, cluster.kill_child),
        "warm shutdown and redeploy": (1, cluster.redeploy),
        "crash of PostgreSQL": (1, lambda: stop(postgres)),
        "Redis restarted empty": (1, lambda: stop(redis)),
        "connections to PostgreSQL cut": (2, store.cut),
        "connections to Redis cut": (1, broker.cut),
    }
    return cluster.storm(24, 8, faults)


@plays(storm)
def test_a_storm_of_everything(outcome):
    assert outcome.faults.total() == 11 * outcome.rounds
    assert sum(map(len, outcome.recoveries.values())) >= 20
