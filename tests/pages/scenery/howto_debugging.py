"""What the page on debugging takes for granted."""

from tests.pages.scenery.shop import charge, durable, fulfil_order


def begin(env):
    env.start(fulfil_order.s("42"), instance_id="order-42")


def prove(names):
    assert names["frame"].function.endswith("fulfil_order")
    assert charge and durable
