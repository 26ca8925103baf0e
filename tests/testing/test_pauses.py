"""``durable.pause``: what it holds, what goes on, and what ``unpause`` lets go, in which order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery

from celery_durable import (
    ActivityTimeout,
    Durable,
    DurableError,
    OrchestrationTimeout,
    Pause,
    RuntimeStatus,
)
from celery_durable.core.retry import RetryPolicy
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.store.statements import Statement
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("paused", set_as_current=False)
durable = Durable(app)
HOUR = timedelta(hours=1)
ran: list[object] = []


@app.task(name="paused.work")
def work(what):
    ran.append(what)
    return what


@app.task(name="paused.other")
def other():
    return "other"


@app.task(name="paused.shaky")
def shaky():
    ran.append("shaky")
    if len(ran) == 1:
        raise ValueError("once more")
    return "done"


@durable.orchestrator(name="paused.run")
async def run(ctx, what="it"):
    await ctx.call(other.s())
    return await ctx.call(work.s(what))


@durable.orchestrator(name="paused.many")
async def many(ctx, count):
    return await ctx.map(work, list(range(count)), concurrency=3)


@durable.orchestrator(name="paused.limited")
async def limited(ctx):
    try:
        return await ctx.call(work.s("limited"), timeout=60, start_timeout=30)
    except ActivityTimeout as error:
        return error.kind


@durable.orchestrator(name="paused.retrying")
async def retrying(ctx):
    return await ctx.call(shaky.s(), retry=RetryPolicy(max_attempts=3, first_interval=60))


@durable.orchestrator(name="paused.listening")
async def listening(ctx):
    heard = await ctx.wait_event("go")
    await ctx.sleep(60)
    return heard


@durable.orchestrator(name="paused.parent")
async def parent(ctx):
    return await ctx.call(run.s("child"))


@pytest.fixture
def env():
    ran.clear()
    with durable_environment(durable) as env:
        yield env


def test_a_paused_task_begins_nothing_and_all_else_continues(env):
    pause = durable.pause(task=work, reason="the bank is down")
    first = env.start(run.s())
    assert ran == [] and len(env.calls(other)) == 1
    assert first.refresh().runtime_status is RuntimeStatus.RUNNING
    assert "task 'paused.work' is paused since" in str(first.explain())
    assert "the bank is down" in str(first.explain())
    env.advance(HOUR)
    assert ran == [] and not durable.find(stuck=True).items
    (seen,) = durable.pauses()
    assert (seen.kind, seen.name, seen.reason, seen.held) == (
        "task",
        "paused.work",
        "the bank is down",
        1,
    )
    assert seen.since == pause.since and isinstance(seen, Pause)
    assert durable.unpause(task="paused.work") is True
    env.run_until_idle()
    assert first.refresh().output == "it" and ran == ["it"]
    assert durable.pauses() == [] and durable.unpause(task=work) is False
    assert env.run(run.s("next")) == "next"


def test_twice_is_once_with_the_newer_reason_and_the_older_time(env):
    first = durable.pause(task=work, reason="one")
    env.advance(HOUR)
    second = durable.pause(task=work, reason="two")
    assert (second.since, second.reason) == (first.since, "two")
    assert second.unpause() and not second.unpause()
    env.advance(HOUR)
    assert durable.pause(task=work).since > first.since


def test_only_the_very_pattern_lets_go_of_what_a_pattern_holds(env):
    durable.pause(task="paused.w*")
    held = env.start(run.s())
    assert durable.unpause(task=work) is False
    env.run_until_idle()
    assert ran == []
    assert durable.unpause(task="paused.w*") is True
    env.run_until_idle()
    assert held.refresh().output == "it"


@pytest.mark.parametrize(
    "given", [{}, {"task": "a", "queue": "b"}, {"task": 5}, {"task": "a", "orchestrator": "b"}]
)
def test_exactly_one_keyword(env, given):
    for call in (durable.pause, durable.unpause):
        with pytest.raises(TypeError):
            call(**given)
    assert durable.pauses() == []


def test_a_window_stays_full_and_the_old_order_is_kept(env):
    durable.pause(task=work)
    held = env.start(many.s(8))
    assert durable.pauses()[0].held == 3
    durable.unpause(task=work)
    env.run_until_idle()
    assert held.refresh().output == list(range(8)) and ran == list(range(8))


@app.task(name="paused.scarce", shared=False, durable_limit=2)
def scarce(what):
    return ran.append(what)


@app.task(name="paused.routed", shared=False, queue="routed")
def routed(what):
    return work(what)


@durable.orchestrator(name="paused.fan")
async def fan(ctx, name, count):
    return await ctx.map(app.signature(name), list(range(count)), limit=3)


@app.task(name="paused.alone", shared=False, durable=True)
def alone(what):
    return work(what)


@pytest.mark.parametrize(
    "target", [{"task": "paused.scarce"}, {"task": "paused.s*"}, {"queue": "celery"}], ids=str
)
def test_what_waits_for_slots_is_held_too(env, target):
    durable.pause(task="paused.other")
    durable.pause(**target)
    env.start(fan.s("paused.scarce", 5).set(queue="turns"))
    assert [pause.held for pause in durable.pauses()] == [0, 5]
    durable.unpause(**target)
    env.run_until_idle()
    assert sorted(ran) == [0, 1, 2, 3, 4] and durable.pauses()[0].held == 0


@pytest.mark.parametrize(
    ("queue", "signature"),
    [
        ("celery", run.s("x")),
        ("cel*", run.s("x")),
        ("celery", parent.s()),
        ("celery", alone.s("x")),
        ("own", alone.s("x").set(queue="own")),
        ("routed", fan.s("paused.routed", 1)),
    ],
)
def test_a_queue_is_that_of_defaults_routes_and_options(env, queue, signature):
    durable.pause(queue=queue)
    held = env.start(signature)
    assert ran == [] and durable.pauses()[0].held == 1
    assert f"queue '{queue}' is paused" in str(held.explain())
    durable.unpause(queue=queue)
    env.run_until_idle()
    assert len(ran) == 1 and held.refresh().runtime_status is RuntimeStatus.COMPLETED


def test_an_orchestrators_pause_holds_no_plain_task(env):
    durable.pause(orchestrator="*")
    assert env.run(alone.s("free")) == "free"
    durable.pause(task=alone)
    held = alone.delay("held")
    env.run_until_idle()
    assert ran == ["free"] and durable.pauses()[1].held == 1
    durable.unpause(task=alone)
    env.run_until_idle()
    assert held.get(timeout=1) == "held"


@pytest.mark.parametrize(
    ("target", "begun"), [({"task": "paused.work"}, True), ({"orchestrator": "paused.run"}, False)]
)
def test_the_time_of_a_whole_run_continues(env, target, begun):
    durable.pause(**target)
    held = env.start(run.s(), timeout=60)
    env.advance(HOUR)
    assert (held.refresh().runtime_status is RuntimeStatus.FAILED) is begun
    durable.unpause(**target)
    env.run_until_idle()
    assert isinstance(held.refresh().failure, OrchestrationTimeout) is begun
    assert ran == ([] if begun else ["it"])  # its time begins with it


@pytest.mark.parametrize("target", [{"orchestrator": "paused.run"}, {"queue": "celery"}], ids=str)
def test_held_orchestrations_go_on_in_their_old_order(env, target):
    durable.pause(**target)
    for name in "fbdaec":
        env.start(run.s(name), instance_id=name)
        env.advance(1)
    durable.unpause(**target)
    env.run_until_idle()
    assert ran == list("fbdaec")


def test_time_limits_of_held_attempts_count_from_when_they_are_let_go(env):
    durable.pause(task=work)
    held = env.start(limited.s())
    env.advance(HOUR)
    assert held.refresh().runtime_status is RuntimeStatus.RUNNING
    durable.unpause(task=work)
    env.run_until_idle()
    assert held.refresh().output == "limited"


def test_a_retry_is_an_attempt_and_is_held(env):
    held = env.start(retrying.s())
    assert ran == ["shaky"]
    durable.pause(task=shaky)
    env.advance(HOUR)
    assert ran == ["shaky"]
    durable.unpause(task=shaky)
    env.run_until_idle()
    assert held.refresh().output == "done"


def test_a_paused_orchestrator_takes_no_turn_and_loses_nothing(env):
    waiting = env.start(listening.s())
    durable.pause(orchestrator=listening, reason="a bad release")
    waiting.raise_event("go", 1)
    later = env.start(listening.s())
    later.raise_event("go", 2)
    env.advance(HOUR)
    assert later.refresh().runtime_status is RuntimeStatus.PENDING
    assert not any(event.kind == "EventRaised" for event in waiting.history())
    assert "is paused since" in str(waiting.explain()) and "a bad release" in str(later.explain())
    assert durable.pauses()[0].held == 2 and not durable.find(stuck=True).items
    durable.unpause(orchestrator="paused.listening")
    env.advance(HOUR)
    assert (waiting.refresh().output, later.refresh().output) == (1, 2)


def test_terminate_acts_on_what_is_paused_and_a_due_timer_waits(env):
    one, two = env.start(listening.s()), env.start(listening.s())
    for each in (one, two):
        each.raise_event("go", "x")
    env.run_until_idle()
    durable.pause(orchestrator="paused.*")
    env.advance(HOUR)
    assert two.refresh().runtime_status is RuntimeStatus.RUNNING
    one.terminate(reason="enough")
    env.run_until_idle()
    assert one.refresh().runtime_status is RuntimeStatus.TERMINATED
    durable.unpause(orchestrator="paused.*")
    env.run_until_idle()
    assert two.refresh().output == "x"


def test_activities_under_way_end_and_their_outcomes_wait(env):
    def pause_meanwhile():
        durable.pause(orchestrator=run)
        return "other"

    env.replace(other, side_effect=pause_meanwhile)
    held = env.start(run.s())
    assert ran == [] and len(env.calls(other)) == 1
    durable.unpause(orchestrator=run)
    env.run_until_idle()
    assert held.refresh().output == "it" and len(env.calls(other)) == 1


def test_a_paused_queue_holds_both(env):
    durable.pause(queue="slow")
    held = env.start(run.s().set(queue="slow"))
    free = env.start(run.s())
    assert held.refresh().runtime_status is RuntimeStatus.PENDING and free.refresh().output == "it"
    durable.unpause(queue="slow")
    env.run_until_idle()
    assert held.refresh().output == "it"


def test_a_child_of_a_paused_orchestrator_is_started_and_waits(env):
    durable.pause(orchestrator=run)
    held = env.start(parent.s())
    (child,) = durable.find(name="paused.run").items
    assert child.runtime_status is RuntimeStatus.PENDING
    held.cancel()
    env.run_until_idle()
    durable.unpause(orchestrator=run)
    env.run_until_idle()
    assert child.refresh().runtime_status is RuntimeStatus.CANCELED
    assert held.refresh().runtime_status is RuntimeStatus.CANCELED


def test_what_is_canceled_while_it_is_held_never_begins(env):
    durable.pause(task=work)
    held = env.start(run.s())
    held.cancel()
    env.run_until_idle()
    assert durable.pauses()[0].held == 0
    durable.unpause(task=work)
    env.run_until_idle()
    assert held.refresh().runtime_status is RuntimeStatus.CANCELED and ran == []


def test_run_of_what_is_held_says_what_holds_it(env):
    durable.pause(task=work, reason="the bank is down")
    with pytest.raises(DurableError, match="the bank is down"):
        env.run(run.s())


def scenario(env: DurableEnv):
    held = env.start(run.s(), instance_id="held")
    durable.pause(task=work)
    durable.pause(orchestrator=listening)
    later = env.start(listening.s(), instance_id="later")
    again = env.start(run.s(), instance_id="again")
    later.raise_event("go", 1)
    env.advance(HOUR)
    durable.unpause(task=work)
    durable.unpause(orchestrator=listening)
    env.advance(HOUR)
    return [each.refresh().output for each in (held, later, again)], len(durable.pauses())


def test_nothing_is_lost_wherever_a_worker_dies(env):
    assert env.crash_everywhere(scenario) > 20


def test_nothing_sets_a_time_on_what_is_held(env):
    durable.pause(task=work)
    held = env.start(limited.s())
    attempts = durable.runtime.store.attempts
    (ticket,) = [
        ActivityAttemptId(*row)
        for row in durable.runtime.store.database.read(
            lambda cursor: durable.runtime.store.database.run(
                cursor, Statement("SELECT execution, command, attempt FROM durable_outbox")
            ).fetchall()
        )
    ]
    for meddle in (
        lambda: attempts.unsend([ticket]),
        lambda: attempts.interrupt(ticket),
        lambda: attempts.heartbeat(ticket, None),
        lambda: attempts.delegate(ticket),
    ):
        meddle()
        env.advance(HOUR)
        assert held.refresh().runtime_status is RuntimeStatus.RUNNING and ran == []
    durable.unpause(task=work)
    env.run_until_idle()
    assert held.refresh().output == "limited"
