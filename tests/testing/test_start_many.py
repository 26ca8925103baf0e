"""``durable.start_many`` by the front door: ids, tags, plain tasks, what travels, crashes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from celery import Celery

from celery_durable import Durable, InstanceExists, RetryPolicy, RuntimeStatus
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("manystarts", set_as_current=False)
durable = Durable(app)
failed: list[str] = []


@app.task(name="manystarts.shaky")
def shaky(what):
    if what not in failed:
        failed.append(what)
        raise ValueError(what)
    return what.upper()


@app.task(name="manystarts.import")
def begin_all(names):
    runs = durable.start_many([fulfil.s(name) for name in names], instance_ids=names)
    return [run.id for run in runs]


@durable.orchestrator(name="manystarts.fulfil")
async def fulfil(ctx, what):
    await ctx.sleep(1)
    return [what, ctx.version, dict(ctx.context)]


@durable.orchestrator(name="manystarts.batch")
async def batch(ctx, names):
    return await ctx.call(begin_all.s(names))


class Locale:
    key = "locale"
    value = "de"

    def capture(self):
        return self.value

    def restore(self, value):
        from contextlib import nullcontext

        return nullcontext()


durable.propagate(Locale())


@pytest.fixture
def env():
    failed.clear()
    with durable_environment(durable) as env:
        yield env


def test_each_is_started_as_by_itself(env: DurableEnv) -> None:
    runs = durable.start_many(
        [fulfil.s("a"), fulfil.s("b").set(task_id="own"), shaky.s("c")],
        instance_ids=["first", None, "third"],
        tags=[{"n": "1"}, None, {"n": "3"}],
        start_at=env.now + timedelta(hours=1),
    )
    assert [run.id for run in runs] == ["first", "own", "third"]
    assert [run.tags for run in runs] == [{"n": "1"}, {}, {"n": "3"}]
    env.run_until_idle()
    assert [run.refresh().runtime_status for run in runs] == [RuntimeStatus.PENDING] * 3
    env.advance(hours=2)
    assert runs[1].get() == ["b", None, {"locale": "de"}]
    with pytest.raises(ValueError, match="c"):
        runs[2].get()


def test_plain_tasks_are_tried_as_the_call_says(env: DurableEnv) -> None:
    runs = durable.start_many(
        [shaky.s("a"), shaky.s("b").set(countdown=60)],
        tags={"batch": "1"},
        retry=RetryPolicy(max_attempts=2, first_interval=1),
    )
    env.advance(hours=1)
    assert [run.get() for run in runs] == ["A", "B"]
    assert durable.count(tags={"batch": "1"}, tasks=True) == 2


def test_what_cannot_be_started_starts_nothing(env: DurableEnv) -> None:
    for error, signatures, options in (
        (ValueError, [fulfil.s("a")], {"instance_ids": []}),
        (ValueError, [fulfil.s("a")], {"tags": []}),
        (TypeError, [fulfil.s("a")], {"instance_ids": "a"}),
        (TypeError, [fulfil.s("a"), fulfil.s()], {}),
        (TypeError, [fulfil.s("a"), fulfil], {}),
        (TypeError, [fulfil.s("a"), shaky.s("b")], {"retry": RetryPolicy()}),
    ):
        with pytest.raises(error):
            durable.start_many(signatures, **options)
    assert durable.count() == 0 and durable.start_many([]) == []


def test_twins_have_everything_read(env: DurableEnv) -> None:
    signatures = [fulfil.s("a"), shaky.s("b")]
    runs = asyncio.run(durable.astart_many(signatures, instance_ids=["a", "b"]))
    assert [run._record.id for run in runs] == ["a", "b"]
    with pytest.raises(InstanceExists):
        asyncio.run(durable.astart_many(signatures, instance_ids=["c", "b"], if_exists="raise"))
    assert durable.count() == 2


def test_an_activity_that_starts_many_may_die_anywhere(env: DurableEnv) -> None:
    names = ["a", "b", "c"]

    def scenario(env: DurableEnv):
        started = env.run(batch.s(names), instance_id="batch")
        env.advance(minutes=10)
        return started, [durable.get(name).get() for name in names], durable.count()

    assert env.crash_everywhere(scenario) > 20
