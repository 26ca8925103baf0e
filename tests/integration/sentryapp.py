"""A worker under Sentry that runs a task and an orchestration which fail, and an orchestration that
a view starts.

Prints the events that Sentry would send, the trace of the view, and those of its activities.

Sentry is set up before the worker's modules are imported, as it is in a worker that loads an
application.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sentry_sdk
from celery import Celery
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from celery_durable import Durable

sent: list[dict[str, Any]] = []


def keep(event: dict[str, Any], hint: Any) -> None:
    (raised,) = event["exception"]["values"]
    job = (event.get("extra") or {}).get("celery-job")
    sent.append({"type": raised["type"], "mechanism": raised["mechanism"]["type"], "job": job})


class Nowhere(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Any) -> None:
        """Forget it."""


def main(url: str) -> None:
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        before_send=keep,
        send_default_pii=True,
        traces_sample_rate=1.0,
        transport=Nowhere,
        integrations=[CeleryIntegration()],
    )
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

    traces: list[str] = []

    @app.task(name="sentry.look", bind=True)
    def look(self: Any, n: int) -> int:
        told = getattr(self.request, "sentry-trace", None) or (self.request.headers or {}).get(
            "sentry-trace"
        )
        traces.append(str(told)[:32])
        return n

    @durable.orchestrator(name="sentry.flow")
    async def flow(ctx: Any) -> list[int]:
        one_by_one = [await ctx.call(look.s(n)) for n in range(3)]
        together: list[int] = await ctx.all([ctx.call(look.s(n)) for n in range(3, 6)])
        return one_by_one + together

    durable.migrate()
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        plain.delay(3).get(timeout=300, propagate=False)
        run = lasting.delay(3)
        # Celery's result: the last message has been dealt with
        super(type(run), run).get(timeout=300, propagate=False)
        last.delay().get(timeout=300)
        with sentry_sdk.start_transaction(name="view") as view:
            started = durable.start(flow.s())
        output = started.wait(timeout=300)
    told = {"events": sent, "output": output, "traces": traces, "trace": view.trace_id}
    print(json.dumps(told))


main(sys.argv[1])
