"""Messages that claim an instance, a command, an execution or a store that is not theirs change
nothing.

A real worker gets real Celery messages with forged ids and headers. After each one all rows of the
store are what they were, and the worker goes on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import _state
from celery.exceptions import Ignore
from celery.utils.imports import symbol_by_name
from celery.worker.request import Request

from celery_durable.core.status import RuntimeStatus
from tests.conftest import wait_until
from tests.contract.builders import everything
from tests.nodes import WorkerProcess

from . import hostileapp
from .damage import set_value, values_of
from .garbage import raised_by


@dataclass
class Scene:
    """A worker, its store and its broker, and orchestrations in several states."""

    app: Any
    worker: WorkerProcess
    marks: Path
    executions: dict[str, str]

    @property
    def store(self) -> Any:
        return self.app.durable.runtime.store

    def rows(self) -> dict[str, Any]:
        """All rows, and what Celery's result backend holds of the orchestrations."""
        found: dict[str, Any] = everything(self.store)
        del found["workers"]
        found["results"] = {
            id_: path.read_bytes()
            for id_ in self.executions
            if (path := self.marks / "results" / f"celery-task-meta-{id_}").exists()
        }
        return found

    def send(self, task: str, id_: Any, durable: Any = None, *args: Any, **headers: Any) -> None:
        """Publish a task message, as whoever can reach the broker can."""
        whole = {
            "lang": "py",
            "task": task,
            "id": id_,
            "root_id": id_,
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "forger",
            **({} if durable is None else {"durable": durable}),
            **headers,
        }
        body = (list(args), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
        with self.app.connection_for_write() as connection:
            producer = connection.Producer(serializer="json")
            producer.publish(
                body,
                routing_key="celery",
                exchange="",
                headers=whole,
                correlation_id=str(id_)[:200],
            )

    def settle(self) -> None:
        """Wait until the worker has dealt with everything that was sent before."""
        name = uuid.uuid4().hex
        self.send("hostile.mark", f"mark-{name}", None, name)
        wait_until(
            lambda: (self.marks / name).exists() or not self.worker.is_running,
            60,
            f"mark\n{self.worker.text()[-3000:]}",
        )
        assert self.worker.is_running, self.worker.text()[-3000:]
        wait_until(lambda: not self._reported(), what="the rows of reported ends to be deleted")

    def _reported(self) -> list[Any]:
        """The rows of ends whose results are stored: they are deleted a moment later."""
        return [
            row
            for row in self.rows()["outbox"]
            if row["kind"] == "finish" and row["instance"] != "ended"
        ]

    def purge(self) -> None:
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_purge("celery")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("forged")
    (folder / "results").mkdir()
    conf = {"result_backend": f"file://{folder / 'results'}", "task_ignore_result": False}
    environment = {
        "HOSTILE_STORE": f"sqlite:///{folder / 'store.db'}",
        "HOSTILE_BROKER": f"durable:///{folder / 'broker.db'}",
        "HOSTILE_MARKS": str(folder),
        "HOSTILE_CONF": json.dumps(conf),
    }
    shared = set(_state._on_app_finalizers)
    app = hostileapp.make(
        environment["HOSTILE_STORE"], environment["HOSTILE_BROKER"], str(folder), **conf
    )
    sale = app.tasks["hostile.sale"]
    worker = WorkerProcess(
        environment,
        folder / "worker.log",
        app="hostileapp",
        pool="solo",
        paths=[str(Path(hostileapp.__file__).parent)],
    )
    try:
        worker.wait_ready()
        for id_ in ("done", "done-too"):
            assert sale.apply_async((1,), task_id=id_).get(timeout=300) == 2
        for id_ in ("waiting", "waiting-too", "held"):
            sale.apply_async((1, "nobody"), task_id=id_)
        app.tasks["hostile.approval"].apply_async((1,), task_id="approval")
        sale.apply_async(
            (1, "nobody"), task_id="ended", link=app.signature("hostile.mark", ("linked",))
        )
        durable = app.durable
        for id_ in ("waiting", "waiting-too", "held", "ended"):
            wait_until(
                lambda: values_of(durable.runtime.store, "outbox", "command", id_),
                60,
                f"activity of {id_}",
            )
        wait_until(
            lambda: (
                durable.get("approval").custom_status is not None
                and len(durable.get("approval").history()) > 2
            )
        )
        found = Scene(app, worker, folder, {})
        durable.runtime.publisher._send_finish = lambda *_: True  # its last message stays due
        durable.get("ended").terminate()
        for id_ in ("done", "waiting", "waiting-too", "held", "approval", "ended"):
            (found.executions[id_],) = values_of(found.store, "instances", "execution", id_)
        found.settle()
        yield found
    finally:
        worker.kill()
        app.close()
        _state._on_app_finalizers.intersection_update(shared)


# -- activities ----------------------------------------

ACTIVITY_IDS = [
    "d-{done}-1-1",
    "d-{done}-1-2",
    "d-{done}-2-1",
    "d-{done}-0-0",
    "d-{waiting}-1-2",
    "d-{waiting}-1-0",
    "d-{waiting}-2-1",
    "d-{waiting}-0-0",
    "d-{waiting}-99999999999999999999-1",
    "d-{waiting}-1-9223372036854775808",
    "d-{ended}-1-1",
    "d-{ended}-0-0",
    "d-00000000000000000000-1-1",
    "d-waiting-1-1",
    "d-%-1-1",
    "d-' OR '1'='1-1-1",
    "d-{waiting}-1-1-1",
    "d-{waiting}--1-1",
    "d--1-1",
    "d-{approval}-1-1",
    "d-{approval}-2-1",
    "D-{waiting}-1-1",
    " d-{waiting}-1-1",
    "d-{waiting}-1-1\n",
]


@pytest.mark.parametrize("id_", ACTIVITY_IDS)
def test_an_activity_that_is_not_outstanding_changes_nothing(scene: Scene, id_: str) -> None:
    before = scene.rows()
    forged = id_.format(**scene.executions)
    headers = {"n": 0, "s": scene.store.id[:12]}
    scene.send("hostile.charge", forged, headers, 41)
    scene.send("hostile.charge", forged, {**headers, "n": 1}, 41)
    scene.send("hostile.charge", forged, None, "not a number")
    scene.send("hostile.charge", forged, headers, 41, expires="2001-01-01T00:00:00+00:00")
    scene.settle()
    assert scene.rows() == before


def test_an_unknown_task_with_the_id_of_another_changes_nothing(scene: Scene) -> None:
    before = scene.rows()
    for id_ in ("d-{done}-1-1", "d-{waiting}-1-2", "waiting", "done"):
        scene.send("no.such.task", id_.format(**scene.executions), {"s": scene.store.id[:12]})
    scene.settle()
    after = scene.rows()
    # a result under an id of its own choice is Celery's matter; people are told, in words: that is
    # no change of state
    for rows in (before, after):
        rows.pop("results")
        for row in rows["instances"]:
            row.pop("reason")
            row.pop("listed_as")  # it is told by the reason
    assert after == before


@pytest.mark.parametrize("id_", ["d-{held}-1-1", "d-{ended}-0-0"])
def test_an_unknown_task_takes_nothing_from_its_holder(scene: Scene, id_: str) -> None:
    set_value(scene.store, "outbox", "holder", "held", "another-worker")
    set_value(scene.store, "outbox", "check_at", "held", None)
    set_value(scene.store, "outbox", "check_at", "ended", 1)
    before = scene.rows()["outbox"]
    scene.send("no.such.task", id_.format(**scene.executions), {"s": scene.store.id[:12]})
    scene.settle()
    assert scene.rows()["outbox"] == before


def test_an_outcome_is_recorded_once(scene: Scene) -> None:
    """The same message of an activity that is wanted, three times."""
    headers = {"n": 0, "s": scene.store.id[:12]}
    for _ in range(3):
        scene.send("hostile.charge", f"d-{scene.executions['waiting-too']}-1-1", headers, 1)
    scene.settle()
    run = scene.app.durable.get("waiting-too")
    assert (run.runtime_status, run.output) == (RuntimeStatus.COMPLETED, 2)
    kinds = [str(event.kind) for event in run.history()]
    assert kinds.count("ActivityCompleted") == 1
    before = scene.rows()
    scene.send("hostile.charge", f"d-{scene.executions['waiting-too']}-1-1", headers, 99)
    scene.settle()
    assert scene.rows() == before


# -- turns ----------------------------------------

TURNS: list[Any] = [
    {"t": "turn"},
    {"t": "turn", "due": -5},
    {"t": "turn", "due": 10**40},
    {"t": "turn", "due": "soon"},
    {"t": "turn", "due": [1]},
    {"t": "turn", "due": None},
    {"t": "turn", "due": True},
    {"t": "turn", "due": 1.5},
    {"t": "turn", "n": "x"},
    {"t": "turn", "n": -3},
    {"t": "turn", "n": [1]},
    {"t": "turn", "n": 10**40},
    {"t": "turn", "n": None},
    {"t": 5},
    {"t": None},
    {"t": ["turn"]},
    {},
    {"s": None},
    {"x": "y"},
    {"t": "finish"},
    {"t": "finish", "x": None},
    {"t": "finish", "x": "{waiting}"},
    {"t": "finish", "x": ["{done}"]},
    {"t": "finish", "x": {}},
    {"t": "finish", "x": 10**40},
    "turn",
    5,
    1.5,
    True,
    [],
    ["turn"],
    [["t", "turn"]],
    "",
]


@pytest.mark.parametrize("id_", ["waiting", "done", "approval", "ended"])
def test_a_turn_message_with_odd_headers_changes_nothing(scene: Scene, id_: str) -> None:
    for header in TURNS:
        before = scene.rows()
        text = (
            json.dumps(header)
            .replace("{waiting}", scene.executions["waiting"])
            .replace("{done}", scene.executions["done"])
        )
        if id_ == "waiting" and '"finish"' in text and scene.executions["waiting"] in text:
            continue  # its own execution, for once
        scene.send("hostile.sale", id_, json.loads(text), 99)
        scene.settle()
        assert scene.rows() == before, header


@pytest.mark.parametrize(
    "header", [{"t": "turn"}, {"t": "turn", "n": 2}, {"t": "finish", "x": "{done}"}], ids=str
)
def test_a_message_of_no_instance_creates_none(scene: Scene, header: dict[str, Any]) -> None:
    before = scene.rows()
    for id_ in ("no-such-instance", "", "x" * 300, "a\x00b"):
        scene.send("hostile.sale", id_, {**header, "n": 5}, 1)
    scene.settle()
    assert scene.rows() == before


def test_a_start_message_for_an_id_in_use_changes_nothing(scene: Scene) -> None:
    for id_ in ("waiting", "done", "approval", "ended"):
        before = scene.rows()
        scene.send("hostile.approval", id_, None, 99)
        scene.settle()
        assert scene.rows() == before, id_


def test_a_finish_header_on_another_task_changes_nothing(scene: Scene) -> None:
    before = scene.rows()
    assert [row["kind"] for row in before["outbox"] if row["instance"] == "ended"] == ["finish"]
    scene.send(
        "hostile.mark", "innocent", {"t": "finish", "x": scene.executions["ended"]}, "innocent"
    )
    scene.settle()
    assert scene.rows() == before


# -- another store: these messages go round and round, so they come last ---------------------------


def test_an_activity_of_another_store_is_put_back(scene: Scene) -> None:
    before = scene.rows()
    scene.send(
        "hostile.charge", f"d-{scene.executions['waiting']}-1-1", {"n": 0, "s": "0123456789ab"}, 1
    )
    scene.settle()
    scene.purge()
    assert scene.rows() == before


@pytest.mark.parametrize("store", ["0123456789ab", ["0123456789ab"], {}], ids=repr)
def test_a_turn_of_another_store_is_put_back(scene: Scene, store: Any) -> None:
    lines = scene.worker.text().count("belongs to another store")
    event = scene.app.durable.runtime.client.event_message("approval", "go", 1, None)
    scene.store.inbox.put([event])
    before = scene.rows()
    scene.send("hostile.approval", "approval", {"t": "turn", "s": store})
    wait_until(
        lambda: scene.worker.text().count("belongs to another store") > lines, 30, "the refusal"
    )
    scene.settle()
    assert scene.rows() == before
    scene.purge()


# -- without a worker ----------------------------------------


@pytest.mark.parametrize(
    "id_", [5, 1.5, "d-x-" + "9" * 5_000 + "-1", b"d-x-1-1"], ids=lambda id_: repr(id_)[:9]
)
def test_an_odd_task_id_is_no_more_trouble_than_without_us(new_app: Any, id_: Any) -> None:
    """A request that cannot be made takes the whole worker down, again and again."""
    app = new_app()

    @app.task(name="hostile.plain")
    def task() -> None: ...

    app.finalize()
    app.durable.runtime
    from celery_durable.worker.request import hold_messages

    hold_messages(app)

    def receive(cls: Any) -> None:
        headers = {
            "id": id_,
            "task": task.name,
            "retries": 0,
            "root_id": None,
            "timelimit": [None, None],
            "lang": "py",
        }
        message = SimpleNamespace(
            headers=headers,
            delivery_info={},
            properties={},
            body=b"[[],{},{}]",
            content_type="application/json",
            content_encoding="utf-8",
            payload=[[], {}, {}],
            delivery_tag=1,
            decode=lambda: [[], {}, {}],
        )
        request = cls(message, app=app, task=task, hostname="h", headers=headers)
        request.revoked()

    assert raised_by(lambda: receive(Request)) is None
    error = raised_by(lambda: receive(symbol_by_name(task.Request)))
    assert error is None, repr(error)


def test_a_message_of_no_instance_is_sent_again_a_few_times_only(new_app: Any) -> None:
    app = new_app()

    @app.durable.orchestrator(name="hostile.lost")
    async def lost(ctx: Any) -> None: ...

    task, sent = app.tasks["hostile.lost"], list[Any]()
    app.durable.runtime.publisher.orchestrator_sender.send = lambda address, options, header, **_: (
        sent.append(header)
    )
    header = {"t": "turn", "n": -1_000_000}
    for _ in range(10):
        task.push_request(id="nobody", called_directly=False, headers={"durable": header})
        with pytest.raises(Ignore):
            task()
        task.pop_request()
        if not sent:
            break
        header = sent.pop().to_wire()
    else:
        pytest.fail(f"it goes on and on: {header}")
