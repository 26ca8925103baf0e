"""Record the histories of this release: ``python -m tests.histories`` writes
``tests/histories/<release>/*.json``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from celery_durable import __version__
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.asking import ask
from celery_durable.engine.at_most_once import RunMark
from celery_durable.engine.completion_tokens import token_of
from celery_durable.engine.records import Deferral
from celery_durable.engine.start import StartRequest
from celery_durable.engine.verify import export_history
from celery_durable.settings import Settings
from celery_durable.store import open_store
from tests.conftest import wait_until
from tests.contract.world import World

from .orchestrators import make_world

HERE = Path(__file__).parent


def _complete(world: World, instance: str, value: int | None) -> None:
    """Let the body of an activity defer, and complete it by its token; it fails with None."""
    rows = world.publisher.activities
    own: Any = lambda: [row for row in rows if row.instance == instance]
    wait_until(lambda: world.runner.run(instance) and own(), 30, "an attempt")
    (row,) = own()
    rows.remove(row)
    assert world.store.outcomes.defer(Deferral(row.ticket, ran=1500)) is not None
    world.runner.run(instance)
    token = token_of(world.store, row.ticket)
    if value is None:
        assert world.client.fail(token, "not yet")
    else:
        assert world.client.complete(token, value)
    world.runner.run(instance)


def run_all(world: World) -> dict[str, str]:
    """Run the orchestrators so that every kind of event is recorded.

    Return the instances by the name of their files.
    """
    is_ = lambda id_, status: lambda: world.status(id_) is status
    world.client.start(StartRequest("order", (["a", "b"],), {"limit": 10}, instance_id="order"))
    world.start("generator", 1, id_="generator")
    world.start("cashier", id_="cashier")
    world.start("typed", id_="typed")
    world.raise_event("typed", "due", 60)
    world.raise_event("typed", "due", "never")
    world.start("clerk", id_="clerk")
    for name, data in (("move", "Rome"), ("move", "nowhere"), ("due", "never")):
        ask(world.client, "clerk", name, data, None)
    world.start("waiter", id_="canceled")
    world.start("waiter", id_="terminated")
    world.start("waiter", id_="running")
    world.start("exhausted", id_="exhausted")
    world.start("abandons", id_="abandons")
    world.runner.run("abandons")
    (begun,) = [
        row
        for row in world.publisher.activities
        if row.name == "never" and row.instance == "abandons"
    ]
    world.store.attempts.begin_once(begun.ticket, None, 0, RunMark.new(0))
    world.publisher.activities.remove(begun)
    world.start("encodes", id_="encodes")
    for value in (1, None, 2):
        _complete(world, "encodes", value)
    world.start("parent", id_="parent")
    world.pump_until(is_("parent", RuntimeStatus.FAILED))
    world.pump_until(is_("exhausted", RuntimeStatus.SUSPENDED))
    world.pump_until(is_("abandons", RuntimeStatus.FAILED))
    world.client.resume("exhausted", "mended")
    world.client.cancel("canceled", "enough")
    world.client.terminate("terminated", "enough", None)
    world.client.rewind("parent", "mended")
    child = next(
        record.id for record in world.client.children("generator") if record.name == "order"
    )
    for id_ in ("order", child):
        world.raise_event(id_, "approved", {"by": "ada"})
    world.pump_to_end(
        "order", "generator", "cashier", "typed", "clerk", "canceled", "exhausted", "parent"
    )
    world.client.fork("running", 1, "fork", "what if")
    world.raise_event("fork", "go", 1)
    world.pump_to_end("fork")
    names = (
        "order",
        "generator",
        "cashier",
        "typed",
        "clerk",
        "canceled",
        "terminated",
        "running",
        "exhausted",
        "parent",
        "fork",
        "abandons",
        "encodes",
    )
    trip = next(record.id for record in world.client.children("parent") if record.name == "trip")
    return {name: name for name in names} | {"trip": trip}


def main() -> None:
    """Write the histories of this release."""
    folder = HERE / __version__
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(open_store(Settings(backend_url=f"sqlite:///{temporary}/store.db")))
        for name, id_ in run_all(world).items():
            record = world.client.fetch(id_)
            document = export_history(record, world.store.reads.events(id_)).replace(
                f"{HERE.parents[1]}/", ""
            )
            (folder / f"{name}.json").write_text(document + "\n")
    print(f"{len(list(folder.glob('*.json')))} histories in {folder.relative_to(Path.cwd())}")  # noqa: T201


if __name__ == "__main__":
    main()
