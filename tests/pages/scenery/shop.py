"""The shop of most pages: an application, tasks and orchestrators by the names that they use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from celery import Celery

import celery_durable
from celery_durable import Durable

sys.modules["shop"] = sys.modules[__name__]  # for pages that import it

app = Celery("shop", broker="memory://")
app.conf.durable_backend_url = f"sqlite:///{Path.cwd() / 'shop.db'}"
durable = Durable(app)


class CardDeclined(Exception):
    """The bank says no."""


@app.task(name="shop.charge")
def charge(order: Any = "42", *_: Any) -> dict[str, Any]:
    if order == "declined":
        raise CardDeclined("no money")
    return {"receipt": f"R-{order}"}


@app.task(name="shop.ship")
def ship(order: Any) -> str:
    return f"parcel-{order}"


@durable.orchestrator(name="shop.fulfil_order")
async def fulfil_order(
    ctx: celery_durable.OrchestrationContext, order: Any, amount: Any = 1
) -> Any:
    receipt = await ctx.call(charge.s(order, amount))
    ctx.set_status("waiting for approval")
    answer = await ctx.wait_event("approved")
    return {**receipt, "by": answer["by"]}


fulfil = fulfil_order
