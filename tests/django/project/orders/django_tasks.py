"""Tasks of Django's own framework, of Django 6.0 and later."""

from django.tasks import task

from celery_durable import orchestrator
from tests.django.project.orders.models import Order

told = []


@task
def double(number):
    """Double a number."""
    return [number, 2 * number]


@task(takes_context=True, priority=10, queue_name="mails")
def shaky(context, failures):
    told.append((context.task_result.id, context.attempt, len(context.task_result.errors)))
    if context.attempt <= failures:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


@task(backend="once")
def fail_once(text):
    raise KeyError(text)


@task
async def awaiting(name):
    order = await Order.objects.acreate(name=name)
    return order.name


@task
def no_arguments():
    return "none"


@task
def not_json():
    return object()


@task(backend="immediate")
def elsewhere(text):
    return text.upper()


@orchestrator
async def calls_django_tasks(ctx, number):
    first = await ctx.call(double.s(number))
    mapped = await ctx.map(double, [1, 2]) + await ctx.map(double.s(), [3])
    return first + mapped + [await ctx.call(shaky.s(0)), await ctx.call(no_arguments)]
