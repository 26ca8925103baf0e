"""The embedded broker: a kombu transport over one SQLite file, for the processes of one machine.

``Celery(broker="durable://")`` needs no server. The file is the broker's own (WAL, standard library only); it
never holds or reads the tables of the store. A message that a consumer takes stays in the file under a lease
and leaves it with the acknowledgement, so the death of a process loses nothing.

A lease belongs to a process and lasts as long as that process. The kernel knows when it died (process id and
start time), so its messages are visible again within seconds, while a task of ten hours or a far ETA is never
delivered twice. Where the kernel cannot be asked, because the owner lives in another container, the owner's
row in the file counts: it is good for ``visibility_timeout`` and renewed while the owner polls.

One connection serves all threads of a process, under one lock, and is closed before every fork. SQLite keeps
account of its file locks per process: a child born while the file is open believes that it holds locks which
it does not, even on a connection that it opens itself, and committed messages get lost.

Nobody is told of a new message: consumers look. Their pauses grow from 1 ms after a message to
``polling_interval``, and within seconds to twice that. A look at an unchanged file costs one PRAGMA. In a
worker with an event loop the loop looks, so that remote control is heard while all pool processes are busy;
elsewhere ``drain_events`` does.

URLs: ``durable:///relative.db``, ``durable:////absolute/path.db``, or ``durable://`` and the option ``path``.
Transport options: ``path`` (default ``celery-durable-broker.db`` in the current directory),
``polling_interval`` (seconds, default 0.02) and ``visibility_timeout`` (seconds, default 60).
"""
# kombu says that it is typed, but few of its functions are.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import functools
import itertools
import logging
import os
import socket
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from time import monotonic, sleep, time
from typing import Any
from urllib.parse import quote, unquote

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.json import dumps, loads

from celery_durable.errors import ConfigurationError

__all__ = ["Channel", "Transport", "register"]

logger = logging.getLogger(__name__)

DEFAULT_PATH = "celery-durable-broker.db"
BUSY_TIMEOUT = 20.0
TEND_INTERVAL = 2.0
FIRST_PAUSE = 0.001
# So many messages may come in before an event loop turns to the results of tasks again.
BATCH = 32
# A connection for control commands and events only may poll this much more slowly.
CONTROL_PATIENCE = 5
# A queue that deletes itself outlives its last consumer by this much: a restarted worker comes back to it.
AUTO_DELETE_GRACE = 10.0

APPLICATION_ID = 0x43444251
SCHEMA_VERSION = 1
SCHEMA = (
    # AUTOINCREMENT: an id is never used twice, so a late acknowledgement cannot hit a younger message.
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        body TEXT NOT NULL, expires_at REAL, owner TEXT, redelivered INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX message_ready ON message (queue, priority DESC, id) WHERE owner IS NULL",
    "CREATE INDEX message_leased ON message (owner) WHERE owner IS NOT NULL",
    "CREATE INDEX message_expiring ON message (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE owner (name TEXT PRIMARY KEY, machine TEXT, pid INTEGER, started TEXT, leased_until REAL)",
    "CREATE TABLE queue (name TEXT PRIMARY KEY, auto_delete INTEGER, lifetime REAL, ttl REAL, used_at REAL)",
    """CREATE TABLE binding (exchange TEXT, routing_key TEXT, queue TEXT, type TEXT,
        PRIMARY KEY (exchange, routing_key, queue))""",
    "CREATE TABLE consumer (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, owner TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
UNUSED_QUEUES = """SELECT name FROM queue WHERE used_at + lifetime < ?
    AND NOT EXISTS (SELECT 1 FROM consumer WHERE consumer.queue = queue.name)"""


# The owner of a lease: a process, as the kernel knows it.


@functools.cache
def _machine() -> str:
    """Name the space in which a process id means one process: this boot, this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_time(pid: int) -> str | None:
    """Give the kernel's start time of a process, "" if it will not tell, None if the process is dead."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # alive, under another user
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return ""
    return None if state in (b"Z", b"X") else fields[18].decode()


def _is_dead(machine: Any, pid: Any, started: Any, leased_until: Any) -> bool:
    if machine != _machine() or not isinstance(pid, int):
        return not isinstance(leased_until, float) or leased_until < time()
    now = _start_time(pid)
    return now is None or (now != started and "" not in (now, started))


# The file.

_lock = threading.RLock()
_files: weakref.WeakValueDictionary[str, BrokerFile] = weakref.WeakValueDictionary()


class BrokerFile:
    """The SQLite file as this process sees it: one connection, and one owner of all its leases.

    Any thread may call any method. A method waits up to 20 s for writers in other processes and then raises
    ``sqlite3.OperationalError``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.visibility_timeout = 60.0
        #: Counts how often the leases and consumers of this process were lost; then channels are void.
        self.losses = 0
        self._connection: sqlite3.Connection | None = None
        self._close: Callable[[], object] = lambda: None
        self._identity: tuple[int, int] | None = None
        self._opened = 0
        #: Under this name this process holds leases, once it needs one.
        self.owner_name: str | None = None
        self._unreleased: set[int] = set()
        self._tend_at = 0.0

    @classmethod
    def at(cls, path: str) -> BrokerFile:
        """Give this process's one object for a path."""
        with _lock:
            file = _files.get(path)
            if file is None:
                file = _files[path] = cls(path)
            return file

    def open(self) -> sqlite3.Connection:
        """Open the file, or create it; hold the lock while using the connection."""
        with _lock:
            if self._connection is not None and _identity(self.path) != self._identity:
                self.close()
                self.disown()
            if self._connection is None:
                connection = sqlite3.connect(
                    self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
                )
                self._close = weakref.finalize(self, _close_connection, connection)
                try:
                    _prepare(connection, self.path)
                except BaseException:
                    self._close()
                    raise
                self._connection = connection
                self._identity = _identity(self.path)
                self._opened += 1
            return self._connection

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with _lock:
            self._connection = None
            self._close()

    def disown(self) -> None:
        """Forget the leases: they are not, or no longer, those of this process."""
        self.losses += 1
        self.owner_name = None
        self._unreleased = set()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query."""
        with _lock:
            return self.open().execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> int:
        """Run a statement in a transaction of its own and count the rows that it changed."""
        with _lock:
            return self.open().execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run several statements as one, alone in this process and in the file."""
        with _lock:
            connection = self.open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, ...]:
        """Give a value that stays the same only while nobody changes the file; far cheaper than a query."""
        with _lock:
            connection = self._connection or self.open()
            ((data_version,),) = connection.execute("PRAGMA data_version").fetchall()
            return self._opened, data_version, connection.total_changes

    def owner(self) -> str:
        """Give ``owner_name``, registered on first use."""
        with _lock:
            if self.owner_name is None:
                machine, pid, name = _machine(), os.getpid(), f"{os.getpid()}.{uuid.uuid4().hex}"
                row = (name, machine, pid, _start_time(pid) or "", time() + self.visibility_timeout)
                former = "SELECT name FROM owner WHERE machine = ? AND pid = ?"
                with self.transaction() as connection:
                    # This process was someone else before: by exec, or the process id was used again.
                    for (previous,) in connection.execute(former, (machine, pid)).fetchall():
                        _delete_owner(connection, previous)
                    connection.execute("INSERT INTO owner VALUES (?, ?, ?, ?, ?)", row)
                self.owner_name = name
            return self.owner_name

    def acknowledge(self, message: int) -> None:
        """Delete a message, unless its lease is no longer this process's."""
        if self.owner_name is not None:
            self.change("DELETE FROM message WHERE id = ? AND owner = ?", message, self.owner_name)

    def release(self, messages: Iterable[int]) -> None:
        """Make leased messages visible again, each in its old place; ``tend`` repeats what failed."""
        with _lock:
            self._unreleased.update(messages)
            if self.owner_name is not None and self._unreleased:
                sql = "UPDATE message SET owner = NULL, redelivered = 1 WHERE id = ? AND owner = ?"
                with self.transaction() as connection:
                    connection.executemany(sql, [(message, self.owner_name) for message in self._unreleased])
            self._unreleased.clear()

    def tend(self) -> None:
        """Renew own leases, end those of dead processes, sweep out what expired; at most every 2 s."""
        if monotonic() < self._tend_at:
            return
        self._tend_at = monotonic() + TEND_INTERVAL
        now = time()
        self._renew(now + self.visibility_timeout)
        self.release(())
        for name, *facts in self.rows("SELECT name, machine, pid, started, leased_until FROM owner"):
            if name != self.owner_name and _is_dead(*facts):
                with self.transaction() as connection:
                    count = _delete_owner(connection, name)
                if count:
                    logger.warning("process %s died; its %d open message(s) are visible again", name, count)
        if self.rows("SELECT 1 FROM message WHERE expires_at < ? LIMIT 1", now):
            self.change("DELETE FROM message WHERE expires_at < ? AND owner IS NULL", now)
        if self.rows(UNUSED_QUEUES, now):
            with self.transaction() as connection:
                for (queue,) in connection.execute(UNUSED_QUEUES, (now,)).fetchall():
                    _delete_queue(connection, queue)

    def _renew(self, until: float) -> None:
        # Only when a third of the time-out has passed: an idle worker should not write.
        fresh = "SELECT 1 FROM owner WHERE name = ? AND leased_until > ?"
        renew = "UPDATE owner SET leased_until = ? WHERE name = ?"
        with _lock:
            if (
                self.owner_name is not None
                and not self.rows(fresh, self.owner_name, until - self.visibility_timeout / 3)
                and not self.change(renew, until, self.owner_name)
            ):
                self.disown()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _close_connection(connection: sqlite3.Connection) -> None:
    with _lock:
        connection.close()


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make a new file ours, or check that it is; other processes may be doing the same."""
    is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchall() == [(0,)]
    if not is_new and connection.execute("PRAGMA application_id").fetchall() != [(APPLICATION_ID,)]:
        raise ConfigurationError(
            f"{path} is the database of something else, and the embedded broker needs a file of its own: "
            "change the path in the broker URL or in broker_transport_options"
        )
    _switch_to_wal(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE" if is_new else "BEGIN")
    version = connection.execute("PRAGMA user_version").fetchall()[0][0]
    for statement in () if version else SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        raise ConfigurationError(
            f"broker file {path} was made by another version of celery-durable: let that version work off "
            "its messages, then delete the file"
        )


def _switch_to_wal(connection: sqlite3.Connection, path: str) -> None:
    deadline = monotonic() + BUSY_TIMEOUT
    while True:
        problem = f"broker file {path}: this file system does not support SQLite's WAL mode; use a local disk"
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchall() == [("wal",)]:
                return
        except sqlite3.OperationalError as error:
            # SQLite does not apply the busy time-out to this switch.
            if "locked" not in str(error):
                raise
            problem = str(error)
        if monotonic() > deadline:
            raise sqlite3.OperationalError(problem)
        sleep(0.01)


def _delete_queue(connection: sqlite3.Connection, name: str) -> None:
    for statement in (
        "DELETE FROM message WHERE queue = ?",
        "DELETE FROM binding WHERE queue = ?",
        "DELETE FROM consumer WHERE queue = ?",
        "DELETE FROM queue WHERE name = ?",
    ):
        connection.execute(statement, (name,))


def _delete_owner(connection: sqlite3.Connection, name: str) -> int:
    """End the leases of an owner and count them."""
    abandon = "UPDATE queue SET used_at = ? WHERE name IN (SELECT queue FROM consumer WHERE owner = ?)"
    connection.execute(abandon, (time(), name))
    connection.execute("DELETE FROM consumer WHERE owner = ?", (name,))
    connection.execute("DELETE FROM owner WHERE name = ?", (name,))
    release = "UPDATE message SET owner = NULL, redelivered = 1 WHERE owner = ?"
    return connection.execute(release, (name,)).rowcount


def _before_fork() -> None:
    _lock.acquire()
    for file in list(_files.values()):
        file.close()


def _after_fork_in_child() -> None:
    for file in list(_files.values()):
        file.disown()
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)


# The transport.


class QoS(virtual.QoS):
    """Knows which message of the file stands behind each delivery of one channel."""

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._messages: dict[str, int] = {}

    def append(self, message: virtual.Message, delivery_tag: str) -> None:
        """Note a delivery that awaits its acknowledgement."""
        self._messages[delivery_tag] = int(delivery_tag.partition(".")[0])
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Delete the message. If that fails the delivery stays open and the message is delivered again."""
        message = self._messages.get(delivery_tag)
        if message is not None:
            self.channel.file.acknowledge(message)
        self._settle(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Delete the message, or give it back."""
        message = self._messages.get(delivery_tag)
        if not requeue:
            self.ack(delivery_tag)
        elif message is not None:
            # Settled first: once released, the message may be delivered anew before the next line runs.
            self._settle(delivery_tag)
            self.channel.file.release([message])

    def restore_unacked(self) -> list[Any]:
        """Give back all open deliveries."""
        messages = list(self._messages.values())
        self._messages.clear()
        self._delivered.clear()
        self._dirty.clear()
        self.channel.file.release(messages)
        return []

    def _settle(self, delivery_tag: str) -> None:
        if self._messages.pop(delivery_tag, None) is not None:
            super().ack(delivery_tag)
            self.channel.wake()


class Channel(virtual.Channel):
    """A channel whose queues, exchanges, bindings and consumers live in the file, for all processes."""

    QoS = QoS
    supports_fanout = True
    max_priority = 255

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.file = connection.file
        self._no_ack_queues: set[str] = set()
        self._registrations: dict[str, int] = {}
        self._deliveries = itertools.count()

    def awaits_work(self) -> bool:
        """Tell whether it consumes messages that need an acknowledgement, not only commands and events."""
        return not self._no_ack_queues.issuperset(self._active_queues)

    def is_saturated(self) -> bool:
        """Tell whether its consumers can take nothing before they acknowledge something."""
        return bool(self._consumers) and not self.qos.can_consume()

    def wake(self) -> None:
        """Let the polling thread look at once: what it may take has changed."""
        if self.connection is not None:
            self.connection.wake()

    # messages

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self._put_all([queue], message)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        self._put_all({queue for _, _, queue in self.get_table(exchange)}, message)

    def _put_all(self, queues: Iterable[str], message: dict[str, Any]) -> None:
        priority, body = self._get_message_priority(message), dumps(message)
        sql = """INSERT INTO message (queue, priority, body, expires_at)
            VALUES (?, ?, ?, ? + (SELECT ttl FROM queue WHERE name = ?))"""
        for queue in queues:
            self.file.change(sql, queue, priority, body, time(), queue)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        return self._take(queue, no_ack=queue in self._no_ack_queues)

    def _take(self, queue: str, no_ack: bool) -> dict[str, Any]:
        first = """SELECT id, CAST(body AS BLOB), redelivered FROM message
            WHERE queue = ? AND owner IS NULL ORDER BY priority DESC, id LIMIT 1"""
        while rows := self.file.rows(first, queue):
            ((message, body, redelivered),) = rows
            try:
                payload = self._decode(message, body, redelivered)
            except Exception:
                logger.exception("message %d cannot be decoded; moved to %s.undecodable", message, queue)
                aside = "UPDATE message SET queue = queue || '.undecodable' WHERE id = ? AND owner IS NULL"
                self.file.change(aside, message)
                continue
            if no_ack:
                taken = self.file.change("DELETE FROM message WHERE id = ? AND owner IS NULL", message)
            else:
                lease = "UPDATE message SET owner = ? WHERE id = ? AND owner IS NULL"
                taken = self.file.change(lease, self.file.owner(), message)
            if taken:
                return payload
        raise Empty()

    def _decode(self, message: int, body: bytes, redelivered: int) -> dict[str, Any]:
        payload: dict[str, Any] = loads(body)
        properties = payload["properties"]
        # A tag of its own for each delivery: the publisher's is shared by all copies of a fanout.
        properties["delivery_tag"] = f"{message}.{next(self._deliveries)}"
        properties["delivery_info"] = dict(properties["delivery_info"], redelivered=bool(redelivered))
        payload["headers"] = dict(payload["headers"])
        self.Message(payload, channel=self)  # the body, too, must be readable
        return payload

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> virtual.Message | None:
        """Take one message without a consumer."""
        try:
            message = self.Message(self._take(queue, no_ack), channel=self)
        except Empty:
            return None
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def _size(self, queue: str) -> int:
        ready = self.file.rows("SELECT count(*) FROM message WHERE queue = ? AND owner IS NULL", queue)
        return int(ready[0][0])

    def _purge(self, queue: str) -> int:
        return self.file.change("DELETE FROM message WHERE queue = ? AND owner IS NULL", queue)

    # consumers

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[..., Any], consumer_tag: str, **kwargs: Any
    ) -> None:
        """Consume from a queue; as long as this process does, the queue does not expire."""
        owner = self.file.owner()
        auto_delete = """UPDATE queue SET lifetime = min(ifnull(lifetime, 1e9), ?)
            WHERE name = ? AND auto_delete"""
        with self.file.transaction() as connection:
            connection.execute(auto_delete, (AUTO_DELETE_GRACE, queue))
            cursor = connection.execute("INSERT INTO consumer (queue, owner) VALUES (?, ?)", (queue, owner))
        self._registrations[consumer_tag] = cursor.lastrowid or 0
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self.wake()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Cancel a consumer; without another one its queue may expire."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        registration = self._registrations.pop(consumer_tag, None)
        if registration is not None:
            with self.file.transaction() as connection:
                mine = (registration, self.file.owner_name)
                connection.execute("DELETE FROM consumer WHERE id = ? AND owner = ?", mine)
                connection.execute("UPDATE queue SET used_at = ? WHERE name = ?", (time(), queue))

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many deliveries may be open at a time."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        self.wake()

    # exchanges, queues, bindings

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Give the type of an exchange; one that this connection did not declare is known by its bindings."""
        if exchange not in self.state.exchanges:
            for (kind,) in self.file.rows("SELECT type FROM binding WHERE exchange = ? LIMIT 1", exchange):
                default = kind
        return super().typeof(exchange, default)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange, its bindings, and those of its queues that are empty and unused."""
        super().exchange_delete(exchange, if_unused, nowait)
        self.file.change("DELETE FROM binding WHERE exchange = ?", exchange)

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        """Spell ``expires`` and ``message_ttl`` as RabbitMQ does."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def _new_queue(self, queue: str, auto_delete: bool = False, **kwargs: Any) -> None:
        limits = kwargs.get("arguments") or {}
        lifetime, ttl = (
            None if limits.get(key) is None else limits[key] / 1000 for key in ("x-expires", "x-message-ttl")
        )
        declare = """INSERT INTO queue VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET used_at = excluded.used_at"""
        self.file.change(declare, queue, auto_delete, lifetime, ttl, time())

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self.file.rows("SELECT 1 FROM queue WHERE name = ?", queue))

    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,
        if_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        """Delete a queue with its bindings and its messages, those being worked on too."""
        with self.file.transaction() as connection:
            for is_condition, some in (
                (if_unused, "SELECT 1 FROM consumer WHERE queue = ? LIMIT 1"),
                (if_empty, "SELECT 1 FROM message WHERE queue = ? LIMIT 1"),
            ):
                if is_condition and connection.execute(some, (queue,)).fetchall():
                    return
            _delete_queue(connection, queue)

    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", *args: Any, **kwargs: Any
    ) -> None:
        """Route messages of an exchange to a queue."""
        exchange = exchange or "amq.direct"
        insert = "INSERT OR IGNORE INTO binding VALUES (?, ?, ?, ?)"
        self.file.change(insert, exchange, routing_key or "", queue, self.typeof(exchange).type)

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", *args: Any, **kwargs: Any
    ) -> None:
        """Undo ``queue_bind``."""
        delete = "DELETE FROM binding WHERE exchange = ? AND routing_key = ? AND queue = ?"
        self.file.change(delete, exchange or "amq.direct", routing_key or "", queue)

    def get_table(self, exchange: str) -> list[tuple[str, str | None, str]]:
        """List the bindings of an exchange, made by whichever process."""
        bindings = self.file.rows("SELECT queue, routing_key FROM binding WHERE exchange = ?", exchange)
        prepare = self.typeof(exchange).prepare_bind
        return [prepare(queue, exchange, routing_key, None) for queue, routing_key in bindings]


class Transport(virtual.Transport):
    """Looks for messages: soon after the last one, and less and less often when none come."""

    Channel = Channel
    can_parse_url = True
    polling_interval = 0.02
    # Not "sql": Celery sends no worker events over transports of that type.
    driver_type = "durable"
    driver_name = "sqlite3"
    connection_errors = (*virtual.Transport.connection_errors, sqlite3.OperationalError)  # type: ignore[assignment]
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.file = BrokerFile.at(_path(client))
        self.file.visibility_timeout = float(client.transport_options.get("visibility_timeout") or 60.0)
        self._losses = 0
        self._wakes = 0
        self._drained: tuple[int, ...] = ()
        self._is_saturated = False
        self._pause = self._interval = FIRST_PAUSE
        # Rings when it is released. Waiting for a lock costs less than waiting for an Event.
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self._loop: Any = None
        self._next_poll: Any = None

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """Nothing: kombu would fill in a host name."""
        return {}

    def driver_version(self) -> str:
        """Give the version of the SQLite library."""
        return sqlite3.sqlite_version

    def as_uri(self, uri: str | None = None, include_password: bool = False, mask: str = "**") -> str:
        """Show the path in use, also when the URL left it to the options."""
        return f"durable:///{quote(self.file.path)}"

    def establish_connection(self) -> Any:
        """Open the file, so that a wrong path fails here."""
        self.file.open()
        self._losses = self.file.losses
        return super().establish_connection()

    def wake(self) -> None:
        """End the current pause and look at the queues."""
        self._wakes += 1
        if self._loop is not None:
            self._schedule_poll(FIRST_PAUSE)
        with suppress(RuntimeError):  # it rings already
            self._alarm.release()

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver one message.

        Raises:
            TimeoutError: when there was none in time; early when the prefetch limit is reached, because
                before Celery 5.7 the acknowledgements of a gevent worker wait until this call returns.
            sqlite3.OperationalError: when the leases were lost; connecting again starts afresh.
        """
        deadline = float("inf") if timeout is None else monotonic() + timeout
        while not self._deliver_one(timeout):
            remaining = deadline - monotonic()
            if remaining <= 0:
                raise TimeoutError
            if self._alarm.acquire(timeout=min(self._pause, remaining)):
                self._pause = FIRST_PAUSE
            elif self._is_saturated and timeout is not None:
                raise TimeoutError

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Poll from a worker's event loop from now on, until the connection is closed."""
        self._loop = loop
        self._schedule_poll(FIRST_PAUSE)

    def _schedule_poll(self, pause: float) -> None:
        if self._next_poll is not None:
            self._next_poll.cancel()
        self._next_poll = self._loop.call_later(pause, self._poll)

    def _poll(self) -> None:
        if self.client is None:  # closed
            return
        try:
            for _ in range(BATCH):
                if not self._deliver_one(None):
                    break
        finally:
            self._schedule_poll(self._pause)

    def _deliver_one(self, timeout: float | None) -> bool:
        self.file.tend()
        if self.file.losses != self._losses:
            raise sqlite3.OperationalError(
                f"broker file {self.file.path} was replaced, or this process did not poll it for "
                f"{self.file.visibility_timeout} s and its messages were given to others"
            )
        version = (self._wakes, *self.file.version())
        growth = 1.5 if self._pause < self._interval else 1.01
        self._pause = min(self._pause * growth, self._interval * 2)
        if version == self._drained:
            return False
        try:
            self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr]  # set in __init__
        except Empty:
            self._drained = version
            # Worked out here, not at each poll: an idle poll has to be cheap.
            self._is_saturated = any(channel.is_saturated() for channel in self.channels)
            is_urgent = any(channel.awaits_work() for channel in self.channels)
            patience = 1 if is_urgent else CONTROL_PATIENCE
            self._interval = max(self.polling_interval * patience, FIRST_PAUSE)
            return False
        self._pause = FIRST_PAUSE
        return True


def _path(client: Any) -> str:
    """Find the file that a kombu connection means; the URL counts more than the option ``path``."""
    host, path = client.hostname or "", client.virtual_host or ""
    if "://" in host:
        host, _, path = host.partition("://")[2].partition("?")[0].partition("/")
        path = unquote(path)
    if host not in ("", "localhost"):
        raise ConfigurationError(
            f"broker URL durable://{host.rpartition('@')[2]}: the embedded broker is a file and has no host; write "
            "durable:///relative.db or durable:////absolute/path.db, with three slashes or four"
        )
    if not path.strip("/"):
        path = client.transport_options.get("path") or DEFAULT_PATH
    return os.path.abspath(path)


def register() -> None:
    """Make ``durable://`` known to kombu and Celery; harmless when repeated."""
    TRANSPORT_ALIASES["durable"] = f"{__name__}:Transport"
