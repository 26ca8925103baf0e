"""What the page on changing code takes for granted."""

from tests.pages.scenery.shop import app, charge, durable, fulfil


@app.task
def check(order):
    return order


def begin(env):
    env.start(fulfil.s("42"), instance_id="order-42")


def end(env, names):
    done = env.start(names["sale"].s("42"))
    assert done.version == "2"
    assert len(env.calls(names["check"])) == 1
    assert env.start(names["sale"].s(1), version="1").version == "1"
    assert len(env.calls(names["check"])) == 1
