"""What the page on encryption takes for granted."""

import os

from cryptography.fernet import Fernet

from tests.pages.scenery.shop import app, charge, durable


@durable.orchestrator
async def order(ctx):
    return await ctx.call(charge.s("42", 1))


os.environ["DURABLE_KEYS"] = Fernet.generate_key().decode()


def begin(env):
    return {"app": app}
