"""Messages of activities, and what a broker can read of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.app.trace import build_tracer
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import dumps, loads, prepare_accept_content, register, unregister

from celery_durable import Durable
from celery_durable.worker import sealing
from celery_durable.worker.sealing import CONTENT_TYPE, seal, use_codec
from tests.contract.encoded_world import SECRET, Scrambled


class Sent:
    """An application on a broker in memory, whose messages are looked at."""

    def __init__(self, name: str, folder: Path, **conf: Any) -> None:
        self.name = name
        self.app = app = Celery(name, broker=f"memory://{name}", set_as_current=False)
        app.conf.update(
            durable_backend_url=f"sqlite:///{folder / name}.db",
            task_default_queue=name,
            durable_turn_queue=None,
            durable_start_inline=True,
            **conf,
        )
        self.durable = Durable(app)

        @app.task(name="plain", shared=False)
        def plain(value: Any) -> Any:
            return value

        @app.task(name="again", bind=True, shared=False, max_retries=1)
        def again(task: Any, value: Any) -> None:
            raise task.retry(countdown=0)

        @app.task(name="other", bind=True, shared=False)
        def other(task: Any, value: Any) -> None:
            raise task.replace(chain(plain.si(value), plain.s()))

        @self.durable.orchestrator(name="calls", shared=False)
        async def calls(ctx: Any, name: str, value: Any, **options: Any) -> Any:
            return await ctx.call(app.tasks[name].s(value).set(**options))

    def call(self, name: str, value: Any, **options: Any) -> None:
        self.durable.start(self.app.tasks["calls"].s(name, value, **options))

    def taken(self) -> Iterator[Any]:
        """Take the messages of the queue."""
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(self.name)
            while (message := queue.get_nowait() if queue.qsize() else None) is not None:
                message.ack()
                yield message

    def read(self, message: Any) -> Any:
        """Return the body of a message."""
        accept = prepare_accept_content(self.app.conf.accept_content)
        return loads(message.body, message.content_type, message.content_encoding, accept=accept)

    def run(self, message: Any) -> None:
        """Run the task of a message as a worker does."""
        task = self.app.tasks[message.headers["task"]]
        args, kwargs, _ = self.read(message)
        request = {**message.headers, "delivery_info": {"routing_key": self.name}}
        tracer = build_tracer(task.name, task, app=self.app, eager=False, propagate=False)
        tracer(message.headers["id"], args, kwargs, {**request, "args": args, "kwargs": kwargs})


@pytest.fixture
def sent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sent]:
    """An application with a codec."""
    found = Sent(tmp_path.name, tmp_path, durable_codec=Scrambled())
    found.app.set_current()
    yield found
    found.durable.runtime.store.dispose()
    found.app.close()


def bodies(message: Any) -> str:
    return json.dumps([str(message.body), message.headers, message.properties], default=str)


@pytest.mark.parametrize("name", ["plain", "again", "other"])
def test_no_message_of_an_activity_shows_its_arguments(sent: Sent, name: str) -> None:
    sent.call(name, SECRET)
    seen = 0
    for _ in range(4):
        for message in list(sent.taken()):
            assert SECRET not in bodies(message)
            if message.headers["task"] != "calls":  # a turn has an id, and no arguments
                seen += 1
                assert message.content_type == CONTENT_TYPE
                sent.run(message)
    assert seen == {"plain": 1, "again": 2, "other": 2}[name]


def test_without_a_codec_they_do(tmp_path: Path) -> None:
    found = Sent(tmp_path.name, tmp_path)
    found.call("plain", SECRET)
    (message,) = found.taken()
    assert SECRET in bodies(message)
    assert message.content_type == "application/json"
    found.durable.runtime.store.dispose()
    found.app.close()


@pytest.mark.parametrize("serializer", ["json", "yaml", "durable", "pickle"])
def test_the_serializer_of_a_task_is_kept_within(sent: Sent, serializer: str) -> None:
    sent.app.conf.accept_content = [*sent.app.conf.accept_content, serializer]
    _ = sent.durable.runtime
    sent.call("plain", {"value": [1, SECRET]}, serializer=serializer)
    (message,) = sent.taken()
    assert SECRET not in bodies(message)
    args, _, _ = sent.read(message)
    assert list(args) == [{"value": [1, SECRET]}]


def test_a_serializer_that_is_registered_late_is_used(sent: Sent) -> None:
    name = f"late{sent.name}"
    kept: list[Any] = []
    register(name, lambda value: kept.append(value) or "kept", lambda text: kept[0], f"x/{name}")
    sent.app.conf.accept_content = [*sent.app.conf.accept_content, name]
    try:
        sent.call("plain", SECRET, serializer=name)
        (message,) = sent.taken()
        assert SECRET not in bodies(message)
        assert list(sent.read(message)[0]) == [SECRET]
    finally:
        unregister(name)


def test_pickle_is_read_only_where_it_is_accepted(sent: Sent) -> None:
    _ = sent.durable.runtime
    options: dict[str, Any] = {}
    seal(options, "pickle")
    with sent.app.connection_for_write():
        sent.app.set_current()
        content_type, encoding, body = dumps((SECRET,), serializer=options["serializer"])
    with pytest.raises((ContentDisallowed, DecodeError), match="pickle"):
        loads(body, content_type, encoding, accept=sent.app.conf.accept_content)


def test_another_key_reads_nothing(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    sent.call("plain", SECRET)
    (message,) = sent.taken()
    other = sent.durable.runtime.message_codec = Scrambled(3)
    monkeypatch.setattr(sealing, "_codecs", {})  # of other tests' apps
    use_codec(sent.app, other)
    with pytest.raises(DecodeError, match="another key"):
        loads(message.body, message.content_type, "utf-8", accept=[CONTENT_TYPE])


def test_an_app_may_send_everything_so(tmp_path: Path) -> None:
    found = Sent(tmp_path.name, tmp_path, durable_codec=Scrambled(), task_serializer="durable")
    found.app.set_current()
    found.app.tasks["plain"].delay(SECRET)
    (message,) = found.taken()
    assert SECRET not in str(message.body)
    args, _, _ = found.read(message)
    assert list(args) == [SECRET]
    found.durable.runtime.store.dispose()
    found.app.close()
