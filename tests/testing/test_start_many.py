"""``durable.start_many`` by the front door: ids, tags, plain tasks, what travels, crashes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
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


@app.task(name="manystarts.tell")
def tell():
    done = durable.raise_event_many("news", 1, event_id="once", name="manystarts.hears")
    return done.done


@durable.orchestrator(name="manystarts.tells")
async def tells(ctx):
    return await ctx.call(tell.s())


@durable.orchestrator(name="manystarts.hears")
async def hears(ctx):
    heard = [await ctx.wait_event("news")]
    with suppress(TimeoutError):
        heard.append(await ctx.wait_event("news", timeout=60))
    return heard


@durable.orchestrator(name="manystarts.batch")
async def batch(ctx, names):
    return await ctx.call(begin_all.s(names))


for version in ("1", "2"):

    @durable.orchestrator(name="manystarts.versions", version=version)
    async def versions(ctx):
        return ctx.version


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


def test_ramps_pauses_and_limits_hold_for_each(env: DurableEnv) -> None:
    durable.ramp("manystarts.versions", "1", share=1)
    runs = durable.start_many([app.signature("manystarts.versions") for _ in range(3)])
    assert [run.version for run in runs] == ["1"] * 3
    durable.ramp("manystarts.versions", None)
    pause = durable.pause(task=shaky)
    held = durable.start_many([shaky.s("a"), shaky.s("b")], retry=RetryPolicy())
    env.run_until_idle()
    assert failed == [] and durable.pauses()[0].held == 2
    pause.unpause()
    env.advance(hours=1)
    assert [run.refresh().output for run in held] == ["A", "B"]
    durable.pause(orchestrator=fulfil)
    (run,) = durable.start_many([fulfil.s("c")])
    env.advance(hours=1)
    assert run.refresh().runtime_status is RuntimeStatus.PENDING
    durable.unpause(orchestrator=fulfil)


def test_twins_have_everything_read(env: DurableEnv) -> None:
    signatures = [fulfil.s("a"), shaky.s("b")]
    runs = asyncio.run(durable.astart_many(signatures, instance_ids=["a", "b"]))
    assert [run._record.id for run in runs] == ["a", "b"]
    with pytest.raises(InstanceExists):
        asyncio.run(durable.astart_many(signatures, instance_ids=["c", "b"], if_exists="raise"))
    assert durable.count() == 2


def test_an_activity_that_raises_an_event_on_many_may_die_anywhere(env: DurableEnv) -> None:
    def scenario(env: DurableEnv):
        runs = [env.start(hears.s(), instance_id=f"h{n}") for n in range(3)]
        told = env.run(tells.s(), instance_id="tells")
        env.advance(minutes=10)
        return told, [run.refresh().output for run in runs]

    assert env.run(tells.s()) == 0
    assert env.crash_everywhere(scenario) > 20


def test_an_activity_that_starts_many_may_die_anywhere(env: DurableEnv) -> None:
    names = ["a", "b", "c"]

    def scenario(env: DurableEnv):
        started = env.run(batch.s(names), instance_id="batch")
        env.advance(minutes=10)
        return started, [durable.get(name).get() for name in names], durable.count()

    assert env.crash_everywhere(scenario) > 20
