"""What the page on pauses takes for granted."""

from tests.pages.scenery.shop import app, durable


def begin(env):
    pass


def prove(names):
    assert names["app"] is app
