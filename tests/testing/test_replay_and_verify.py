"""``durable.replay`` and ``durable.verify`` see what a turn sees: types, context, kept options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from celery import Celery
from pydantic import BaseModel

from celery_durable import Durable, DurableError, Limit, PayloadError, RetryPolicy
from celery_durable.core.canvas_options import CanvasOptions
from celery_durable.testing import durable_environment

app = Celery("replayed", set_as_current=False)
durable = Durable(app)
tenant: ContextVar[str] = ContextVar("tenant", default="")


class Order(BaseModel):
    id: str


class Tenant:
    key = "tenant"

    def capture(self):
        return tenant.get() or None

    @contextmanager
    def restore(self, value: str) -> Iterator[None]:
        if value == "gone":
            raise LookupError(value)
        token = tenant.set(value)
        yield
        tenant.reset(token)


durable.propagate(Tenant())


@app.task(name="replayed.echo", shared=False)
def echo(what, key=None):
    return what


@app.task(name="replayed.fails", shared=False)
def fails(status):
    raise OSError(status)


@durable.orchestrator(name="replayed.typed")
async def typed(ctx, order: Order):
    await ctx.call(echo.s(order.id))
    await ctx.wait_event("go")


@durable.orchestrator(name="replayed.by_context")
async def by_context(ctx):
    await ctx.call(echo.s(ctx.context["tenant"] * 2))
    await ctx.wait_event("go")


@durable.orchestrator(name="replayed.by_restored")
async def by_restored(ctx):
    if tenant.get() == "acme":
        await ctx.call(echo.s("acme"))
    await ctx.wait_event("go")


@durable.orchestrator(name="replayed.limited")
async def limited(ctx):
    by_key, other = Limit(1, key="key", name="one"), Limit(2, key=lambda what, key=None: what)
    await ctx.call(echo.s(1, key=2), limit=[by_key, other])
    await ctx.map(echo, [1, 2, 3], limit=by_key, concurrency=2, stop_when=2, label="each")
    try:
        await ctx.call(echo.s(1), limit=Limit(1, key="nothing"))
    except ValueError:
        await ctx.wait_event("go")


@durable.orchestrator(name="replayed.again")
async def again(ctx, order: Order):
    try:
        ctx.continue_as_new("nonsense")
    except PayloadError:
        await ctx.wait_event("go")


@pytest.fixture
def env():
    token = tenant.set("acme")
    with durable_environment(durable) as env:
        yield env
    tenant.reset(token)


@pytest.mark.parametrize(
    ("signature", "options"),
    [
        (typed.s(Order(id="o-1")), {}),
        (by_context.s(), {}),
        (by_restored.s(), {}),
        (limited.s(), {}),
        (again.s(Order(id="o-1")), {}),
        (fails.s(503), {"retry": RetryPolicy(max_attempts=3, first_interval=3600)}),
    ],
    ids=lambda each: getattr(each, "task", ""),
)
def test_a_living_history_and_its_export_are_followed(env, signature, options):
    run = env.start(signature, **options)
    tenant.set("")  # what was captured is not there any more
    assert not durable.verify(live=True, check_arguments=True).problems
    document = run.export_history()
    assert durable.replay(document, check_arguments=True) == len(run.history())
    if signature.task == fails.name:
        return  # of a plain task there is no code to debug
    with durable.debugger(history=document) as debugger:
        debugger.goto(len(debugger.history))
        assert debugger.problem is None


def test_other_facts_are_a_disagreement(env):
    run = env.start(by_context.s())
    document = json.loads(run.export_history())
    document["options"] = document["options"].replace("acme", "other")
    with pytest.raises(DurableError, match="echo"):
        durable.replay(document, check_arguments=True)


def test_an_export_has_of_the_options_only_what_a_replay_needs(env):
    run = env.start(by_context.s().set(queue="slow", headers={"secret": "x"}))
    options = json.loads(json.loads(run.export_history())["options"])
    assert options == {"context": {"values": {"tenant": "acme"}}}


def test_a_context_that_cannot_be_restored_is_one_problem_of_many(env, monkeypatch):
    good = env.start(by_restored.s())
    run = env.start(by_restored.s())
    monkeypatch.setattr(
        Tenant, "restore", lambda self, value, old=Tenant.restore: old(self, "gone")
    )
    assert {each.instance_id for each in durable.verify(live=True).problems} == {good.id, run.id}


@pytest.mark.parametrize("text", ["gASVCg==", "[1]", '"context"', "{"])
def test_options_that_cannot_be_told_apart_are_exported_as_they_are(text):
    assert CanvasOptions.of_replay(text) == text


@pytest.mark.parametrize("text", [None, "", "{}", '{"finish": {"link": []}}'])
def test_options_that_say_nothing_to_the_code_are_not_exported(text):
    assert CanvasOptions.of_replay(text) is None
