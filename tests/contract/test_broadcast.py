"""One event for all that match filters: a commit for each batch, and each receiver once."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from celery_durable.app.session import CallersTransactions
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine import bulk
from celery_durable.engine.broadcast import raise_event_many
from celery_durable.engine.listing import Filters
from celery_durable.engine.verbs.events import RAISE_EVENT
from celery_durable.errors import InvalidState, StoreError
from celery_durable.store import Store

from .builders import at_once, rows
from .test_start_many import requests, statements  # noqa: F401  a fixture
from .world import World

LIVE = Filters(statuses=RAISE_EVENT.acts_in)


@pytest.fixture
def world(runner: World) -> World:
    @runner.orchestrator
    async def hears(ctx: Any, what: str) -> list[Any]:
        heard = []
        while "end" not in heard:
            heard.append(await ctx.wait_event("news"))
        return heard

    return runner


def started(world: World, *ids: str, **options: Any) -> None:
    world.client.start_many(requests(*ids, name="hears", **options))
    world.pump()


def events(store: Store) -> list[str]:
    return sorted(row["instance"] for row in rows(store, "inbox") if row["kind"] == "EventRaised")


def test_all_that_match_hear_it_once(world: World) -> None:
    started(world, "a", "b", tags={"shop": "1"})
    started(world, "c")
    for _ in range(2):
        done = raise_event_many(
            world.client, Filters(LIVE.statuses, tags=(("shop", "1"),)), "news", 1, "first"
        )
        assert (done.matched, done.done, done.refused) == (2, 2, {})
        assert events(world.store) == ["a", "b"]
    world.pump()
    raise_event_many(world.client, LIVE, "news", 1, "first")  # "a" and "b" have taken it before
    world.pump()
    raise_event_many(world.client, LIVE, "news", "end")
    world.pump()
    assert [world.output(id_) for id_ in "abc"] == [[1, "end"]] * 3


def test_a_batch_is_a_commit_of_a_few_statements(
    world: World,
    statements: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_BATCH", 100)
    world.client.start_many(requests(*map(str, range(300)), name="hears"))
    statements.clear()
    done = raise_event_many(world.client, LIVE, "news", "x" * 100)
    assert done.done == 300 and len(events(world.store)) == 300
    assert sum("INTO durable_inbox" in sql for sql in statements) == 3
    assert len(statements) <= 3 * 5 + 6, statements


def test_a_broadcast_that_broke_off_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_BATCH", 2)
    started(world, *"abcde")

    def dies() -> None:
        raise StoreError("the process dies here")

    world.interpose("put_to_all", after=dies)
    world.client.store, plain = world.runner.store, world.client.store
    with pytest.raises(StoreError):
        raise_event_many(world.client, LIVE, "news", 1, "once")
    world.client.store = plain
    assert len(events(world.store)) == 2
    assert raise_event_many(world.client, LIVE, "news", 1, "once").done == 5
    assert events(world.store) == list("abcde")
    world.pump()
    raise_event_many(world.client, LIVE, "news", "end")
    world.pump()
    assert [world.output(id_) for id_ in "abcde"] == [[1, "end"]] * 5


def test_turns_that_were_not_sent_are_found_by_recovery(world: World) -> None:
    started(world, "a", "b")
    world.publisher.is_broken = True
    raise_event_many(world.client, LIVE, "news", "end")
    checks = [row["check_at"] for row in rows(world.store, "inbox") if row["name"] == "news"]
    assert len(checks) == 2 and all(checks)


def test_what_ended_meanwhile_is_told(world: World) -> None:
    started(world, "a", "b")
    pages = world.store.reads.find

    def find(*args: Any, **options: Any) -> Any:
        found = pages(*args, **options)
        world.client.terminate("a", None, None)
        return found

    world.store.reads.find = find  # type: ignore[method-assign]
    done = raise_event_many(world.client, LIVE, "news", "end")
    assert (done.matched, done.done) == (2, 1) and isinstance(done.refused["a"], InvalidState)
    world.pump()
    assert world.status("b") is RuntimeStatus.COMPLETED


def test_two_broadcasts_of_one_id_at_once(world: World) -> None:
    ids = [str(n) for n in range(120)]
    world.client.start_many(requests(*ids, name="hears"))

    def put() -> Any:
        return raise_event_many(world.client, LIVE, "news", 1, "same").done

    assert at_once([put, put]) == [120, 120]
    assert events(world.store) == sorted(ids)


def test_limits_and_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_BATCH", 2)
    started(world, *"abcde")
    done = raise_event_many(world.client, LIVE, "news", 1, limit=3)
    assert (done.matched, done.done) == (5, 3) and events(world.store) == ["c", "d", "e"]


def test_it_is_part_of_the_callers_transaction(world: World) -> None:
    world.client.transactions = CallersTransactions(world.store)
    started(world, "a", "b")
    engine = sa.create_engine(world.store.database.url)
    for ends in (Session.rollback, Session.commit):
        with Session(engine) as session:
            assert raise_event_many(world.client, LIVE, "news", "end", session=session).done == 2
            assert events(world.store) == [] and not world.publisher.turns
            ends(session)
    engine.dispose()
    assert events(world.store) == ["a", "b"] and len(world.publisher.turns) == 2
    world.pump()
    assert world.output("b") == ["end"]
