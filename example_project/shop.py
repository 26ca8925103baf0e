"""A small shop: ordinary Celery tasks, and three orchestrators that put them together."""

import asyncio
import os
from datetime import timedelta

from celery import Celery

from celery_durable import Durable, RetryPolicy, durable_context

app = Celery(
    "shop",
    broker=os.environ.get("SHOP_BROKER", "durable://"),
    backend=os.environ.get("SHOP_BACKEND"),
)
app.conf.durable_backend_url = os.environ.get("SHOP_STORE", "sqlite:///shop.db")
durable = Durable(app)

APPROVAL_TIME = timedelta(days=float(os.environ.get("SHOP_APPROVAL_DAYS", "3")))
STUBBORN = RetryPolicy(first_interval=0.5, max_attempts=5, max_interval=timedelta(minutes=5))


# -- activities: what touches the world -------------------------------------------------------------------------


class OutOfStock(Exception):
    """The shelf is empty."""


@app.task
def reserve(order_id, item):
    if item.startswith("unicorn"):
        raise OutOfStock(item)
    return f"{item} put aside for {order_id}"


@app.task
def count(item):
    if item.startswith("unicorn"):
        raise OutOfStock(item)
    return len(item)


@app.task
def release(order_id, item):
    return f"{item} is back on its shelf"


@app.task
def charge(order_id, amount):
    key = durable_context().idempotency_key  # the same in every attempt: give it to the bank
    return f"receipt {key}"


@app.task
def refund(order_id):
    return f"{order_id} refunded"


@app.task
def hand_over(order_id):
    return f"parcel-{order_id}"


@app.task
def where_is(parcel, look):
    """Ask the carrier; this one delivers at the third look."""
    return "delivered" if look >= 3 else "on its way"


# -- orchestrators: what has to happen, in which order ------------------------------------------------------------


@durable.orchestrator
async def fulfil_order(ctx, order):
    """Reserve, charge, wait for an approval if it is dear, deliver; or take everything back."""
    undo = []
    try:
        undo += [release.si(order["id"], item) for item in order["items"]]
        await asyncio.gather(*(ctx.call(reserve.si(order["id"], item)) for item in order["items"]))

        undo += [refund.si(order["id"])]
        receipt = await ctx.call(charge.si(order["id"], order["total"]), retry=STUBBORN)

        if order["total"] >= 100:
            ctx.set_status("waiting for approval")
            try:
                answer = await ctx.wait_event("approval", timeout=APPROVAL_TIME)
            except TimeoutError:
                answer = {"approved": False, "by": "nobody"}
            if not answer["approved"]:
                raise PermissionError(f"declined by {answer['by']}")

        ctx.set_status("being delivered")
        parcel = await ctx.call(deliver.s(order["id"]))  # a sub-orchestration
    except (Exception, asyncio.CancelledError):
        ctx.set_status("being taken back")
        for compensation in reversed(undo):
            await ctx.call(compensation, retry=STUBBORN)
        raise
    return {"parcel": parcel, "receipt": receipt}


@durable.orchestrator
async def deliver(ctx, order_id):
    """Hand the parcel over, then ask the carrier until it has arrived: a durable timer holds no worker."""
    parcel = await ctx.call(hand_over.si(order_id), retry=STUBBORN)
    look = 1
    while await ctx.call(where_is.si(parcel, look), retry=STUBBORN) != "delivered":
        await ctx.sleep(0.2)  # hours, in life
        look += 1
    return parcel


@durable.orchestrator
def take_stock(ctx, items):
    """Count many items, three at a time; a tenth of the counts may fail. A generator, for a change."""
    counts = yield ctx.map(count, items, concurrency=3, tolerate=0.1)
    return {item: found for item, found in zip(items, counts, strict=True) if not isinstance(found, Exception)}
