"""What the page on pauses takes for granted."""

from tests.pages.scenery.shop import durable


def begin(env):
    pass
