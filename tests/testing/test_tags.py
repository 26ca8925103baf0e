"""Tags that code sets: at the commit of the turn, kept through every life, and from outside."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_durable import Durable, InstanceNotFound, RuntimeStatus
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("tagging", set_as_current=False)
durable = Durable(app)
broken: list[bool] = []


@app.task(name="tagging.charge")
def charge(order):
    if broken:
        raise ValueError("no money")
    return order


@durable.orchestrator(name="tagging.sale")
async def sale(ctx, order):
    ctx.set_tags({"state": "new", "order": order})
    ctx.set_tags({"state": "paying"}, remove=["draft"])
    await ctx.call(charge.s(order))
    ctx.set_tags({"state": "paid"}, remove=["order"])
    return await ctx.wait_event("end")


@durable.orchestrator(name="tagging.rounds")
async def rounds(ctx, left):
    ctx.set_tags({"left": str(left)})
    await ctx.sleep(60)
    if left:
        ctx.set_tags({f"round{left}": "over"})
        ctx.continue_as_new(left - 1)
    return "done"


@durable.orchestrator(name="tagging.wrong")
async def wrong(ctx):
    for tags, remove in (
        ({"a": 1}, ()),
        ({1: "a"}, ()),
        ("ab", ()),
        ({"a": "b"}, ["a"]),
        ({}, [1]),
    ):
        try:
            ctx.set_tags(tags, remove=remove)
        except (TypeError, ValueError) as error:
            ctx.logger.info(str(error))
        else:
            raise AssertionError(tags)


@pytest.fixture
def env():
    broken.clear()
    with durable_environment(durable) as env:
        yield env


def found(**tags: str) -> list[str]:
    return sorted(run.id for run in durable.find(tags=tags).items)


def test_they_are_there_from_the_commit_of_the_turn_on(env: DurableEnv) -> None:
    tags = {"draft": "yes", "customer": "ada"}
    run = env.start(sale.s("7"), instance_id="i", tags=tags)
    assert run.refresh().tags == {"customer": "ada", "state": "paid"}
    assert found(state="paid") == found(customer="ada") == ["i"] and found(draft="yes") == []
    events = len(run.history())
    env.event("i", "end")
    env.run_until_idle()
    assert run.refresh().runtime_status is RuntimeStatus.COMPLETED
    assert not [event for event in run.history()[:events] if "ag" in str(event.kind)]


def test_they_are_kept_over_every_life(env: DurableEnv) -> None:
    run = env.start(rounds.s(2), instance_id="i")
    env.advance(minutes=10)
    assert run.refresh().tags == {"left": "0", "round1": "over", "round2": "over"}
    assert run.output == "done"


def test_a_rewind_keeps_them_and_what_was_set_from_outside(env: DurableEnv) -> None:
    broken.append(True)
    run = env.start(sale.s("7"), instance_id="i")
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert run.tags == {"state": "paying", "order": "7"}
    run.set_tags({"state": "looked at", "owner": "ada"}, remove=["order", "unknown"])
    assert run.tags == {"state": "looked at", "owner": "ada"}
    fork = run.fork(at=1, new_id="fork")
    assert fork.tags == run.tags
    broken.clear()
    run.rewind()
    env.run_until_idle()
    assert run.refresh().tags == {"state": "paid", "owner": "ada"}


def test_what_are_no_tags_is_refused(env: DurableEnv) -> None:
    assert env.run(wrong.s(), instance_id="i") is None
    run = durable.get("i")
    for tags, remove, error in (({"a": 1}, (), TypeError), ({"a": "b"}, "a", ValueError)):
        with pytest.raises(error):
            run.set_tags(tags, remove=remove)
    run.set_tags()
    assert run.tags == {}
    with pytest.raises(InstanceNotFound):
        durable.set_tags("none", {"a": "b"})


def test_a_worker_may_die_anywhere_and_every_turn_may_be_replayed(env: DurableEnv) -> None:
    def scenario(env: DurableEnv):
        env.check_determinism(hash_seeds=1)
        run = env.start(sale.s("7"), instance_id="i", tags={"draft": "yes"})
        env.start(rounds.s(1), instance_id="r")
        env.event("i", "end", "fine")
        env.advance(minutes=10)
        return run.refresh().output, run.tags, durable.get("r").tags

    assert env.crash_everywhere(scenario) > 20
