"""Where the demo runs, if it is given servers: a schema, a database, a queue of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from celery import Celery

__all__ = ["DemoFailed", "configure", "own_store", "reached", "remove_queue", "settings_of_run"]


_QUICK = {  # so that you do not wait for the recovery of a demo
    "durable_recovery_interval": 0.2,
    "durable_heartbeat_interval": 0.4,
    "durable_worker_lease": 1.2,
    "durable_resend_after": 1.0,
}


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@contextmanager
def own_store(store: str, name: str) -> Iterator[str]:
    """Make a schema (PostgreSQL) or a database (MySQL) of the run's own.

    An SQLite file has to be a new one.
    """
    url = sa.make_url(store)
    if url.drivername in ("mysql", "mariadb"):
        url = url.set(drivername="mysql+pymysql")
    kind = "SCHEMA" if url.get_backend_name() == "postgresql" else "DATABASE"
    if url.get_backend_name() not in ("postgresql", "mysql", "mariadb"):
        if url.get_backend_name() == "sqlite" and url.database and os.path.exists(url.database):
            raise DemoFailed(
                f"{url.database} exists already; the demo wants an SQLite file of its own"
            )
        yield store  # the engine says what it thinks of any other
        return
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE {kind} {name}")
    try:
        if kind == "SCHEMA":
            options = (str(url.query.get("options") or ""), f"-csearch_path={name}")
            path = " ".join(filter(None, options))
            url = url.update_query_dict({"options": path})
        else:
            url = url.set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(
                f"DROP {kind} {name}" + (" CASCADE" if kind == "SCHEMA" else "")
            )


def reached(app: Celery, broker: str) -> str:
    """Return where a broker is, without its password.

    Raises:
        DemoFailed: it cannot be reached.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            return str(connection.as_uri())
    except Exception as error:  # each transport has errors of its own
        raise DemoFailed(
            f"the broker cannot be reached: {type(error).__name__}: {error}"
        ) from error


def remove_queue(app: Celery, broker: str, name: str) -> None:
    """Remove what the run has put on a broker."""
    if broker.startswith(("redis:", "rediss:")):
        import redis

        client = redis.Redis.from_url(broker)
        if keys := list(client.scan_iter(f"{name}:*")):
            client.delete(*keys)
        client.close()
        return
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(name)


def settings_of_run(
    name: str,
    directory: Path,
    *,
    broker: str | None,
    store: str,
    backend: str | None,
    journal: Path,
) -> dict[str, Any]:
    """Return the settings of the app, for this process and its workers."""
    settings: dict[str, Any] = {
        **_QUICK,
        "broker_url": broker or f"durable:///{quote(str(directory / 'broker.db'))}",
        "broker_connection_retry_on_startup": True,
        "durable_backend_url": store,
        "result_backend": backend,
        "task_default_queue": name,
        "worker_enable_remote_control": False,
        "demo_journal": str(journal),
    }
    if (broker or "").startswith(("redis:", "rediss:")):
        settings["broker_transport_options"] = {"global_keyprefix": f"{name}:"}
    return settings


def configure(app: Celery, settings: dict[str, Any]) -> None:
    """Let an app have these settings alone, whatever the environment says."""
    for name in (
        "CELERY_BROKER_URL",
        "CELERY_BROKER_READ_URL",
        "CELERY_BROKER_WRITE_URL",
        "CELERY_RESULT_BACKEND",
    ):
        os.environ.pop(name, None)  # they would overrule what this run was asked for
    app.conf.update(settings)
