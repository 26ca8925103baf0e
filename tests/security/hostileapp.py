"""The application of the security tests.

Workers make it from the environment variables ``HOSTILE_STORE`` and so on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery

from celery_durable import Durable


def make(store: str, broker: str, marks: str = ".", **conf: Any) -> Celery:
    """Make the application; the task ``mark`` leaves a file in the folder ``marks``."""
    app = Celery("hostileapp", broker=broker, set_as_current=False)
    given = {
        "durable_backend_url": store,
        "durable_recovery_interval": 600,  # nothing but a message moves a row
        "durable_store_patience": 2,
        "broker_connection_retry_on_startup": True,
    }
    app.conf.update({**given, **conf})
    durable = Durable(app)

    @app.task(name="hostile.mark", shared=False)
    def mark(name: str) -> str:
        (Path(marks) / name).touch()
        return name

    @app.task(name="hostile.charge", shared=False)
    def charge(amount: int) -> int:
        return amount + 1

    @durable.orchestrator(name="hostile.sale", shared=False)
    async def sale(ctx: Any, amount: int, queue: str | None = None) -> Any:
        return await ctx.call(charge.s(amount).set(**({"queue": queue} if queue else {})))

    @durable.orchestrator(name="hostile.approval", shared=False)
    async def approval(ctx: Any, amount: int) -> Any:
        ctx.set_status({"amount": amount})
        return [await ctx.call(charge.s(amount)), await ctx.wait_event("go")]

    return app


if "HOSTILE_STORE" in os.environ:
    app = make(
        os.environ["HOSTILE_STORE"],
        os.environ["HOSTILE_BROKER"],
        os.environ.get("HOSTILE_MARKS", "."),
        **json.loads(os.environ.get("HOSTILE_CONF", "{}")),
    )
