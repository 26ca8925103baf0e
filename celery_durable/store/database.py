"""Connections and transactions.

Every connection is in autocommit; transactions are explicit, READ COMMITTED, and repeated whole
when the database asks for it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import sqlalchemy as sa

from .._errors import ConfigurationError
from ..forks import renew_in_children
from ..interrupts import shielded
from . import connecting, faults
from .addresses import Address, address_of
from .connecting import family_of
from .fork_gate import ForkGate
from .runner import Cursor, Runner
from .statements import Statement

__all__ = ["Database", "Runner", "Statement", "family_of"]

log: logging.Logger = logging.getLogger("celery_durable.store")
T = TypeVar("T")
_ATTEMPTS = 12
# a client that freezes inside a transaction loses it: its locks fall, and its late commit fails
_BEGIN = {
    "postgresql": (
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout ="
        " 30000"
    ),
    "sqlite": "BEGIN IMMEDIATE",
    "mysql": "START TRANSACTION",
}
_SECRET = re.compile("pass|secret|token", re.IGNORECASE)
_IN_DOUBT = "durable_in_doubt"


class Database(Runner):
    """One SQL database, safe to use from any thread and after a fork.

    Args:
        url: an SQLAlchemy URL, or a name that ``address_of`` knows.
        options: extra keyword arguments of ``create_engine``.
        on_first_use: called once per process with the database, before its first statement.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        on_first_use: Callable[[Database], None] | None = None,
    ) -> None:
        self.address: Address = address_of(url)
        self.url: sa.URL = self.address.url
        if secret := next((name for name in self.url.query if _SECRET.search(name)), None):
            raise ConfigurationError(
                f"durable_backend_url has {secret!r} in its query, where logs and `celery report`"
                " would show it: write the password before the host, or put it into"
                " durable_backend_options['connect_args']",
                setting="durable_backend_url",
            )
        self.family: str = family_of(self.url)
        self.options: dict[str, Any] = connecting.merged_options(
            self.address.options, options or {}
        )
        self._on_first_use = on_first_use
        self._lock = threading.RLock()
        self._engine: sa.Engine | None = None
        self._pid: int | None = None
        self._is_ready = False
        self._fork_gate: ForkGate | None = None
        if self.family == "sqlite":
            self._fork_gate = ForkGate(self.dispose)
        renew_in_children(self, Database._renew)

    is_own = True
    #: What SQLite waits for at a commit.
    durability = "FULL"

    def using(self) -> AbstractContextManager[sa.Engine]:
        """Give the engine for one use of a connection, which no fork interrupts."""
        gate = self._fork_gate
        return nullcontext(self.engine) if gate is None else self._between_forks(gate)

    @contextmanager
    def _between_forks(self, gate: ForkGate) -> Iterator[sa.Engine]:
        with gate.use():
            yield self.engine

    def _renew(self) -> None:
        self._lock = threading.RLock()

    # -- connections -------------------------------------------------------------------------------

    @property
    def dialect(self) -> sa.Dialect:
        """What statements are compiled for."""
        return self.engine.dialect

    @property
    def is_current(self) -> bool:
        """Whether this still is the database that the settings mean: an alias may come to mean
        another one.
        """
        return self.address.is_current()

    @property
    def engine(self) -> sa.Engine:
        """Return this process's engine; a child never touches its parent's sockets."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    if self._engine is not None:
                        self._engine.dispose(close=False)
                    self._engine, self._is_ready = self._make_engine(), False
                    self._pid = os.getpid()
        assert self._engine is not None
        return self._engine

    def _make_engine(self) -> sa.Engine:
        engine = connecting.make_engine(self.url, self.options, str(self), self._note_packet)
        sa.event.listen(engine, "reset", _close_doubtful)
        return engine

    def _note_packet(self, most: int) -> None:
        self.largest_packet: int = most

    def schema_engine(self) -> sa.Engine:
        """Return an engine for work on the schema, without a pool.

        Its connections are not in autocommit.
        """
        arguments = self.options.get("connect_args") or {}
        engine = sa.create_engine(
            self.engine.url, poolclass=sa.pool.NullPool, connect_args=arguments
        )
        connecting.watch_connect(engine, str(self))
        return engine

    def dispose(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Give a cursor on a pooled connection, in autocommit.

        Raises:
            StoreError: the database cannot be reached, or refuses.
            ConfigurationError: its schema is not ours.
        """
        with shielded(), self.using() as engine, self._leased(engine, begin=False) as cursor:
            yield cursor

    @contextmanager
    def _leased(self, engine: sa.Engine, begin: bool, is_lasting: bool = True) -> Iterator[Cursor]:
        """Give a cursor for the length of a block, in a transaction if that is to ``begin``.

        The connection goes back to the pool only if the block came to an end, or the driver itself
        refused something and no transaction is left. Whatever else ended it may have left an answer
        on the wire or a lock in the database: then the connection is closed, also if it is the
        garbage collector who finds it.
        """
        self._prepare()
        connection, is_clean = self._checkout(engine), False
        is_lazy = self.family == "sqlite" and not is_lasting and self.durability == "FULL"
        try:
            cursor = connection.cursor()
            if is_lazy:
                cursor.execute("PRAGMA synchronous=NORMAL")
            if begin:
                cursor.execute(_BEGIN[self.family])
            yield cursor
            if begin:
                cursor.execute("COMMIT")
            if is_lazy:
                cursor.execute("PRAGMA synchronous=FULL")
            is_clean = True
        except faults.Undone:
            is_clean = begin and not is_lazy and self._has_rolled_back(connection, cursor)
            raise
        except engine.dialect.loaded_dbapi.Error as error:
            if engine.dialect.is_disconnect(
                error, connection.driver_connection, None
            ) or faults.is_read_only(error):
                error.durable_is_disconnect = True  # type: ignore[attr-defined]
                connection.invalidate()
                engine.dispose()  # what else the pool has is as dead
            else:
                is_clean = not is_lazy and (not begin or self._has_rolled_back(connection, cursor))
            raise
        finally:
            _give_back(connection, is_clean=is_clean)

    def _prepare(self) -> None:
        """Call the hook of the first use, once in each process."""
        if self._is_ready or self._on_first_use is None:
            return
        with self._lock:
            if not self._is_ready:
                self._is_ready, is_done = True, False  # set first: the hook comes through here too
                try:
                    self._on_first_use(self)
                    is_done = True
                except sa.exc.DBAPIError as error:
                    raise self.store_error(error) from error
                finally:
                    self._is_ready = is_done

    def _checkout(self, engine: sa.Engine) -> Any:
        try:
            connection = engine.raw_connection()
        except sa.exc.SQLAlchemyError as error:
            raise self.store_error(error) from error
        except engine.dialect.loaded_dbapi.Error as error:
            raise self.store_error(error) from error
        connection.info[_IN_DOUBT] = True
        return connection

    def _has_rolled_back(self, connection: Any, cursor: Cursor) -> bool:
        if self.family == "sqlite" and not connection.driver_connection.in_transaction:
            return True  # BEGIN itself was refused
        try:
            cursor.execute("ROLLBACK")
        except Exception:
            log.debug("rollback failed; the connection is given up", exc_info=True)
            return False
        return True

    # -- running -----------------------------------------------------------------------------------

    def transact(
        self, work: Callable[[Cursor], T], *, begin: bool = True, is_lasting: bool = True
    ) -> T:
        """Run ``work`` in one transaction, again from the start when the database asks for it.

        With ``is_lasting`` False its commit need not wait for the disk, where that can be had for
        one transaction.

        Raises:
            StoreError: the database cannot be reached; it is not known whether a commit under way
                took place.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with (
                    shielded(),
                    self.using() as engine,
                    self._leased(engine, begin, is_lasting) as cursor,
                ):
                    return work(cursor)
            except self.engine.dialect.loaded_dbapi.Error as error:
                if attempt == _ATTEMPTS or not self._may_repeat(error, attempt):
                    raise self.store_error(error) from error
            time.sleep(random.uniform(0, 0.004 * 2 ** min(attempt, 6)))  # noqa: S311
        raise AssertionError("unreachable")

    def _may_repeat(self, error: Exception, attempt: int) -> bool:
        if self.may_repeat(error):
            return True
        # a pooled connection that the server closed long ago: once more on a fresh one
        return attempt == 1 and getattr(error, "durable_is_disconnect", False)


def _give_back(connection: Any, *, is_clean: bool) -> None:
    if connection.is_valid and is_clean:
        connection.info.pop(_IN_DOUBT, None)
        connection.close()
    elif connection.is_valid:
        connection.invalidate()


def _close_doubtful(_connection: Any, record: Any, _state: Any) -> None:
    """Close a connection that comes back to the pool by another way than ``_give_back``."""
    if record.info.pop(_IN_DOUBT, False):
        record.invalidate()
