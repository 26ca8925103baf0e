"""Databases and brokers stop, forget, cut connections, fall silent and misbehave under load; all ends as it must."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.nodes import OwnPostgres, OwnRedis

from .cluster import schedule
from .load import mixed
from .report import Figures
from .scene import IS_LONG, Scene, plays

LONGER = 6 if IS_LONG else 1


# -- the store --------------------------------------------------------------------------------------------------------


def postgres_that_stops(scene: Scene) -> Figures:
    postgres = scene.own_postgres()
    cluster = scene.cluster(scene.redis, postgres.url, pace=2)
    cluster.workers(2)

    def stop(mode: str) -> None:
        postgres.stop() if mode == "crash" else postgres.shut_down(mode)
        time.sleep(cluster.dice.uniform(0.2, 2))
        postgres.start()

    faults = schedule(random.Random(scene.seed), 8 * LONGER, {
        "fast shutdown of PostgreSQL": (LONGER, lambda: stop("fast")),
        "immediate shutdown of PostgreSQL": (LONGER, lambda: stop("immediate")),
        "crash of PostgreSQL": (LONGER, lambda: stop("crash")),
    })  # fmt: skip
    cluster.run(mixed(scene.seed, 24 * LONGER, 2), faults)
    return cluster.check()


@plays(postgres_that_stops)
def test_a_postgres_that_stops_in_every_way(outcome):
    assert sum(outcome.faults.values()) == 3 * LONGER
    assert outcome.recoveries["crash of PostgreSQL"]


# -- brokers ----------------------------------------------------------------------------------------------------------


def redis_that_forgets(scene: Scene) -> Figures:
    redis = scene.own_redis()
    cluster = scene.cluster(redis.url, scene.database(scene.postgres), pace=2)
    cluster.workers(2)

    def restart() -> None:
        redis.stop()
        time.sleep(cluster.dice.uniform(0, 1))
        redis.start()

    faults = schedule(random.Random(scene.seed), 6 * LONGER, {"Redis restarted empty": (2 * LONGER, restart)})
    cluster.run(mixed(scene.seed, 24 * LONGER, 2), faults)
    return cluster.check()


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

    faults = schedule(random.Random(scene.seed), 4 * LONGER, {"RabbitMQ killed and restarted": (LONGER, restart)})
    cluster.run(mixed(scene.seed, 24 * LONGER, 2), faults)
    return cluster.check()


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

    faults = schedule(random.Random(scene.seed), 8 * LONGER, {
        "connections cut": (3 * LONGER, cable.cut),
        "cable pulled": (LONGER, pull),
        "cable silent": (LONGER, silence),
    })  # fmt: skip
    cluster.run(mixed(scene.seed, 24 * LONGER, 2), faults)
    figures = cluster.check()
    figures.facts["cuts"] = cable.cuts
    return figures


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@plays(cut_cables)
def test_connections_to_the_broker_that_are_cut(outcome, broker):
    assert outcome.facts["cuts"] >= 8


def unruly_broker(scene: Scene) -> Figures:
    """Of every hundred messages: 8 lost, 15 doubled, 15 late by up to three seconds, 15 out of turn."""
    log = scene.path() / "unruly.log"
    shares = {"drops": 0.08, "doubles": 0.15, "delays": 0.15, "reorders": 0.15, "seed": scene.seed, "log": str(log)}
    url = scene.redis.replace("redis://", "unruly://")
    cluster = scene.cluster(url, scene.database(scene.postgres), broker_options={"unruly": shares})
    cluster.workers(2)
    # a message that is lost four times in a row is sent again after 5, 10, 20 and 40 seconds
    cluster.run(mixed(scene.seed, 32 * LONGER, 2), limit=240)
    figures = cluster.check(rows_within=180)
    figures.facts["fates"] = Counter(log.read_text().split())
    figures.faults.update({f"messages: {name}": count for name, count in figures.facts["fates"].items()})
    return figures


@plays(unruly_broker)
def test_a_broker_that_loses_doubles_delays_and_reorders(outcome):
    fates = outcome.facts["fates"]
    assert all(fates[name] >= 5 for name in ("drops", "doubles", "delays", "reorders")), fates


# -- everything -------------------------------------------------------------------------------------------------------


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

    faults = schedule(random.Random(scene.seed), 10 * LONGER, {
        "SIGKILL of a worker": (2 * LONGER, cluster.kill_worker),
        "SIGKILL of a pool's child": (3 * LONGER, cluster.kill_child),
        "warm shutdown and redeploy": (LONGER, cluster.redeploy),
        "crash of PostgreSQL": (LONGER, lambda: stop(postgres)),
        "Redis restarted empty": (LONGER, lambda: stop(redis)),
        "connections to PostgreSQL cut": (2 * LONGER, store.cut),
        "connections to Redis cut": (LONGER, broker.cut),
    })  # fmt: skip
    cluster.run(mixed(scene.seed, 32 * LONGER, 2), faults)
    return cluster.check()


@plays(storm)
def test_a_storm_of_everything(outcome):
    assert outcome.faults.total() == 11 * LONGER
    assert sum(map(len, outcome.recoveries.values())) >= 20
