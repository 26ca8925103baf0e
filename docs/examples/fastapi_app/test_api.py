# test_api.py
from datetime import timedelta

import pytest
from httpx import ASGITransport, AsyncClient

from api import api
from celery_durable.testing import durable_environment
from shop import charge, durable, refund

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def env():
    with durable_environment(durable) as env:
        yield env


@pytest.fixture
async def client():
    async with AsyncClient(transport=ASGITransport(api), base_url="http://shop") as client:
        yield client


async def test_a_small_order_is_shipped(env, client):
    placed = await client.post("/orders", json={"id": "1", "amount": 99})
    assert placed.status_code == 202
    env.run_until_idle()
    assert (await client.get("/orders/1")).json()["result"] == {
        "status": "shipped",
        "parcel": "parcel-1",
    }


async def test_an_order_that_is_placed_twice_is_paid_once(env, client):
    for _ in range(2):
        await client.post("/orders", json={"id": "1", "amount": 99})
    env.run_until_idle()
    assert len(env.calls(charge)) == 1


async def test_a_dear_order_waits_for_an_answer(env, client):
    await client.post("/orders", json={"id": "1", "amount": 500})
    env.advance(days=2)
    (order,) = (await client.get("/orders")).json()["orders"]
    assert order["stage"] == "waiting for approval"
    answer = {"id": "a-1", "approved": False, "by": "ada"}
    for _ in range(2):
        assert (await client.post("/orders/1/answer", json=answer)).status_code == 202
    env.run_until_idle()
    assert (await client.get("/orders/1")).json()["result"] == {"status": "declined", "by": "ada"}
    assert len(env.calls(refund)) == 1
    assert (await client.post("/orders/1/answer", json=answer)).status_code == 409


async def test_an_order_without_an_answer_is_paid_back(env, client):
    await client.post("/orders", json={"id": "1", "amount": 500})
    env.advance(timedelta(days=4))
    assert (await client.get("/orders/1")).json()["status"] == "FAILED"
    assert len(env.calls(refund)) == 1


async def test_a_customer_cancels(env, client):
    await client.post("/orders", json={"id": "1", "amount": 500})
    env.run_until_idle()
    assert (await client.delete("/orders/1")).status_code == 202
    env.run_until_idle()
    assert (await client.get("/orders/1")).json()["status"] == "CANCELED"


async def test_what_is_not_there(env, client):
    assert (await client.get("/orders/1")).status_code == 404
    assert (await client.post("/orders", json={"id": "1", "amount": 0})).status_code == 422
    assert (await client.get("/ready")).json() == {"ready": True}


async def test_who_waits_gets_the_result(env, client):
    await client.post("/orders", json={"id": "1", "amount": 99})
    assert (await client.get("/orders/1", params={"wait": 5})).json()["status"] == "COMPLETED"
