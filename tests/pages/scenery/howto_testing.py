"""``tests/acceptance/test_readme.py`` runs the page on tests, in a directory of its own."""

import unittest

from tests.pages.scenery.shop import durable


def resize(path):
    from celery_durable import durable_context

    context = durable_context()
    context.heartbeat({"page": context.details["page"] + 1})
