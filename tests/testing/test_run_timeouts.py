"""``timeout`` of a run, from the front door: declared, given at a start, kept, and counted again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery

from celery_durable import ConfigurationError, Durable, OrchestrationTimeout, RuntimeStatus
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("timed", set_as_current=False)
durable = Durable(app)
HOUR = timedelta(hours=1)


@app.task(name="timed.work")
def work(what):
    return what


@durable.orchestrator(name="timed.declared", timeout=HOUR)
async def declared(ctx, event="never"):
    await ctx.call(work.s("before"))
    return await ctx.wait_event(event)


@durable.orchestrator(name="timed.free")
async def free(ctx):
    return await ctx.wait_event("never")


@durable.orchestrator(name="timed.parent")
async def parent(ctx):
    try:
        await ctx.call(declared.s())
    except OrchestrationTimeout as error:
        return f"child: {error.timeout:g}"


@durable.orchestrator(name="timed.eternal", timeout=HOUR)
async def eternal(ctx, count=0):
    await ctx.sleep(20 * 60)
    ctx.continue_as_new(count + 1)


@durable.orchestrator(name="timed.mended", timeout=HOUR)
async def mended(ctx):
    await ctx.call(work.s("first"))
    return await ctx.wait_event("go")


@pytest.fixture
def env():
    with durable_environment(durable) as env:
        yield env


def failure_after(env: DurableEnv, run, delta) -> BaseException:
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    env.advance(delta)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert isinstance(run.failure, OrchestrationTimeout)
    return run.failure


def test_the_declared_time_is_over_after_an_hour(env):
    run = env.start(declared.s(), instance_id="d")
    assert abs(run.refresh().deadline - (env.now + HOUR)) < timedelta(seconds=1)
    assert "its time is over in 0:59:" in str(run.explain())
    assert run.explain().waits_for == ["event 'never'"]
    env.advance(minutes=59)
    assert "60 seconds" not in str(failure_after(env, run, timedelta(minutes=1)))
    assert run.failure.timeout == 3600
    assert run.deadline is None


def test_a_start_wins_over_the_declaration(env):
    run = env.start(declared.s(), timeout=10)
    assert failure_after(env, run, timedelta(seconds=11)).timeout == 10
    assert env.start(declared.s(), timeout=timedelta(days=9)).refresh().deadline > env.now + HOUR
    assert env.start(free.s()).refresh().deadline is None


def test_the_time_counts_from_the_beginning_and_not_from_the_start(env):
    run = env.start(declared.s(), start_at=env.now + timedelta(days=1))
    assert run.refresh().deadline is None
    env.advance(days=1, seconds=1)
    assert run.refresh().deadline > env.now
    failure_after(env, run, HOUR)


def test_a_parent_sees_the_type(env):
    assert env.run(parent.s()) == "child: 3600"


def test_it_continues_over_continue_as_new(env):
    run = env.start(eternal.s())
    env.advance(minutes=45)
    assert run.refresh().input["args"] == [2]
    failure_after(env, run, timedelta(minutes=16))


def test_a_rewind_has_all_its_time_again_and_runs_what_was_canceled(env):
    run = env.start(mended.s(), instance_id="m")
    failure_after(env, run, HOUR)
    run.rewind("more time")
    env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    assert abs(run.deadline - (env.now + HOUR)) < timedelta(seconds=1)
    env.advance(minutes=30)
    run.raise_event("go", "ok")
    env.run_until_idle()
    assert run.refresh().output == "ok"
    assert len(env.calls(work)) == 1


def test_a_rewind_is_timed_out_again_and_rewound_again(env):
    run = env.start(mended.s())
    for _ in range(3):
        failure_after(env, run, HOUR)
        run.rewind()
        env.run_until_idle()
    run.raise_event("go", "at last")
    env.run_until_idle()
    assert run.refresh().output == "at last"


def test_a_restart_and_a_fork_have_all_their_time(env):
    run = env.start(mended.s(), timeout=50, instance_id="old")
    env.advance(seconds=30)
    fork = run.fork(at=len(run.history()), new_id="new")
    env.run_until_idle()
    env.advance(seconds=30)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert fork.refresh().runtime_status is RuntimeStatus.RUNNING
    failure_after(env, fork, timedelta(seconds=30))
    run.restart()
    env.run_until_idle()
    env.advance(seconds=49)
    failure_after(env, run, timedelta(seconds=2))


def test_one_that_is_suspended_is_timed_out_when_it_continues(env):
    run = env.start(declared.s())
    run.suspend("a look")
    env.advance(days=1)
    assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
    run.resume()
    env.run_until_idle()
    assert isinstance(run.refresh().failure, OrchestrationTimeout)


def test_one_that_is_held_by_a_pause_is_timed_out_when_it_continues(env):
    run = env.start(declared.s())
    durable.pause(orchestrator="timed.declared")
    env.advance(2 * HOUR)
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    durable.unpause(orchestrator="timed.declared")
    env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert isinstance(run.failure, OrchestrationTimeout)


def test_a_plain_task_is_timed_out_alike(env):
    durable.pause(task="timed.work")
    run = env.start(work.s("late"), timeout=HOUR)
    assert abs(run.deadline - env.now - HOUR) < timedelta(seconds=1)
    failure_after(env, run, HOUR + timedelta(seconds=1))
    durable.unpause(task="timed.work")
    env.run_until_idle()
    assert not env.calls(work)


def test_killed_workers_change_nothing(env):
    def scenario(env: DurableEnv):
        run = env.start(declared.s(), instance_id="k")
        env.advance(hours=2)
        return type(run.refresh().failure).__name__, len(env.calls(work)) > 0

    assert env.crash_everywhere(scenario) > 5


@pytest.mark.parametrize("timeout", [0, -1, "soon", timedelta(0), float("inf"), True])
def test_a_time_that_cannot_be_is_refused_and_nothing_is_started(env, timeout):
    with pytest.raises((ValueError, TypeError), match="timeout"):
        durable.start(free.s(), timeout=timeout)
    with pytest.raises((ValueError, TypeError, ConfigurationError), match="timeout"):
        durable.orchestrator(timeout=timeout)(lambda ctx: None)
    assert durable.count() == 0


def test_an_entity_takes_none():
    class Counter:
        def add(self, more: int) -> None: ...

    with pytest.raises(ConfigurationError, match="an entity takes no timeout"):
        durable.entity(Counter, timeout=3)
