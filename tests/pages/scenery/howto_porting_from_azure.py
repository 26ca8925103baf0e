"""What the page on Azure's orchestrators takes for granted. ``tests/contract/test_azure*.py`` runs
such orchestrators.
"""

from celery_durable import azure as df
from tests.pages.scenery.shop import app as celery_app
from tests.pages.scenery.shop import durable

SKIPPED = {
    0: "the original, of Azure's package",
    2: "with a web framework of one's own",
    4: "the original, of durabletask",
    5: "waits for a worker",
}


def end(env, names):
    assert {"charge", "approve_order"} <= set(names["celery_app"].tasks)
