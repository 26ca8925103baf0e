"""``saga.call(type=)``: the code gets the type, and so does what undoes; what does not fit is undone
all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from celery import Celery

from celery_durable import Durable, PayloadError
from celery_durable.testing import durable_environment

app = Celery("typed_sagas", set_as_current=False)
durable = Durable(app)


@dataclass
class Flight:
    seat: str
    number: int


@app.task(name="saga.book")
def book(flight):
    return flight


@app.task(name="saga.cancel")
def cancel(seat):
    return None


@app.task(name="saga.pay")
def pay():
    raise ValueError("no money")


def undo_of(flight: Flight | None):
    return cancel.s("unknown" if flight is None else flight.seat)


@durable.orchestrator(name="saga.trip")
async def trip(ctx, flight):
    async with ctx.saga() as saga:
        booked = await saga.call(book.s(flight), undo=undo_of, type=Flight)
        assert isinstance(booked, Flight)
        ctx.set_status(booked.seat)
        await saga.call(pay.s())


@durable.orchestrator(name="saga.hasty")
async def hasty(ctx, flight):
    async with ctx.saga() as saga:
        saga.call(book.s(flight), undo=undo_of, type=Flight)
        await ctx.sleep(60)
        raise ValueError("in a hurry")


@pytest.fixture
def env():
    with durable_environment(durable) as env:
        yield env


def seats(env):
    return [call.args[0] for call in env.calls(cancel)]


@pytest.mark.parametrize("orchestrator", [trip, hasty])
def test_the_undo_gets_the_type(env, orchestrator):
    run = env.start(orchestrator.s({"seat": "7A", "number": 1}))
    env.run_until_idle()
    env.advance(61)
    assert run.refresh().runtime_status == "FAILED"
    assert isinstance(run.failure, ValueError)
    assert seats(env) == ["7A"]
    assert durable.replay(run.export_history())


@pytest.mark.parametrize("orchestrator", [trip, hasty])
def test_what_does_not_fit_is_undone_with_nothing_known_of_it(env, orchestrator):
    run = env.start(orchestrator.s({"seat": "7A", "number": "one"}))
    env.run_until_idle()
    env.advance(61)
    assert run.refresh().runtime_status == "FAILED"
    if orchestrator is trip:
        assert isinstance(run.failure, PayloadError)
        assert "the result of saga.book does not fit: number: " in str(run.failure)
    assert seats(env) == ["unknown"]
    assert durable.replay(run.export_history())


class Task:
    """A task of another framework."""

    def durable_signature(self):
        return book.s({"seat": "8B", "number": 2})


@durable.orchestrator(name="saga.foreign")
async def foreign(ctx):
    async with ctx.saga() as saga:
        first = await saga.call(Task(), type=Flight)
    return [first.seat, (await ctx.call(Task(), type=Flight)).seat]


def test_a_task_of_another_framework_has_a_type_too(env):
    assert env.run(foreign.s()) == ["8B", "8B"]


def test_killed_workers_change_nothing(env):
    def scenario(env):
        run = env.start(trip.s({"seat": "7A", "number": "one"}), instance_id="t")
        env.run_until_idle()
        return str(run.refresh().failure), sorted(set(seats(env)))

    assert env.crash_everywhere(scenario) > 5
