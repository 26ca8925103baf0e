"""What the page on contracts takes for granted."""

from tests.pages.scenery.shop import charge, durable


def prove(names):
    contract = names["contract"]
    assert list(contract["input"]["$defs"]["Order"]["properties"]) == ["id", "amount", "express"]
    assert contract["events"]["approved"]["$defs"]["Approval"]["required"] == ["by"]
    assert charge and durable
