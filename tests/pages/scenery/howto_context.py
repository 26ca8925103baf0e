"""What the page on context takes for granted."""

import django
import structlog
from django.conf import settings
from django.utils import translation

from tests.pages.scenery.shop import app, durable

settings.configure(USE_I18N=True)
django.setup()
structlog.configure()


@app.task
def language():
    return [translation.get_language(), structlog.contextvars.get_contextvars()]


@durable.orchestrator
async def flow(ctx):
    return await ctx.call(language.s())


def end(env, names):
    app.conf.durable_propagate = ()
    with translation.override("fr"), structlog.contextvars.bound_contextvars(order="42"):
        run = durable.start(flow.s())
    env.run_until_idle()
    assert run.refresh().output == ["fr", {"order": "42"}]
    assert dict(run.context) == {"locale": "fr", "structlog": {"order": "42"}}
