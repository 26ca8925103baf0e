"""Every history that a release has recorded replays on this code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_durable import __version__
from celery_durable.core.history import EventKind
from celery_durable.engine.verify import Verifier
from celery_durable.errors import NonDeterminismError
from celery_durable.settings import Settings
from celery_durable.store import open_store
from tests.contract.world import World, sig

from .__main__ import run_all
from .orchestrators import make_world

HERE = Path(__file__).parent
HISTORIES = sorted(HERE.glob("*/*.json"))
#: deleted with the life that it ends, so no history of one can be kept
NEVER_KEPT = {EventKind.CONTINUED_AS_NEW}


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    store = open_store(Settings(backend_url=sqlite_url))
    yield make_world(store)
    store.database.dispose()


def verifier(world: World) -> Verifier:
    return Verifier(world.store, world.registry, world.runner)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_replays(world: World, path: Path) -> None:
    document = json.loads(path.read_text())
    assert verifier(world).replay(document, checks_arguments=True) >= 1


def test_this_release_has_recorded_every_kind_of_event() -> None:
    files = [path for path in HISTORIES if path.parent.name == __version__]
    found = {
        event[0]
        for path in files
        for row in json.loads(path.read_text())["history"]
        for event in row
    }
    missing = set(EventKind) - found - NEVER_KEPT
    assert not missing, f"python -m tests.histories should record {sorted(missing)}"


def test_what_would_be_recorded_now_is_of_the_same_kinds(world: World) -> None:
    """The recipe still works, and a history of now is one of the recorded release in kind and order
    of commands.
    """
    for name, id_ in run_all(world).items():
        document = json.loads((HERE / __version__ / f"{name}.json").read_text())
        recorded = [(event[0], *event[2:3]) for row in document["history"] for event in row]
        now = [(str(event.kind), event.command) for event in world.client.history(id_)]
        assert sorted({kind for kind, *_ in recorded}) == sorted({kind for kind, *_ in now}), name


def test_a_change_of_an_orchestrator_is_found(world: World) -> None:
    async def waiter(ctx: Any) -> None:
        await ctx.call(sig("reserve", "something"))

    world.orchestrator(waiter)
    with pytest.raises(NonDeterminismError):
        verifier(world).replay((HERE / __version__ / "running.json").read_text())
