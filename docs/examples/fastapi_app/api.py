# api.py
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from celery_durable import InstanceNotFound, InvalidState, StoreError, WaitTimeout
from shop import durable, fulfil_order


class Order(BaseModel):
    id: str = Field(max_length=100)
    amount: int = Field(gt=0)


class Answer(BaseModel):
    id: str  # made by the client, once for each decision
    approved: bool
    by: str


@asynccontextmanager
async def lifespan(api: FastAPI):
    await run_in_threadpool(
        lambda: durable.runtime
    )  # a wrong setting ends the process here, not the first request
    yield


api = FastAPI(lifespan=lifespan)


async def find(order_id: str):
    try:
        return await durable.aget(f"order-{order_id}")
    except InstanceNotFound:
        raise HTTPException(404, f"there is no order {order_id}") from None


def shown(run):
    return {
        "id": run.id.removeprefix("order-"),
        "status": run.runtime_status,
        "stage": run.custom_status,
        "result": run.output,
    }


@api.post("/orders", status_code=202)
async def place(order: Order):
    run = await durable.astart(
        fulfil_order.s(order.id, order.amount),
        instance_id=f"order-{order.id}",
        tags={"kind": "order"},
    )
    return shown(run)


@api.get("/orders")
async def waiting(after: str | None = None):
    page = await durable.afind(status="RUNNING", tags={"kind": "order"}, limit=50, cursor=after)
    return {"orders": [shown(run) for run in page.items], "next": page.next_cursor}


@api.get("/orders/{order_id}")
async def look(order_id: str, response: Response, wait: float = 0):
    run = await find(order_id)
    if wait and not run.runtime_status.is_terminal:
        try:
            await run.aget(timeout=min(wait, 25), propagate=False)
        except WaitTimeout:
            response.status_code = 202
        run = await run.arefresh()
    return shown(run)


@api.post("/orders/{order_id}/answer", status_code=202)
async def answer(order_id: str, given: Answer):
    run = await find(order_id)
    try:
        await run.araise_event("approval", {"approved": given.approved, "by": given.by}, given.id)
    except InvalidState:
        raise HTTPException(409, "this order is over") from None


@api.delete("/orders/{order_id}", status_code=202)
async def cancel(order_id: str):
    await (await find(order_id)).acancel(reason="by the customer")


@api.get("/ready")
async def ready():
    try:
        await durable.afind(limit=1)
    except StoreError:
        raise HTTPException(503, "the store does not answer") from None
    return {"ready": True}
