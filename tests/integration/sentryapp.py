"""A worker under Sentry that runs a task and an orchestration which fail.

Prints the events that Sentry would send.

Sentry is set up before the worker's modules are imported, as it is in a worker that loads an
application.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sentry_sdk
from celery import Celery

from celery_durable import Durable

sent: list[dict[str, Any]] = []


def keep(event: dict[str, Any], hint: Any) -> None:
    (raised,) = event["exception"]["values"]
    job = (event.get("extra") or {}).get("celery-job")
    sent.append({"type": raised["type"], "mechanism": raised["mechanism"]["type"], "job": job})


def main(url: str) -> None:
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", before_send=keep, send_default_pii=True)
    from celery.contrib.testing.worker import start_worker

    app = Celery("sentry", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(durable_backend_url=url, broker_transport_options={"polling_interval": 0.01})
    durable = Durable(app)

    @app.task(name="sentry.plain")
    def plain(n: int) -> None:
        raise ValueError("no")

    @app.task(name="sentry.last")
    def last() -> None:
        """Come after what was sent before."""

    @durable.orchestrator(name="sentry.durable")
    async def lasting(ctx: Any, n: int) -> None:
        raise ValueError("no")

    durable.migrate()
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        plain.delay(3).get(timeout=300, propagate=False)
        run = lasting.delay(3)
        # Celery's result: the last message has been dealt with
        super(type(run), run).get(timeout=300, propagate=False)
        last.delay().get(timeout=300)
    print(json.dumps(sent))


main(sys.argv[1])
