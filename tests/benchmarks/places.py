"""Where the benchmarks run: a broker, a store, and a worker with its pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from tests.servers import MARIADB, POSTGRES, RABBITMQ, REDIS, own_database, own_keys, own_vhost


@dataclass(frozen=True)
class Place:
    """A broker and a store; results of plain tasks are in Redis everywhere."""

    broker: str
    store: str
    #: What the processes of the servers are called.
    broker_processes: tuple[str, ...]
    store_processes: tuple[str, ...]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make an empty database, virtual host or file of its own, and name it to the app."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            stack.enter_context(own_keys(REDIS, name))
            broker = {
                "redis": lambda: REDIS,
                "rabbitmq": lambda: stack.enter_context(own_vhost(RABBITMQ)),
                "durable": lambda: f"durable:///{folder}/broker.db",
            }[self.broker]()
            store = {
                "postgresql": lambda: stack.enter_context(own_database(POSTGRES)),
                "mariadb": lambda: stack.enter_context(own_database(MARIADB)),
                "sqlite": lambda: f"sqlite:///{folder}/store.db",
            }[self.store]()
            os.environ.update(
                BENCH_BROKER=broker, BENCH_RESULTS=REDIS, BENCH_STORE=store, BENCH_QUEUE=name
            )
            yield

    def written(self) -> dict[str, float]:
        """Return how much the store's server has committed, and written to its log, so far."""
        reads = {
            "postgresql": "SELECT xact_commit, pg_current_wal_lsn() - '0/0'"
            " FROM pg_stat_database WHERE datname = current_database()",
            "mariadb": "SELECT 0, variable_value FROM information_schema.global_status"
            " WHERE variable_name = 'INNODB_OS_LOG_WRITTEN'",
        }
        if self.store not in reads:
            return {}
        engine = sa.create_engine(os.environ["BENCH_STORE"])
        with engine.connect() as connection:
            commits, log = connection.exec_driver_sql(reads[self.store]).one()
        engine.dispose()
        return {"commits": float(commits), "log_bytes": float(log)}

    def words(self) -> str:
        """Return which store it is, and whether it waits for the disk."""
        settings = {
            "postgresql": ("SHOW server_version", "SHOW fsync"),
            "mariadb": ("SELECT @@version", "SELECT @@innodb_flush_log_at_trx_commit"),
            "sqlite": ("SELECT sqlite_version()", "PRAGMA synchronous"),
        }
        engine = sa.create_engine(os.environ["BENCH_STORE"])
        with engine.connect() as connection:
            version, sync = (
                connection.exec_driver_sql(each).scalar() for each in settings[self.store]
            )
        engine.dispose()
        return f"{self.broker}, {self.store} {version} (sync {sync})"


PLACES = {
    "redis-postgresql": Place("redis", "postgresql", ("redis-server",), ("postgres",)),
    "rabbitmq-mariadb": Place("rabbitmq", "mariadb", ("beam.smp", "redis-server"), ("mariadbd",)),
    "durable-sqlite": Place("durable", "sqlite", ("redis-server",), ()),
}


@contextmanager
def worker(
    pool: str, concurrency: int = 2, *, hostname: str = "bench@%h", **environment: str
) -> Iterator[int]:
    """Start a worker, wait until it answers, give the id of its main process, and end it."""
    options = ["-P", pool, "-c", str(concurrency), "-l", "WARNING", "-n", hostname]
    command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.app", "worker", *options]
    with subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle"],
        env={**os.environ, **environment},
        start_new_session=True,
    ) as process:
        from .app import app, noop

        try:
            noop.delay().get(timeout=60)
            yield process.pid
            app.control.shutdown()
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
