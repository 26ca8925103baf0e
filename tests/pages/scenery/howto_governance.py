"""What the page on governance takes for granted."""

from tests.pages.scenery.shop import app, durable


@durable.orchestrator
async def order(ctx):
    await ctx.wait_event("paid")


class bucket:
    put = staticmethod(lambda name, data: None)


def begin(env):
    return {"run": env.start(order.s())}
