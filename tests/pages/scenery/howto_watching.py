"""What the page on looking takes for granted."""

from tests.pages.scenery.shop import durable, fulfil


class ctx:
    """In an orchestrator."""

    @staticmethod
    def set_status(value):
        assert value["done"] <= value["of"]


def begin(env):
    env.start(fulfil.s("42"), instance_id="order-42")


def end(env, names):
    assert names["waits"]["order-42"].startswith("event")
