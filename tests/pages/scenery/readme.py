"""What README.md takes for granted."""

from datetime import timedelta

INSTALLED_APPS: list[str] = []
SKIPPED = {1: "tests/acceptance runs it with a worker"}


def end(env, names):
    order = {"id": "42", "items": ["lamp", "desk"], "total": 99}
    run = env.start(names["fulfil_order"].s(order), instance_id="order-42")
    env.event(run, "approved", {"by": "ada"}, after=timedelta(days=2))
    env.advance(days=2)
    assert run.refresh().output == {"status": "shipped", "by": "ada", "receipt": "42 paid 99"}
    assert env.run(names["fulfil_order"].s(order)) == {"status": "expired"}
