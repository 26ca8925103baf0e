"""Activities, orchestrators and an entity over the project's orders."""

import os
import signal
from pathlib import Path

import django
from celery import shared_task
from django.db import transaction

from celery_durable import RetryPolicy, durable_context, entity, orchestrator
from tests.django.project.celery import durable

from .models import Order, Payment

if django.VERSION >= (6, 0):
    from .django_tasks import *  # noqa: F403


@shared_task
def charge(name, amount):
    return {"name": name, "amount": amount}


@shared_task
def fail(message):
    raise ValueError(message)


@shared_task
def mark(name, status):
    Order.objects.filter(name=name).update(status=status)
    return status


@orchestrator
async def fulfil(ctx, name, amount=10):
    receipt = await ctx.call(charge.s(name, amount))
    await ctx.call(mark.s(name, "charged"))
    return receipt


@orchestrator
async def approval(ctx, name):
    ctx.set_status({"waits": "approved"})
    answer = await ctx.wait_event("approved")
    await ctx.call(mark.s(name, "approved"))
    return answer


@orchestrator
async def failing(ctx, message="no card"):
    return await ctx.call(fail.s(message))


@orchestrator
async def sleeper(ctx, days):
    await ctx.sleep(days * 86_400)
    return "awake"


@entity
class Counter:
    value: int = 0

    def add(self, n):
        self.value += n
        return self.value


def die_once(place):
    """Kill this process, the first time it comes here, if that is what the test is about."""
    mark = Path(os.environ.get("DURABLE_DJANGO_DIR", "")) / "died"
    if os.environ.get("DURABLE_DJANGO_DIES") == place and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@shared_task
@durable.transactional(using="default")
def pay(key, amount):
    """Write a row; the killed ones are killed before or after the commit."""
    Payment.objects.create(
        key=f"{key}-{durable_context().attempt}" if amount < 0 else key, amount=amount
    )
    transaction.on_commit(lambda: die_once("after commit"))
    die_once("before commit")
    if amount == 13:
        raise ValueError("unlucky")
    return amount


@orchestrator
async def checkout(ctx, key, amount):
    return await ctx.call(pay.s(key, amount))


@shared_task
def flaky(key, failures):
    if durable_context().attempt <= failures:
        raise ConnectionError(key)
    return durable_context().attempt


@orchestrator
async def patient(ctx, key, failures):
    return await ctx.call(
        flaky.s(key, failures), retry=RetryPolicy(first_interval=3600, max_attempts=10, backoff=2.0)
    )


@orchestrator
async def yearly(ctx, name):
    """Remind twelve times, a month apart."""
    for month in range(12):
        await ctx.sleep(30 * 86_400)
        await ctx.call(mark.s(name, f"reminded {month + 1}"))
    return ctx.now().isoformat()


@orchestrator
async def fan_out(ctx, count):
    return sum(
        receipt["amount"]
        for receipt in await ctx.all([ctx.call(charge.s("x", n)) for n in range(count)])
    )


@orchestrator(limit=1)
async def one_at_a_time(ctx, name):
    return await ctx.wait_event("go")


@orchestrator
async def parent(ctx, name):
    return await ctx.call(fulfil.s(name).set(task_id=f"child-of-{name}"))
