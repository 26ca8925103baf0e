"""Tags that change: by a turn, by others at the same time, and on each database."""

from __future__ import annotations

import asyncio
from typing import Any

from celery_durable.engine.listing import Filters
from celery_durable.store import Store

from .builders import at_once, begin, commit, new_instance
from .test_start_many import statements  # noqa: F401  a fixture
from .world import World, sig


def tags(store: Store, id_: str = "i") -> dict[str, str]:
    record = store.reads.fetch(id_)
    assert record is not None
    return record.tags or {}


def ids(store: Store, **wanted: str) -> list[str]:
    found, _ = store.reads.find(Filters(tags=tuple(wanted.items())), 10, None)
    return sorted(record.id for record in found)


def test_a_turn_changes_what_it_names(store: Store) -> None:
    store.starts.insert(new_instance(tags={"a": "1", "b": "2"}))
    begin(store, "other")
    commit(store, tag_changes={"a": None, "c": "3", "none": None})
    assert tags(store) == {"b": "2", "c": "3"}
    assert ids(store, c="3") == ["i"] and ids(store, a="1") == []
    commit(store, tag_changes={"b": None, "c": None})
    assert tags(store) == {} and ids(store, c="3") == []


def test_two_from_outside_lose_nothing(runner: World) -> None:
    runner.store.starts.insert(new_instance())
    calls = [
        lambda n=n: [runner.client.set_tags("i", {f"{n}{k}": "x"}) for k in range(5)]
        for n in range(3)
    ]
    at_once(calls)
    assert tags(runner.store) == {f"{n}{k}": "x" for n in range(3) for k in range(5)}


def test_what_sets_none_has_no_statement_more(
    runner: World,
    statements: list[str],  # noqa: F811
) -> None:
    runner.tasks["do"] = lambda: None

    @runner.orchestrator
    async def steps(ctx: Any, sets: bool) -> None:
        for number in range(3):
            if sets:
                ctx.set_tags({"n": str(number)})
            await asyncio.gather(*(ctx.call(sig("do")) for _ in range(2)))

    runner.start("steps", False)
    runner.pump()
    assert not [sql for sql in statements if "SELECT tags" in sql or "SET tags" in sql]
    runner.start("steps", True, id_="sets")
    runner.pump()
    assert sum("SELECT tags" in sql for sql in statements) == 3
    assert tags(runner.store, "sets") == {"n": "2"}
