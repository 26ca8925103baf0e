"""Pickle is refused on read as on write, wherever something is decoded, whatever serializers Celery
is configured with.

The payload that is planted makes a folder when it is unpickled; the folder never appears.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, serialization
from kombu.exceptions import ContentDisallowed

from celery_durable.broker.transport import register
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId, Outcome
from celery_durable.errors import ConfigurationError, PayloadError
from celery_durable.payload import PayloadCodec
from tests.witnesses import recovery_of

from . import hostileapp
from .damage import due_now, set_value, values_of
from .garbage import raised_by
from .test_damaged_rows import sent

PICKLE = "application/x-python-serialize"
CONFIGURATIONS = {
    "celery's defaults": {},
    "pickle everywhere": {
        "task_serializer": "pickle",
        "result_serializer": "pickle",
        "event_serializer": "pickle",
        "accept_content": ["pickle", "json"],
        "result_accept_content": ["pickle", "json"],
    },
    "pickle among others": {
        "accept_content": ["json", "yaml", "msgpack", "pickle"],
        "task_serializer": "pickle",
    },
    "pickle only": {
        "accept_content": ["pickle"],
        "task_serializer": "pickle",
        "result_serializer": "pickle",
    },
    "ours is another": {"accept_content": ["pickle"], "durable_serializer": "lines"},
    "by its content type": {"accept_content": ["json", PICKLE]},
}
configured = pytest.mark.parametrize(
    "conf", [pytest.param(conf, id=name) for name, conf in CONFIGURATIONS.items()]
)


@pytest.fixture(autouse=True)
def another_serializer() -> Iterator[None]:
    """One that is neither JSON nor pickle."""
    serialization.register("lines", json.dumps, json.loads, "application/x-lines", "utf-8")
    yield
    serialization.unregister("lines")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def exploded(tmp_path: Path) -> Path:
    return tmp_path / "exploded"


@pytest.fixture
def bomb(exploded: Path) -> str:
    """A stored payload that makes the folder when it is unpickled."""
    data = pickle.dumps(Bomb(exploded))
    pickle.loads(data)
    assert exploded.exists(), "the bomb works"
    exploded.rmdir()
    return f"!{PICKLE};binary;{base64.b64encode(data).decode()}"


@pytest.fixture
def make(tmp_path: Path) -> Any:
    apps: list[Any] = []

    def make(conf: dict[str, Any]) -> Any:
        app = hostileapp.make(f"sqlite:///{tmp_path / 'store.db'}", "memory://", **conf)
        app.finalize()
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.durable.runtime.store.database.dispose()
        app.close()


def start(app: Any, id_: str = "i", **options: Any) -> None:
    app.tasks["hostile.approval"].apply_async((1,), task_id=id_, **options)


def run(app: Any, id_: str = "i") -> RuntimeStatus:
    app.durable.runtime.runner.run(id_)
    return app.durable.get(id_).runtime_status  # type: ignore[no-any-return]


@configured
def test_the_codec_neither_reads_nor_writes_pickle(
    make: Callable[..., Any], conf: dict[str, Any], bomb: str, exploded: Path
) -> None:
    codec = make(conf).durable.runtime.codec
    raw = bomb.rpartition(";")[2]
    for text in (bomb, f"!{PICKLE};utf-8;{raw}", f"!{PICKLE};;{raw}"):
        assert type(raised_by(lambda: codec.decode(text))) is PayloadError
    assert type(raised_by(lambda: codec.encode(object()))) is PayloadError
    assert PICKLE not in codec.encode({"plain": [1, "x"]})
    assert PICKLE not in codec.encode_failure(ValueError("x", object()))
    assert not exploded.exists()


@pytest.mark.parametrize("conf", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_nothing_that_is_stored_is_pickle(make: Callable[..., Any], conf: dict[str, Any]) -> None:
    app = make(conf)
    start(app, link=app.signature("hostile.mark", ("x",)))
    assert run(app) is RuntimeStatus.RUNNING
    execution = values_of(app.durable.runtime.store, "instances", "execution", "i")[0]
    app.durable.runtime.store.outcomes.record(
        Outcome(ActivityAttemptId(execution, 1, 1), app.durable.runtime.codec.encode(2), False)
    )
    app.durable.get("i").raise_event("go", {"data": 1})
    found = []
    for table, columns in {
        "instances": ["input", "canvas", "custom_status"],
        "history": ["events"],
        "inbox": ["payload", "facts"],
        "outbox": ["message"],
    }.items():
        for column in columns:
            found += [
                str(value)
                for value in values_of(app.durable.runtime.store, table, column, "i")
                if value is not None
            ]
    assert len(found) >= 6
    assert not [value for value in found if "x-python" in value]


# -- planted in a row ----------------------------------------


def plant_input(app: Any, bomb: str) -> Any:
    start(app)
    set_value(app.durable.runtime.store, "instances", "input", "i", bomb)
    assert type(raised_by(lambda: app.durable.get("i").input)) is PayloadError
    return run(app)


def plant_event(app: Any, bomb: str) -> Any:
    start(app)
    run(app)
    complete(app)
    app.durable.get("i").raise_event("go", 1)
    set_value(app.durable.runtime.store, "inbox", "payload", "i", bomb, kind="EventRaised")
    return run(app)


def complete(app: Any) -> None:
    """Record the outcome of the activity and take the turn."""
    record(app)
    run(app)


def record(app: Any, payload: str = "2", *, has_failed: bool = False) -> None:
    runtime = app.durable.runtime
    (execution,) = values_of(runtime.store, "instances", "execution", "i")
    assert (
        runtime.store.outcomes.record(
            Outcome(ActivityAttemptId(execution, 1, 1), payload, has_failed)
        )
        is not None
    )


def plant_outcome(app: Any, bomb: str) -> Any:
    start(app)
    run(app)
    record(app)
    set_value(app.durable.runtime.store, "inbox", "payload", "i", bomb, kind="ActivityCompleted")
    return run(app)


def plant_failure(app: Any, bomb: str) -> Any:
    start(app)
    run(app)
    record(app, bomb, has_failed=True)
    return run(app)


def plant_history(app: Any, bomb: str) -> Any:
    start(app)
    run(app)
    complete(app)
    store, runtime = app.durable.runtime.store, app.durable.runtime
    (row,) = values_of(store, "history", "events", "i", sequence=2)
    events = json.loads(row)
    events[0][5] = bomb
    set_value(store, "history", "events", "i", json.dumps(events), sequence=2)
    if (live := runtime.live.take_instance("i")) is not None:
        live.abandon()
    app.durable.get("i").raise_event("go", 1)
    return run(app)


@pytest.mark.sparse(3)
@configured
@pytest.mark.parametrize(
    "plant",
    [plant_input, plant_event, plant_outcome, plant_failure, plant_history],
    ids=lambda plant: plant.__name__,
)
def test_a_pickle_in_a_row_that_a_turn_reads_suspends(
    make: Callable[..., Any], conf: dict[str, Any], plant: Any, bomb: str, exploded: Path
) -> None:
    app = make(conf)
    status = plant(app, bomb)
    assert not exploded.exists()
    assert status is RuntimeStatus.SUSPENDED
    assert "not accepted" in app.durable.get("i").reason


@configured
def test_a_pickle_inside_a_failure_is_not_read(
    make: Callable[..., Any], conf: dict[str, Any], bomb: str, exploded: Path
) -> None:
    codec = make(conf).durable.runtime.codec
    for parts in (
        {"args": [bomb]},
        {"state": bomb},
        {"args": [bomb], "state": bomb, "traceback": bomb, "message": bomb},
    ):
        text = json.dumps(
            {"module": "builtins", "type": "ValueError", "message": "m", "args": [], **parts}
        )
        error, is_rebuilt = codec.decode_failure(text)
        assert isinstance(error, Exception) and not is_rebuilt
        assert not exploded.exists()


@configured
def test_a_pickle_in_what_a_client_reads_is_refused(
    make: Callable[..., Any], conf: dict[str, Any], bomb: str, exploded: Path
) -> None:
    app = make(conf)
    store = app.durable.runtime.store
    start(app)
    run(app)
    for column in ("input", "output", "failure", "custom_status"):
        set_value(store, "instances", column, "i", bomb)
        handle = app.durable.get("i")
        assert type(raised_by(lambda: getattr(handle, column))) is PayloadError, column
    set_value(store, "instances", "status", "i", "COMPLETED")
    assert type(raised_by(lambda: app.durable.get("i").get(timeout=300))) is PayloadError
    set_value(store, "instances", "status", "i", "FAILED")
    assert type(raised_by(lambda: app.durable.get("i").get(timeout=300))) is PayloadError
    assert not exploded.exists()


@configured
def test_a_pickle_in_canvas_options_outbox_and_details_is_not_read(
    make: Callable[..., Any], conf: dict[str, Any], bomb: str, exploded: Path
) -> None:
    app = make(conf)
    runtime = app.durable.runtime
    start(app)
    run(app)
    sent(app)
    for message in (bomb, json.dumps([bomb, {}])):
        set_value(runtime.store, "outbox", "message", "i", message)
        due_now(runtime.store)
        recovery_of(app.durable.runtime, "w").repair_activities()
        assert sent(app) == []
    set_value(runtime.store, "instances", "canvas", "i", bomb)
    (address,) = runtime.store.reads.turn_addresses(["i"])
    runtime.publisher.publish_turn(address)
    assert sent(app) == ["i"], "without the options"
    raised_by(
        lambda: runtime.publisher.finish(address, "x", RuntimeStatus.COMPLETED, bomb, None, None)
    )
    raised_by(lambda: runtime.publisher.needs_finish(address.name, bomb, RuntimeStatus.COMPLETED))
    assert type(raised_by(lambda: runtime.codec.decode(bomb))) is PayloadError
    assert not exploded.exists()


# -- settings, and the embedded broker ----------------------------------------


@pytest.mark.parametrize("accept", [["json"], [], None, [PICKLE]], ids=repr)
def test_our_serializer_is_pickle_only_where_it_is_accepted_by_name(
    make: Callable[..., Any], accept: Any
) -> None:
    app = hostileapp.make(
        "sqlite:///none.db", "memory://", durable_serializer="pickle", accept_content=accept
    )
    error = raised_by(lambda: app.durable.runtime)
    assert isinstance(error, ConfigurationError) and "runs code" in str(error)
    app.close()


def test_a_codec_refuses_pickle_by_default(bomb: str, exploded: Path) -> None:
    for codec in (PayloadCodec(), PayloadCodec("lines"), PayloadCodec("json", ["yaml", "msgpack"])):
        assert type(raised_by(lambda: codec.decode(bomb))) is PayloadError
    assert not exploded.exists()


def test_the_embedded_broker_never_opens_a_body(tmp_path: Path, exploded: Path) -> None:
    register()
    with Connection(f"durable:///{tmp_path / 'broker.db'}") as connection:
        connection.Producer().publish(
            Bomb(exploded), serializer="pickle", routing_key="q", exchange=""
        )
        connection.SimpleQueue("q").queue.declare()
        connection.Producer().publish(
            Bomb(exploded), serializer="pickle", routing_key="q", exchange=""
        )
        message = connection.default_channel.basic_get("q")
        assert message is not None and message.content_type == PICKLE
        message.accept = {"application/json"}
        with pytest.raises(ContentDisallowed):
            message.decode()
        message.reject()
    assert not exploded.exists()
