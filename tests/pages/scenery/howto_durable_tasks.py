"""What the page on durable tasks takes for granted."""

from tests.pages.scenery.shop import app, durable


def begin(env):
    pass


def end(env, names):
    env.run_until_idle()
    assert durable.get("invoice-43").output == "invoice of 43"
    assert sorted(run.output for run in durable.find(tasks=True).items) == [
        "invoice of 42",
        "invoice of 43",
    ]
