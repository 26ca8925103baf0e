"""What the page on durable tasks takes for granted."""

from tests.pages.scenery.shop import app, durable


def begin(env):
    pass


def end(env, names):
    run = names["send_invoice"].delay(44)
    env.run_until_idle()
    assert durable.get(run.id).output == "invoice of 44"
    assert durable.count(tasks=True) == 1
