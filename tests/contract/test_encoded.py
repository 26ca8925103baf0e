"""What ``durable_codec`` and ``durable_payload_store`` keep out of the database, and that everything
comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery

from celery_durable import Durable, durable_context
from celery_durable.engine.audit import acting
from celery_durable.engine.records import InboxKind
from celery_durable.engine.writes import NewInbox
from celery_durable.errors import ConfigurationError, StoreError
from celery_durable.payload_store import PayloadStore
from celery_durable.store import Store
from celery_durable.store.reencoding import reencode
from celery_durable.store.schema import metadata
from celery_durable.store.sweeping import abandoned

from .encoded_world import SECRET, Scrambled, empty, files_in, in_clear

#: Every column of payloads, and of text for people that may quote one.
PAYLOADS = {
    f"{table.name}.{column.name}"
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, sa.LargeBinary)
}
TEXTS = {
    f"durable_{name}"
    for name in (
        "instances.reason",
        "inbox.facts",
        "schedules.reason",
        "switches.reason",
        "audit.reason",
        "archiving.error",
    )
}


class Desk:
    """An application over a store, whose every value is a secret."""

    def __init__(self, store: Store, **conf: Any) -> None:
        self.store = store
        self.app = app = Celery("desk", broker="memory://", set_as_current=False)
        app.conf.update(task_always_eager=True, **conf)
        self.durable = durable = Durable(app)
        self.tokens: list[str] = []

        @app.task(name="act", shared=False)
        def act(value: str) -> str:
            return value + SECRET

        @app.task(name="bad", shared=False)
        def bad(value: str) -> None:
            raise ValueError(value)

        @app.task(name="open", shared=False)
        def left_open(value: str) -> None:
            context = durable_context()
            context.heartbeat(SECRET)
            self.tokens.append(context.defer())

        @durable.orchestrator(name="child", shared=False)
        async def child(ctx: Any, value: str) -> str:
            return value

        @durable.orchestrator(name="all", shared=False)
        async def everything(ctx: Any, value: str, again: bool = True) -> Any:
            ctx.set_status(SECRET)
            found = [await ctx.call(act.s(value)), await ctx.call(child.s(value))]
            try:
                await ctx.call(bad.s(value))
            except ValueError as error:
                found.append(str(error))
            request = await ctx.wait_request("ask")
            request.reply([request.data, SECRET])
            found.append(await ctx.wait_event("go"))
            if again:
                ctx.continue_as_new(value, again=False)
            return found

        @durable.orchestrator(name="fails", shared=False)
        async def fails(ctx: Any) -> None:
            raise ValueError(SECRET)

        @durable.orchestrator(name="waits", shared=False)
        async def waits(ctx: Any, value: str) -> Any:
            return await ctx.call(left_open.s(value))

    def start(self, name: str, *args: Any, **options: Any) -> Any:
        return self.durable.start(self.app.tasks[name].s(*args), **options)

    def tell(self, name: str = "everything") -> Any:
        """Run all of it, and return the orchestration that has gone through everything."""
        run = self.start("all", SECRET, instance_id=name)
        for _ in range(2):
            assert run.ask("ask", SECRET, timeout=20) == [SECRET, SECRET]
            run.raise_event("go", {"answer": SECRET})
        return run

    def leave_open(self) -> None:
        """Leave rows behind that a turn would take."""
        self.start("fails", instance_id="fails")
        self.start("waits", SECRET, instance_id="waits")
        held = self.start("waits", SECRET, instance_id="held")
        held.suspend(reason=SECRET)
        held.raise_event("go", SECRET)
        link = {"link": self.app.signature("act", args=[SECRET])}
        self.durable.start(self.app.tasks["child"].s(SECRET).set(**link), instance_id="linked")
        schedule = self.durable.schedule(
            "s", self.app.tasks["child"].s(SECRET).set(**link), interval=timedelta(days=1)
        )
        schedule.pause(reason=SECRET)
        self.durable.pause(task="nothing", reason=SECRET)
        self.durable.runtime.publisher.publish_turn = lambda *_, **__: False
        self.start("waits", SECRET, instance_id="ending")
        facts = {"reason": SECRET}
        self.store.inbox.put([NewInbox("ending", InboxKind.TERMINATE, "t", facts=facts)])
        del self.durable.runtime.publisher.publish_turn
        record = self.durable.runtime.client.fetch("fails")
        with acting("ann", "cli"):
            held.suspend(reason=SECRET)
        assert self.store.archiving.note_failure(record, SECRET, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where large payloads go."""
    return tmp_path / "large"


@contextmanager
def desk_on(store: Store, **conf: Any) -> Iterator[Desk]:
    desk = Desk(store, **conf)
    try:
        with desk.durable.running_on(store):
            yield desk
    finally:
        store.database.vault = None
        desk.app.close()


def test_what_is_in_clear_without_a_codec(store: Store) -> None:
    """So the next test cannot pass for want of secrets."""
    with desk_on(store) as desk:
        desk.tell()
        desk.leave_open()
        assert in_clear(store) >= PAYLOADS | TEXTS


def test_nothing_is_in_clear_with_one(store: Store) -> None:
    with desk_on(store, durable_codec=Scrambled()) as desk:
        desk.tell()
        desk.leave_open()
        assert in_clear(store) == set()


def test_nothing_but_references_is_in_the_database(store: Store, folder: Path) -> None:
    large = PayloadStore(str(folder), above=0)
    with desk_on(store, durable_codec=Scrambled(), durable_payload_store=large) as desk:
        desk.tell()
        desk.leave_open()
        assert in_clear(store) == set()
    files = files_in(folder)
    assert len(files) > 20
    assert not any(SECRET.encode() in file.read_bytes() for file in files)


KEPT = {
    "as they are": lambda folder: {},
    "encoded": lambda folder: {"durable_codec": Scrambled()},
    "elsewhere": lambda folder: {"durable_payload_store": PayloadStore(str(folder), above=0)},
    "both": lambda folder: {
        "durable_codec": Scrambled(),
        "durable_payload_store": PayloadStore(str(folder), above=100),
    },
}


@pytest.mark.parametrize("kept", KEPT)
def test_everything_comes_back(store: Store, folder: Path, kept: str) -> None:
    with desk_on(store, **KEPT[kept](folder)) as desk:
        run = desk.tell()
        desk.leave_open()
        get = desk.durable.get
        assert run.refresh().output == [SECRET * 2, SECRET, SECRET, {"answer": SECRET}]
        assert run.custom_status == SECRET
        assert run.input == {"args": [SECRET], "kwargs": {"again": False}}
        assert SECRET in str(get("fails").failure)
        assert get("held").reason == SECRET
        assert {"answer": SECRET} in [event.value for event in run.history()]
        assert next(each for each in desk.durable.schedules() if each.name == "s").reason == SECRET
        assert desk.durable.pauses()[0].reason == SECRET
        found = desk.durable.find(status="FAILED").items
        assert [each.id for each in found] == ["fails"]
        entries = [entry for entry in desk.durable.audit().items if entry.verb == "suspend"]
        assert [entry.reason for entry in entries] == [SECRET]
        assert desk.durable.complete(desk.tokens[0], SECRET)
        assert get("waits").refresh().output == SECRET
        desk.durable.replay(run.export_history())


def test_without_the_codec_nothing_is_done(store: Store) -> None:
    with desk_on(store, durable_codec=Scrambled()) as desk:
        desk.start("waits", SECRET, instance_id="a")
        before = _rows(store)
    for conf in ({}, {"durable_codec": Scrambled(17)}):
        with desk_on(store, **conf) as desk:
            assert [run.runtime_status for run in desk.durable.find().items] == ["RUNNING"]
            with pytest.raises(ConfigurationError, match="durable_codec"):
                desk.durable.get("a")
            for sends in (0, 1, 2, 3, 4):  # it is no crash, however often it is tried
                with pytest.raises(ConfigurationError, match="durable_codec"):
                    desk.durable.runtime.runner.run("a", sends=sends)
            assert _rows(store) == before


def test_a_key_is_changed_while_work_continues(store: Store, folder: Path) -> None:
    """Everything in clear, then by a first key, then by a second one."""
    large = {"durable_payload_store": PayloadStore(str(folder), above=500)}
    with desk_on(store, **large) as desk:
        run = desk.tell()
        desk.start("child", SECRET * 200, instance_id="large")
        desk.leave_open()
    for key in (1, 2):
        codec = _Both(key)
        with desk_on(store, durable_codec=codec, **large) as desk:
            changed = sum(reencode(store.database))
            assert changed > 30
            assert in_clear(store) == set()
            assert not any(SECRET.encode() in file.read_bytes() for file in files_in(folder))
            assert sum(reencode(store.database)) == 0
        with desk_on(store, durable_codec=Scrambled(key), **large) as desk:
            run = desk.durable.get(run.id)
            assert run.output[-1] == {"answer": SECRET}
            assert desk.durable.get("held").reason == SECRET
            assert desk.durable.get("large").output == SECRET * 200


class _Both(Scrambled):
    """Decodes what the key before has encoded, too."""

    def decode(self, data: bytes) -> bytes:
        return Scrambled(data[0]).decode(data)


class Failing(PayloadStore):
    """A payload store that may be out of order."""

    is_broken = False

    def write(self, key: str, data: bytes) -> None:
        if self.is_broken:
            raise OSError("no bucket")
        super().write(key, data)

    def read(self, key: str) -> bytes:
        if self.is_broken:
            raise OSError("no bucket")
        return super().read(key)

    def delete(self, keys: Any) -> None:
        if self.is_broken:
            raise OSError("no bucket")
        super().delete(keys)


def test_while_the_payload_store_is_down_nothing_is_lost(store: Store, folder: Path) -> None:
    large = Failing(str(folder), above=100)
    with desk_on(store, durable_payload_store=large) as desk:
        run = desk.start("waits", SECRET * 50, instance_id="a")
        before = _rows(store)
        large.is_broken = True
        with pytest.raises(StoreError, match="no bucket"):
            desk.start("child", SECRET * 50, instance_id="b")
        with pytest.raises(StoreError, match="no bucket"):
            desk.durable.complete(desk.tokens[0], SECRET * 50)
        assert {**_rows(store), "durable_objects": None} == {**before, "durable_objects": None}
        large.is_broken = False
        assert desk.durable.complete(desk.tokens[0], SECRET * 50)
        assert run.get(timeout=20) == SECRET * 50


def test_what_nothing_refers_to_is_deleted(store: Store, folder: Path) -> None:
    large = Failing(str(folder), above=100)
    sweep = store.large_payloads.sweep
    with desk_on(store, durable_payload_store=large) as desk:
        for name in ("a", "b"):
            desk.start("all", SECRET * 50, instance_id=name)
        number = len(files_in(folder))
        _age(store, 7_200)
        assert not sweep(100)
        left = len(files_in(folder))  # messages of activities that are done are not needed
        assert 0 < left < number
        _age(store, 7_200)
        sweep(100)
        assert len(files_in(folder)) == left  # all that is left is needed
        desk.durable.get("a").terminate()
        desk.durable.get("a").purge()
        large.is_broken = True
        with pytest.raises(StoreError, match="tried again"):
            sweep(100)
        large.is_broken = False
        _age(store, 700)
        sweep(100)
        assert 0 < len(files_in(folder)) < left
        assert desk.durable.get("b").input == {"args": [SECRET * 50], "kwargs": {}}
        desk.durable.get("b").terminate()
        desk.durable.get("b").purge()
        sweep(100)
        assert not files_in(folder)
        assert _rows(store)["durable_objects"] == []


def test_what_is_about_to_be_committed_is_not_deleted(store: Store, folder: Path) -> None:
    with desk_on(store, durable_payload_store=PayloadStore(str(folder), above=100)) as desk:
        desk.start("child", SECRET * 50, instance_id="a")
        desk.durable.get("a").purge()
        number = len(files_in(folder))
        store.large_payloads.sweep(100)
        assert len(files_in(folder)) == number > 0
        _age(store, 3_700)
        store.large_payloads.sweep(100)
        assert not files_in(folder)


def test_payloads_of_a_transaction_that_was_rolled_back_are_found(
    store: Store, folder: Path
) -> None:
    large = PayloadStore(str(folder), above=100)
    with desk_on(store, durable_payload_store=large) as desk:
        with store.database.engine.connect() as connection:
            if store.database.family == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            desk.start("child", SECRET * 50, instance_id="a", session=connection)
            connection.rollback()
        kept = desk.start("child", SECRET * 50, instance_id="b")
        keys = list(large.keys(f"{store.id}/"))
        assert list(abandoned(store.database, keys, 3_600)) == []
        (orphan,) = abandoned(store.database, keys, -60)
        large.delete([orphan])
        assert kept.input == {"args": [SECRET * 50], "kwargs": {}}


def test_a_payload_that_is_lost_is_said_to_be(store: Store, folder: Path) -> None:
    with desk_on(store, durable_payload_store=PayloadStore(str(folder), above=100)) as desk:
        run = desk.start("child", SECRET * 50, instance_id="a")
        empty(folder)
        with pytest.raises(StoreError, match="did not give"):
            _ = run.refresh().input
        assert [run.runtime_status for run in desk.durable.find().items] == ["COMPLETED"]


def _age(store: Store, seconds: int) -> None:
    """Let the payloads have been there for so long."""
    change = sa.text(
        "UPDATE durable_objects SET created_at = created_at - :by, check_at = check_at - :by"
    )
    with store.database.engine.connect() as connection:
        connection.execute(change, {"by": seconds * 1_000_000})


def _rows(store: Store) -> dict[str, list[Any]]:
    with store.database.engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }
