"""What the page on repair takes for granted: one that has failed, and one whose seventh call has
no outcome yet.
"""

from datetime import UTC, datetime, timedelta

from tests.pages.scenery.shop import CardDeclined, charge, durable, fulfil

yesterday = datetime.now(UTC) - timedelta(days=1)


@durable.orchestrator(name="shop.sale")
async def sell(ctx, order, then):
    for number in range(6):
        await ctx.call(charge.s(number))
    return await ctx.call(fulfil.s(order) if then == "wait" else charge.s(order))


def begin(env):
    assert env.start(sell.s("declined", "fail"), instance_id="order-42").failure
    return {"run": env.start(sell.s("43", "wait"))}
