"""What the page on retention takes for granted."""

from datetime import UTC, datetime, timedelta

from tests.pages.scenery.shop import app, durable

last_year = datetime.now(UTC) - timedelta(days=365)


def begin(env):
    pass


def end(env, names):
    @durable.orchestrator(retention=timedelta(days=30))
    async def quick(ctx):
        return 1

    run = env.start(quick.s())
    env.advance(days=31)
    assert durable.count(id_prefix=run.id) in (0, 1)
