"""Limits of activities: how many attempts run at a time, who is let in first, and when."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta

import pytest
from celery import Celery, group

from celery_durable import (
    ActivityTimeout,
    ConfigurationError,
    Durable,
    Limit,
    LimitUse,
    Rate,
    RetryPolicy,
    RuntimeStatus,
    durable_context,
)
from celery_durable.core.permits import dump_limits
from celery_durable.engine.switches import SwitchKind
from celery_durable.store.statements import Statement
from celery_durable.testing import durable_environment
from celery_durable.worker.task_limits import declared_limits, keep_limits

app = Celery("limited", set_as_current=False)
durable = Durable(app)
ran: list[object] = []
tokens: list[str] = []
crm = Limit(2, name="crm")


@app.task(name="limited.charge", durable_limit=2)
def charge(what):
    """Begin a charge; its end comes by its token, so that it has its slot until then."""
    ran.append(what)
    tokens.append(durable_context().defer())


@app.task(name="limited.plain", durable_limit=2)
def plain(what, fails=0):
    ran.append(what)
    if ran.count(what) <= fails:
        raise ValueError(what)
    return what


@app.task(name="limited.open")
def unlimited(what, account=None):
    ran.append(what)
    tokens.append(durable_context().defer())


@app.task(name="limited.keyed", durable_limit=[Limit(1, key="account"), Limit(3)])
def keyed(what, account=None):
    ran.append(what)
    tokens.append(durable_context().defer())


@app.task(name="limited.rated", durable_limit=Rate(2, per=60))
def rated(what):
    ran.append(what)
    return what


@app.task(name="limited.five", shared=False, durable_limit=Limit(5, name="shared"))
def five(what):
    ran.append(what)
    tokens.append(durable_context().defer())


@app.task(name="limited.three", shared=False, durable_limit=Limit(3, name="shared"))
def three(what):
    ran.append(what)
    tokens.append(durable_context().defer())


@durable.orchestrator(name="limited.run")
async def run(ctx, what="it", task="limited.charge", priority=None, **kwargs):
    signature = ctx_signature(task, what, **kwargs)
    return await ctx.call(signature if priority is None else signature.set(priority=priority))


def ctx_signature(task, *args, **kwargs):
    return app.signature(task, args, kwargs)


@durable.orchestrator(name="limited.all")
async def everything(ctx, count, task="limited.charge"):
    calls = [ctx.call(ctx_signature(task, number)) for number in range(count)]
    return await asyncio.gather(*calls)


@durable.orchestrator(name="limited.shaky")
async def shaky(ctx, count):
    retry = RetryPolicy(max_attempts=3, first_interval=60)
    calls = [ctx.call(plain.s(number, fails=number % 2), retry=retry) for number in range(count)]
    return await asyncio.gather(*calls)


@durable.orchestrator(name="limited.map")
async def mapped(ctx, count, limit, concurrency):
    return await ctx.map(unlimited, list(range(count)), concurrency=concurrency, limit=limit)


@durable.orchestrator(name="limited.call")
async def calling(ctx, what, account=None):
    return await ctx.call(unlimited.s(what, account), limit=crm)


@durable.orchestrator(name="limited.timed")
async def timed(ctx, what):
    try:
        return await ctx.call(charge.s(what), timeout=60, start_timeout=30)
    except ActivityTimeout as error:
        return error.kind


@pytest.fixture
def env():
    ran.clear()
    tokens.clear()
    with durable_environment(durable) as env:
        yield env


def finish(env, count=1):
    """End the attempts that began first."""
    for _ in range(count):
        assert durable.complete(tokens.pop(0), "done")
        env.run_until_idle()


def use_of(name, key=None):
    (found,) = [use for use in durable.limits() if (use.name, use.key) == (name, key)]
    return found.most, found.taken, found.waiting


def test_never_more_than_most_run_and_a_free_slot_is_taken(env):
    runs = [env.start(run.s(number)) for number in range(5)]
    assert ran == [0, 1]
    assert durable.limits() == [LimitUse("limited.charge", None, 2, 2, 3)]
    finish(env)
    assert ran == [0, 1, 2] and use_of("limited.charge") == (2, 2, 2)
    finish(env, 2)
    assert ran == [0, 1, 2, 3, 4]
    finish(env, 2)
    assert {each.refresh().output for each in runs} == {"done"}
    assert durable.limits() == []


def test_explain_says_for_which_places(env):
    held = [env.start(calling.s(number)) for number in range(5)]
    last = held[-1].refresh()
    words = str(last.explain())
    assert (
        "  activity 1 (limited.open) waits for a place: 2 of 2 of 'crm' are taken, 2 before it\n"
        in words
    ), words
    assert "nothing to do" in words
    env.advance(timedelta(hours=1))
    assert not durable.find(stuck=True).items
    assert last.refresh().runtime_status is RuntimeStatus.RUNNING


def test_higher_priority_first_then_older_and_a_full_key_holds_up_no_other(env):
    for number in range(2):
        env.start(run.s(number))
    for what, priority in (("low", 1), ("old", 5), ("new", 5), ("none", None), ("high", 9)):
        env.start(run.s(what, priority=priority))
    finish(env, 7)
    assert ran[2:] == ["high", "old", "new", "low", "none"]
    ran.clear()
    for what, account in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("x1", None), ("x2", None)):
        env.start(run.s(what, "limited.keyed", account=account))
    assert ran == ["a1", "b1", "x1"]  # a key's slot, and of all three
    assert use_of("limited.keyed", "a") == (1, 1, 1) and use_of("limited.keyed") == (3, 3, 2)
    finish(env)
    assert ran[3:] == ["a2"]


def test_a_rate_counts_what_is_sent(env):
    runs = [env.start(run.s(number, "limited.rated")) for number in range(5)]
    assert ran == [0, 1] and use_of("limited.rated") == (2, 2, 3)
    assert "2 of 2 sends in 0:01:00 of 'limited.rated' are taken, 1 before it" in str(
        runs[3].refresh().explain()
    )
    env.advance(59)
    assert ran == [0, 1]
    env.advance(2)
    assert ran == [0, 1, 2, 3]
    env.advance(60)
    assert ran == [0, 1, 2, 3, 4]
    env.advance(60)
    assert durable.limits() == []


def test_time_limits_count_from_when_it_is_let_in(env):
    first = [env.start(run.s(number)) for number in range(2)]
    late = env.start(timed.s("late"))
    env.advance(timedelta(hours=1))
    assert late.refresh().runtime_status is RuntimeStatus.RUNNING and "late" not in ran
    finish(env)
    assert ran[-1] == "late"
    env.advance(59)
    assert late.refresh().runtime_status is RuntimeStatus.RUNNING
    env.advance(2)
    assert late.refresh().output == "timeout"
    assert use_of("limited.charge") == (2, 1, 0) and len(first) == 2


def test_cancelled_while_it_waits_is_never_sent(env):
    runs = [env.start(run.s(number)) for number in range(4)]
    runs[2].cancel()
    env.run_until_idle()
    assert use_of("limited.charge") == (2, 2, 1)
    finish(env, 2)
    assert ran == [0, 1, 3]
    runs[3].terminate()  # gives its slot back
    env.run_until_idle()
    assert durable.limits() == []


def test_waiting_for_a_retry_it_has_no_place(env):
    held = env.start(shaky.s(4))
    assert ran == [0, 1, 2, 3] and durable.limits() == []
    env.advance(timedelta(hours=1))
    assert held.refresh().output == [0, 1, 2, 3] and len(ran) == 6


def test_a_map_lets_go_first_and_then_the_limit(env):
    held = env.start(mapped.s(6, 2, 3))
    assert ran == [0, 1] and use_of("limited.open") == (2, 2, 1)
    for _ in range(6):
        finish(env)
    assert held.refresh().output == ["done"] * 6 and ran == list(range(6))


def test_of_one_name_with_two_numbers_the_smaller_holds(env):
    for number in range(4):
        env.start(run.s(number, "limited.five"))
    assert ran == [0, 1, 2] and use_of("shared") == (3, 3, 1)
    env.start(run.s("three", "limited.three"))
    finish(env)
    assert ran[3:] == [3]


def test_a_paused_task_takes_no_place_of_others(env):
    durable.pause(task=five)
    held = [env.start(run.s("held", "limited.five")) for _ in range(3)]
    env.start(run.s("free", "limited.three"))
    assert ran == ["free"]
    assert "task 'limited.five' is paused" in str(held[0].refresh().explain())
    durable.unpause(task=five)
    env.run_until_idle()
    assert ran == ["free", "held", "held"]


def test_a_process_without_the_code_keeps_the_limits_of_the_store(env):
    given = declared_limits(
        Limit(1, key="account"), inspect.signature(lambda what, account: 0), "it"
    )
    durable.runtime.store.switches.set(SwitchKind.LIMIT, "else.where", dump_limits(given), None)
    durable.runtime.runner.switches.refresh()
    durable.pause(task="else.where")
    for account in ("a", "a", "b"):
        env.start(run.s("it", "else.where", account=account))
    assert use_of("else.where", "a") == (1, 0, 2) and use_of("else.where", "b") == (1, 0, 1)


def test_workers_write_what_their_tasks_declare(env):
    engine = durable.runtime.runner
    engine.store.switches.set(SwitchKind.LIMIT, "limited.open", "[]", None)
    engine.store.switches.set(SwitchKind.LIMIT, "of.others", "[]", None)
    keep_limits(engine)
    kept = {row.name for row in engine.store.switches.read() if row.kind == SwitchKind.LIMIT}
    assert {"limited.charge", "limited.keyed", "limited.five", "of.others"} <= kept
    assert "limited.open" not in kept
    assert engine.switches.current().limits["limited.keyed"] == engine.tasks.limits_of(
        "limited.keyed"
    )
    assert durable.pauses() == []


@durable.orchestrator(name="limited.by")
async def by(ctx, key):
    limit = Limit(1, key=key if key else (lambda what, account: account), name="by")
    calls = [
        ctx.call(unlimited.s(number, account=account), limit=limit)
        for number, account in enumerate(["a", "a", "b", None, None])
    ]
    return await asyncio.gather(*calls)


@pytest.mark.parametrize("key", ["account", ""])
def test_a_key_is_an_argument_or_a_function_of_them(env, key):
    env.start(by.s(key))
    assert sorted(ran) == [0, 2, 3, 4] and use_of("by", "a") == (1, 1, 1)
    finish(env, 4)
    assert ran[4:] == [1]


@durable.orchestrator(name="limited.wrong")
async def wrong(ctx, how):
    try:
        if how == "child":
            await ctx.call(run.s("x"), limit=1)
        elif how == "children":
            await ctx.map(run, ["x"], limit=1)
        elif how == "key":
            await ctx.call(unlimited.s("x"), limit=Limit(1, key="nothing"))
        elif how == "code":
            await ctx.call(app.signature("no.where", ("x",)), limit=Limit(1, key="what"))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("how", ["child", "children", "key", "code"])
def test_what_cannot_be_limited_is_a_value_error_at_the_call(env, how):
    assert "limit" in env.run(wrong.s(how))


def test_a_declaration_that_cannot_be_used_is_refused_where_it_stands():
    for given in ("5", 0, True, Limit(1, key="no"), Limit(1, key=lambda what: what), [object()]):
        with pytest.raises(ConfigurationError):

            @app.task(name="limited.refused", durable_limit=given)
            def refused(what): ...

    for name in ("", 5, "x" * 101):
        with pytest.raises(ConfigurationError):
            Limit(1, name=name)


def test_a_replaced_task_keeps_its_keys(env):
    with env.replace(keyed, side_effect=lambda what, account: tokens.append(defer_for(what))):
        for what in ("first", "second"):
            env.start(by_position.s(what))
        assert ran == ["first"] and use_of("limited.keyed", "a") == (1, 1, 1)


def defer_for(what):
    ran.append(what)
    return durable_context().defer()


@durable.orchestrator(name="limited.positional")
async def by_position(ctx, what):
    return await ctx.call(keyed.s(what, "a"))


@durable.orchestrator(name="limited.chunks")
async def in_chunks(ctx):
    return await ctx.call(plain.chunks([(number,) for number in range(5)], 1))


def test_chunks_have_the_limits_of_their_task(env):
    most = []
    tell = lambda number: most.append(use_of("limited.plain")[1])  # noqa: E731
    with env.replace(plain, side_effect=tell):
        env.run(in_chunks.s())
    assert most == [2, 2, 2, 2, 1]


@durable.orchestrator(name="limited.canvas")
async def canvas(ctx):
    return await ctx.call(group(unlimited.s(number) for number in range(3)), limit=2)


def test_each_leaf_of_a_canvas_is_limited(env):
    env.start(canvas.s())
    assert ran == [0, 1]


def test_plain_messages_are_not_limited(env):
    with env.replace(charge, returns=None):
        plain.apply(args=(1,))
    assert ran == [1] and durable.limits() == []


@durable.orchestrator(name="limited.flow", limit=[Limit(1, key="customer"), Rate(2, per=60)])
async def flow(ctx, customer):
    await ctx.wait_event("never")


def test_limits_of_orchestrators_are_listed_too(env):
    for customer in ("a", "a", "b", "c"):
        env.start(flow.s(customer))
    per = timedelta(seconds=60)
    assert [use for use in durable.limits() if use.waiting] == [
        LimitUse("limited.flow", None, 2, 2, 2, per, True),
        LimitUse("limited.flow", "a", 1, 1, 1, None, True),
        LimitUse("limited.flow", "c", 1, 0, 1, None, True),
    ]
    assert use_of("limited.flow", "b") == (1, 1, 0)


@app.task(name="limited.durable", durable=True, durable_limit=1)
def by_itself(what):
    ran.append(what)
    tokens.append(durable_context().defer())


def test_a_durable_task_keeps_its_limits(env):
    runs = [by_itself.delay(number) for number in range(3)]
    env.run_until_idle()
    assert ran == [0] and use_of("limited.durable") == (1, 1, 2)
    finish(env, 3)
    assert ran == [0, 1, 2] and [run.get(timeout=1) for run in runs] == ["done"] * 3


def test_crashes_anywhere_keep_to_the_limits(env):
    most: list[int] = []
    sent = Statement(
        "SELECT COUNT(*) FROM durable_outbox WHERE name = 'limited.seen' AND sent_at IS NOT NULL"
    )

    @app.task(name="limited.seen", durable_limit=[Limit(2, name="seen"), Rate(3, per=10)])
    def seen(number):
        most.append(*durable.runtime.store.database.fetch_one(sent))
        if number == 2 and durable_context().attempt == 1:
            raise ValueError(number)
        return number

    @durable.orchestrator(name="limited.crashing")
    async def crashing(ctx):
        retry = RetryPolicy(max_attempts=2, first_interval=1)
        return await ctx.map(seen, list(range(5)), concurrency=3, retry=retry)

    def scenario(env):
        assert env.run(crashing.s()) == [0, 1, 2, 3, 4]

    assert env.crash_everywhere(scenario) > 20
    assert max(most) == 2


def test_a_limit_of_a_call_is_kept_over_a_retry_and_a_rewind(env):
    held, other = env.start(mapped.s(1, 1, None)), env.start(mapped.s(1, 1, None))
    assert ran == [0]
    durable.fail(tokens.pop(), "no")
    env.run_until_idle()
    assert ran == [0, 0] and held.refresh().runtime_status is RuntimeStatus.FAILED
    held.rewind()
    env.run_until_idle()
    assert ran == [0, 0] and use_of("limited.open") == (1, 1, 1)
    finish(env)
    finish(env)
    assert held.refresh().output == other.refresh().output == ["done"]


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        (2, 2),
        (Limit(2), 2),
        ([Limit(3), 2], 2),
        ([], 5),
        (Rate(2, 60), 2),
        ([Rate(3, per=timedelta(minutes=1)), Limit(4)], 3),
    ],
    ids=repr,
)
def test_a_limit_is_a_number_or_some_limits(env, limit, most):
    env.start(mapped_by(limit).s(5))
    assert len(ran) == most


def mapped_by(limit):
    @durable.orchestrator(name=f"limited.by {limit!r}")
    async def by_limit(ctx, count):
        return await ctx.map(unlimited, list(range(count)), limit=limit)

    return by_limit


@durable.orchestrator(name="limited.both", limit=Limit(2, name="crm"))
async def both(ctx, what, task):
    return await ctx.call(ctx_signature(task, what), limit=[crm, Limit(9)])


def test_limits_of_task_and_call_hold_together_beside_the_orchestrators(env):
    for what, task in enumerate(["limited.charge", "limited.open", "limited.charge"]):
        env.start(both.s(what, task))
    assert ran == [0, 1]
    assert use_of("crm") == (2, 2, 0) and use_of("limited.both") == (2, 2, 1)
    finish(env)
    assert ran == [0, 1, 2]
