"""The application of Flower's tests, for workers, for Flower and for clients.

Environment variables configure it.
"""

from __future__ import annotations

import asyncio
import json
import os

from celery import Celery

from celery_durable import Durable, RetryPolicy

app = Celery(
    "flowerapp", broker=os.environ["FLOWERAPP_BROKER"], backend=os.environ["FLOWERAPP_BACKEND"]
)
app.conf.update(
    task_default_queue=os.environ["FLOWERAPP_QUEUE"],
    event_exchange=f"{os.environ['FLOWERAPP_QUEUE']}-events",
    control_exchange=f"{os.environ['FLOWERAPP_QUEUE']}-control",
    broker_transport_options=json.loads(os.environ.get("FLOWERAPP_OPTIONS", "{}")),
    result_backend_transport_options={"global_keyprefix": f"{os.environ['FLOWERAPP_QUEUE']}:"},
    durable_backend_url=os.environ["FLOWERAPP_STORE"],
    durable_recovery_interval=0.3,
    broker_connection_retry_on_startup=True,
    **json.loads(os.environ.get("FLOWERAPP_CONF", "{}")),
)
durable = Durable(app)


@app.task
def add(one, other):
    return one + other


@app.task
def refuse():
    raise ValueError("refused")


@durable.orchestrator
async def part(ctx, number):
    return await ctx.call(add.s(number, 1))


@durable.orchestrator
async def order(ctx, number, secret=None):
    await asyncio.gather(*(ctx.call(add.s(number, other)) for other in range(3)))
    inner = await ctx.call(part.s(number).set(task_id=f"{ctx.instance_id}-part"))
    return [inner, await ctx.wait_event("go")]


@durable.orchestrator
async def quick(ctx, number):
    return number


@durable.orchestrator
async def failing(ctx):
    await ctx.call(refuse.s(), retry=RetryPolicy(max_attempts=2, first_interval=0.01))
