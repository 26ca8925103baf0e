"""One client object for each of kombu's channels on Redis, instead of one for each command.

kombu builds a ``redis.Redis`` whenever it puts a message, notes it as unacknowledged or
acknowledges it, on a pool of connections that it keeps. Such an object holds no connection, so one
of them serves as well; building it takes a tenth of what a message costs the worker's main process.
Clients of kombu's asynchronous pool hold a connection, and stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from celery import bootsteps

__all__ = ["KeepClientStep", "keep_client"]


class _KeptClient:
    """Stands for ``Channel.Client``: makes a client once for a pool of connections."""

    __slots__ = ("_channel", "_client", "_make", "_pool")

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._make: Callable[..., Any] = channel.Client
        self._pool: Any = None
        self._client: Any = None

    def __call__(self, **options: Any) -> Any:
        """Return a client with these options: the one that is kept, if only a pool is given."""
        pool = options.get("connection_pool")
        if len(options) != 1 or pool is None or pool is not self._channel.pool:
            return self._make(**options)
        if self._pool is not pool:  # kombu makes another one after a lost connection
            self._pool, self._client = pool, self._make(connection_pool=pool)
        return self._client

    def __getattr__(self, name: str) -> Any:
        """Return what the class of the clients has."""
        return getattr(self._make, name)


def keep_client(channel: Any) -> None:
    """Let a channel of kombu's Redis transport keep its client; any other is left alone."""
    redis = sys.modules.get("kombu.transport.redis")  # it is there if the channel is one of it
    if redis is None or not isinstance(channel, redis.Channel):
        return
    if not isinstance(channel.Client, _KeptClient):
        channel.Client = _KeptClient(channel)


class KeepClientStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps the client of the channel that a worker consumes by, whenever it has connected."""

    requires: set[str] = {"celery.worker.consumer.tasks:Tasks"}  # noqa: RUF012

    def start(self, consumer: Any) -> None:
        """See ``celery.bootsteps``: the channel is open, and no message has come yet."""
        keep_client(consumer.task_consumer.channel)
