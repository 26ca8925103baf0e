"""The file of the embedded broker: its tables, its one connection in a process, and who holds which
message.

A lease belongs to a process and lasts as long as that process. The kernel knows when it died
(process id and start time), so its messages are visible again within seconds, while a task of ten
hours or a far ETA is never delivered twice. Where the kernel cannot be asked, because the owner
lives in another container, the owner's row in the file counts: it is good for
``visibility_timeout`` and renewed while the owner polls.

One connection serves all threads of a process, under one lock, and is closed before every fork.
SQLite keeps account of its file locks per process: a child born while the file is open believes
that it holds locks which it does not, even on a connection that it opens itself, and committed
messages get lost.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from ..errors import ConfigurationError
from ..filesystem import refuse_network

__all__ = ["BrokerFile", "delete_owner", "delete_queue", "is_dead", "machine", "start_time"]

logger: logging.Logger = logging.getLogger("celery_durable.worker.transport")

BUSY_TIMEOUT = 20.0
TEND_INTERVAL = 2.0

APPLICATION_ID = 0x43444251
SCHEMA_VERSION = 1
SCHEMA = (
    # AUTOINCREMENT: an id is never used twice, so a late acknowledgement cannot hit a younger
    # message.
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        body TEXT NOT NULL, expires_at REAL, owner TEXT, redelivered INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX message_ready ON message (queue, priority DESC, id) WHERE owner IS NULL",
    "CREATE INDEX message_leased ON message (owner) WHERE owner IS NOT NULL",
    "CREATE INDEX message_expiring ON message (expires_at) WHERE expires_at IS NOT NULL",
    (
        "CREATE TABLE owner (name TEXT PRIMARY KEY, machine TEXT, pid INTEGER, started TEXT,"
        " leased_until REAL)"
    ),
    (
        "CREATE TABLE queue (name TEXT PRIMARY KEY, auto_delete INTEGER, lifetime REAL, ttl REAL,"
        " used_at REAL)"
    ),
    """CREATE TABLE binding (exchange TEXT, routing_key TEXT, queue TEXT, type TEXT,
        PRIMARY KEY (exchange, routing_key, queue))""",
    (
        "CREATE TABLE consumer (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, owner"
        " TEXT NOT NULL)"
    ),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
UNUSED_QUEUES = """SELECT name FROM queue WHERE used_at + lifetime < ?
    AND NOT EXISTS (SELECT 1 FROM consumer WHERE consumer.queue = queue.name)"""


# The owner of a lease: a process, as the kernel knows it.


@functools.cache
def machine() -> str:
    """Name the space in which a process id means one process: this boot, this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def start_time(pid: int) -> str | None:
    """Give the kernel's start time of a process, "" if it will not tell, None if the process is
    dead.
    """
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


def is_dead(place: Any, pid: Any, started: Any, leased_until: Any) -> bool:
    """Tell whether the owner of a lease has died, as far as can be known from here."""
    if place != machine() or not isinstance(pid, int):
        return not isinstance(leased_until, float) or leased_until < time()
    now = start_time(pid)
    return now is None or (now != started and "" not in (now, started))


# The file.

_lock = threading.RLock()
_files: weakref.WeakValueDictionary[str, BrokerFile] = weakref.WeakValueDictionary()


class BrokerFile:
    """The SQLite file as this process sees it: one connection, and one owner of all its leases.

    Any thread may call any method. A method waits up to 20 s for writers in other processes and
    then raises ``sqlite3.OperationalError``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.visibility_timeout: float = 60.0
        #: Counts how often the leases and consumers of this process were lost; then channels are
        #: void.
        self.losses: int = 0
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
                refuse_network(self.path, "the broker file")
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
        """Give a value that stays the same only while the file is not changed.

        Far cheaper than a query.
        """
        with _lock:
            connection = self._connection or self.open()
            ((data_version,),) = connection.execute("PRAGMA data_version").fetchall()
            return self._opened, data_version, connection.total_changes

    def owner(self) -> str:
        """Give ``owner_name``, registered on first use."""
        with _lock:
            if self.owner_name is None:
                place, pid, name = machine(), os.getpid(), f"{os.getpid()}.{uuid.uuid4().hex}"
                row = (name, place, pid, start_time(pid) or "", time() + self.visibility_timeout)
                former = "SELECT name FROM owner WHERE machine = ? AND pid = ?"
                with self.transaction() as connection:
                    # This process was someone else before: by exec, or the process id was used
                    # again.
                    for (previous,) in connection.execute(former, (place, pid)).fetchall():
                        delete_owner(connection, previous)
                    connection.execute("INSERT INTO owner VALUES (?, ?, ?, ?, ?)", row)
                self.owner_name = name
            return self.owner_name

    def acknowledge(self, message: int) -> None:
        """Delete a message, unless its lease is no longer this process's."""
        if self.owner_name is not None:
            self.change("DELETE FROM message WHERE id = ? AND owner = ?", message, self.owner_name)

    def release(self, messages: Iterable[int]) -> None:
        """Make leased messages visible again, each in its old place.

        ``tend`` repeats what failed.
        """
        with _lock:
            self._unreleased.update(messages)
            if self.owner_name is not None and self._unreleased:
                sql = "UPDATE message SET owner = NULL, redelivered = 1 WHERE id = ? AND owner = ?"
                with self.transaction() as connection:
                    connection.executemany(
                        sql, [(message, self.owner_name) for message in self._unreleased]
                    )
            self._unreleased.clear()

    def tend(self) -> None:
        """Renew own leases, end those of dead processes, sweep out what expired.

        At most every 2 s.
        """
        if monotonic() < self._tend_at:
            return
        self._tend_at = monotonic() + TEND_INTERVAL
        now = time()
        self._renew(now + self.visibility_timeout)
        self.release(())
        for name, *facts in self.rows(
            "SELECT name, machine, pid, started, leased_until FROM owner"
        ):
            if name != self.owner_name and is_dead(*facts):
                with self.transaction() as connection:
                    count = delete_owner(connection, name)
                if count:
                    logger.warning(
                        "process %s died; its %d open message(s) are visible again", name, count
                    )
        if self.rows("SELECT 1 FROM message WHERE expires_at < ? LIMIT 1", now):
            self.change("DELETE FROM message WHERE expires_at < ? AND owner IS NULL", now)
        if self.rows(UNUSED_QUEUES, now):
            with self.transaction() as connection:
                for (queue,) in connection.execute(UNUSED_QUEUES, (now,)).fetchall():
                    delete_queue(connection, queue)

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
            f"{path} is the database of something else, and the embedded broker needs a file of its"
            " own: change the path in the broker URL or in broker_transport_options"
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
            f"broker file {path} was made by another version of celery-durable: let that version"
            " work off its messages, then delete the file"
        )


def _switch_to_wal(connection: sqlite3.Connection, path: str) -> None:
    deadline = monotonic() + BUSY_TIMEOUT
    while True:
        problem = (
            f"broker file {path}: this file system does not support SQLite's WAL mode; use a local"
            " disk"
        )
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


def delete_queue(connection: sqlite3.Connection, name: str) -> None:
    """Delete a queue with its messages."""
    for statement in (
        "DELETE FROM message WHERE queue = ?",
        "DELETE FROM binding WHERE queue = ?",
        "DELETE FROM consumer WHERE queue = ?",
        "DELETE FROM queue WHERE name = ?",
    ):
        connection.execute(statement, (name,))


def delete_owner(connection: sqlite3.Connection, name: str) -> int:
    """End the leases of an owner and count them."""
    abandon = (
        "UPDATE queue SET used_at = ? WHERE name IN (SELECT queue FROM consumer WHERE owner = ?)"
    )
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


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_after_fork_in_child
)
