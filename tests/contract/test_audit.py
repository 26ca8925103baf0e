"""The audit trail: what a verb changes and the entry of who did it are one commit, on each
database.
"""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable.app.session import CallersTransactions
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.audit import HIDDEN, AuditFilters, AuditRow, acting, actor
from celery_durable.engine.client import Client
from celery_durable.engine.completion_tokens import token_of
from celery_durable.engine.listing import Filters
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.start import StartRequest
from celery_durable.engine.verbs import VERBS
from celery_durable.errors import (
    DurableError,
    InstanceExists,
    InstanceNotFound,
    InvalidState,
    StoreError,
)
from celery_durable.store import Store
from celery_durable.store.database import Statement

from .builders import SECOND, rows
from .test_verbs import brought_to, make_world, verb_of
from .world import Interposed, World

TAKES_BOTH_WAYS = True
ACTS = {
    "raise_event": RuntimeStatus.RUNNING,
    "suspend": RuntimeStatus.RUNNING,
    "resume": RuntimeStatus.SUSPENDED,
    "cancel": RuntimeStatus.RUNNING,
    "terminate": RuntimeStatus.RUNNING,
    "rewind": RuntimeStatus.FAILED,
    "override": RuntimeStatus.RUNNING,
    "restart": RuntimeStatus.COMPLETED,
    "fork": RuntimeStatus.COMPLETED,
    "purge": RuntimeStatus.COMPLETED,
}


def trail(store: Store, **chosen: Any) -> list[AuditRow]:
    """Return all entries, oldest first."""
    found, cursor = store.audit.read(AuditFilters(**chosen), 1000, None)
    assert cursor is None
    return found[::-1]


def told(store: Store, **chosen: Any) -> list[tuple[str, str | None, str, str]]:
    return [(row.verb, row.target, row.actor or "-", row.effect) for row in trail(store, **chosen)]


# -- every verb ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_leaves_who_did_it(store: Store, verb: str) -> None:
    world = make_world(store)
    brought_to(world, ACTS[verb])
    with acting("ann", "cli"):
        verb_of(world, verb)()
    (entry,) = trail(store)
    assert (entry.verb, entry.target, entry.actor, entry.door) == (verb, "i", "ann", "cli")
    assert (entry.kind, entry.effect, entry.error) == ("orchestration", "done", None)
    assert abs(entry.at - store.now()) < 60 * SECOND
    world.pump()  # what follows from it is none of hers
    assert len(trail(store)) == 1


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_code_that_names_no_actor_leaves_nothing(store: Store, verb: str) -> None:
    world = make_world(store)
    brought_to(world, ACTS[verb])
    verb_of(world, verb)()
    assert trail(store) == []


@pytest.mark.parametrize(
    ("verb", "status"),
    [("resume", "COMPLETED"), ("rewind", "COMPLETED"), ("purge", "RUNNING"), ("fork", "PENDING")],
)
def test_what_is_refused_is_told_with_the_reason(store: Store, verb: str, status: str) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus(status))
    with acting("ann", "http"), pytest.raises(InvalidState) as caught:
        verb_of(world, verb)()
    (entry,) = trail(store)
    assert (entry.verb, entry.effect) == (verb, "refused")
    assert entry.error == f"InvalidState: {caught.value}"


@pytest.mark.parametrize(
    ("verb", "status"), [("suspend", "SUSPENDED"), ("cancel", "FAILED"), ("terminate", "CANCELED")]
)
def test_what_has_no_effect_is_told_so(store: Store, verb: str, status: str) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus(status))
    with acting(None, "flower"):
        verb_of(world, verb)()
    (entry,) = trail(store)
    assert (entry.verb, entry.actor, entry.effect) == (verb, None, "nothing")


def test_an_event_that_is_there_already_has_no_effect(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    with acting("ann", "http"):
        for _ in range(2):
            world.client.raise_event("i", "other", {"card": "4111"}, "mail-7")
    assert [entry.effect for entry in trail(store)] == ["done", "nothing"]
    assert '"event_id": "mail-7"' in (trail(store)[0].arguments or "")


def test_payloads_are_hidden_and_reasons_kept(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    with acting("ann", "admin"):
        world.client.raise_event("i", "other", {"card": "4111"}, None)
        world.client.terminate("i", "he\x00 left", {"card": "4111"}, recursive=False)
    first, second = trail(store)
    assert "4111" not in repr((first, second))
    assert first.arguments == f'{{"name": "other", "data": "{HIDDEN}"}}'
    assert second.arguments == f'{{"output": "{HIDDEN}", "recursive": false}}'
    assert second.reason == "he\N{REPLACEMENT CHARACTER} left"


def test_names_of_any_length_are_kept_as_far_as_they_fit(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    with acting("ä" * 500, "code"):
        world.client.suspend("i", None)
    (entry,) = trail(store)
    assert entry.actor == "ä" * 200


# -- starts and ends by hand -----------------------------------------------------------------------


def test_a_start_by_hand_is_told_once(store: Store) -> None:
    world = make_world(store)
    with acting("ann", "cli"):
        world.start("sale", 7, id_="i")
        world.start("sale", 7, id_="i")
        with pytest.raises(InstanceExists):
            world.start("sale", 7, id_="i", if_exists="raise")
        world.start("sale", 7, id_="i", if_exists="replace")
    assert [entry.effect for entry in trail(store)] == ["done", "nothing", "refused", "done"]
    assert trail(store)[0].arguments == f'{{"name": "sale", "input": "{HIDDEN}"}}'


def test_what_another_one_is_made_by_is_found_by_its_id(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.COMPLETED)
    with acting("ann", "cli"):
        world.client.restart("i", "again")
        other = world.client.fork("i", 1, None, "to try")
    assert [(row.verb, row.made) for row in trail(store, target="i")] == [
        ("restart", "again"),
        ("fork", other),
    ]
    assert told(store, target="again") == [("restart", "i", "ann", "done")]
    assert told(store, target=other) == [("fork", "i", "ann", "done")]


def test_a_completion_by_token_is_told_of_its_orchestration(store: Store) -> None:
    world = make_world(store)
    world.start("sale", 1)
    world.runner.run("i")  # whose first activity has not begun
    (row,) = rows(store, "outbox")
    ticket = ActivityAttemptId(row["execution"], row["command"], row["attempt"])
    token = token_of(store, ticket)
    with acting("carrier", "http"):
        assert world.client.complete(token, {"card": "4111"})
        assert not world.client.complete(token, {"card": "4111"})
    assert told(store) == [
        ("complete", "i", "carrier", "done"),
        ("complete", None, "carrier", "nothing"),
    ]


# -- deleting --------------------------------------------------------------------------------------


def test_the_trail_outlives_what_it_is_about_children_too(store: Store) -> None:
    world = World(store)

    @world.orchestrator
    async def parent(ctx: Any) -> None:
        await ctx.call({"task": "child", "args": [], "kwargs": {}, "options": {"task_id": "c"}})

    @world.orchestrator
    async def child(ctx: Any) -> None: ...

    world.start("parent", id_="p")
    world.pump()
    with acting("ann", "cli"):
        world.client.purge("p")
        world.client.purge("p")
    assert told(store) == [
        ("purge", "c", "ann", "done"),
        ("purge", "p", "ann", "done"),
        ("purge", "p", "ann", "nothing"),
    ]
    assert trail(store, target="c")[0].arguments == '{"parent": "p"}'


def test_old_entries_go_when_their_own_time_has_come(store: Store) -> None:
    world = World(store, retention={"AUDIT": 3600})
    brought_to(world_with_sale(world), RuntimeStatus.RUNNING)
    with acting("ann", "cli"):
        for number in range(3):
            world.client.raise_event("i", f"event{number}", None, None)
    old = Statement("UPDATE durable_audit SET at = at - :by WHERE arguments LIKE :name")
    store.database.change_one(old, by=3601 * SECOND, name='%event1"%')
    store.database.change_one(old, by=3599 * SECOND, name='%event2"%')
    recovery = world.recovery()
    recovery._is_idle = False
    recovery.tick(list, lambda _: None)
    recovery.tick(list, lambda _: None)
    assert [row.arguments for row in trail(store)] == ['{"name": "event2"}', '{"name": "event0"}']


def world_with_sale(world: World) -> World:
    @world.orchestrator
    async def sale(ctx: Any, amount: int) -> Any:
        return await ctx.wait_event("go")

    return world


# -- one commit ------------------------------------------------------------------------------------


class Lost(Exception):
    """The process dies here."""


def die() -> None:
    raise Lost


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("suspend", "commit"),
        ("terminate", "commit"),
        ("cancel", "put"),
        ("raise_event", "put"),
        ("fork", "insert_fork"),
        ("purge", "purge"),
    ],
)
def test_a_crash_leaves_both_or_neither(store: Store, verb: str, call: str, when: str) -> None:
    world = make_world(store)
    brought_to(world, ACTS[verb])
    before = world.status("i") if verb != "purge" else None
    dead = make_world(Interposed(store, call, **{when: die}))  # type: ignore[arg-type]
    with acting("ann", "cli"), pytest.raises(Lost):
        verb_of(dead, verb)()
    assert len(trail(store)) == (1 if when == "after" else 0)
    if when == "before" and before is not None:
        assert world.status("i") is before


def test_an_entry_that_cannot_be_written_undoes_the_verb(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    break_audit(store)
    with acting("ann", "cli"), pytest.raises(DurableError):
        world.client.suspend("i", None)
    with acting("ann", "cli"), pytest.raises(DurableError):
        world.start("sale", 1, id_="other")
    assert world.status("i") is RuntimeStatus.RUNNING
    assert store.reads.fetch("other") is None
    restore_audit(store)


def break_audit(store: Store) -> None:
    with store.database.cursor() as cursor:
        cursor.execute("ALTER TABLE durable_audit RENAME TO durable_audit_away")


def restore_audit(store: Store) -> None:
    with store.database.cursor() as cursor:
        cursor.execute("ALTER TABLE durable_audit_away RENAME TO durable_audit")


def test_a_refusal_that_cannot_be_noted_is_a_refusal_still(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.COMPLETED)

    def fail(*_: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(world.client.auditor.rows, "insert", fail)
    with acting("ann", "cli"), pytest.raises(InvalidState):
        world.client.resume("i", None)


def test_who_acts_does_not_reach_what_a_verb_sets_in_motion(store: Store) -> None:
    world = make_world(store)
    seen: list[Any] = []
    world.publisher.publish_turn = lambda *_, **__: seen.append(actor())  # type: ignore
    with acting("ann", "cli"):
        world.start("sale", 1)
        assert actor() is not None
    assert seen == [None]
    assert actor() is None


# -- in a transaction of the caller's --------------------------------------------------------------


@pytest.mark.parametrize("commits", [True, False])
def test_it_commits_with_the_callers_own_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    transactions = CallersTransactions(store)
    client = Client(store, world.registry, world.codec, world.publisher, world.runner, transactions)
    engine = sa.create_engine(store.database.url)
    with acting("ann", "code"), engine.connect() as connection:
        request = StartRequest("sale", (1,), {}, instance_id="new")
        client.start(request, connection)
        client.start(request, connection)
        client.raise_event("i", "other", None, "mail-7", connection)
        connection.commit() if commits else connection.rollback()
        with pytest.raises(InstanceNotFound):
            client.raise_event("none", "other", None, None, connection)
        connection.rollback()
    engine.dispose()
    expected = [
        ("start", "new", "ann", "done"),
        ("start", "new", "ann", "nothing"),
        ("raise_event", "i", "ann", "done"),
    ]
    assert told(store) == (expected if commits else [])


# -- reading ---------------------------------------------------------------------------------------


def test_pages_are_newest_first_and_whole(store: Store) -> None:
    world = make_world(store)
    brought_to(world, RuntimeStatus.RUNNING)
    for number in range(7):
        with acting("ann" if number % 2 else "bob", "cli" if number < 4 else "http"):
            world.client.raise_event("i", f"e{number}", None, None)
    found: list[AuditRow] = []
    cursor = None
    while True:
        page, cursor = store.audit.read(AuditFilters(target="i"), 3, cursor)
        found += page
        if cursor is None:
            break
    assert [row.arguments for row in found] == [f'{{"name": "e{n}"}}' for n in range(6, -1, -1)]
    assert len(trail(store, actor="ann")) == 3
    assert len(trail(store, actor="ann", door="http")) == 1
    assert len(trail(store, since=found[2].at, until=found[0].at)) == 2
    assert trail(store, target="j") == []
    for damaged in ("x", "W10=", "WzEsIDJd"):
        with pytest.raises(ValueError, match="not a cursor"):
            store.audit.read(AuditFilters(), 3, damaged)


# -- many ------------------------------------------------------------------------------------------


def test_what_is_done_to_many_leaves_an_entry_for_each(store: Store) -> None:
    world = make_world(store)
    world.start("sale", 1, id_="there")
    requests = [StartRequest("sale", [1], {}, instance_id=id_) for id_ in ("a", "there", "b")]
    with acting("ann", "cli"):
        world.client.start_many(requests)
    assert sorted(told(store)) == [("start", id_, "ann", "done") for id_ in "ab"]
    world.pump()
    with acting("ann", "cli"):
        for _ in range(2):
            world.client.raise_event_many(Filters(id_prefix="a"), "other", None, "once")
        world.client.set_tags("a", {"n": "1"}, ["m"])
        world.client.set_tags("a", {"n": "1"})
    assert told(store)[2:] == [
        ("raise_event", "a", "ann", "done"),
        ("raise_event", None, "ann", "nothing"),
        ("set_tags", "a", "ann", "done"),
        ("set_tags", "a", "ann", "nothing"),
    ]
    assert '"remove": ["m"]' in (trail(store)[4].arguments or "")
