"""The embedded broker: a kombu transport over one SQLite file, for the processes of one machine.

``Celery(broker="durable://")`` needs no server. The file is the broker's own (WAL, standard library
only); it never holds or reads the tables of the store. A message that a consumer takes stays in the
file under a lease and leaves it with the acknowledgement, so the death of a process loses nothing
(``broker.file``).

A new message notifies no consumer: consumers poll. Their pauses grow from 1 ms after a message to
``polling_interval``, and within seconds to twice that. Polling an unchanged file costs one
PRAGMA. In a worker with an event loop the loop polls, so that remote control is heard while all
pool processes are busy; elsewhere ``drain_events`` does.

URLs: ``durable:///relative.db``, ``durable:////absolute/path.db``, or ``durable://`` and the option
``path``. Transport options: ``path`` (default ``celery-durable-broker.db`` in the current
directory), ``polling_interval`` (seconds, default 0.02) and ``visibility_timeout`` (seconds,
default 60).
"""

# kombu says that it is typed, but few of its functions are.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any
from urllib.parse import quote, unquote

from kombu.transport import TRANSPORT_ALIASES, virtual

from ..errors import ConfigurationError
from .channel import Channel
from .file import BrokerFile

__all__ = ["Channel", "Transport", "register"]

logger: logging.Logger = logging.getLogger(__name__)

DEFAULT_PATH = "celery-durable-broker.db"
FIRST_PAUSE = 0.001
# So many messages may come in before an event loop turns to the results of tasks again.
BATCH = 32
# A connection for control commands and events only may poll this much more slowly.
CONTROL_PATIENCE = 5


class Transport(virtual.Transport):
    """Looks for messages: soon after the last one, and less and less often when none come."""

    Channel = Channel
    can_parse_url = True
    polling_interval: float = 0.02
    # Not "sql": Celery sends no worker events over transports of that type.
    driver_type = "durable"
    driver_name = "sqlite3"
    connection_errors: Any = (*virtual.Transport.connection_errors, sqlite3.OperationalError)
    implements: Any = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.file: BrokerFile = BrokerFile.at(_path(client))
        self.file.visibility_timeout = float(
            client.transport_options.get("visibility_timeout") or 60.0
        )
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

    def as_uri(
        self, uri: str | None = None, include_password: bool = False, mask: str = "**"
    ) -> str:
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
            TimeoutError: when there was none in time; early when the prefetch limit is reached,
                because before Celery 5.7 the acknowledgements of a gevent worker wait until this
                call returns.
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
            assert self.cycle is not None  # set in __init__
            self.cycle.get(self._deliver, timeout=timeout)
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
            f"broker URL durable://{host.rpartition('@')[2]}: the embedded broker is a file and has"
            " no host; write durable:///relative.db or durable:////absolute/path.db, with three"
            " slashes or four"
        )
    if not path.strip("/"):
        path = client.transport_options.get("path") or DEFAULT_PATH
    return os.path.abspath(path)


def register() -> None:
    """Make ``durable://`` known to kombu and Celery; harmless when repeated."""
    TRANSPORT_ALIASES["durable"] = f"{__name__}:Transport"
