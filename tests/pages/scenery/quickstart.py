"""What the quickstart takes for granted: nothing."""

SKIPPED = {1: "tests/acceptance runs it with a worker", 2: "tests/acceptance runs it with a worker"}


def end(env, names):
    env.event("order-42", "approved", {"by": "ada"}, after=1)
    output = env.run(names["fulfil_order"].s("42", 99), instance_id="order-42")
    assert output == {"receipt": "42 paid 99", "parcel": "parcel-42", "by": "ada"}
