"""The archive: nothing is deleted that it has not taken, and what it refuses stays and is tried
again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from celery_durable.core.limits import read_retention
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.archive import key_of
from celery_durable.engine.client import Client
from celery_durable.errors import InstanceNotFound, InvalidState
from celery_durable.store import Store
from celery_durable.store.database import Statement

from .builders import everything, rows
from .test_retention import make_due
from .world import Interposed, World, sig

TAKES_BOTH_WAYS = True


class Shelf:
    """An archive that can be out of order."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.is_broken = False
        self.then: Callable[[], object] = lambda: None

    def __call__(self, document: str, key: str) -> None:
        if self.is_broken:
            raise OSError("the shelf is full")
        self.taken.append((key, json.loads(document)))
        self.then()

    @property
    def ids(self) -> list[str]:
        return [document["instance_id"] for _, document in self.taken]


class Archived(World):
    """A world with a shelf."""

    def __init__(self, store: Any, shelf: Shelf, **settings: Any) -> None:
        super().__init__(store, retention=60, archive=shelf, **settings)
        self.shelf = shelf
        self.client = Client(
            store, self.registry, self.codec, self.publisher, self.runner, archive=shelf
        )

        @self.orchestrator
        async def sale(ctx: Any, answer: Any = "done") -> Any:
            if answer == "fail":
                raise ValueError("as asked")
            return answer

        async def parent(ctx: Any, child: str) -> Any:
            return await ctx.call(sig("sale", task_id=child))

        self.orchestrator(parent, retention=read_retention({"COMPLETED": 60}))

    def done(self, *ids: str, answer: Any = "done", is_due: bool = True) -> None:
        for id_ in ids:
            self.start("sale", answer, id_=id_)
        self.pump()
        if is_due:
            make_due(self.store, *ids)

    def archive(self) -> None:
        assert self.client.archiver is not None
        while self.client.archiver.run(2):
            pass

    def left(self) -> set[str]:
        return {row["id"] for row in rows(self.store, "instances")}


@pytest.fixture
def world(store: Store) -> Archived:
    return Archived(store, Shelf())


def failures(store: Store) -> list[dict[str, Any]]:
    return rows(store, "archiving")


def let_pass(store: Store, id_: str) -> None:
    store.database.change_one(
        Statement("UPDATE durable_instances SET purge_at = 1 WHERE id = :id"), id=id_
    )


def test_what_is_due_is_archived_whole_then_deleted(world: Archived) -> None:
    world.done("a", "b", "c", answer={"n": 1})
    world.done("later", is_due=False)
    record = world.client.fetch("a")
    world.archive()
    assert sorted(world.shelf.ids) == ["a", "b", "c"]
    assert world.left() == {"later"}
    key, document = next(each for each in world.shelf.taken if each[1]["instance_id"] == "a")
    assert key == key_of(record) == f"a@{record.execution}.{record.sequence}"
    assert (document["status"], json.loads(document["output"])) == ("COMPLETED", {"n": 1})
    assert document["history"] and document["completed_at"].endswith("+00:00")
    assert {table for table, found in everything(world.store).items() if found} <= {
        "instances", "history", "meta", "alembic_version"
    }  # fmt: skip


def test_recovery_leaves_what_is_due_to_the_archive(world: Archived) -> None:
    world.done("a")
    woken: list[int] = []
    recovery = world.recovery()
    recovery.wake_archive = lambda: woken.append(1)
    recovery.tick(list, lambda _: None)
    recovery.tick(list, lambda _: None)
    assert (world.left(), len(woken)) == ({"a"}, 1)


def test_without_the_thread_recovery_deletes_nothing_unarchived(world: Archived) -> None:
    world.done("a")
    world.recovery().tick(list, lambda _: None)
    assert world.left() == {"a"}


def test_what_is_refused_stays_and_is_tried_again_later_and_later(world: Archived) -> None:
    world.done("a", "b")
    world.shelf.is_broken = True
    pauses = []
    for _ in range(3):
        world.archive()
        (row,) = rows(world.store, "instances", where_id("a"))
        pauses.append(round((row["purge_at"] - world.store.now()) / 60_000_000))
        let_pass(world.store, "a")
    assert pauses == [1, 2, 4]
    assert [(each["instance"], each["tries"]) for each in failures(world.store)] == [
        ("a", 3),
        ("b", 1),
    ]
    state = world.store.archiving.state(100)
    assert (state.waiting, state.failing, state.last_failed) == (2, 2, "a")
    assert state.last_error == "OSError: the shelf is full"
    assert world.store.archiving.state(1).waiting == 1
    world.shelf.is_broken = False
    world.archive()
    assert (world.left(), world.shelf.ids) == ({"b"}, ["a"])
    let_pass(world.store, "b")
    world.archive()
    assert (world.left(), failures(world.store)) == (set(), [])
    assert world.store.archiving.state(100) == (0, 0, None, None, None)


def where_id(id_: str) -> Any:
    from celery_durable.store.schema import instances

    return instances.c.id == id_


def test_a_pause_is_never_longer_than_an_hour(world: Archived) -> None:
    world.done("a")
    world.shelf.is_broken = True
    for _ in range(10):
        world.archive()
        let_pass(world.store, "a")
    world.archive()
    (row,) = rows(world.store, "instances")
    assert 3_500_000_000 < row["purge_at"] - world.store.now() <= 3_600_000_000


def test_a_purge_by_hand_waits_for_it_too(world: Archived) -> None:
    world.done("a", is_due=False)
    world.shelf.is_broken = True
    with pytest.raises(InvalidState, match="kept, as it could not be archived: OSError"):
        world.client.purge("a")
    assert world.left() == {"a"}
    world.shelf.is_broken = False
    world.client.purge("a")
    assert (world.left(), world.shelf.ids, failures(world.store)) == (set(), ["a"], [])


def test_a_purge_that_was_refused_is_made_up_for(world: Archived) -> None:
    world.done("a", is_due=False)
    world.shelf.is_broken = True
    with pytest.raises(InvalidState):
        world.client.purge("a")
    world.shelf.is_broken = False
    let_pass(world.store, "a")
    world.archive()
    assert (world.left(), world.shelf.ids) == (set(), ["a"])


def test_children_are_archived_before_their_parent(world: Archived) -> None:
    world.start("parent", "child", id_="parent")
    world.pump()
    make_due(world.store, "parent")
    world.archive()
    assert (world.shelf.ids, world.left()) == (["child", "parent"], set())
    world.start("parent", "child", id_="parent")
    world.pump()
    world.client.purge("parent")
    assert world.shelf.ids[2:] == ["child", "parent"]


def test_what_moves_while_it_is_archived_is_not_deleted(world: Archived) -> None:
    world.done("a", answer="fail")
    world.shelf.then = lambda: world.client.rewind("a", None)
    world.archive()
    assert world.left() == {"a"}
    world.shelf.then = lambda: None
    world.pump()
    assert world.status("a") is RuntimeStatus.FAILED
    make_due(world.store, "a")
    world.archive()
    assert world.left() == set()
    (first, _), (second, _) = world.shelf.taken
    assert first != second  # two ends are two documents


def test_of_two_workers_one_archives_it(world: Archived) -> None:
    world.done("a")
    (due,) = world.store.archiving.due(10)
    assert world.store.archiving.claim(due, 60_000_000)
    assert not world.store.archiving.claim(due, 60_000_000)
    Archived(world.store, world.shelf).archive()
    assert (world.left(), world.shelf.ids) == ({"a"}, [])


class Lost(Exception):
    """The process dies here."""


def die() -> None:
    raise Lost


@pytest.mark.parametrize(
    ("call", "when", "times"),
    [("claim", "after", 1), ("purge", "before", 2), ("purge", "after", 1)],
)
def test_a_crash_archives_twice_at_most_and_deletes_once(
    store: Store, call: str, when: str, times: int
) -> None:
    shelf = Shelf()
    Archived(store, shelf).done("a")
    dying: Any = Interposed(store, call, **{when: die})  # type: ignore[arg-type]
    with pytest.raises(Lost):
        Archived(dying, shelf).archive()
    other = Archived(store, shelf)
    other.archive()  # the claim holds still
    if (call, when) != ("purge", "after"):
        assert other.left() == {"a"}
        let_pass(store, "a")
        other.archive()
    assert other.left() == set()
    assert len(shelf.taken) == times
    assert len({key for key, _ in shelf.taken}) == 1


def test_what_is_kept_of_failures_goes_with_its_reason(world: Archived) -> None:
    world.done("a", answer="fail")
    world.shelf.is_broken = True
    world.archive()
    world.client.rewind("a", None)
    world.shelf.is_broken = False
    assert world.store.archiving.state(10).failing == 0
    world.archive()
    assert failures(world.store) == []


def test_a_damaged_history_is_kept(world: Archived) -> None:
    world.done("a")
    world.store.database.change_one(
        Statement("UPDATE durable_history SET events = :no WHERE instance = :id AND sequence = 1"),
        id="a",
        no=b"x",
    )
    world.archive()
    assert world.left() == {"a"}
    assert "JSONDecodeError" in failures(world.store)[0]["error"]


def test_one_that_is_gone_is_no_matter(world: Archived) -> None:
    world.client.purge("none")
    with pytest.raises(InstanceNotFound):
        world.client.fetch("none")
    assert world.shelf.taken == []
