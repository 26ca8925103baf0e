# shop.py
import os
from datetime import timedelta

from celery import Celery

from celery_durable import Durable, RetryPolicy, durable_context

app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "durable://"))
app.conf.durable_backend_url = os.environ.get("SHOP_STORE", "sqlite:///shop.db")
durable = Durable(app)


@app.task
def charge(order_id, amount):
    key = durable_context().idempotency_key  # a real bank would be given it
    return f"{order_id} paid {amount}, {key}"


@app.task
def refund(order_id, receipt=None):
    return f"{order_id} refunded"


@app.task
def ship(order_id):
    return f"parcel-{order_id}"


@durable.orchestrator
async def fulfil_order(ctx, order_id, amount):
    async with ctx.saga() as saga:
        ctx.set_status("charging the card")
        await saga.call(
            charge.s(order_id, amount), undo=refund.s(order_id), retry=RetryPolicy(max_attempts=5)
        )
        if amount > 100:
            ctx.set_status("waiting for approval")
            answer = await ctx.wait_event("approval", timeout=timedelta(days=3))
            if not answer["approved"]:
                await saga.compensate()
                return {"status": "declined", "by": answer["by"]}
        ctx.set_status("shipping")
        return {"status": "shipped", "parcel": await ctx.call(ship.s(order_id))}
