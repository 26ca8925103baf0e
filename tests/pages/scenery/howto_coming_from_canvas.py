"""What the page on canvas takes for granted."""

from tests.pages.scenery.shop import app, durable


@app.task
def fetch(number):
    return f"picture {number}"


@app.task
def resize(picture, size):
    return f"{picture} at {size}"


@app.task
def publish(pictures):
    return pictures


def begin(env):
    pass


def end(env, names):
    expected = ["picture 7 at 100", "picture 7 at 800"]
    assert env.run(names["pictures"].s(7)) == expected
    run = durable.canvas(names["canvas"]).apply_async(task_id="pictures-7")
    env.run_until_idle()
    assert run.refresh().output == expected
