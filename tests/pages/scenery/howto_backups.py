"""What the page on backups takes for granted; a store is put back to an earlier moment, with a worker
before and after.
"""

import contextlib
import os
import time
from collections import Counter

from celery import Celery
from celery.contrib.testing.worker import start_worker

from celery_durable import Durable, durable_context

keys = Counter()
QUICK = {
    "broker_transport_options": {"polling_interval": 0.01},
    "durable_heartbeat_interval": 0.2,
    "durable_worker_lease": 0.5,
    "durable_resend_after": 0.5,
    "durable_recovery_interval": 0.1,
}


def _application():
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(durable_backend_url="sqlite:///live.db", **QUICK)
    durable = Durable(app)

    @app.task(name="shop.charge", shared=False)
    def charge(order, what):
        keys[what, durable_context().idempotency_key] += 1

    @durable.orchestrator(name="shop.fulfil_order", shared=False)
    async def fulfil_order(ctx, order):
        await ctx.call(charge.s(order, "before"))
        ctx.set_status("waits")
        answer = await ctx.wait_event("approved")
        await ctx.call(charge.s(order, "after"))
        return answer

    return durable, fulfil_order


@contextlib.contextmanager
def _working():
    durable, fulfil_order = _application()
    with start_worker(durable.app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        yield durable, fulfil_order
    durable.runtime.store.dispose()


def prove(names):
    _application()[0].migrate()
    with _working() as (durable, fulfil_order):
        run = durable.start(fulfil_order.s("1"), instance_id="order-1")
        while run.refresh().custom_status != "waits":
            time.sleep(0.05)
        names["copy_store"]("live.db", "copy.db")
        late = durable.start(fulfil_order.s("2"), instance_id="order-2")
        for each in (run, late):
            each.raise_event("approved", "ada")
        old = [each.wait(timeout=300) for each in (run, late)]
    assert set(keys.values()) == {1}
    for name in ("live.db", "live.db-wal", "live.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(name)
    os.rename("copy.db", "live.db")
    with _working() as (durable, fulfil_order):
        names["restored"](old[0], durable)
        late = durable.start(fulfil_order.s("2"), instance_id="order-2")
        late.raise_event("approved", "ada")
        late.wait(timeout=300)
    assert sorted(keys.values()) == [1, 1, 1, 1, 1, 2]
    assert [what for (what, _), count in keys.items() if count == 2] == ["after"]
