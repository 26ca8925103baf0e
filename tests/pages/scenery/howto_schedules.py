"""What the page on schedules takes for granted."""

from datetime import UTC, datetime

from tests.pages.scenery.shop import app, durable


@durable.orchestrator
async def report(ctx, kind):
    return kind


@durable.orchestrator
async def poll(ctx):
    return None


def begin(env):
    assert app
