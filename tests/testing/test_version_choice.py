"""Which version of its code an orchestration has: at its start, and when it continues as new."""

from __future__ import annotations

from dataclasses import replace

import pytest
from celery import Celery

from celery_durable import ConfigurationError, Durable, RuntimeStatus
from celery_durable.testing import DurableEnv, durable_environment

NAME = "versions.cycle"


def application(**of_first):
    """An application whose orchestrator there is in versions 1 and 2."""
    app = Celery("versions", set_as_current=False)
    durable = Durable(app)

    @durable.orchestrator(name=NAME, version="1", **of_first)
    async def first(ctx, cycle=0, upgrade=None):
        event = await ctx.wait_event("next")
        if event == "stop":
            return ctx.version, cycle
        ctx.continue_as_new(cycle + 1, upgrade=event)

    @durable.orchestrator(name=NAME, version="2")
    async def second(ctx, cycle=0):
        event = await ctx.wait_event("next")
        if event == "stop":
            return ctx.version, cycle
        ctx.continue_as_new(cycle + 1, upgrade=event)

    return durable, second


def cycles(env: DurableEnv, run, *events) -> list:
    for event in events:
        run.raise_event("next", event)
        env.run_until_idle()
    run.raise_event("next", "stop")
    env.run_until_idle()
    return run.refresh().output


def test_a_start_chooses_its_version():
    durable, flow = application()
    with durable_environment(durable) as env:
        old = env.start(flow.s(), version="1", instance_id="old")
        new = env.start(flow.s(), instance_id="new")
        assert (old.refresh().version, new.refresh().version) == ("1", "2")
        assert cycles(env, old) == ["1", 0]
        assert cycles(env, new) == ["2", 0]


def test_a_version_that_is_not_there_is_refused_and_nothing_is_started():
    durable, flow = application()
    with durable_environment(durable):
        with pytest.raises(ConfigurationError, match="no version '3' in this process.* '1', '2'"):
            durable.start(flow.s(), version="3")
        for odd in (3, "", True):
            with pytest.raises(TypeError, match="version is the name of one"):
                durable.start(flow.s(), version=odd)
        assert durable.count() == 0


@pytest.mark.parametrize(
    ("declared", "events", "version"),
    [
        ({}, [None], "1"),
        ({}, [False, None], "1"),
        ({}, [True], "2"),
        ({}, ["2"], "2"),
        ({}, ["2", "1"], "1"),
        ({"upgrade": True}, [None], "2"),
        ({"upgrade": True}, [False], "1"),
        ({"upgrade": True}, ["1"], "1"),
    ],
)
def test_the_next_execution_has_the_version_that_is_asked_for(declared, events, version):
    durable, flow = application(**declared)
    with durable_environment(durable) as env:
        run = env.start(flow.s(), version="1")
        assert cycles(env, run, *events) == [version, len(events)]
        assert run.version == version


def test_killed_workers_change_nothing():
    durable, flow = application(upgrade=True)

    def scenario(env: DurableEnv):
        run = env.start(flow.s(), version="1", instance_id="k")
        return cycles(env, run, None, False)

    with durable_environment(durable) as env:
        assert env.crash_everywhere(scenario) > 5


def test_arguments_that_the_new_version_does_not_take_suspend_it_before_the_change():
    durable, flow = application()

    @durable.orchestrator(name=NAME, version="3")
    async def _third(ctx):
        return "mended"

    with durable_environment(durable) as env:
        run = env.start(flow.s(), version="1")
        run.raise_event("next", True)
        env.run_until_idle()
        assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
        assert "cannot continue as version '3', which does not take its arguments" in run.reason
        assert run.version == "1"

        async def mended(ctx, cycle):
            return f"mended {cycle}"

        old = durable.registry.get(NAME, "3")
        durable.registry.add(replace(old, function=mended))
        run.resume()
        env.run_until_idle()
        assert (run.refresh().output, run.version) == ("mended 1", "3")


def test_a_version_that_is_not_here_waits_for_a_worker_that_has_it():
    durable, flow = application()
    with durable_environment(durable) as env:
        run = env.start(flow.s(), version="1")
        run.raise_event("next", "9")
        env.run_until_idle()
        assert (run.refresh().version, run.runtime_status) == ("9", RuntimeStatus.RUNNING)


@pytest.mark.parametrize("odd", [3, "", 1.5])
def test_what_is_no_version_is_a_type_error_in_the_code(odd):
    durable, flow = application()
    with durable_environment(durable) as env:
        run = env.start(flow.s())
        run.raise_event("next", odd)
        env.run_until_idle()
        assert isinstance(run.refresh().failure, TypeError)


def test_an_option_that_is_no_truth_value_is_refused():
    with pytest.raises(ConfigurationError, match="upgrade must be True or False"):
        application(upgrade="yes")
