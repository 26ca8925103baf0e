"""PgBouncer that pools by transaction: the store's own contract holds through it, and so does
recovery.

``DURABLE_TEST_POSTGRES`` may name a bouncer for any other test too; here the contract runs in a
process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from tests.nodes import ROOT
from tests.tiers import is_long

from .report import Figures
from .scene import Scene, plays

MODULES = ["test_turns"]
LONG_MODULES = [
    "test_sessions",
    "test_outcomes",
    "test_liveness",
    "test_clients",
    "test_protocol",
    "test_first_turns",
    "test_inbox_machine",
    "test_migrations",
    "test_stress",
]


def contract(scene: Scene) -> dict:
    bouncer = scene.bouncer(scene.postgres)
    modules = [*MODULES, *(LONG_MODULES if is_long() else [])]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.chaos.unprepared",
        "-k",
        "postgres" if is_long() else "postgres and not long-way",
        f"--basetemp={scene.path() / 'pytest'}",
        *(f"tests/contract/{name}.py" for name in modules),
    ]
    environment = {**os.environ, "DURABLE_TEST_POSTGRES": bouncer.url(), "CI": "true"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return {
        "code": ended.returncode,
        "output": ended.stdout + ended.stderr,
        "transactions": bouncer.transactions(),
    }


@plays(contract)
def test_the_contract_of_the_store_holds_through_a_bouncer(outcome):
    assert outcome["code"] == 0, outcome["output"][-10_000:]
    passed = re.search(r"(\d+) passed", outcome["output"])
    assert passed is not None and int(passed[1]) >= 30, outcome["output"][-2000:]
    own = {
        name: count
        for name, count in outcome["transactions"].items()
        if name.startswith("durable_")
    }
    assert sum(own.values()) > 300, "the tests did not go through the bouncer"


def chaos_behind_a_bouncer(scene: Scene) -> Figures:
    """Few connections for many: two workers and a client share five."""
    bouncer = scene.bouncer(scene.postgres)
    name = scene.database(scene.postgres).rpartition("/")[2]
    cluster = scene.cluster(scene.redis, bouncer.url(name), pace=2)
    cluster.workers(2)

    def restart() -> None:
        bouncer.stop()
        time.sleep(cluster.dice.uniform(0, 1))
        bouncer.start()

    faults = {
        "PgBouncer killed and restarted": (1, restart),
        "SIGKILL of a worker": (1, cluster.kill_worker),
        "SIGKILL of a pool's child": (2, cluster.kill_child),
    }
    figures = cluster.storm(16, 5, faults)
    figures.facts["transactions"] = bouncer.transactions()[name]
    return figures


@plays(chaos_behind_a_bouncer)
def test_workers_that_die_behind_a_bouncer_and_a_bouncer_that_dies(outcome):
    assert outcome.recoveries["PgBouncer killed and restarted"]
    assert outcome.facts["transactions"] > 100
