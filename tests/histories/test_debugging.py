"""A debugger can stop at each event of what has been recorded, and shows the same there each time;
the store is left as it was.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.engine.debugger import Debugger
from celery_durable.engine.debugging import debug_document, debug_instance
from celery_durable.inspection.debugging import frames_view
from celery_durable.settings import Settings
from celery_durable.store import open_store
from celery_durable.store.schema import metadata
from tests.contract.world import World

from .__main__ import run_all
from .orchestrators import make_world

HISTORIES = sorted(Path(__file__).parent.glob("*/*.json"))


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    store = open_store(Settings(backend_url=sqlite_url))
    yield make_world(store)
    store.database.dispose()


def seen(debugger: Debugger) -> Any:
    return (
        debugger.position,
        frames_view(debugger, payloads=True),
        debugger.waits_for,
        debugger.ended_as,
        repr(debugger.error),
    )


def walked(debugger: Debugger) -> list[Any]:
    """Go through all of a history, and return what is seen at each event."""
    found = [seen(debugger)]
    while debugger.next():
        assert debugger.problem is None
        found.append(seen(debugger))
    assert [each[0] for each in found] == list(range(len(debugger.history) + 1))
    return found


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_event_can_be_stopped_at(world: World, path: Path) -> None:
    document = json.loads(path.read_text())
    with debug_document(world.runner, document) as debugger:
        forward = walked(debugger)
        assert any(frames for _, frames, *_ in forward)
        while debugger.back():
            assert seen(debugger) == forward[debugger.position]
        assert debugger.position == 0
        for number in random.Random(path.stem).sample(range(len(forward)), min(8, len(forward))):
            debugger.goto(number)
            assert seen(debugger) == forward[number]


def test_the_store_is_left_as_it_was(world: World) -> None:
    def rows() -> Any:
        with world.store.database.engine.connect() as connection:
            return {
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in metadata.sorted_tables
            }

    ids = run_all(world)
    before = rows(), len(world.publisher.activities), len(world.publisher.turns)
    for id_ in ids.values():
        with debug_instance(world.client, id_) as debugger:
            forward = walked(debugger)
            debugger.back(len(debugger.history) // 2 + 1)
            assert seen(debugger) == forward[debugger.position]
    assert (rows(), len(world.publisher.activities), len(world.publisher.turns)) == before
