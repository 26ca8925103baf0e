"""What the page on asking takes for granted: an order that can be asked."""

import asyncio

from tests.pages.scenery.shop import app, durable

__all__ = ["app", "asyncio", "durable"]


@app.task
def is_shipped(order):
    return order == "shipped"


@durable.orchestrator(name="shop.asked")
async def asked(ctx):
    while True:
        request = await ctx.wait_request("change_address")
        ctx.state.address = request.data
        request.reply({"ok": True})


@asked.query
def address(state):
    return state.address


def begin(env):
    return {"run": env.start(asked.s(), instance_id="order-42")}


def end(env, names):
    names["test_an_address_can_be_changed"](env)
    run = env.start(names["subscription"].s("ada"))
    assert run.ask("change_plan", "gold") is None
    run.raise_event("canceled")
    env.run_until_idle()
    assert run.refresh().runtime_status == "COMPLETED"
