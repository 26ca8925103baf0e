"""A task that fails too often is paused by itself, over all workers, and is let go again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery

from celery_durable import ConfigurationError, Durable, PauseAfter, RetryPolicy, RuntimeStatus
from celery_durable.inspection.views import pause_view
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("breaking", set_as_current=False)
durable = Durable(app)
down: list[bool] = []
ran: list[int] = []
BANK = "breaking.bank"
HOUR = timedelta(hours=1)


@app.task(name=BANK, durable_pause_after=PauseAfter(failures=3, per=60))
def bank(n):
    ran.append(n)
    if down:
        raise ValueError(f"no answer for {n}")
    return n


@app.task(name="breaking.timed", durable_pause_after=PauseAfter(3, per=HOUR, for_=300))
def timed(n):
    ran.append(n)
    if down:
        raise ValueError("no answer " * 100)
    return n


@app.task(name="breaking.silent", durable_pause_after=PauseAfter(1, per=60))
def silent():
    return "late"


@app.task(name="breaking.plain")
def plain(n):
    if down:
        raise ValueError(n)


@durable.orchestrator(name="breaking.call")
async def call(ctx, task, n):
    return await ctx.call(app.signature(task, (n,)))


@durable.orchestrator(name="breaking.retrying")
async def retrying(ctx, task):
    policy = RetryPolicy(max_attempts=None, first_interval=10, backoff=1)
    return await ctx.call(app.signature(task, (1,)), retry=policy)


@durable.orchestrator(name="breaking.times_out")
async def times_out(ctx):
    ctx.call(silent.s().set(queue="nowhere"), timeout=5)
    await ctx.sleep(60)


@pytest.fixture
def env():
    down.clear()
    ran.clear()
    with durable_environment(durable) as env:
        yield env


def calls(env: DurableEnv, task: str, *numbers: int):
    return [env.start(call.s(task, n), instance_id=f"{task}-{n}") for n in numbers]


def test_so_many_failures_in_a_time_pause_the_task(env: DurableEnv) -> None:
    down.append(True)
    calls(env, BANK, 1, 2)
    assert durable.pauses() == []
    calls(env, BANK, 3)
    (pause,) = durable.pauses()
    assert (pause.kind, pause.name, pause.until) == ("task", BANK, None)
    assert pause.reason == (
        "paused by itself: 3 failures in 60 s; the last: ValueError: no answer for 3"
    )
    assert pause_view(pause)["until"] is None
    (held,) = calls(env, BANK, 4)
    env.advance(hours=10)
    assert held.refresh().runtime_status is RuntimeStatus.RUNNING and ran == [1, 2, 3]
    assert "paused by itself: 3 failures" in str(held.explain())
    down.clear()
    assert durable.unpause(task=bank)
    env.run_until_idle()
    assert held.refresh().output == 4 and durable.pauses() == []


def test_failures_that_are_far_apart_or_of_others_do_not_count(env: DurableEnv) -> None:
    down.append(True)
    for n in range(6):
        calls(env, BANK, n)
        calls(env, "breaking.plain", n)
        env.advance(seconds=31)
    assert durable.pauses() == [] and len(ran) == 6


def test_unpausing_begins_the_count_again(env: DurableEnv) -> None:
    down.append(True)
    calls(env, BANK, 1, 2, 3)
    durable.unpause(task=bank)
    calls(env, BANK, 4, 5)
    assert durable.pauses() == []
    assert not durable.unpause(task=bank)  # not even paused: the two count no more
    calls(env, BANK, 6, 7)
    assert durable.pauses() == []
    calls(env, BANK, 8)
    assert len(durable.pauses()) == 1


def test_it_ends_by_itself_and_may_begin_again(env: DurableEnv) -> None:
    down.append(True)
    run = env.start(retrying.s("breaking.timed"), instance_id="r")
    env.advance(seconds=60)
    (pause,) = durable.pauses()
    assert len(ran) == 3 and pause.until is not None
    assert timedelta(seconds=299) < pause.until - pause.since < timedelta(seconds=301)
    assert len(pause.reason or "") < 300 and f", until {pause.until:%Y-%m-%d}" in str(run.explain())
    env.advance(seconds=230)
    assert len(ran) == 3
    env.advance(seconds=120)
    assert len(ran) == 6 and len(durable.pauses()) == 1  # three more failed
    down.clear()
    env.advance(seconds=400)
    assert run.refresh().output == 1 and durable.pauses() == []


def test_a_pause_of_an_operator_stays_as_it_is(env: DurableEnv) -> None:
    down.append(True)
    calls(env, "breaking.timed", 1, 2, 3)
    durable.pause(task="breaking.timed", reason="until the bank calls")
    (pause,) = durable.pauses()
    assert (pause.reason, pause.until) == ("until the bank calls", None)
    env.advance(hours=1)
    assert len(durable.pauses()) == 1
    row = durable.runtime.store.switches.count_failure("breaking.timed", 1, 1, 1, "no")
    assert row is None and durable.pauses()[0].reason == "until the bank calls"


def test_a_time_out_is_a_failure(env: DurableEnv) -> None:
    durable.pause(queue="nowhere")
    env.start(times_out.s(), instance_id="t")
    durable.runtime.runner.breakers.note_failure("breaking.silent", TimeoutError("too late"))
    (pause,) = [each for each in durable.pauses() if each.kind == "task"]
    assert "TimeoutError: too late" in (pause.reason or "")


def test_what_cannot_be_meant_is_refused_where_it_is_declared() -> None:
    for given in ((0, 60), (1001, 60), (True, 60), (1, 0), (1, "a"), (1, 60, 0)):
        with pytest.raises(ConfigurationError, match="PauseAfter"):
            PauseAfter(*given)
    with pytest.raises(ConfigurationError, match=r"takes PauseAfter\(failures=20, per=60\)"):

        @app.task(name="breaking.refused", durable_pause_after=20)
        def refused(): ...


def test_a_worker_may_die_anywhere(env: DurableEnv) -> None:
    def scenario(env: DurableEnv):
        down[:] = [True]
        run = env.start(retrying.s("breaking.timed"), instance_id="r")
        env.advance(minutes=4)
        was_paused = [pause.name for pause in durable.pauses()]
        down.clear()
        env.advance(minutes=20)
        return was_paused, run.refresh().output, durable.pauses()

    assert env.crash_everywhere(scenario) > 20
