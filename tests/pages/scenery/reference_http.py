"""What the reference of HTTP takes for granted."""

import os

from tests.pages.scenery import django_project
from tests.pages.scenery.django_project import durable

for name in ("WATCHER_TOKEN", "PARTNER_TOKEN", "OPS_TOKEN"):
    os.environ[name] = f"{name}-of-sixteen-or-more"


@durable.orchestrator
async def fulfil_order(ctx, *_):
    return 1
