"""What the page on limits takes for granted."""

from tests.pages.scenery.shop import app, durable


def begin(env):
    pass


def end(env, names):
    waits = durable.orchestrator(names["wait"], name="shop.one_at_a_time", limit=1)
    first, second = env.start(waits.s()), env.start(waits.s())
    assert (first.runtime_status, second.runtime_status) == ("RUNNING", "PENDING")
    assert "waits for a place: 1 of 1" in str(second.explain())
    for each in (
        names["import_catalogue"].s("acme"),
        names["export"].s("acme", "2026"),
        names["notify"].s("acme", "hello"),
        names["fulfil"].s({"tenant": "acme"}),
    ):
        assert env.run(each) is None
    assert env.run(names["welcome"].s("ada")) is None
    assert names["app"] is app


async def wait(ctx):
    await ctx.wait_event("never")
