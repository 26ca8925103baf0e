"""What the page on tenants takes for granted."""

import os

from tests.pages.scenery.shop import app, durable


@app.task(name="shop.who")
def who():
    import page

    return page.tenant.get()


@durable.orchestrator(name="shop.orders")
async def fulfil_order(ctx, order_id, amount):
    await ctx.sleep(86400)
    return await ctx.call(who.s())


def prove(names):
    """Two applications keep apart what has the same id."""
    for name, other in names["APPS"].items():
        other.conf.durable_backend_url = f"sqlite:///{name}.db"
        run = names["start_sale"](name, "1", 5)
        assert (run.id, other.durable.count()) == ("order-1", 1)
        other.durable.runtime.store.dispose()
    assert sorted(path for path in os.listdir() if path in ("acme.db", "globex.db")) == [
        "acme.db",
        "globex.db",
    ]


def end(env, names):
    token = names["tenant"].set("acme")
    run = names["start_order"]("1", 5)
    names["tenant"].reset(token)
    env.advance(days=2)
    assert (run.id, run.refresh().output) == ("acme-order-1", "acme")
    token = names["tenant"].set("globex")
    assert names["start_order"]("1", 5).id == "globex-order-1"
    names["tenant"].reset(token)
    env.run_until_idle()
    assert [each.id for each in names["orders_of"]("globex")] == ["globex-order-1"]
    assert env.run(names["export"].s("acme", "2026")) == "report of acme since 2026"
