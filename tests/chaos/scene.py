"""Scenes: what a scenario needs, cleared away when it is over; and several scenarios at a time.

Most of a scenario is waiting for leases and restarts. So those of a module that were selected run
side by side in a few threads from its first test on, and each test waits for its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import own_database
from tests.nodes import OwnPgBouncer, OwnPostgres, OwnRabbit, OwnRedis, running

from .cable import Cable
from .cluster import Cluster

SEED = os.environ.get("DURABLE_CHAOS_SEED", "1")
WIDTH = int(os.environ.get("DURABLE_CHAOS_WIDTH", "3"))


def plays(scenario: Callable[..., Any]) -> pytest.MarkDecorator:
    """Mark a test as the one that looks at what a scenario came to.

    Parameters of the test are the scenario's too.
    """
    return pytest.mark.scenario.with_args(scenario)


class Scene:
    """One scenario's servers and clusters."""

    def __init__(self, name: str, directory: Path, servers: dict[str, str | BaseException]) -> None:
        self.name, self.directory, self._servers = name, directory, servers
        self.seed = f"{SEED}:{name}"
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __getattr__(self, name: str) -> str:
        """The URL of a shared server; one that is absent skips the test."""
        if name not in self._servers:
            raise AttributeError(name)
        if isinstance(found := self._servers[name], BaseException):
            raise found
        return found

    def cluster(self, broker: str, store: str, **options: Any) -> Cluster:
        cluster = Cluster(self.directory / self.name, broker, store, seed=self.seed, **options)
        self._stack.callback(cluster.close)
        return cluster

    def database(self, server: str) -> str:
        """An empty database on a shared server."""
        return self._stack.enter_context(own_database(server))

    def sqlite(self, directory: Path | None = None) -> str:
        return f"sqlite:///{(directory or self.path()) / 'store.db'}"

    def path(self) -> Path:
        path = self.directory / f"{self.name}-files"
        path.mkdir(exist_ok=True)
        return path

    def cable(self, url: str) -> Cable:
        cable = Cable(url)
        self._stack.callback(cable.close)
        return cable

    def own_redis(self) -> OwnRedis:
        return self._stack.enter_context(running(OwnRedis(self.path())))

    def own_rabbit(self) -> OwnRabbit:
        return self._stack.enter_context(running(OwnRabbit()))

    def own_postgres(self) -> OwnPostgres:
        return self._stack.enter_context(running(OwnPostgres()))

    def bouncer(self, server: str) -> OwnPgBouncer:
        return self._stack.enter_context(running(OwnPgBouncer(server, pool_size=5)))

    def callback(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._stack.callback(function, *args, **kwargs)


class SideBySide:
    """Runs scenarios in threads."""

    def __init__(self, directory: Path, servers: dict[str, str | BaseException]) -> None:
        self._directory, self._servers = directory, servers
        self._threads = ThreadPoolExecutor(WIDTH, "chaos")
        self._futures: dict[str, Future[Any]] = {}

    def submit(
        self, key: str, name: str, scenario: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        self._futures[key] = self._threads.submit(self._run, name, scenario, arguments)

    def _run(self, name: str, scenario: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        with Scene(name, self._directory, self._servers) as scene:
            return scenario(scene, **arguments)

    def result(self, key: str) -> Any:
        return self._futures[key].result()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
