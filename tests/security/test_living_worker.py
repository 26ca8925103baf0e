"""A real worker among damaged rows and hostile messages: it goes on, its pool lives, and other
orchestrations finish.

What can be mended is mended and resumed at the end, and comes to its right end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import _state

from celery_durable.core.status import RuntimeStatus
from tests.conftest import wait_until
from tests.nodes import WorkerProcess

from . import hostileapp
from .damage import set_value, values_of
from .garbage import BOMBS, DEEP

#: Where a damaged row is put, and what the reason of the suspension must say; None: it is no
#: hindrance to a turn.
DAMAGE: dict[str, tuple[str, str, Any, dict[str, Any], str | None]] = {
    "history": ("history", "events", b"[[", {"sequence": 1}, "history of 'history' is damaged"),
    "not-utf8": ("history", "events", b"\xff\xfe", {"sequence": 1}, "damaged"),
    "event": ("inbox", "payload", b"{", {"kind": "EventRaised"}, "PayloadError"),
    "deep-event": ("inbox", "payload", b"[" * 100_000, {"kind": "EventRaised"}, "PayloadError"),
    "facts": ("inbox", "facts", "{", {"kind": "EventRaised"}, "in the inbox of 'facts' is damaged"),
    "kind": (
        "inbox",
        "kind",
        "NoSuchKind",
        {"kind": "EventRaised"},
        "in the inbox of 'kind' is damaged",
    ),
    "canvas": ("instances", "canvas", b"{", {}, None),
    "tags": ("instances", "tags", "\n[\n", {}, None),
}


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = folder / "broker.db"
        self.environment = {
            "HOSTILE_STORE": f"sqlite:///{folder / 'store.db'}",
            "HOSTILE_BROKER": f"durable:///{self.broker}",
            "HOSTILE_MARKS": str(folder),
            "HOSTILE_CONF": (
                '{"durable_recovery_interval": 0.2, "durable_resend_after": 0.5,'
                ' "durable_cache_size": 0}'
            ),
        }
        self.app = hostileapp.make(
            self.environment["HOSTILE_STORE"], self.environment["HOSTILE_BROKER"], str(folder)
        )
        self.app.conf.durable_cache_size = 0
        paths = [str(Path(hostileapp.__file__).parent)]
        self.worker = WorkerProcess(
            self.environment, folder / "worker.log", app="hostileapp", paths=paths
        )

    @property
    def durable(self) -> Any:
        return self.app.durable

    @property
    def store(self) -> Any:
        return self.durable.runtime.store

    def start(self, id_: str, orchestrator: str = "hostile.approval", **options: Any) -> None:
        self.app.tasks[orchestrator].apply_async((1,), task_id=id_, **options)

    def is_waiting(self, id_: str) -> bool:
        return any(event.kind == "ActivityCompleted" for event in self.durable.get(id_).history())

    def wake(self, id_: str) -> None:
        """Let recovery send a turn: the verbs themselves may not get past a damaged row."""
        set_value(self.store, "instances", "status", id_, "RUNNING")
        set_value(self.store, "inbox", "check_at", id_, 1)

    def broker_rows(self, sql: str, *values: Any) -> list[Any]:
        with sqlite3.connect(self.broker, timeout=20) as database:
            found = database.execute(sql, values).fetchall()
        database.close()
        return found

    def assert_alive(self, pool: list[int]) -> None:
        assert self.worker.is_running, self.worker.text()[-3000:]
        assert self.worker.children() == pool, "a process of the pool died"
        assert self.worker.text().count(" ready.") == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    shared = set(_state._on_app_finalizers)
    place = Place(tmp_path_factory.mktemp("living"))
    try:
        place.worker.wait_ready()
        yield place
    finally:
        place.worker.kill()
        place.app.close()
        _state._on_app_finalizers.intersection_update(shared)


def test_a_worker_lives_with_damaged_rows_and_messages(place: Place) -> None:
    pool = place.worker.children()
    for id_ in DAMAGE:
        place.start(id_)
    wait_until(
        lambda: all(place.is_waiting(id_) for id_ in DAMAGE),
        60,
        "the orchestrations that are damaged later",
    )
    before = {}
    for id_, (table, column, value, where, reason) in DAMAGE.items():
        if table == "inbox":
            place.durable.get(id_).suspend("so that the event waits")
            place.durable.get(id_).raise_event("go", "gone")
        (before[id_],) = values_of(place.store, table, column, id_, **where)
        set_value(place.store, table, column, id_, value, **where)
        if table == "inbox":
            place.wake(id_)
        if table == "history":
            place.durable.get(id_).raise_event("go", "gone")
    for body in [*BOMBS, *DEEP]:
        insert = "INSERT INTO message (queue, priority, body) VALUES ('celery', 9, ?)"
        place.broker_rows(insert, body.encode("utf-8", "surrogatepass"))

    for number in range(5):
        place.start(f"good{number}", "hostile.sale")
    for number in range(5):
        assert place.durable.get(f"good{number}").get(timeout=300) == 2
    for id_, (*_, reason) in DAMAGE.items():
        if reason is not None:
            wait_until(
                lambda: place.durable.get(id_).runtime_status is RuntimeStatus.SUSPENDED,
                60,
                f"suspension of {id_}",
            )
            assert reason in place.durable.get(id_).reason
    place.assert_alive(pool)

    for id_, (table, column, value, where, _) in DAMAGE.items():
        where = {column: value} if column == "kind" else where
        set_value(place.store, table, column, id_, before[id_], **where)
        if table == "instances":
            place.durable.get(id_).raise_event("go", "gone")
        elif place.durable.get(id_).runtime_status is RuntimeStatus.SUSPENDED:
            place.durable.get(id_).resume()
        else:
            place.wake(id_)
    for id_ in DAMAGE:
        assert place.durable.get(id_).get(timeout=300) == [2, "gone"], id_
    place.assert_alive(pool)
    ((aside,),) = place.broker_rows(
        "SELECT count(*) FROM message WHERE queue = 'celery.undecodable'"
    )
    assert aside >= len(BOMBS) // 2
    assert len(place.worker.text()) < 2_000_000, "the log grows and grows"


def test_a_worker_suspends_an_instance_whose_inbox_cannot_be_read(place: Place) -> None:
    id_ = "unreadable"
    place.start(id_)
    wait_until(lambda: place.is_waiting(id_), 60)
    place.durable.get(id_).suspend("so that the event waits")
    place.durable.get(id_).raise_event("go", "gone")
    set_value(place.store, "inbox", "facts", id_, "{", kind="EventRaised")
    place.wake(id_)
    for number in range(3):
        place.start(f"{id_}{number}", "hostile.sale")
        assert place.durable.get(f"{id_}{number}").get(timeout=300) == 2
    wait_until(
        lambda: place.durable.get(id_).runtime_status is RuntimeStatus.SUSPENDED,
        60,
        "the suspension",
    )
