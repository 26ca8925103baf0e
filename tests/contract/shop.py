"""A world to rewind: its activities fail as long as they are told to."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import sqlalchemy as sa

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.verify import Verifier, export_history
from celery_durable.store import Store
from celery_durable.store.schema import metadata

from .world import World


class Shop:
    """A world whose activities fail while they are told to."""

    def __init__(self, store: Store, cache_size: int = 100) -> None:
        self.world = World(store, cache_size=cache_size)
        self.broken: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.world.tasks.update(do=self.do, double=lambda n: 2 * n)

    def do(self, what: str) -> str:
        self.calls[what] += 1
        if what in self.broken:
            raise KeyError(what)
        return what

    def fail(self, id_: str = "i") -> None:
        self.world.pump_until(lambda: self.world.status(id_) is RuntimeStatus.FAILED, "the failure")

    def fail_at(self, broken: set[str], name: str, *args: Any) -> None:
        """Start an orchestration, and run it until it fails at what is broken."""
        self.broken = broken
        self.world.start(name, *args)
        self.fail()

    def repair_and_rewind(self, id_: str = "i", reason: str | None = None) -> None:
        self.broken = set()
        self.world.client.rewind(id_, reason)


def replays(world: World, id_: str = "i") -> int:
    """Replay what the store holds on the code that there is; return the number of events."""
    record = world.client.fetch(id_)
    verifier = Verifier(world.store, world.registry, world.runner)
    return verifier.replay(
        export_history(record, world.store.reads.events(id_)), checks_arguments=True
    )


def what_of(world: World, row: Any) -> str:
    return world.codec.decode(world.codec.decode(row.message)[0])[0][0]


def hurry(store: Store) -> None:
    """Let recovery look now at what it would look at later."""
    now = store.now()
    with store.database.engine.begin() as connection:
        for name in ("durable_inbox", "durable_outbox"):
            table = metadata.tables[name]
            connection.execute(sa.update(table).where(table.c.check_at > now).values(check_at=now))


def settled(world: World) -> bool:
    """Run what is there, recovery too, for a while."""
    recovery = world.recovery()
    end = time.monotonic() + 6
    while time.monotonic() < end and world.status() is RuntimeStatus.RUNNING:
        hurry(world.store)
        recovery.repair_wakes()
        world.pump()
        time.sleep(0.05)
    return world.status() is not RuntimeStatus.RUNNING
