"""The application of the scripts; environment variables configure it."""

from __future__ import annotations

import os

from beside import PATIENCE, worker
from celery import Celery

from celery_durable import Durable

app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "durable:///broker.db"))
app.conf.durable_backend_url = os.environ.get("SHOP_STORE", "sqlite:///shop.db")
if "SHOP_PREFIX" in os.environ:
    app.conf.broker_transport_options = {"global_keyprefix": os.environ["SHOP_PREFIX"]}
    app.conf.task_default_queue = os.environ["SHOP_PREFIX"].strip(":")
durable = Durable(app)


@app.task
def charge(order_id, amount):
    return f"{order_id} paid {amount}"


@durable.orchestrator
async def pay(ctx, order_id, amount):
    return await ctx.call(charge.s(order_id, amount))


@durable.orchestrator
async def ask(ctx):
    return await ctx.wait_event("approved")


def pay_an_order():
    """Let a worker do an order; return what comes out."""
    durable.migrate()
    with worker("shop"):
        return durable.start(pay.s("42", 99)).wait(timeout=PATIENCE)
