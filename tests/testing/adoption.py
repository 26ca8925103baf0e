"""An application whose tests use the test kit, as a user's would."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from celery import Celery

from celery_durable import ActivityTimeout, Durable, RetryPolicy, durable_context

app = Celery("adoption", broker="memory://", set_as_current=False)
durable = Durable(app)


class CardDeclined(Exception):
    pass


@app.task
def charge(order, amount):
    return f"{order} paid {amount}"


@app.task(bind=True, max_retries=3)
def shy(self, order):
    if self.request.retries < 2:
        raise self.retry(countdown=5)
    return order


@app.task
def note(text):
    tell.delay(text)
    return durable_context().instance_id


told = []


@app.task
def tell(text):
    told.append(text)


@app.task
@durable.transactional
def book(session, order):
    session.execute(sa.text("UPDATE durable_meta SET value = value"))
    return order


@app.task(at_most_once=True)
def once(order):
    return order


@durable.orchestrator
async def fulfil(ctx, order):
    paid = await ctx.call(
        charge.s(order, 99), retry=RetryPolicy(max_attempts=3, first_interval=3600)
    )
    try:
        approval = await ctx.wait_event("approved", timeout=timedelta(days=30))
    except TimeoutError:
        return {"paid": paid, "by": "nobody", "at": ctx.now().isoformat()}
    return {"paid": paid, **approval}


@durable.orchestrator
async def year(ctx):
    for _ in range(12):
        await ctx.sleep(timedelta(days=30))
    return await ctx.all([ctx.call(charge.s(n, n)) for n in range(3)])


@durable.orchestrator
async def kid(ctx, n):
    await ctx.wait_event("never")


@durable.orchestrator
async def parent(ctx, n):
    return [await ctx.call(kid.s(n)), await ctx.call(kid.s(n + 1))]


@durable.orchestrator
async def all_kinds(ctx, order):
    handle = await ctx.call(note.s(order))
    booked = await ctx.call(book.s(order))
    slow = await ctx.call(shy.s(order))
    await ctx.sleep(60)
    many = await ctx.map(charge, [[n, n] for n in range(0)])
    return [handle, booked, slow, many]


@durable.orchestrator
async def careful(ctx, order):
    try:
        return await ctx.call(once.s(order))
    except Exception as error:
        return type(error).__name__


@durable.orchestrator
async def by_set(ctx):
    return [await ctx.call(charge.s(name, 1)) for name in {"a", "b", "c", "d", "e", "f"}]


@durable.orchestrator
async def gives_set(ctx):
    await ctx.sleep(60)
    return list({"a", "b", "c", "d", "e", "f"})


@durable.orchestrator
async def forgets(ctx):
    calls.append(1)
    if len(calls) > 1:
        await ctx.sleep(1)
    return await ctx.call(charge.s("y", 1))


@durable.orchestrator
async def by_set_later(ctx):
    await ctx.sleep(60)
    return [await ctx.call(charge.s(name, 1)) for name in {"a", "b", "c", "d", "e", "f"}]


@durable.orchestrator
async def forgets_later(ctx):
    await ctx.sleep(60)
    calls.append(1)
    if len(calls) > 1:
        await ctx.sleep(1)
    return await ctx.call(charge.s("y", 1))


@durable.orchestrator
async def calls_one(ctx, signature):
    return await ctx.call(signature)


@app.task(autoretry_for=(KeyError,), default_retry_delay=0, max_retries=3)
def stubborn():
    raise KeyError


@app.task
def tells_twice():
    return [tell("1"), tell("2")]


calls = []


@durable.orchestrator
async def calls_unknown(ctx):
    return await ctx.call({"task": "elsewhere.send", "args": ("a",), "kwargs": {}, "options": {}})


@durable.orchestrator
async def endless(ctx):
    await ctx.sleep(1)
    ctx.continue_as_new()


__all__ = ["ActivityTimeout", "app", "durable"]
