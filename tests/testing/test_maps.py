"""``ctx.map`` over the real engine: items that are tried again, labels, and what a failure stops."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_durable import Durable, RetryPolicy
from celery_durable.testing import durable_environment

app = Celery("maps", set_as_current=False)
durable = Durable(app)
ran: list[int] = []


@app.task(name="maps.shaky", shared=False)
def shaky(number, size=1):
    ran.append(number)
    if ran.count(number) < 2:
        raise OSError(number)
    return number * size


@app.task(name="maps.bad", shared=False)
def bad(number):
    ran.append(number)
    raise KeyError(number)


@durable.orchestrator(name="maps.over")
async def over(ctx, name, count, kwargs, **options):
    retry = RetryPolicy(max_attempts=3, first_interval=60)
    signature = app.signature(name, kwargs=kwargs)
    found = await ctx.map(signature, range(count), retry=retry, **options)
    return [repr(each) if isinstance(each, Exception) else each for each in found]


@pytest.fixture
def env():
    ran.clear()
    with durable_environment(durable) as env:
        yield env


def test_an_item_that_waits_for_its_retry_keeps_its_place(env):
    run = env.start(over.s("maps.shaky", 4, {"size": 2}, concurrency=2, label="resize"))
    env.advance(59)
    assert ran == [0, 1]
    env.advance(1)
    assert sorted(ran) == [0, 0, 1, 1, 2, 3]
    env.advance(61)
    assert run.refresh().output == [0, 2, 4, 6]
    document = run.export_history()
    assert all(f"resize[{number}]" in document for number in range(4))


@pytest.mark.parametrize(("tolerate", "begun"), [(0, 1), (1, 2), (0.5, 3), ("all", 4)])
def test_only_last_failures_count_and_one_too_many_starts_no_other(env, tolerate, begun):
    run = env.start(over.s("maps.bad", 4, {}, concurrency=1, tolerate=tolerate))
    env.advance(hours=2)
    assert ran == [number for number in range(begun) for _ in range(3)]
    if tolerate == "all":
        assert run.refresh().output == [f"KeyError({number})" for number in range(4)]
    else:
        assert isinstance(run.refresh().failure, KeyError)
