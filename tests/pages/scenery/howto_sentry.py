"""What the page on Sentry takes for granted: Sentry without a server, and an app that is made after
it; what is reported is what the page says.
"""

import logging

import sentry_sdk
from celery import Celery

from celery_durable import Durable, OrchestrationFailed, RetryPolicy

sent = []
init = sentry_sdk.init


def _init(dsn, before_send, **options):
    def keep(event, hint):
        event = before_send(event, hint)
        sent.append(event and (event["transaction"], event["tags"]))

    init("http://key@127.0.0.1:9/1", before_send=keep, transport=lambda _: None, **options)


sentry_sdk.init = _init
app = Celery("shop", broker="memory://")
app.conf.durable_backend_url = "sqlite:///shop.db"
app.conf.broker_transport_options = {"polling_interval": 0.01}
logging.disable()


def prove(names):
    from celery.contrib.testing.worker import start_worker

    app.conf.durable_propagate = ()
    durable = Durable(app)

    @app.task(name="shop.charge")
    def charge(order):
        raise ValueError("no")

    @durable.orchestrator(name="shop.child")
    async def child(ctx, order):
        await ctx.call(charge.s(order), retry=RetryPolicy(first_interval=0.01, max_attempts=2))

    @durable.orchestrator(name="shop.fulfil")
    async def fulfil(ctx, order):
        try:
            await ctx.call(child.s(order).set(task_id="kid"))
        except ValueError:
            await ctx.wait_event("never")

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        run = durable.start(fulfil.s("1"), instance_id="order-1")
        while len(sent) < 3:
            durable.get("order-1")
        run.cancel()
        try:
            run.wait(timeout=300)
        except OrchestrationFailed:
            pass
    tags = {"orchestration": "order-1", "parent": "kid"}
    assert [transaction for transaction, _ in sent] == ["shop.charge", "shop.charge", "shop.child"]
    assert [{**tags, **told} == told for _, told in sent[:2]] == [True, True]
    assert sent[2][1]["celery_task_id"] == "kid"
    assert sent[2][1]["orchestration"] == "order-1"
