"""The embedded broker through kombu's public interface, and across real processes."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.asynchronous import Hub
from kombu.transport import TRANSPORT_ALIASES

from celery_durable.broker import channel
from celery_durable.broker import file as brokerfile
from celery_durable.broker import transport as module
from celery_durable.broker.file import BrokerFile
from celery_durable.broker.transport import register
from celery_durable.errors import ConfigurationError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[..., Connection]]:
    """Open connections that are closed at the end."""
    connections = []

    def connect(**options: Any) -> Connection:
        connections.append(Connection(f"durable:///{path}", transport_options=options))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.release()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tend the file at every poll."""
    monkeypatch.setattr(brokerfile, "TEND_INTERVAL", 0)


def put(connection: Connection, body: Any, queue: str = "q", **options: Any) -> None:
    Producer(connection.default_channel).publish(body, routing_key=queue, **options)


def get(connection: Connection, queue: str = "q", **options: Any) -> Any:
    return Queue(queue, channel=connection.default_channel).get(**options)


def drain(connection: Connection, condition: Callable[[], Any], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "nothing arrived"
        try:
            connection.drain_events(timeout=0.1)
        except TimeoutError:
            pass


def sql(path: Path, statement: str, *values: Any) -> list[Any]:
    database = sqlite3.connect(path, timeout=20)
    try:
        with database:
            return database.execute(statement, values).fetchall()
    finally:
        database.close()


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in a process of its own, with kombu and the transport at hand."""
    prelude = (
        "import os, sys, time\n"
        "from kombu import Connection, Producer, Queue\n"
        "from celery_durable.broker.transport import register\n"
        "register()\n"
        "connection = Connection(f'durable:///{sys.argv[1]}')\n"
        "queue = Queue('q', channel=connection.default_channel)\n"
        "put = lambda body: Producer(connection.default_channel).publish(body, routing_key='q')\n"
    )
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output(process: subprocess.Popen[str], text: str = "") -> str:
    out, error = process.communicate(text, timeout=300)
    assert process.returncode == 0, error
    return out


class TestURL:
    @pytest.mark.parametrize(
        ("url", "options", "expected"),
        [
            ("durable:///relative.db", {}, "{cwd}/relative.db"),
            ("durable:///sub/relative.db", {"path": "ignored.db"}, "{cwd}/sub/relative.db"),
            ("durable:////srv/absolute.db", {}, "/srv/absolute.db"),
            ("durable:////srv/with%20space.db", {}, "/srv/with space.db"),
            ("durable://localhost//srv/absolute.db", {}, "/srv/absolute.db"),
            ("durable://", {}, "{cwd}/celery-durable-broker.db"),
            ("durable:///", {}, "{cwd}/celery-durable-broker.db"),
            ("durable://", {"path": "option.db"}, "{cwd}/option.db"),
            ("durable://", {"path": Path("/srv/option.db")}, "/srv/option.db"),
        ],
    )
    def test_names_a_file(
        self,
        url: str,
        options: dict[str, Any],
        expected: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        expected = expected.format(cwd=tmp_path)
        connection = Connection(url, transport_options=options)
        assert connection.transport.file.path == expected
        # However kombu copies, rebuilds or shows the URL, it means the same file.
        assert connection.clone().transport.file.path == expected
        assert pickle.loads(pickle.dumps(connection)).transport.file.path == expected
        assert Connection(connection.as_uri()).transport.file.path == expected
        assert connection.as_uri(include_password=True) == connection.as_uri()

    def test_fails_over_to_the_next_file(self, tmp_path: Path) -> None:
        urls = [f"durable:///{tmp_path}/missing/a.db", f"durable:///{tmp_path}/b.db"]
        for connection in (Connection(";".join(urls)), Connection(urls)):
            with connection:
                connection.ensure_connection(max_retries=3, interval_start=0, interval_step=0)
                put(connection, "x")
                assert connection.transport.file.path == f"{tmp_path}/b.db"
                assert connection.as_uri() == urls[1]
                assert connection.clone().transport.file.path == f"{tmp_path}/b.db"

    def test_with_a_host_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="three slashes"):
            Connection("durable://broker.db").connect()

    def test_alias_is_registered_once(self) -> None:
        register()
        assert TRANSPORT_ALIASES["durable"] == "celery_durable.broker.transport:Transport"


class TestFile:
    def test_foreign_database_is_left_alone(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        sql(path, "CREATE TABLE precious (id)")
        before = path.read_bytes()
        with pytest.raises(ConfigurationError, match="something else"):
            connect().connect()
        assert path.read_bytes() == before

    def test_other_version_is_refused(self, path: Path, connect: Callable[..., Connection]) -> None:
        connect().connect()
        sql(path, "PRAGMA user_version = 99")
        with pytest.raises(ConfigurationError, match="another version"):
            BrokerFile(str(path)).open()

    def test_missing_directory_is_a_connection_error(self, tmp_path: Path) -> None:
        connection = Connection(f"durable:///{tmp_path}/missing/broker.db")
        with pytest.raises(connection.connection_errors, match="unable to open"):
            connection.transport.establish_connection()

    def test_waits_for_other_writers_then_fails(
        self, path: Path, connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(brokerfile, "BUSY_TIMEOUT", 0.1)
        connection = connect()
        put(connection, 1)
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(connection.connection_errors, match="locked"):
            put(connection, 2)
        writer.execute("COMMIT")
        writer.close()
        put(connection, 3)
        assert connection.default_channel.queue_declare("q").message_count == 2

    def test_deleted_file_is_made_again(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        producer, consumer = connect(), connect()
        put(producer, 1)
        get(consumer)
        for file in path.parent.glob("broker.db*"):
            file.unlink()
        put(producer, 2)
        assert sql(path, "SELECT count(*) FROM message") == [(1,)]
        with pytest.raises(consumer.connection_errors, match="replaced"):
            consumer.drain_events(timeout=1)
        consumer.collect()
        assert get(consumer).payload == 2


class TestMessages:
    def test_leave_with_the_acknowledgement(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        connection = connect()
        put(connection, {"n": 1}, headers={"h": "x"}, serializer="json")
        message = get(connection)
        assert (message.payload, message.headers["h"]) == ({"n": 1}, "x")
        assert message.delivery_info["redelivered"] is False
        assert get(connection) is None
        assert sql(path, "SELECT count(*) FROM message") == [(1,)]
        message.ack()
        assert sql(path, "SELECT count(*) FROM message") == [(0,)]

    def test_without_acknowledgement_leave_at_once(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        connection = connect()
        put(connection, 1)
        put(connection, 2)
        assert get(connection, no_ack=True).payload == 1
        bodies: list[Any] = []
        queue = Queue("q", channel=connection.default_channel)
        with Consumer(
            connection, [queue], callbacks=[lambda body, _: bodies.append(body)], no_ack=True
        ):
            drain(connection, lambda: bodies == [2])
        assert sql(path, "SELECT count(*) FROM message") == [(0,)]

    def test_requeued_keep_their_place(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection = connect()
        put(connection, 1)
        put(connection, 2)
        get(connection).requeue()
        message = get(connection)
        assert (message.payload, message.delivery_info["redelivered"]) == (1, True)
        message.requeue()
        again = get(connection)
        message.channel.basic_ack(message.delivery_tag)  # of the former delivery: void
        assert sql(path, "SELECT count(*) FROM message WHERE owner IS NOT NULL") == [(1,)]
        connection.transport.file.tend()
        assert again.payload == 1
        assert [get(connection).payload, get(connection)] == [2, None]
        again.ack()
        assert sql(path, "SELECT count(*) FROM message") == [(1,)]

    def test_rejected_are_deleted(self, path: Path, connect: Callable[..., Connection]) -> None:
        connection = connect()
        put(connection, 1)
        get(connection).reject()
        assert sql(path, "SELECT count(*) FROM message") == [(0,)]

    def test_return_when_the_connection_closes(self, connect: Callable[..., Connection]) -> None:
        first, second = connect(), connect()
        for body in (1, 2):
            put(first, body)
        messages = [get(first), get(first)]
        assert get(second) is None
        first.release()
        messages[0].channel.basic_ack(messages[0].delivery_tag)  # too late
        again = [get(second), get(second)]
        assert [(message.payload, message.delivery_info["redelivered"]) for message in again] == [
            (1, True),
            (2, True),
        ]

    def test_return_later_when_the_file_was_busy_at_close(
        self,
        path: Path,
        connect: Callable[..., Connection],
        monkeypatch: pytest.MonkeyPatch,
        eager: None,
    ) -> None:
        monkeypatch.setattr(brokerfile, "BUSY_TIMEOUT", 0.1)
        first, second = connect(), connect()
        put(first, 1)
        get(first)
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        first.release()
        writer.execute("COMMIT")
        writer.close()
        bodies: list[Any] = []
        with second.Consumer(Queue("q"), callbacks=[lambda body, _: bodies.append(body)]):
            drain(second, lambda: bodies == [1])

    def test_come_by_priority_then_age(self, connect: Callable[..., Connection]) -> None:
        connection = connect()
        for body, priority in [("a", 0), ("b", 9), ("c", None), ("d", 9), ("e", 200), ("f", 5)]:
            put(connection, body, priority=priority)
        assert [get(connection).payload for _ in range(6)] == ["e", "b", "d", "f", "a", "c"]

    def test_size_and_purge_count_the_ready_ones(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        connection = connect()
        channel = connection.default_channel
        for body in range(3):
            put(connection, body)
        message = get(connection)
        assert channel.queue_declare("q").message_count == 2
        assert channel.queue_purge("q") == 2
        message.requeue()
        assert channel.queue_declare("q").message_count == 1
        channel.queue_delete("q", if_empty=True)
        assert channel.queue_declare("q", passive=True).message_count == 1
        channel.queue_delete("q")
        assert sql(path, "SELECT count(*) FROM message") == [(0,)]
        with pytest.raises(connection.channel_errors):
            channel.queue_declare("q", passive=True)

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            b"\xff\xfe",
            12,
            "[]",
            "[" * 100_000,
            (
                '{"properties": {"delivery_info": {}, "body_encoding": "base64"}, "body": "x",'
                ' "headers": {}}'
            ),
            (
                '{"properties": {"delivery_info": {}, "body_encoding": "rot13"}, "body": "x",'
                ' "headers": {}}'
            ),
            '{"properties": {"delivery_info": 1}, "headers": {}}',
            '{"properties": {"delivery_info": {}}, "headers": "x"}',
            (
                '{"properties": {"delivery_info": {"__type__": "datetime", "__value__": "never"}},'
                ' "headers": {}}'
            ),
        ],
        ids=lambda body: repr(body)[:100],
    )
    def test_undecodable_are_moved_aside(
        self,
        body: Any,
        path: Path,
        connect: Callable[..., Connection],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connection = connect()
        connection.connect()
        sql(path, "INSERT INTO message (queue, priority, body) VALUES ('q', 0, ?)", body)
        put(connection, "good")
        assert get(connection).payload == "good"
        assert sql(
            path, "SELECT count(*) FROM message WHERE queue = 'q.undecodable' AND owner IS NULL"
        ) == [(1,)]
        assert [
            record.levelname for record in caplog.records if record.name == module.__name__
        ] == ["ERROR"]


class TestRouting:
    def test_fanout_reaches_every_queue_once(self, connect: Callable[..., Connection]) -> None:
        listener, speaker = connect(), connect()
        news = Exchange("news", "fanout")
        received: list[tuple[str, Any, str]] = []
        queues = [Queue(name, news, channel=listener.default_channel) for name in ("a", "b")]

        def receive(body: Any, message: Any) -> None:
            received.append((message.delivery_info["exchange"], body, message.delivery_tag))
            message.ack()

        with listener.Consumer(queues, callbacks=[receive]):
            Producer(speaker.default_channel, news).publish("hello")
            drain(listener, lambda: len(received) == 2)
        assert {(exchange, body) for exchange, body, _ in received} == {("news", "hello")}
        assert len({tag for *_, tag in received}) == 2
        assert get(listener, "a") is None
        assert get(listener, "b") is None

    def test_topic_and_direct_bindings_are_shared(self, connect: Callable[..., Connection]) -> None:
        binder, speaker = connect(), connect()
        topic, direct = Exchange("topics", "topic"), Exchange("directs", "direct")
        for queue in (
            Queue("warm", topic, "weather.*.warm"),
            Queue("all", topic, "weather.#"),
            Queue("exact", direct, "weather.rome.warm"),
        ):
            queue(binder.default_channel).declare()
        # The speaker declares nothing: the type of the exchange comes from the file.
        producer = Producer(speaker.default_channel)
        for exchange in ("topics", "directs", "unknown"):
            producer.publish(exchange, exchange=exchange, routing_key="weather.rome.warm")
        producer.publish("cold", exchange="topics", routing_key="weather.oslo.cold")
        assert [get(binder, "warm").payload, get(binder, "warm")] == ["topics", None]
        assert [get(binder, "all").payload, get(binder, "all").payload] == ["topics", "cold"]
        assert [get(binder, "exact").payload, get(binder, "exact")] == ["directs", None]
        Queue("all", topic, "weather.#")(binder.default_channel).unbind_from(topic, "weather.#")
        producer.publish("cold", exchange="topics", routing_key="weather.oslo.cold")
        assert get(binder, "all") is None
        topic(binder.default_channel).delete()
        producer.publish("topics", exchange="topics", routing_key="weather.rome.warm")
        assert get(binder, "warm") is None


class TestExpiry:
    def test_a_queue_that_deletes_itself_outlives_no_consumer(
        self,
        path: Path,
        connect: Callable[..., Connection],
        monkeypatch: pytest.MonkeyPatch,
        eager: None,
    ) -> None:
        monkeypatch.setattr(channel, "AUTO_DELETE_GRACE", 0)
        connection = connect()
        exchange = Exchange("replies", "direct")
        queue = Queue("reply", exchange, "r", auto_delete=True)(connection.default_channel)
        queue.declare()
        file = connection.transport.file
        file.tend()
        assert file.rows("SELECT name FROM queue") == [("reply",)]  # nobody came yet
        with connection.Consumer(queue):
            file.tend()
            assert file.rows("SELECT name FROM queue") == [("reply",)]
            put(connection, "unread", "reply")
        file.tend()
        for table in ("queue", "binding", "consumer", "message"):
            assert file.rows(f"SELECT * FROM {table}") == []
        queue.declare()  # and it can come back
        Producer(connection.default_channel, exchange).publish("again", routing_key="r")
        assert get(connection, "reply").payload == "again"

    def test_queue_and_message_limits(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection = connect()
        file = connection.transport.file
        Queue("short", expires=30, message_ttl=60)(connection.default_channel).declare()
        Queue("long")(connection.default_channel).declare()
        for queue in ("short", "short", "long"):
            put(connection, 1, queue)
        held = get(connection, "short")
        file.tend()
        assert file.rows("SELECT count(*) FROM message") == [(3,)]
        sql(path, "UPDATE message SET expires_at = expires_at - 61")
        file.tend()
        # one in work is kept
        assert file.rows("SELECT queue FROM message") == [("short",), ("long",)]
        held.ack()
        sql(path, "UPDATE queue SET used_at = used_at - 31")
        file.tend()
        assert file.rows("SELECT name FROM queue") == [("long",)]


class TestLeases:
    def test_of_a_killed_process_end(self, path: Path, connect: Callable[..., Connection]) -> None:
        connection = connect()
        put(connection, 1)
        process = python("print(queue.get().payload, flush=True); time.sleep(60)", path)
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert get(connection) is None
        messages: list[Any] = []
        with connection.Consumer(
            Queue("q"), callbacks=[lambda _, message: messages.append(message)]
        ):
            started = time.monotonic()
            process.send_signal(signal.SIGKILL)  # not waited for: a zombie counts as dead
            drain(connection, lambda: messages)
        assert time.monotonic() - started < 5
        assert messages[0].delivery_info["redelivered"] is True
        process.communicate()

    def test_of_a_living_process_last(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection = connect(visibility_timeout=0.01)
        put(connection, 1)
        process = python("print(queue.get().payload, flush=True); sys.stdin.read()", path)
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        sql(path, "UPDATE owner SET leased_until = 0")
        connection.transport.file.tend()
        assert get(connection) is None
        output(process)

    @pytest.mark.parametrize(("leased_for", "is_visible"), [(-1, True), (60, False)])
    def test_of_another_machine_last_for_the_time_out(
        self,
        leased_for: float,
        is_visible: bool,
        path: Path,
        connect: Callable[..., Connection],
        eager: None,
    ) -> None:
        connection = connect()
        put(connection, 1)
        until = time.time() + leased_for
        sql(path, "INSERT INTO owner VALUES ('far', 'elsewhere', ?, '1', ?)", os.getpid(), until)
        sql(path, "UPDATE message SET owner = 'far'")
        connection.transport.file.tend()
        assert (get(connection) is not None) is is_visible

    def test_are_renewed_while_their_owner_polls(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection = connect(visibility_timeout=100)
        file = connection.transport.file
        put(connection, 1)
        get(connection)
        until = time.time() + 50
        sql(path, "UPDATE owner SET leased_until = ?", until)
        file.tend()
        ((renewed,),) = sql(path, "SELECT leased_until FROM owner")
        assert renewed > until + 49
        file.tend()
        # an idle worker does not write
        assert sql(path, "SELECT leased_until FROM owner") == [(renewed,)]

    def test_of_a_former_life_of_this_process_end(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        connection = connect()
        put(connection, 1)
        until = time.time() + 60
        sql(
            path,
            "INSERT INTO owner VALUES ('me', ?, ?, '', ?)",
            brokerfile.machine(),
            os.getpid(),
            until,
        )
        sql(path, "UPDATE message SET owner = 'me'")
        connection.transport.file.owner()
        assert get(connection).delivery_info["redelivered"] is True

    def test_given_to_others_make_the_connection_fail(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection = connect()
        put(connection, 1)
        message = get(connection)
        file = connection.transport.file
        with file.transaction() as database:
            brokerfile.delete_owner(database, file.owner())
        sql(path, "UPDATE message SET owner = 'thief'")
        message.ack()  # too late
        file._renew(time.time() + 60)
        with pytest.raises(connection.connection_errors, match="given to others"):
            connection.drain_events(timeout=1)
        connection.collect()  # closes, and must not touch what is no longer its own
        assert sql(path, "SELECT owner FROM message") == [("thief",)]
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.01)

    def test_know_a_process_by_its_start(self) -> None:
        me, here = os.getpid(), brokerfile.machine()
        started = brokerfile.start_time(me)
        assert started
        assert not brokerfile.is_dead(here, me, started, 0)
        assert not brokerfile.is_dead(here, me, "", 0)
        assert brokerfile.is_dead(here, me, f"{started}0", 0)
        assert brokerfile.is_dead(here, 2**70, started, 0)
        assert brokerfile.start_time(1) is not None


class TestPolling:
    def test_ends_early_when_nothing_more_may_be_taken(
        self, connect: Callable[..., Connection]
    ) -> None:
        connection = connect()
        messages: list[Any] = []
        put(connection, 1)
        put(connection, 2)
        with connection.Consumer(
            Queue("q"), callbacks=[lambda _, message: messages.append(message)]
        ) as consumer:
            consumer.qos(prefetch_count=1)
            drain(connection, lambda: messages)
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=30)
            assert time.monotonic() - started < 10
            acknowledge = threading.Thread(target=messages[0].ack)
            acknowledge.start()
            drain(connection, lambda: len(messages) == 2)
            acknowledge.join()

    def test_sees_a_larger_prefetch_limit(self, connect: Callable[..., Connection]) -> None:
        connection = connect()
        messages: list[Any] = []
        for body in range(3):
            put(connection, body)
        with connection.Consumer(
            Queue("q"), callbacks=[lambda _, message: messages.append(message)]
        ) as consumer:
            consumer.qos(prefetch_count=1)
            drain(connection, lambda: messages)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0)
            consumer.qos(prefetch_count=3)
            drain(connection, lambda: len(messages) == 3)

    def test_respects_the_time_out(self, connect: Callable[..., Connection]) -> None:
        connection = connect()
        with connection.Consumer(Queue("q")):
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.2)
            assert time.monotonic() - started >= 0.2


class TestEventLoop:
    def test_delivers_until_the_connection_closes(self, connect: Callable[..., Connection]) -> None:
        consumer, producer, hub = connect(), connect(), Hub()
        bodies: list[Any] = []

        def receive(body: Any, message: Any) -> None:
            bodies.append(body)
            message.ack()

        consumer.transport.register_with_event_loop(consumer.connection, hub)
        with consumer.Consumer(Queue("q"), callbacks=[receive]) as consuming:
            consuming.qos(prefetch_count=1)
            loop = hub.create_loop()
            for body in range(100):
                put(producer, body)
            deadline = time.monotonic() + 10
            while len(bodies) < 100 and time.monotonic() < deadline:
                next(loop)
        assert bodies == list(range(100))
        consumer.release()
        while len(hub.timer) and time.monotonic() < deadline:
            next(loop)
        assert not len(hub.timer)
        hub.close()

    def test_sees_what_comes_after_a_pause(self, connect: Callable[..., Connection]) -> None:
        connection, hub = connect(), Hub()
        connection.transport.register_with_event_loop(connection.connection, hub)
        bodies: list[Any] = []
        with connection.Consumer(
            Queue("q"), callbacks=[lambda body, _: bodies.append(body)], no_ack=True
        ):
            loop = hub.create_loop()
            deadline = time.monotonic() + 10
            for body in range(3):
                for _ in range(6):
                    next(loop)
                put(connection, body)
                while body not in bodies and time.monotonic() < deadline:
                    next(loop)
        assert bodies == [0, 1, 2]
        hub.close()

    def test_passes_on_a_lost_connection(
        self, path: Path, connect: Callable[..., Connection], eager: None
    ) -> None:
        connection, hub = connect(), Hub()
        connection.transport.register_with_event_loop(connection.connection, hub)
        connection.transport.file.disown()
        hub.propagate_errors = connection.connection_errors
        loop = hub.create_loop()
        with pytest.raises(sqlite3.OperationalError, match="replaced"):
            for _ in range(10):
                next(loop)
        hub.close()


class TestProcesses:
    def test_share_the_messages_from_a_cold_start(self, path: Path) -> None:
        code = (
            "print('up', flush=True); sys.stdin.readline()\nfor number in range(50):"
            " put(f'{sys.argv[2]}-{number}')\ndeadline = time.monotonic() + 20\nwhile"
            " queue.queue_declare(passive=False).message_count and time.monotonic() < deadline:\n  "
            "  message = queue.get()\n    if message: print(message.payload); message.ack()\n"
        )
        processes = [python(code, path, name) for name in "abc"]
        for process in processes:  # all interpreters are up before the first opens the file
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        taken = [line for process in processes for line in output(process).split()]
        expected = [f"{name}-{number}" for name in "abc" for number in range(50)]
        assert sorted(taken) == sorted(expected)
        assert sql(path, "SELECT count(*) FROM message") == [(0,)]

    def test_fork_inherits_neither_connection_nor_leases(self, path: Path) -> None:
        code = (
            "put('held'); message = queue.get()\nthere, back = os.pipe()\nchild = os.fork()\nif not"
            " child:\n    put('from the child')\n    message.ack()  # not the child's\n   "
            " os.read(there, 1)  # until the parent has closed its connection\n    put('from the"
            " child, later')\n    connection.release()\n    os._exit(0)\nwhile"
            " queue.queue_declare().message_count < 1: time.sleep(0.01)\nput('from the"
            " parent')\nconnection.transport.file.close()\nos.write(back, b'x')\nos.waitpid(child,"
            " 0)\nprint([queue.get(no_ack=True).payload for _ in range(3)],"
            " queue.get())\nprint(connection.transport.file.rows('SELECT owner LIKE ?, redelivered"
            " FROM message', f'{os.getpid()}.%'))\n"
        )
        assert output(python(code, path)).splitlines() == [
            "['from the child', 'from the parent', 'from the child, later'] None",
            "[(1, 0)]",
        ]

    def test_threads_share_one_connection(
        self, path: Path, connect: Callable[..., Connection]
    ) -> None:
        def publish(start: int) -> None:
            with Connection(f"durable:///{path}") as connection:
                for number in range(start, start + 25):
                    put(connection, number)

        consumer = connect()
        consumer.connect()
        threads = [threading.Thread(target=publish, args=(start,)) for start in range(0, 200, 25)]
        for thread in threads:
            thread.start()
        bodies: list[int] = []

        def receive(body: int, message: Any) -> None:
            bodies.append(body)
            message.ack()

        with consumer.Consumer(Queue("q"), callbacks=[receive]):
            drain(consumer, lambda: len(bodies) == 200)
        for thread in threads:
            thread.join()
        assert sorted(bodies) == list(range(200))
