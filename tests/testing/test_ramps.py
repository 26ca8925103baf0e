"""``durable.ramp``: which version a start gets, wherever it comes from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery
from click.testing import CliRunner

from celery_durable import ConfigurationError, Durable, RuntimeStatus
from celery_durable.cli import durable as group
from celery_durable.testing import durable_environment

NAME = "ramps.flow"


def application(*versions: str | None):
    app = Celery("ramps", set_as_current=False)
    durable = Durable(app)

    @durable.orchestrator(name="ramps.parent")
    async def parent(ctx, count):
        return await ctx.all(ctx.call(app.signature(NAME)) for _ in range(count))

    for version in versions:

        @durable.orchestrator(name=NAME, version=version, upgrade=True)
        async def flow(ctx, cycle=0):
            if cycle == 0:
                await ctx.sleep(60)
            if cycle == 1:
                ctx.continue_as_new(2)
            return ctx.version

    return durable


@pytest.fixture
def env():
    with durable_environment(application("1", "2", "3")) as env:
        yield env


def started(env, number: int, **options) -> list[str | None]:
    flow = env.durable.app.signature(NAME)
    runs = [env.start(flow, instance_id=f"run-{n}", **options) for n in range(number)]
    return [run.refresh().version for run in runs]


def test_a_share_of_the_ids_gets_the_version_and_a_larger_one_takes_none_out(env):
    durable, flow = env.durable, env.durable.app.signature(NAME)

    def with_share(share: float) -> set[int]:
        durable.ramp(NAME, "2", share=share)
        got = started(env, 60)
        for n in range(60):
            durable.terminate(f"run-{n}")
        env.run_until_idle()
        durable.purge(name=NAME)
        assert set(got) <= {"2", "3"}
        return {n for n, version in enumerate(got) if version == "2"}

    shares = [with_share(share) for share in (0, 0.2, 0.5, 1)]
    assert shares[0] == set() and shares[-1] == set(range(60))
    assert all(one < other for one, other in zip(shares, shares[1:], strict=False))
    assert 3 <= len(shares[1]) <= 25
    durable.ramp(NAME, None)
    assert env.start(flow).refresh().version == "3"


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_what_is_ramped_alone_gets_all_starts(share):
    with durable_environment(application("1")) as env:
        env.durable.ramp(NAME, "1", share=share)
        assert started(env, 4) == ["1"] * 4
        (parent,) = [env.start(env.durable.app.signature("ramps.parent", args=(2,)))]
        env.advance(minutes=2)
        assert parent.refresh().output == ["1"] * 2
        assert [use.share for use in env.durable.versions() if use.name == NAME] == [share]


def test_a_start_that_names_a_version_gets_it(env):
    env.durable.ramp(NAME, "1")
    assert started(env, 1, version="2") == ["2"]


def test_the_ramp_of_the_newest_leaves_the_others_on_the_one_before(env):
    env.durable.ramp(NAME, "3", share=0)
    assert started(env, 3) == ["2"] * 3


def test_children_restarts_and_upgrades_go_by_the_ramp(env):
    durable = env.durable
    durable.ramp(NAME, "1")
    (parent,) = [env.start(durable.app.signature("ramps.parent", args=(3,)))]
    env.advance(minutes=2)
    assert parent.refresh().output == ["1"] * 3
    run = env.start(durable.app.signature(NAME, args=(1,)), version="2", instance_id="upgraded")
    assert run.refresh().output == "1"
    durable.ramp(NAME, "2")
    again = run.restart()
    env.run_until_idle()
    assert durable.get(again.id).output == "2"


@pytest.mark.parametrize(
    ("version", "share", "error"),
    [("9", 1, ConfigurationError), ("1", 1.5, ValueError), ("1", -0.1, ValueError)],
)
def test_a_ramp_that_cannot_be_is_refused_and_changes_nothing(env, version, share, error):
    with pytest.raises(error):
        env.durable.ramp(NAME, version, share=share)
    assert started(env, 2) == ["3", "3"]


def test_versions_show_the_shares_and_a_ramped_one_is_not_safe_to_remove(env):
    env.durable.ramp(NAME, "1", share=0.25)
    uses = {use.version: use for use in env.durable.versions() if use.name == NAME}
    assert {name: use.share for name, use in uses.items()} == {"1": 0.25, "2": 0.0, "3": 0.75}
    assert [uses[name].is_safe_to_remove for name in "123"] == [False, True, True]


def test_a_process_without_the_code_leaves_the_choice_to_the_worker(env):
    durable = env.durable
    here = durable.declarations.registry._definitions
    flows = here.pop(NAME)
    run = durable.start(durable.app.signature(NAME), instance_id="far")
    env.run_until_idle()
    assert run.runtime_status is RuntimeStatus.PENDING and run.version is None
    here[NAME] = flows
    durable.ramp(NAME, "2")
    env.advance(minutes=1)
    assert run.refresh().version == "2"


def test_schedules_delay_and_restart_go_by_the_ramp_and_a_fork_keeps_its_version(env):
    durable = env.durable
    flow = durable.app.tasks[NAME]
    durable.ramp(flow, "1")
    durable.schedule("each-minute", flow.s(2), cron="* * * * *")
    env.advance(minutes=1)
    delayed = flow.delay(2)
    env.run_until_idle()
    found = durable.find(name=NAME).items
    assert len(found) == 2 and {run.version for run in found} == {"1"}
    durable.ramp(flow, "2")
    restarted = durable.get(delayed.id).restart()
    env.run_until_idle()
    assert restarted.refresh().version == "2"
    waits = env.start(flow.s(), version="3")
    again = waits.fork(at=1)
    assert again.version == "3"


def test_a_name_has_one_ramp(env):
    durable = env.durable
    for version, share in (("1", 1), ("2", 0.5)):
        durable.ramp(NAME, version, share=share)
    uses = {use.version: use.share for use in durable.versions() if use.name == NAME}
    assert uses == {"1": 0, "2": 0.5, "3": 0.5}
    durable.ramp(NAME, None)
    assert [use.version for use in durable.versions() if use.name == NAME and use.share] == ["3"]


def test_commands_set_and_show_ramps(env):
    def command(*args):
        found = CliRunner().invoke(group, args, obj=SimpleNamespace(app=env.durable.app))
        return found.exit_code, found.output

    assert command("ramp", NAME, "1", "--share", "0.1") == (
        0,
        f"{NAME}: version 1 gets a share of 0.1 of new starts\n",
    )
    assert '"share": 0.1' in command("orchestrators")[1]
    for wrong in (("9",), ("1", "--share", "2"), (), ("1", "--remove")):
        assert command("ramp", NAME, *wrong)[0] != 0
    assert command("ramp", NAME, "--remove") == (0, f"{NAME}: new starts get the newest version\n")
    assert '"share": 0.1' not in command("orchestrators")[1]
