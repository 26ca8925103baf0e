"""A worker is killed half-way and another one finishes: with every pool, on every store, over every
broker.
"""

from __future__ import annotations

import itertools
import time

import pytest

from tests.conftest import wait_until
from tests.tiers import is_long

from .cluster import Cluster
from .load import Job, mixed
from .matrix import (
    BROKERS,
    COMBINATIONS,
    DEFAULT,
    PAGE,
    POOLS,
    STORES,
    Combination,
    markdown,
    with_table,
)
from .report import Figures
from .scene import Scene, plays

WITHOUT_SERVERS = Combination("prefork", "SQLite", "embedded `durable://`")
QUORUM = {"task_default_queue_type": "quorum", "task_default_exchange_type": "topic"}


def tell(cluster: Cluster, jobs: list[Job]) -> None:
    for job in jobs:
        for number in job.events:
            cluster.tell(job, number)


def killed_half_way(scene: Scene, combination: Combination) -> Figures:
    store = {
        "PostgreSQL": lambda: scene.database(scene.postgres),
        "MariaDB": lambda: scene.database(scene.mariadb),
        "SQLite": scene.sqlite,
    }[combination.store]()
    options: dict = {}
    broker = "durable://"
    if combination.broker == "Redis":
        broker = scene.redis
    elif combination.broker.startswith("RabbitMQ"):
        broker = scene.rabbitmq
    elif combination.store != "SQLite":
        options["broker_options"] = {"path": str(scene.path() / "broker.db")}
    if "quorum" in combination.broker:
        options["more_conf"] = QUORUM
    cluster = scene.cluster(broker, store, pace=2, **options)
    concurrency = 1 if combination.pool == "solo" else 3
    first = cluster.worker("first", pool=combination.pool, concurrency=concurrency)
    jobs, late = (
        mixed(scene.seed, 8),
        [Job(f"later-{n}", "later", (n,), n * n, [0]) for n in range(3)],
    )
    activities = 20
    for job in [*late, *jobs]:
        cluster.start(job)
    tell(cluster, jobs)
    wait_until(
        lambda: len(cluster.starts()) >= activities or not first.is_running, 90, "half of the way"
    )
    cluster.end("first")
    left = cluster.count("SELECT COUNT(*) FROM durable_instances WHERE completed_at IS NULL")
    killed_at = time.monotonic()
    # which have waited for it: so it was half-way, however fast the first one was
    tell(cluster, late)
    cluster.worker("second", pool=combination.pool, concurrency=concurrency)
    cluster.wait_over()
    figures = cluster.check()
    figures.facts |= {"left": left, "seconds": time.monotonic() - killed_at}
    figures.facts["workers"] = {start.worker for start in cluster.starts()}
    return figures


def _marked(combination: Combination):
    return pytest.param(
        combination, marks=[pytest.mark.quick] if combination == WITHOUT_SERVERS else []
    )


@pytest.mark.parametrize(
    "combination", [_marked(one) for one in (COMBINATIONS if is_long() else DEFAULT)], ids=str
)
@plays(killed_half_way)
def test_another_worker_finishes_what_a_killed_one_began(outcome, combination):
    assert outcome.facts["left"] >= 3, "it was not half-way"
    assert outcome.facts["workers"] == {"first", "second"}


def test_the_default_form_tries_every_pair():
    assert (
        len(COMBINATIONS)
        == len(POOLS) * len(STORES) * len(BROKERS)
        == len(set(map(str, COMBINATIONS)))
    )
    for values in itertools.combinations(range(3), 2):
        every = {tuple(one[value] for value in values) for one in COMBINATIONS}
        if 2 in values:  # quorum queues differ from classic ones by what the broker does alone
            every = {pair for pair in every if BROKERS[-1] not in pair}
        assert {tuple(one[value] for value in values) for one in DEFAULT} >= every
    assert {one.broker for one in DEFAULT} == set(BROKERS)
    assert WITHOUT_SERVERS in DEFAULT


def test_the_table_tells_of_every_combination():
    rows = [line.strip("| ").split(" | ") for line in markdown().splitlines()]
    assert rows[0][2:] == [f"`{pool}`" for pool in POOLS]
    told = {
        Combination(pool, store, broker): cell == "every run"
        for store, broker, *cells in rows[2:]
        for pool, cell in zip(POOLS, cells, strict=True)
    }
    assert told == {one: one in DEFAULT for one in COMBINATIONS}


def test_the_page_on_guarantees_has_this_table():
    page = PAGE.read_text()
    assert with_table(page) == page, "python -m tests.chaos.matrix brings the page up to date"
