"""What the page on many takes for granted."""

from tests.pages.scenery.shop import charge, durable, fulfil_order


def begin(env):
    pass


def prove(names):
    assert [run.id for run in names["runs"]] == ["order-41", "order-42"]
    assert names["result"].done == names["result"].matched == 2
    assert names["charge"] is charge
    assert names["durable"] is durable and names["fulfil_order"] is fulfil_order
