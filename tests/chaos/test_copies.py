"""Many copies of one turn message at one time, as after an outage: copies are not crashes."""

from __future__ import annotations

from celery_durable.core.status import RuntimeStatus
from celery_durable.settings import Settings
from celery_durable.store import open_store
from tests.conftest import wait_until
from tests.contract.world import World

WORKERS = 5


def test_workers_that_take_the_same_turn_at_the_same_time_are_no_crashes(sqlite_url):
    """Each has looked and counted its try before the first of them commits; nobody has died."""
    store = open_store(Settings(backend_url=sqlite_url, resend_after=0.05))
    worlds = [World(store, resend_after=0.05) for _ in range(WORKERS)]
    for world in worlds:

        @world.orchestrator
        async def waiting(ctx):
            return await ctx.wait_event("go")

    first = worlds[0]
    first.start("waiting")
    first.publisher.forget()  # so that the message has to be sent again
    recovery = first.recovery()
    wait_until(lambda: recovery.repair_wakes() and first.publisher.turns, 30, "another message")
    for world, other in zip(worlds, worlds[1:], strict=False):
        world.interpose("commit", before=lambda other=other: other.runner.run("i"))
    first.runner.run("i")
    assert first.status() is RuntimeStatus.RUNNING, first.client.fetch("i").reason
    first.raise_event("i", "go", 1)
    first.pump_to_end()
    assert first.output() == 1
