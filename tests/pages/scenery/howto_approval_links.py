"""What the page on signed links takes for granted: a project in Django, a shop elsewhere."""

import os
import re
from datetime import timedelta

from tests.pages.scenery import django_project
from tests.pages.scenery.django_project import durable

os.environ["LINK_SECRET"] = "sixteen characters at least"
django_project.settings.DEFAULT_FROM_EMAIL = "shop@shop.example"


def tokens(*_):
    return False


def begin(env):
    env.start(durable.orchestrator(wait_for_ever, name="shop.waits").s(), instance_id="order-42")


async def wait_for_ever(ctx):
    await ctx.wait_event("approved")


def end(env, names):
    from django.core import mail
    from django.urls import include, path

    names["urlpatterns"] = [path("durable/", include("celery_durable.contrib.django.urls"))]
    run = env.start(names["approval"].s("42", "boss@shop.example"))
    assert re.search(r"https://shop.example/durable/\S+", mail.outbox[0].body)
    env.event(run, "approved", {"approved": True}, after=timedelta(days=1))
    env.advance(days=1)
    assert run.refresh().output == {"approved": True}
    assert env.run(names["approval"].s("43", "boss@shop.example")) == {"approved": False}
