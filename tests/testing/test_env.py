from __future__ import annotations

import asyncio
import time
import unittest
from datetime import datetime, timedelta

import pytest

from celery_durable import DurableError, InvalidState, RuntimeStatus, WaitTimeout
from celery_durable.testing import DurableEnv, durable_environment
from tests.testing import adoption as shop


@pytest.fixture
def durable_app():
    return shop.durable


def test_days_pass_in_no_time(durable_env: DurableEnv) -> None:
    began = durable_env.now
    durable_env.replace(shop.charge, raises=[shop.CardDeclined(), None])
    durable_env.event("order-1", "approved", {"by": "ada"}, after=timedelta(days=2))
    found = durable_env.run(shop.fulfil.s("1"), instance_id="order-1")
    assert found == {"paid": None, "by": "ada"}
    first, second = durable_env.calls(shop.charge)
    assert first.args == second.args == ("1", 99)
    assert (first.kwargs, first.instance_id, first.queue) == ({}, "order-1", "celery")
    assert (first.attempt, second.attempt) == (1, 2)
    assert timedelta(hours=1) <= second.at - first.at < timedelta(hours=1, seconds=1)
    assert timedelta(days=2) <= durable_env.now - began < timedelta(days=2, seconds=1)


def test_a_time_out_ends_by_the_clock_of_the_test(durable_env: DurableEnv) -> None:
    found = durable_env.run(shop.fulfil.s("1"))
    assert found["by"] == "nobody"
    assert abs(datetime.fromisoformat(found["at"]) - durable_env.now) < timedelta(seconds=1)


def test_a_year_of_timers_costs_what_some_hundred_eager_tasks_do(durable_env: DurableEnv) -> None:
    def processor_time(work) -> float:
        work()  # what is made at first use
        spent = []
        for _ in range(3):
            before = time.process_time()
            work()
            spent.append(time.process_time() - before)
        return min(spent)

    began = durable_env.now
    year = processor_time(lambda: durable_env.run(shop.year.s()))
    assert durable_env.now - began >= 4 * timedelta(days=360)
    assert year < processor_time(lambda: [shop.charge.apply((1, 1)) for _ in range(1000)])


def test_each_test_has_a_store_of_its_own() -> None:
    for _ in range(2):
        with durable_environment(shop.durable) as env:
            assert shop.durable.count() == 0
            env.start(shop.kid.s(1), instance_id="same")
            assert shop.durable.count() == 1
    assert not shop.app.conf.task_always_eager


def test_no_time_passes_in_a_start(durable_env: DurableEnv) -> None:
    began = durable_env.now
    run = durable_env.start(shop.fulfil.s("1"), tags={"customer": "ada"})
    assert run.runtime_status is RuntimeStatus.RUNNING
    durable_env.run_until_idle()
    assert durable_env.now == began
    durable_env.advance(days=2, milliseconds=500)
    assert durable_env.now - began == timedelta(days=2, milliseconds=500)
    assert [found.id for found in shop.durable.find(tags={"customer": "ada"}).items] == [run.id]


def test_time_passes_as_the_test_says(durable_env: DurableEnv) -> None:
    began = durable_env.now
    run = durable_env.start(shop.fulfil.s("1"))
    durable_env.advance(days=29)
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    durable_env.advance_to(began + timedelta(days=31))
    assert run.refresh().output["by"] == "nobody"
    assert run.completed_at - run.created_at < timedelta(days=30, seconds=1)
    with pytest.raises(ValueError, match="time does not go back"):
        durable_env.advance(days=-1)
    with pytest.raises(ValueError, match="time does not go back"):
        durable_env.advance_to(began)
    with pytest.raises(ValueError, match="no time zone"):
        durable_env.advance_to(datetime(2030, 1, 1))


def test_what_no_clock_brings_is_told(durable_env: DurableEnv) -> None:
    with pytest.raises(DurableError, match="brings: it waits for event 'never'"):
        durable_env.run(shop.kid.s(1))
    run = durable_env.start(shop.fulfil.s("1"), instance_id="s")
    run.suspend("lunch")
    with pytest.raises(DurableError, match="lunch"):
        durable_env.run(shop.fulfil.s("1"), instance_id="s")


def test_what_never_ends_is_given_up(
    durable_env: DurableEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_durable.testing.env._MOST_JUMPS", 50)
    with pytest.raises(DurableError, match="has not come to an end by"):
        durable_env.run(shop.endless.s())


def test_events_come_at_their_time(durable_env: DurableEnv) -> None:
    at = durable_env.now + timedelta(days=1)
    durable_env.event("later", "approved", {"by": "at"}, at=at)
    durable_env.event("now", "approved", {"by": "now"})
    run = durable_env.start(shop.fulfil.s("1"), instance_id="now")
    assert run.refresh().output["by"] == "now"
    later = durable_env.start(shop.fulfil.s("1"), instance_id="later")
    durable_env.advance(hours=23)
    assert later.refresh().runtime_status is RuntimeStatus.RUNNING
    durable_env.advance(hours=2)
    assert later.refresh().output["by"] == "at"
    assert timedelta() <= later.completed_at - at < timedelta(seconds=1)
    handle = durable_env.start(shop.fulfil.s("1"))
    durable_env.event(handle, "approved", {"by": "handle"})
    durable_env.run_until_idle()
    assert handle.refresh().output["by"] == "handle"
    with pytest.raises(InvalidState):
        durable_env.event(handle, "approved", {})
    with pytest.raises(TypeError, match="not both"):
        durable_env.event("x", "approved", after=timedelta(1), at=at)
    with pytest.raises(ValueError, match="before now"):
        durable_env.event("x", "approved", after=timedelta(-1))
    with pytest.raises(ValueError, match="no time zone"):
        durable_env.event("x", "approved", at=datetime(2030, 1, 1))


def test_activities_run_as_celery_runs_them(durable_env: DurableEnv) -> None:
    shop.told.clear()
    found = durable_env.run(shop.all_kinds.s("o"), instance_id="all")
    assert found == ["all", "o", "o", []]
    assert shop.told == ["o"]
    assert [call.args for call in durable_env.calls(shop.shy)] == [("o",)] * 3
    (sent,) = durable_env.calls(shop.tell)
    assert (sent.args, sent.instance_id, sent.attempt) == (("o",), "all", 1)
    shop.tell.delay("by hand")
    assert [call.instance_id for call in durable_env.calls(shop.tell)] == ["all", ""]
    durable_env.replace(shop.tell, returns=None)
    durable_env.run(shop.all_kinds.s("p"))
    assert [call.args for call in durable_env.calls(shop.tell)[2:]] == [("p",)]
    assert shop.told == ["o", "by hand"]


def test_schedules_tick(durable_env: DurableEnv) -> None:
    shop.durable.schedule("daily", shop.all_kinds.s("o"), interval=86_400)
    durable_env.advance(days=3, hours=1)
    assert shop.durable.count(name=shop.all_kinds.name, status="COMPLETED") == 3


def test_what_fails_is_raised_with_its_own_type(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.charge, raises=shop.CardDeclined("no money"))
    with pytest.raises(shop.CardDeclined, match="no money"):
        durable_env.run(shop.fulfil.s("1"))
    assert len(durable_env.calls(shop.charge)) == 3


def test_celerys_own_doors_lead_to_the_same(durable_env: DurableEnv) -> None:
    run = shop.fulfil.delay("1")
    durable_env.advance(days=40)
    assert run.get(timeout=1)["by"] == "nobody"
    durable_env.event("applied", "approved", {"by": "ada"})
    assert shop.fulfil.apply(("1",), task_id="applied").get()["by"] == "ada"


class Cases(unittest.TestCase):
    def setUp(self) -> None:
        self.env = self.enterContext(durable_environment(shop.durable))

    def test_under_unittest(self) -> None:
        self.assertEqual(self.env.run(shop.fulfil.s("1"))["paid"], "1 paid 99")


def test_there_is_no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery import Celery

    from celery_durable import ConfigurationError

    other = Celery("without", broker="memory://")
    monkeypatch.setattr("celery_durable.testing.environments.current_app", other)
    with pytest.raises(ConfigurationError, match="durable_app"):
        durable_environment()


def test_an_event_that_comes_too_late_is_told_once(durable_env: DurableEnv) -> None:
    durable_env.event("o", "approved", {}, after=86_400)
    durable_env.event("o", "approved", {}, after=timedelta(days=2))
    durable_env.run(shop.fulfil.s("1"), instance_id="o")
    with pytest.raises(InvalidState):
        durable_env.advance(3 * 86_400)
    assert durable_env.run(shop.all_kinds.s("x"), instance_id="x")[0] == "x"


@pytest.mark.parametrize("odd", ["1", True, None, [1]])
def test_what_is_no_span_of_time_is_refused(durable_env: DurableEnv, odd) -> None:
    if odd is not None:
        with pytest.raises(TypeError, match="a timedelta or seconds"):
            durable_env.advance(odd)
        with pytest.raises(TypeError, match="a timedelta or seconds"):
            durable_env.event("x", "approved", after=odd)


def test_no_server_of_the_application_is_asked() -> None:
    from celery import Celery

    from celery_durable import Durable

    url = "redis://127.0.0.1:1/0"
    app = Celery("closed", broker="amqp://127.0.0.1:1/", backend=url, set_as_current=False)
    app.conf.durable_backend_url = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    durable = Durable(app)

    @durable.orchestrator(name="tests.closed")
    async def closed(ctx):
        return await ctx.call(double.s(2))

    @app.task(name="tests.closed_double", shared=False)
    def double(n):
        return 2 * n

    asked = []
    with pytest.MonkeyPatch.context() as patch, durable_environment(durable) as env:
        patch.setattr("socket.socket.connect", lambda *args: asked.append(args))
        assert env.run(closed.s()) == 4
    assert asked == []


def test_code_under_test_may_wait_for_a_result(durable_env: DurableEnv) -> None:
    began = durable_env.now
    assert shop.fulfil.delay("1").get()["by"] == "nobody"
    assert durable_env.now - began >= timedelta(days=30)
    run = shop.durable.start(shop.fulfil.s("1"))
    before = durable_env.now
    with pytest.raises(WaitTimeout):
        run.get(timeout=3600)
    assert durable_env.now - before <= timedelta(hours=1)

    async def view():
        other = await shop.durable.astart(shop.fulfil.s("2"))
        return await other

    assert asyncio.run(view())["by"] == "nobody"
    with pytest.raises(DurableError, match="event 'never'"):
        shop.kid.delay(1).get()
