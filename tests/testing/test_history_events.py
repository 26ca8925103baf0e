"""``run.history()`` gives events with their number, time, value and error."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, HistoryEvent
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("events", broker="memory://", set_as_current=False)
durable = Durable(app)


class CardRefused(Exception):
    pass


@app.task(name="events.charge")
def charge(amount: int) -> dict[str, int]:
    if amount > 5:
        raise CardRefused(f"{amount} is too much")
    return {"charged": amount}


@durable.orchestrator(name="events.sale")
async def sale(ctx: Any, amount: int) -> Any:
    paid = await ctx.call(charge.s(amount))
    return [paid, await ctx.wait_event("sent")]


@pytest.fixture
def env() -> Any:
    with durable_environment(durable) as env:
        yield env


def test_values_numbers_and_times(env: DurableEnv) -> None:
    run = env.start(sale.s(3), instance_id="a")
    env.event("a", "sent", {"by": "post"})
    env.run_until_idle()
    events = run.history()
    assert all(isinstance(each, HistoryEvent) for each in events)
    assert [each.number for each in events] == list(range(1, len(events) + 1))
    values = {str(each.kind): each.value for each in events}
    assert values["ExecutionStarted"] == [[3], {}]
    assert values["ActivityCompleted"] == {"charged": 3}
    assert values["EventRaised"] == {"by": "post"}
    assert values["ExecutionCompleted"] == [{"charged": 3}, {"by": "post"}]
    assert [each.error for each in events] == [None] * len(events)
    for each in events:
        assert each.time.tzinfo is UTC and abs(each.time - datetime.now(UTC)) < timedelta(hours=1)
        assert each.time == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=each.at)


def test_errors_are_rebuilt_and_what_was_there_stays(env: DurableEnv) -> None:
    run = env.start(sale.s(9), instance_id="b")
    failed = [each for each in run.history() if "Failed" in each.kind]
    assert [each.kind for each in failed] == ["ActivityFailed", "ExecutionFailed"]
    for each in failed:
        assert isinstance(each.error, CardRefused) and str(each.error) == "9 is too much"
        assert each.value is None
        kind, at, *_ = each  # an event is a tuple as before
        assert (kind, at) == (each.kind, each.at)
    again = pickle.loads(pickle.dumps(failed[0]))
    assert (again, again.number) == (failed[0], failed[0].number)
